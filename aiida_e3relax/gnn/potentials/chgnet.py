"""CHGNet (Deng et al., Nat. Mach. Intell. 5, 1031 (2023)); its weights come with the package."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chgnet
from chgnet.model import CHGNet, CHGNetCalculator

if TYPE_CHECKING:
    import torch

    from aiida_e3relax.gnn.potentials.base import KnownPotential


def find_weights(known: KnownPotential) -> Path:
    """Return the file of the weights that `CHGNet.load` takes for their name."""
    (path,) = (Path(chgnet.__file__).parent / 'pretrained' / str(known.weights)).glob('*.pth.tar')
    return path


def make_calculator(known: KnownPotential, weights: Path, device: torch.device, dtype: str) -> Any:
    """Return CHGNet; it refuses crystals with an atom that has no neighbour within its cutoff of 6 A."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its device
        model = CHGNet.load(model_name=str(known.weights), use_device=str(device))
        return CHGNetCalculator(model, use_device=str(device), on_isolated_atoms='error')
