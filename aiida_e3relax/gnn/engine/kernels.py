"""The choice of the kernels that sum over edges: compiled ones on the CPU, Triton's on a CUDA device, or none."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sysconfig
import warnings
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from aiida_e3relax.common.messages import describe_error
from aiida_e3relax.common.out_of_memory import is_out_of_memory
from aiida_e3relax.gnn.engine import native


def kernels_for(tensor: Tensor) -> ModuleType | None:
    """Return the module whose `message_sums` and `tensor_sums` can work on `tensor`; None where none can."""
    if native.usable(tensor):
        return native
    if tensor.is_cuda and triton_works():
        from aiida_e3relax.gnn.engine import triton_sums

        if triton_sums.usable(tensor):
            launched = triton_launches(tensor.device, tensor.dtype, tensor.shape[-1], torch.is_grad_enabled())
            return triton_sums if launched else None
    return None


@functools.cache
def triton_launches(device: torch.device, dtype: torch.dtype, features: int, with_gradient: bool) -> bool:
    """Return whether Triton's kernels for tensors of this kind run on `device`, not only compile; warns where not."""
    from aiida_e3relax.gnn.engine import triton_sums

    try:
        triton_sums.try_out(device, dtype, features, with_gradient)
    except Exception as error:  # of Triton, its compiler, the driver and the loader
        if is_out_of_memory(error):
            raise
        warnings.warn(
            f"Triton's kernels do not run on {device}, the plain layers do, more slowly: {describe_error(error)}",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


@functools.cache
def triton_works() -> bool:
    """Return whether Triton is there, with the C compiler and Python headers that it builds its launchers with."""
    compiler = os.environ.get('CC') or shutil.which('gcc') or shutil.which('clang')
    header = Path(sysconfig.get_path('include'), 'Python.h')
    return importlib.util.find_spec('triton') is not None and compiler is not None and header.exists()
