"""MACE (Batatia et al., NeurIPS 2022) by a file of the user, `.model`, as `mace_run_train` and its authors write.

Run with mace-torch 0.3.16 and a small network of random weights, on a CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mace.calculators import MACECalculator

from aiida_e3relax.gnn.potentials.evaluation import Batches, batches_of_torch_sim

if TYPE_CHECKING:
    from aiida_e3relax.gnn.potentials.base import KnownPotential


def make_calculator(known: KnownPotential, weights: Path, device: torch.device, dtype: str) -> Any:
    """Return MACE; of a file with several heads, which has no default, `mace_select_head` makes one of a single."""
    return MACECalculator(model_paths=[str(weights)], device=str(device), default_dtype=dtype)


def make_batches(known: KnownPotential, weights: Path, device: torch.device, dtype: str, calculator: Any) -> Batches:
    """Return MACE as the package has it for torch-sim, a second copy of the network."""
    from mace.calculators.mace_torchsim import MaceTorchSimModel

    return batches_of_torch_sim(MaceTorchSimModel(weights, device=device, dtype=getattr(torch, dtype)))
