"""Small networks in float64 with random weights, all of them at work, for whatever model is registered."""

from __future__ import annotations

from typing import Any

import torch

from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.registry import MODELS, make_model

SIZES = {
    'features': 16,
    'layers': 2,
    'radial_functions': 8,
    'offset_features': 8,
    'strain_channels': 8,
    'max_neighbours': 10,  # ends within a shell of most prototypes
    'max_within_cell': 5,
    'lattice_update': 'published',
}


def random_network(architecture: str, **changes: str) -> RelaxationModel:
    """Return a model with those of `SIZES` that it has; its predictions are of the size that training gives."""
    torch.manual_seed(8)
    model = make_model(architecture, sizes_of(architecture, SIZES) | changes).double()
    with torch.no_grad():  # zeros and ones of the initial weights would hide what they multiply
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def sizes_of(architecture: str, sizes: dict[str, Any]) -> dict[str, Any]:
    """Return those of `sizes` that the hyper-parameters of a model, or of the members of an ensemble, have."""
    known = MODELS[architecture].Hyperparameters.__dataclass_fields__
    if 'member' in known:
        return {'member_hyperparameters': sizes_of(known['member'].default, sizes)}
    return {name: value for name, value in sizes.items() if name in known}
