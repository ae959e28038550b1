"""The models by name. A new model is one new file and one line in `MODELS`."""

from __future__ import annotations

from typing import Any

from aiida_e3relax.common.messages import suggestion
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.deeprelax import DeepRelax
from aiida_e3relax.gnn.models.dummy import Dummy
from aiida_e3relax.gnn.models.e3relax import E3Relax
from aiida_e3relax.gnn.models.e3relax_h2 import E3RelaxH2
from aiida_e3relax.gnn.models.egnn import EGNN
from aiida_e3relax.gnn.models.ensemble import Ensemble
from aiida_e3relax.gnn.models.painn import PaiNN
from aiida_e3relax.gnn.models.published import DeepRelaxPublished, E3RelaxH2Published, E3RelaxPublished

MODELS: dict[str, type[RelaxationModel]] = {
    'e3relax-h2': E3RelaxH2,
    'e3relax': E3Relax,
    'deeprelax': DeepRelax,
    'painn': PaiNN,
    'egnn': EGNN,
    'dummy': Dummy,
    'ensemble': Ensemble,
    'e3relax-h2-published': E3RelaxH2Published,
    'e3relax-published': E3RelaxPublished,
    'deeprelax-published': DeepRelaxPublished,
}


def make_model(architecture: str, hyperparameters: dict[str, Any]) -> RelaxationModel:
    """Return a new model.

    Raises
    ------
    ValueError
        For an architecture or a hyper-parameter that is not known, with the nearest one that is.
    """
    if architecture not in MODELS:
        raise ValueError(f'unknown architecture {architecture!r}{suggestion(architecture, list(MODELS))}')
    model = MODELS[architecture]
    known = list(model.Hyperparameters.__dataclass_fields__)
    for name in hyperparameters:
        if name not in known:
            raise ValueError(f'{architecture} has no hyper-parameter {name!r}{suggestion(name, known)}')
    return model(model.Hyperparameters(**hyperparameters))
