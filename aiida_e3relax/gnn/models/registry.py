"""The models by name. A new model is one new file and one line in `MODELS`.

A model's module is imported when it is asked for: some need packages that others do without.
"""

from __future__ import annotations

import importlib
from collections import UserDict
from typing import Any

from aiida_e3relax.common.errors import MissingPackageError
from aiida_e3relax.common.messages import suggestion
from aiida_e3relax.gnn.models.base import RelaxationModel

REMEDY = "install it where the network runs, with `pip install 'aiida-e3relax[baselines]'`"


class Models(UserDict[str, Any]):
    """Models by name, each as its class or as ``module:Class``; reading one imports its module.

    Raises MissingPackageError for a model of which a package is not installed.
    """

    def __getitem__(self, name: str) -> type[RelaxationModel]:
        entry = self.data[name]
        if not isinstance(entry, str):
            return entry
        module, _, model = entry.partition(':')
        try:
            self.data[name] = found = getattr(importlib.import_module(module), model)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition('.')[0] == __name__.partition('.')[0]:
                raise
            package = error.name.partition('.')[0].replace('_', '-')
            raise MissingPackageError(
                f'the model {name} needs the package {package}, which is not installed; {REMEDY}'
            ) from error
        return found


_HERE = 'aiida_e3relax.gnn.models'

MODELS = Models(
    {
        'e3relax-h2': f'{_HERE}.e3relax_h2:E3RelaxH2',
        'e3relax': f'{_HERE}.e3relax:E3Relax',
        'deeprelax': f'{_HERE}.deeprelax:DeepRelax',
        'painn': f'{_HERE}.painn:PaiNN',
        'egnn': f'{_HERE}.egnn:EGNN',
        'hegnn': f'{_HERE}.hegnn:HEGNN',
        'gotennet': f'{_HERE}.gotennet:GotenNet',
        'dummy': f'{_HERE}.dummy:Dummy',
        'ensemble': f'{_HERE}.ensemble:Ensemble',
        'e3relax-h2-published': f'{_HERE}.published:E3RelaxH2Published',
        'e3relax-published': f'{_HERE}.published:E3RelaxPublished',
        'deeprelax-published': f'{_HERE}.published:DeepRelaxPublished',
        'painn-published': f'{_HERE}.published.painn:PaiNNPublished',
        'egnn-published': f'{_HERE}.published.egnn:EGNNPublished',
    }
)


def make_model(architecture: str, hyperparameters: dict[str, Any]) -> RelaxationModel:
    """Return a new model.

    Raises
    ------
    ValueError
        For an architecture or a hyper-parameter that is not known, with the nearest one that is.
    MissingPackageError
        For a model of which a package is not installed.
    """
    if architecture not in MODELS:
        raise ValueError(f'unknown architecture {architecture!r}{suggestion(architecture, list(MODELS))}')
    model = MODELS[architecture]
    known = list(model.Hyperparameters.__dataclass_fields__)
    for name in hyperparameters:
        if name not in known:
            raise ValueError(f'{architecture} has no hyper-parameter {name!r}{suggestion(name, known)}')
    return model(model.Hyperparameters(**hyperparameters))
