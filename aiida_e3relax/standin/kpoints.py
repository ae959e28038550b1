"""KPOINTS: the sampling of the Brillouin zone."""

import math
from dataclasses import dataclass

import numpy as np

from aiida_e3relax.common import fortran
from aiida_e3relax.standin.errors import StandInError, quote
from aiida_e3relax.standin.geometry import FractionalGeometry
from aiida_e3relax.standin.incar import Incar

MOST_POINTS = 100_000
"""Of a mesh or a list: all are listed in the output files."""
LARGEST = 1e9
"""Of the numbers in the file."""


@dataclass(frozen=True)
class KPoints:
    """Points in fractional coordinates of the reciprocal lattice.

    Parameters
    ----------
    points
        (n_points, 3).
    weights
        (n_points,), summing to one.
    divisions
        Subdivisions of a regular mesh, or None for a list.
    gamma
        Whether a mesh is centred on Gamma (otherwise after Monkhorst and Pack).
    shift
        Shift of a mesh, (3,), in units of its spacing.
    """

    points: np.ndarray
    weights: np.ndarray
    divisions: tuple[int, int, int] | None = None
    gamma: bool = True
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @classmethod
    def mesh(
        cls, divisions: tuple[int, int, int], gamma: bool, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ) -> 'KPoints':
        """Make a regular mesh, all points listed with equal weights; raises StandInError beyond `MOST_POINTS`."""
        if math.prod(divisions) > MOST_POINTS:
            mesh = ' x '.join(map(str, divisions))
            raise StandInError(f'k-points: expected {MOST_POINTS:,} at most, found {mesh}; give a coarser mesh')
        size = np.array(divisions)
        offset = np.array(shift) + (0.0 if gamma else np.where(size % 2 == 0, 0.5, 0.0))
        points = (np.array(list(np.ndindex(*divisions))) + offset) / size
        points -= np.round(points - 1e-9)  # into (-1/2, 1/2]
        return cls(points, np.full(len(points), 1 / len(points)), divisions, gamma, shift)

    @property
    def irreducible(self) -> 'KPoints':
        """The same sampling with one of each pair k, -k."""
        kept: dict[tuple[float, ...], int] = {}
        weights: list[float] = []
        for point, weight in zip(self.points, self.weights, strict=True):
            key, mirrored = (tuple(np.round(sign * point % 1, 6) % 1) for sign in (1, -1))
            if mirrored in kept:
                weights[kept[mirrored]] += weight
            else:
                kept[key] = len(weights)
                weights.append(weight)
        chosen = [k for k, point in enumerate(self.points) if tuple(np.round(point % 1, 6) % 1) in kept]
        return KPoints(self.points[chosen], np.array(weights), self.divisions, self.gamma, self.shift)


def parse_kpoints(text: str, geometry: FractionalGeometry) -> KPoints:
    """Read a KPOINTS file: an automatic mesh, a length, or a list of points.

    Raises
    ------
    StandInError
        If the file is unreadable or asks for line mode or a generalised mesh.
    """
    lines = [line.split('!')[0].split('#')[0].strip() for line in text.split('\n')]
    try:
        count, mode = fortran.integer(lines[1].split()[0]), lines[2][:1].lower()
        if mode == 'l':
            raise StandInError('KPOINTS line 3: line mode is not supported by the stand-in; give a mesh')
        if count > 0:
            return _parse_list(lines, count, mode)
        if count < 0:
            raise StandInError(f'KPOINTS line 2: expected 0 or how many points are listed, found {count}; correct it')
        return _parse_automatic(lines, mode, geometry)
    except (IndexError, ValueError):
        raise StandInError(
            f'KPOINTS: expected a mesh or a list of points, found {quote(text)}; write it anew'
        ) from None


def spacing_mesh(incar: Incar, geometry: FractionalGeometry) -> KPoints:
    """Make the mesh that KSPACING and KGAMMA ask for, as VASP does when there is no KPOINTS file."""
    spacing = incar.real('KSPACING', 0.5)
    if spacing <= 0:
        raise StandInError(f'INCAR: KSPACING must be positive, found {spacing}; correct it')
    lengths = 2 * np.pi * np.linalg.norm(geometry.reciprocal, axis=1)
    n1, n2, n3 = (max(1, math.ceil(min(length / spacing, MOST_POINTS + 1))) for length in lengths)
    return KPoints.mesh((n1, n2, n3), incar.logical('KGAMMA', True))


def _parse_list(lines: list[str], count: int, mode: str) -> KPoints:
    if mode in ('c', 'k'):
        raise StandInError('KPOINTS line 3: Cartesian lists are not supported by the stand-in; give reciprocal ones')
    found = [line for line in lines[3 : 3 + count] if line]
    if len(found) != count or count > MOST_POINTS:
        raise StandInError(
            f'KPOINTS: line 2 announces {count} points, found {len(found)} of {MOST_POINTS:,} at most; correct it'
        )
    rows = np.array([_reals(line, 4) for line in found])
    weights = rows[:, 3]
    if weights.min() < 0 or weights.sum() <= 0:
        raise StandInError('KPOINTS: expected weights that are not negative and not all zero; correct column 4')
    return KPoints(rows[:, :3], weights / weights.sum())


def _parse_automatic(lines: list[str], mode: str, geometry: FractionalGeometry) -> KPoints:
    if mode == 'a':
        length = _reals(lines[3], 1)[0]
        if length <= 0:
            raise StandInError(f'KPOINTS line 4: expected a positive length, found {quote(lines[3])}; correct it')
        lengths = length * np.linalg.norm(geometry.reciprocal, axis=1)
        n1, n2, n3 = (max(1, int(length + 0.5)) for length in lengths)
        return KPoints.mesh((n1, n2, n3), gamma=True)
    if mode not in ('g', 'm'):
        raise StandInError(
            f'KPOINTS line 3: expected Gamma, Monkhorst-Pack or Automatic, found {quote(lines[2])}; correct it'
        )
    n1, n2, n3 = (fortran.integer(word) for word in lines[3].split()[:3])
    if min(n1, n2, n3) < 1:
        raise StandInError(f'KPOINTS line 4: expected three positive subdivisions, found {quote(lines[3])}; correct it')
    s1, s2, s3 = _reals(lines[4], 3) if len(lines) > 4 and lines[4] else (0.0, 0.0, 0.0)
    return KPoints.mesh((n1, n2, n3), mode == 'g', (s1, s2, s3))


def _reals(line: str, count: int) -> list[float]:
    """Return the first numbers of a line; raises ValueError where one of them is none or missing."""
    values = [fortran.real(word) for word in line.split()[:count]]
    if len(values) < count or max(map(abs, values)) > LARGEST:
        raise ValueError(line)
    return values
