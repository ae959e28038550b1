"""Orb (Rhodes et al., arXiv 2504.06231) by a file of the user, `.ckpt`, under the name that its authors give it.

Run with orb-models 0.5.5 and random weights, on a CPU; versions from 0.6 on by their source alone.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orb_models.forcefield.calculator import ORBCalculator
from orb_models.forcefield.pretrained import ORB_PRETRAINED_MODELS

from aiida_e3relax.common.errors import WeightsError

if TYPE_CHECKING:
    import torch

    from aiida_e3relax.gnn.potentials.base import KnownPotential

PRECISIONS = {'float32': 'float32-highest', 'float64': 'float64'}
"""As the package calls them; its own default multiplies matrices in half precision on GPUs."""


def make_calculator(known: KnownPotential, weights: Path, device: torch.device, dtype: str) -> Any:
    """Return Orb; the name of the file tells which of its models the weights are of."""
    models = [name for name in ORB_PRETRAINED_MODELS if weights.name.startswith(name)]
    if not models:
        raise WeightsError(
            f'{weights}: expected a name that begins with that of its model: {", ".join(ORB_PRETRAINED_MODELS)}'
        )
    make = ORB_PRETRAINED_MODELS[max(models, key=len)]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the precision that was asked for
        made = make(weights_path=str(weights), device=str(device), precision=PRECISIONS[dtype], compile=False)
    parts = made if isinstance(made, tuple) else (made,)  # from version 0.6 on with what makes its graphs
    return ORBCalculator(*parts, device=str(device))
