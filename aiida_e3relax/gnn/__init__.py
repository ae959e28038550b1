"""The network side: crystals in, predicted relaxed crystals out.

Imports torch, never aiida. Runs on the GPU machine as the console script ``e3relax``; in Python,

    from aiida_e3relax.gnn import relax

takes structures of ASE or pymatgen. Importing this package alone loads no torch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiida_e3relax.gnn.prediction.relaxer import PotentialSettings, Relaxation, RelaxationError, Relaxer, relax

__all__ = ['PotentialSettings', 'Relaxation', 'RelaxationError', 'Relaxer', 'relax']

# oneDNN and what calls it keep a compiled kernel for every shape that they meet, a thousand each, some 100 kB a kernel;
# a stream of batches meets new shapes all the time. Both are read when torch is loaded, hence here.
os.environ.setdefault('ONEDNN_PRIMITIVE_CACHE_CAPACITY', '64')
os.environ.setdefault('LRU_CACHE_CAPACITY', '64')


def __getattr__(name: str) -> Any:
    """Return what has to load torch first."""
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    try:
        from aiida_e3relax.gnn.prediction import relaxer
    except ModuleNotFoundError as error:
        if error.name != 'torch':
            raise
        raise ImportError("relaxing needs PyTorch: `pip install 'aiida-e3relax[gnn]'`", name='torch') from error
    return getattr(relaxer, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
