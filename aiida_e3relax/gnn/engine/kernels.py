"""Which kernels sum over edges: compiled ones on the CPU, Triton's on a CUDA device, or none."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path
from types import ModuleType

from torch import Tensor

from aiida_e3relax.gnn.engine import native


def kernels_for(tensor: Tensor) -> ModuleType | None:
    """Return the module whose `message_sums` and `tensor_sums` can work on `tensor`; None where none can."""
    if native.usable(tensor):
        return native
    if tensor.is_cuda and triton_works():
        from aiida_e3relax.gnn.engine import triton_sums

        return triton_sums if triton_sums.usable(tensor) else None
    return None


@functools.cache
def triton_works() -> bool:
    """Tell whether Triton is there, with the C compiler and the headers of Python that it builds its launchers with."""
    compiler = os.environ.get('CC') or shutil.which('gcc') or shutil.which('clang')
    header = Path(sysconfig.get_path('include'), 'Python.h')
    return importlib.util.find_spec('triton') is not None and compiler is not None and header.exists()
