"""KPOINTS: the sampling of the Brillouin zone."""

from dataclasses import dataclass

import numpy as np

from aiida_e3relax.standin.errors import InputError
from aiida_e3relax.standin.geometry import Geometry
from aiida_e3relax.standin.incar import Incar


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
    def mesh(cls, divisions: tuple[int, int, int], gamma: bool, shift=(0.0, 0.0, 0.0)) -> 'KPoints':
        """Make a regular mesh, all points listed with equal weights."""
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


def parse_kpoints(text: str, geometry: Geometry) -> KPoints:
    """Read a KPOINTS file: an automatic mesh, a length, or a list of points.

    Raises
    ------
    InputError
        If the file is unreadable or asks for line mode or a generalised mesh.
    """
    lines = [line.split('!')[0].split('#')[0].strip() for line in text.splitlines()]
    try:
        count, mode = int(lines[1].split()[0]), lines[2][:1].lower()
        if mode == 'l':
            raise InputError('KPOINTS line 3: line mode is not supported by the stand-in; give a mesh')
        if count > 0:
            return _parse_list(lines, count, mode)
        return _parse_automatic(lines, mode, geometry)
    except (IndexError, ValueError):
        raise InputError(f'KPOINTS: expected a mesh or a list of points, found {text!r}; write it anew') from None


def spacing_mesh(incar: Incar, geometry: Geometry) -> KPoints:
    """Make the mesh that KSPACING and KGAMMA ask for, as VASP does when there is no KPOINTS file."""
    spacing = incar.real('KSPACING', 0.5)
    lengths = 2 * np.pi * np.linalg.norm(geometry.reciprocal, axis=1)
    n1, n2, n3 = (max(1, int(np.ceil(length / spacing))) for length in lengths)
    return KPoints.mesh((n1, n2, n3), incar.logical('KGAMMA', True))


def _parse_list(lines: list[str], count: int, mode: str) -> KPoints:
    if mode in ('c', 'k'):
        raise InputError('KPOINTS line 3: Cartesian lists are not supported by the stand-in; give reciprocal ones')
    rows = np.array([line.split()[:4] for line in lines[3 : 3 + count]], float)
    if len(rows) != count:
        raise InputError(f'KPOINTS: line 2 announces {count} points, found {len(rows)}; correct it')
    return KPoints(rows[:, :3], rows[:, 3] / rows[:, 3].sum())


def _parse_automatic(lines: list[str], mode: str, geometry: Geometry) -> KPoints:
    if mode == 'a':
        lengths = float(lines[3].split()[0]) * np.linalg.norm(geometry.reciprocal, axis=1)
        n1, n2, n3 = (max(1, int(length + 0.5)) for length in lengths)
        return KPoints.mesh((n1, n2, n3), gamma=True)
    if mode not in ('g', 'm'):
        raise InputError(f'KPOINTS line 3: expected Gamma, Monkhorst-Pack or Automatic, found {lines[2]!r}; correct it')
    n1, n2, n3 = (int(word) for word in lines[3].split()[:3])
    if min(n1, n2, n3) < 1:
        raise InputError(f'KPOINTS line 4: expected three positive subdivisions, found {lines[3]!r}; correct it')
    words = lines[4].split() if len(lines) > 4 else []
    s1, s2, s3 = (float(word) for word in words[:3]) if words else (0.0, 0.0, 0.0)
    return KPoints.mesh((n1, n2, n3), mode == 'g', (s1, s2, s3))
