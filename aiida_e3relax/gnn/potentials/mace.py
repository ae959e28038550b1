"""MACE (Batatia et al., NeurIPS 2022) by a file of the user, `.model`, as `mace_run_train` and its authors write.

Run with mace-torch 0.3.16 and a small network of random weights, on a CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace.calculators import MACECalculator

if TYPE_CHECKING:
    import torch

    from aiida_e3relax.gnn.potentials.base import KnownPotential


def make_calculator(known: KnownPotential, weights: Path, device: torch.device, dtype: str) -> Any:
    """Return MACE; of a file with several heads, which has no default, `mace_select_head` makes one of a single."""
    return MACECalculator(model_paths=[str(weights)], device=str(device), default_dtype=dtype)
