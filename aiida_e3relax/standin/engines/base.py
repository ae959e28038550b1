"""The interface of an engine, and the results that it returns."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from aiida_e3relax.standin.errors import StandInError
from aiida_e3relax.standin.geometry import FractionalGeometry
from aiida_e3relax.standin.kpoints import KPoints


@dataclass(frozen=True)
class Energies:
    """Energies of the cell in eV: free (F = E - TS), without entropy (E), extrapolated to zero smearing.

    The three are equal for engines without electrons.
    """

    free: float
    without_entropy: float
    extrapolated: float


@dataclass(frozen=True)
class Response:
    """Derivatives of the free energy at one geometry.

    Parameters
    ----------
    forces
        (n_atoms, 3), eV/A, of zero sum.
    stress
        (3, 3), derivative with respect to strain over the volume, eV/A^3.
    drift
        (3,), sum of the forces before it was taken off, eV/A.
    magnetisation
        Moment of the cell in bohr magnetons, or None without spin.
    moments
        (n_atoms, 3 or 4), moments of the sites by angular momentum, s, p, d and f if there are f states, in bohr
        magnetons, or None without spin.
    """

    forces: np.ndarray
    stress: np.ndarray
    drift: np.ndarray
    magnetisation: float | None = None
    moments: np.ndarray | None = None


@dataclass(frozen=True)
class Bands:
    """Eigenvalues (eV) and occupations (0 to 1), both (n_spins, n_kpoints, n_bands), and the Fermi level (eV)."""

    eigenvalues: np.ndarray
    occupations: np.ndarray
    fermi_level: float


class Engine(Protocol):
    """A calculator.

    Attributes
    ----------
    name
        As on the command line.
    description
        What the calculator is, in words, for people.
    electronic
        Whether it has electrons, so that the electronic tags of the INCAR act.
    n_bands
        Number of bands that the outputs state; 1 without electrons.
    kpoints
        The points that are computed, or what the inputs ask for without electrons.
    """

    name: str
    description: str
    electronic: bool
    n_bands: int
    kpoints: KPoints

    def iterate(self, geometry: FractionalGeometry) -> Iterator[Energies]:
        """Go to self-consistency at a geometry, yielding the energies of each electronic iteration."""
        ...

    def response(self) -> Response:
        """Return forces and stress at the geometry of the last `iterate`, converged or not."""
        ...

    def bands(self) -> Bands | None:
        """Return the bands at the geometry of the last `iterate`, or None without electrons."""
        ...


def refuse_elements(engine: str, unknown: set[str], remedy: str) -> None:
    """Raise `StandInError` with the names of elements that an engine does not know, if there are any."""
    if unknown:
        raise StandInError(f'engine {engine} does not know {", ".join(sorted(unknown))}; {remedy}')
