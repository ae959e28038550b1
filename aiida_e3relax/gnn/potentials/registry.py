"""The potentials by name. A new one is one module of its name and one word in `POTENTIALS`. Needs no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from aiida_e3relax.common.errors import MissingPackageError
from aiida_e3relax.gnn.potentials.base import Potential

if TYPE_CHECKING:
    import torch

POTENTIALS = ('chgnet',)
"""Universal interatomic potentials, learned from DFT on all elements, that give a second opinion: see `SecondOpinion`.

Each has the module of its name, with a function ``load(device)`` that returns a `Potential`.
"""

REMEDY = 'install it where the network runs, with `pip install {}`'


def load_potential(name: str, device: torch.device) -> Potential:
    """Return a potential of `POTENTIALS` on `device`; its module is imported when it is asked for.

    Raises MissingPackageError where its package is not installed.
    """
    if name not in POTENTIALS:
        raise ValueError(f'potential: expected one of {", ".join(POTENTIALS)}, found {name!r}')
    try:
        module = importlib.import_module(f'aiida_e3relax.gnn.potentials.{name}')
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f'a second opinion of {name} needs the package {error.name}, which is not installed; {REMEDY.format(name)}'
        ) from error
    return module.load(device)
