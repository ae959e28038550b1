"""Device, threads and memory allocator of a run of the network."""

from __future__ import annotations

import ctypes
import platform
import sys

import torch

from aiida_e3relax.gnn.errors import DeviceError

DTYPES = {'float32': torch.float32, 'float64': torch.float64}


def resolve_device(requested: str) -> torch.device:
    """Return the device for ``auto`` (the first GPU, else the CPU), ``cpu``, ``cuda`` or ``cuda:n``."""
    if requested == 'auto':
        return torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')
    if requested != 'cpu' and requested.split(':', maxsplit=1)[0] != 'cuda':
        raise DeviceError(f'unknown device {requested!r}: use auto, cpu, cuda or cuda:n')
    device = torch.device(requested)
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f'device {requested!r} is not there: this machine has {torch.cuda.device_count()} CUDA device(s) that '
            f'torch {torch.__version__} can use; use --device auto or --device cpu, or ask the scheduler for a GPU'
        )
    return torch.device('cuda', device.index or 0) if device.type == 'cuda' else device


def prepare_device(requested: str, threads: int | None) -> torch.device:
    """Return the device for `requested`, after setting the CPU threads and the allocator for this process."""
    keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    return resolve_device(requested)


def device_name(device: torch.device) -> str:
    """Return the name of the hardware behind `device`."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def keep_freed_memory() -> None:
    """Tell glibc to reuse large freed blocks instead of returning them to the kernel.

    The temporaries of a forward pass are megabytes each. By default glibc maps and unmaps every one of them, and most
    of the time of a small batch goes into page faults. Does nothing elsewhere than on Linux with glibc.
    """
    if sys.platform != 'linux' or platform.libc_ver()[0] != 'glibc':
        return
    mallopt = ctypes.CDLL(None).mallopt
    m_trim_threshold, m_mmap_max = -1, -4
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, (1 << 31) - 1)
