"""Universal interatomic potentials, learned from DFT on all elements: a second opinion on what the network predicts."""

from __future__ import annotations

import importlib

import torch

from aiida_e3relax.common.errors import MissingPackageError
from aiida_e3relax.gnn.potentials.base import Potential
from aiida_e3relax.gnn.prediction.settings import POTENTIALS

__all__ = ['Potential', 'load_potential']

REMEDY = 'install it where the network runs, with `pip install {}`'


def load_potential(name: str, device: torch.device) -> Potential:
    """Return a potential of `POTENTIALS` on `device`; each has the module of its name, imported when asked for.

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
