"""The models by name. A new model is one new file and one line in `MODELS`.

A model's module is imported when it is asked for: some need packages that others do without. Other packages add models
by entry points of the group `GROUP`. Needs no torch until then.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from collections import UserDict
from typing import TYPE_CHECKING, Any

from aiida_e3relax.common.errors import InputError, MissingPackageError
from aiida_e3relax.common.messages import suggestion

if TYPE_CHECKING:
    from aiida_e3relax.gnn.models.base import RelaxationModel

REMEDY = "install it where the network runs, with `pip install 'aiida-e3relax[baselines]'`"
GROUP = 'e3relax.models'
"""Of entry points that are models: the name, and ``module:Class`` of a `RelaxationModel`."""


class Models(UserDict[str, Any]):
    """Models by name, each as its class or as ``module:Class``; reading one imports its module.

    Raises MissingPackageError for a model of which a package is not installed, and InputError for an entry that names
    no model.
    """

    def __getitem__(self, name: str) -> type[RelaxationModel]:
        entry = self.data[name]
        if not isinstance(entry, str):
            return entry
        from aiida_e3relax.gnn.models.base import RelaxationModel

        module, _, model = entry.partition(':')
        try:
            found = getattr(importlib.import_module(module), model, None)
        except ModuleNotFoundError as error:
            if error.name is None or _is_of_this_package(error.name):
                raise
            package = error.name.partition('.')[0].replace('_', '-')
            remedy = REMEDY if _is_of_this_package(module) else 'install it where the network runs'
            raise MissingPackageError(
                f'the model {name} needs the package {package}, which is not installed; {remedy}'
            ) from error
        if not (isinstance(found, type) and issubclass(found, RelaxationModel)):
            raise InputError(
                f'the model {name}: expected the class of a `RelaxationModel` in {entry}, found {found!r}: correct the '
                f'line that registers it'
            )
        self.data[name] = found
        return found

    def add_installed(self) -> None:
        """Add the models of other packages; one with the name of a model that is there is left out, with a warning."""
        for point in importlib.metadata.entry_points(group=GROUP):
            entry = f'{point.module}:{point.attr}'
            if point.name not in self.data:
                self.data[point.name] = entry
            elif self.data[point.name] != entry:
                warnings.warn(
                    f'the model {point.name} of {entry} is left out: another has this name; rename its entry point',
                    stacklevel=2,
                )


def _is_of_this_package(module: str) -> bool:
    return module.partition('.')[0] == __name__.partition('.')[0]


_HERE = 'aiida_e3relax.gnn.models'

MODELS = Models(
    {
        'e3relax-h2': f'{_HERE}.e3relax_h2:E3RelaxH2',
        'e3relax': f'{_HERE}.e3relax:E3Relax',
        'deeprelax': f'{_HERE}.deeprelax:DeepRelax',
        'painn': f'{_HERE}.painn:PaiNN',
        'egnn': f'{_HERE}.egnn:EGNN',
        'equiformer-v2': f'{_HERE}.equiformer_v2.model:EquiformerV2',
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
MODELS.add_installed()


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
