"""Acceleration of a model: each layer gets the faster class that `_FASTER` lists for it.

The plain layers are the reference; `accelerate` swaps the classes of a model's modules for faster ones and touches no
parameter, so a checkpoint knows nothing of the engine.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from aiida_e3relax.gnn.engine.fast_layers import (
    FastAtomsToLattice,
    FastLatticeToAtoms,
    FastMessagePassing,
    FastPublishedMessagePassing,
)
from aiida_e3relax.gnn.engine.linear import FastLinear
from aiida_e3relax.gnn.layers import AtomsToLattice, HighDegreeMessagePassing, LatticeToAtoms
from aiida_e3relax.gnn.models.published.message_passing import MessagePassing

_Model = TypeVar('_Model', bound=nn.Module)

_FASTER: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: FastLinear,
    HighDegreeMessagePassing: FastMessagePassing,
    AtomsToLattice: FastAtomsToLattice,
    LatticeToAtoms: FastLatticeToAtoms,
    MessagePassing: FastPublishedMessagePassing,
}


def with_engine(model: _Model, engine: str) -> _Model:
    """Return `model`, made fast where `engine` is ``fast``; ``reference`` leaves it as it is."""
    return accelerate(model) if engine == 'fast' else model


def accelerate(model: _Model) -> _Model:
    """Let `model` run on the fast engine, for prediction and training alike, and return it."""
    for module in model.modules():
        module.__class__ = _FASTER.get(type(module), type(module))
    return model
