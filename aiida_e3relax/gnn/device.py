"""Device, threads and memory allocator of a run of the network."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aiida_e3relax.common.errors import DeviceError, InputError
from aiida_e3relax.common.messages import describe_error, short
from aiida_e3relax.common.threads import MOST_THREADS

DTYPES = {'float32': torch.float32, 'float64': torch.float64}
AUTO = 'auto'
FAST_FLOAT64 = frozenset({(6, 0), (7, 0), (8, 0), (9, 0), (10, 0)})
"""The compute capabilities of NVIDIA's GPUs that do half as many operations a second in float64 as in float32: P100,
V100, A100 and A30, H100 and H200, B200. Others, such as L4, T4, A10, L40, RTX and B300, do a 32nd or less."""


def resolve_device(requested: str) -> torch.device:
    """Return the device for ``auto`` (the first GPU that works, else the CPU), ``cpu``, ``cuda`` or ``cuda:n``.

    Raises DeviceError for a device that is not there, or whose driver or libraries do not work.
    """
    if requested == 'auto':
        if not torch.cuda.is_available():
            return torch.device('cpu')
        device = torch.device('cuda', 0)
        if fault := _find_fault(device):
            warnings.warn(f'the GPU does not work, the CPU is used: {fault}', RuntimeWarning, stacklevel=2)
            return torch.device('cpu')
        return device
    match = re.fullmatch(r'cpu|cuda(?::(\d{1,3}))?', requested)
    if match is None:
        raise DeviceError(f'unknown device {short(requested)!r}: use auto, cpu, cuda or cuda:n')
    if requested == 'cpu':
        return torch.device('cpu')
    index = int(match[1] or 0)
    advice = 'use --device auto or --device cpu, or ask the scheduler for a GPU'
    if index >= torch.cuda.device_count():  # before torch sees it, which keeps eight bits
        raise DeviceError(
            f'device {requested!r} is not there: this machine has {torch.cuda.device_count()} CUDA device(s) that '
            f'torch {torch.__version__} can use; {advice}'
        )
    device = torch.device('cuda', index)
    if fault := _find_fault(device):
        raise DeviceError(f'device {requested!r} does not work ({fault}): {advice}')
    return device


def _find_fault(device: torch.device) -> str | None:
    """Return why nothing can be computed on `device`, None where it can."""
    try:
        torch.ones(1, device=device).sum().item()
    except Exception as error:  # of the driver, the loader and torch
        return describe_error(error)
    return None


def prepare_device(requested: str, threads: int | None) -> torch.device:
    """Return the device for `requested`, after setting CPU threads, allocator and arithmetic for this process.

    Raises DeviceError as `resolve_device`, and InputError for a number of threads that cannot be.
    """
    keep_freed_memory()
    flush_subnormals()
    if threads is not None:
        set_threads(threads)
    return resolve_device(requested)


def flush_subnormals() -> None:
    """Let processors take numbers that are not 0 but below the normal ones (1.2e-38 in single precision) for 0.

    Threads that were at work before go on as they were: it comes before anything is computed.

    Gaussians of distances and gates that are shut are full of them, and Intel's processors take many times as long
    over each as over others.
    """
    for dtype in (np.float16, np.float32, np.float64):
        np.finfo(dtype)  # earlier versions of numpy warn where they look at it afterwards
    torch.set_flush_denormal(True)


def set_threads(threads: int) -> None:
    """Compute with that many CPU threads; raises InputError for fewer than one, and for more than any machine has."""
    if not 1 <= threads <= MOST_THREADS:
        raise InputError(f'threads: expected a number above 0, up to {MOST_THREADS}, found {threads}')
    torch.set_num_threads(threads)


def choose_dtype(requested: str, device: torch.device, with_potential: bool = False) -> tuple[str, str]:
    """Return the precision for ``auto``, ``float32`` or ``float64`` on `device`, and why it is that.

    By ``auto`` it is float64, whose rounding hides no symmetry of a crystal from VASP. On GPUs that compute it many
    times more slowly than float32 it is float32, if spglib is there to take the rounding out again and no potential
    relaxes, after which nothing does.
    """
    if requested != AUTO:
        return requested, 'as asked for'
    if with_potential:
        return 'float64', 'a potential relaxes, where it has this precision'
    if device.type != 'cuda':
        return 'float64', 'it hides no symmetry, and costs little more on a processor'
    capability = torch.cuda.get_device_capability(device)
    named = f'a GPU of compute capability {".".join(map(str, capability))}'
    if capability in FAST_FLOAT64:
        return 'float64', f'it hides no symmetry, and {named} is made for it'
    if importlib.util.find_spec('spglib') is None:
        return 'float64', f'slow on {named}, but spglib is not installed, which restores the symmetry after float32'
    return 'float32', f'float64 is many times slower on {named}'


def device_name(device: torch.device) -> str:
    """Return the name of the hardware behind `device`."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def device_memory_mb(device: torch.device) -> float | None:
    """Return the memory that a GPU has, in MB as of `peak_memory_mb` in reports; None of a CPU."""
    return torch.cuda.get_device_properties(device).total_memory / 1e6 if device.type == 'cuda' else None


def describe_device(device: torch.device) -> dict[str, Any]:
    """Return what reports say of `device`.

    It is `used`, `name`, `memory_mb` and the `threads` of PyTorch on the CPU, and of a GPU `uuid`, by which
    `nvidia-smi -L` lists it, `capability`, the version of its `driver`, of the `cuda` that PyTorch is built for, the
    `visible` devices as the scheduler has set them, how many these are (`count`), and whether `tf32`, products with 10
    bits of mantissa, stands in for float32.
    """
    facts: dict[str, Any] = {
        'used': str(device),
        'name': device_name(device),
        'memory_mb': device_memory_mb(device),
        'threads': torch.get_num_threads(),
    }
    if device.type == 'cuda':
        uuid = getattr(torch.cuda.get_device_properties(device), 'uuid', None)
        facts |= {
            'uuid': None if uuid is None else f'GPU-{uuid}',
            'capability': '.'.join(map(str, torch.cuda.get_device_capability(device))),
            'driver': driver_version(),
            'cuda': torch.version.cuda,
            'visible': os.environ.get('CUDA_VISIBLE_DEVICES'),
            'count': torch.cuda.device_count(),
            'tf32': {
                'matmul': torch.backends.cuda.matmul.allow_tf32,
                'cudnn': torch.backends.cudnn.allow_tf32,
            },
        }
    return facts


def driver_version(path: Path = Path('/proc/driver/nvidia/version')) -> str | None:
    """Return the version of NVIDIA's driver as its kernel module states it, None where that is not there."""
    try:
        text = path.read_text(encoding='utf-8', errors='replace')
    except OSError:
        return None
    found = re.search(r'^NVRM version:.*?\s(\d+(?:\.\d+)+)\s', text, re.MULTILINE)
    return found[1] if found else None


def keep_freed_memory() -> None:
    """Make glibc reuse large freed blocks instead of returning them to the kernel.

    The temporaries of a forward pass are megabytes each. By default glibc maps and unmaps every one of them, and most
    of the time of a small batch goes into page faults. Does nothing elsewhere than on Linux with glibc.
    """
    if sys.platform != 'linux' or platform.libc_ver()[0] != 'glibc':
        return
    mallopt = ctypes.CDLL(None).mallopt
    m_trim_threshold, m_mmap_max = -1, -4
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, (1 << 31) - 1)
