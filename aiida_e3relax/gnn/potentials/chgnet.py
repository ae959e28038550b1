"""CHGNet (Deng et al., Nat. Mach. Intell. 5, 1031 (2023)), trained on PBE and PBE+U of the Materials Project."""

from __future__ import annotations

import contextlib
import io
from importlib.metadata import version

import torch
from chgnet.model import CHGNet, CHGNetCalculator

from aiida_e3relax.gnn.potentials.base import Potential

WEIGHTS = '0.3.0'
"""They come with the package."""


def load(device: torch.device) -> Potential:
    """Return CHGNet on `device`; it refuses crystals with an atom that has no neighbour within its cutoff of 6 A."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its device
        model = CHGNet.load(model_name=WEIGHTS, use_device=str(device))
        calculator = CHGNetCalculator(model, use_device=str(device), on_isolated_atoms='error')
    return Potential(calculator, 'chgnet', version('chgnet'), WEIGHTS)
