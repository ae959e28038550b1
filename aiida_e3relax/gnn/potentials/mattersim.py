"""MatterSim (Yang et al., arXiv 2405.04967) by a file of the user, `.pth`, as its authors publish.

Run with mattersim 1.2.3 and a small network of random weights, on a CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mattersim.forcefield.potential import MatterSimCalculator, Potential

if TYPE_CHECKING:
    import torch

    from aiida_e3relax.gnn.potentials.base import KnownPotential


def make_calculator(known: KnownPotential, weights: Path, device: torch.device, dtype: str) -> Any:
    """Return MatterSim.

    The path is absolute: the package takes a bare name of one of its models for the copy in the user's home folder.
    """
    potential = Potential.from_checkpoint(
        load_path=str(weights.resolve()), device=str(device), load_training_state=False
    )
    return MatterSimCalculator(potential=potential, device=str(device))
