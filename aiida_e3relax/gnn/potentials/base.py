"""The interface of potentials."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Potential:
    """A potential as a calculator of ASE, with energy, forces and stress, and its origin.

    Attributes
    ----------
    calculator
        Energies in eV, forces in eV/A, stress in eV/A^3. It raises an error for a crystal that it does not know.
    name, version, weights
        The potential, the version of its package, and which of its weights.
    """

    calculator: Any
    name: str
    version: str
    weights: str
