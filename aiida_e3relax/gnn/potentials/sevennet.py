"""SevenNet (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)); its weights come with the package `sevenn`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevenn import _const
from sevenn.calculator import SevenNetCalculator

if TYPE_CHECKING:
    import torch

    from aiida_e3relax.gnn.potentials.base import KnownPotential

FILES = {
    'sevennet-0': _const.SEVENNET_0_11Jul2024,
    'sevennet-mf-0': _const.SEVENNET_MF_0,
    'sevennet-l3i5': _const.SEVENNET_l3i5,
}


def find_weights(known: KnownPotential) -> Path:
    """Return the file of the weights of a potential."""
    return Path(FILES[known.name])


def make_calculator(known: KnownPotential, weights: Path, device: torch.device, dtype: str) -> Any:
    """Return SevenNet."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of accelerators for GPUs that are not installed
        return SevenNetCalculator(str(weights), device=device, modal=known.modal)
