"""What potentials are: one that is known by name, and one that is loaded. Needs no torch."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from aiida_e3relax.common.errors import DeviceError

if TYPE_CHECKING:
    import torch

    from aiida_e3relax.gnn.potentials.evaluation import Batches

DTYPES = ('float32', 'float64')
ALONE = 'one after the other'


@dataclasses.dataclass(frozen=True)
class KnownPotential:
    """A potential that can be asked for by name.

    Attributes
    ----------
    name
        The word for it.
    module
        The module of `aiida_e3relax.gnn.potentials` that is its adapter.
    package
        The package that computes it, as `pip install` knows it.
    needs_weights
        Whether the user brings the file of its weights; else they come with the package.
    licence, training_data, functional
        Of the weights, and the functional of the energies that they were trained on; None where the user's file
        decides.
    modal
        Which of several functionals that the weights hold is computed.
    weights
        The name of the weights that come with the package.
    dtypes
        The precisions in which the package computes.
    kind
        What it is, in words.
    """

    name: str
    module: str
    package: str
    needs_weights: bool
    licence: str | None = None
    training_data: str | None = None
    functional: str | None = None
    modal: str | None = None
    weights: str | None = None
    dtypes: tuple[str, ...] = DTYPES
    kind: str = 'potential'

    def nearest_dtype(self, dtype: str) -> str:
        """Return `dtype` where the package computes in it, else the precision in which it does."""
        return dtype if dtype in self.dtypes else self.dtypes[0]


@dataclasses.dataclass(frozen=True)
class Potential:
    """A potential as a calculator of ASE, with energy, forces and stress, and its origin.

    Attributes
    ----------
    calculator
        Energies in eV, forces in eV/A, stress in eV/A^3. It raises an error for a crystal that it does not know.
    name, version
        The potential, and the version of its package.
    weights, content_hash
        The name of its weights, and ``sha256:`` with the digest of their bytes.
    licence, training_data, functional
        Of the weights; None where they do not say.
    dtype
        The precision in which it computes.
    batches
        What computes several crystals at once; None where they are computed one after the other.
    evaluation
        Which of the two it is, and why, in words.
    """

    calculator: Any
    name: str
    version: str
    weights: str
    content_hash: str | None = None
    licence: str | None = None
    training_data: str | None = None
    functional: str | None = None
    dtype: str = 'float32'
    batches: Batches | None = None
    evaluation: str = ALONE

    def facts(self) -> dict[str, str | None]:
        """Return what a report says of it."""
        names = ('version', 'weights', 'content_hash', 'licence', 'training_data', 'functional', 'dtype', 'evaluation')
        return {'potential': self.name} | {name: getattr(self, name) for name in names}


def first_of_kind(known: KnownPotential, device: torch.device) -> str:
    """Return ``cpu`` or ``cuda``, for packages that know the first GPU alone; raises DeviceError for another."""
    if device.index:
        raise DeviceError(
            f'{known.package} computes on the first GPU that it sees, not on {device}: set CUDA_VISIBLE_DEVICES='
            f'{device.index} and ask for cuda'
        )
    return device.type
