"""One k-point mesh for both legs, made from a spacing or as it is given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aiida import orm
from aiida.engine import calcfunction

from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.workflows.vasp.inputs.freedom import open_axes, read_freedom


@calcfunction
def make_kpoints(structure: orm.StructureData, spacing: orm.Float, freedom: orm.Str | orm.Dict) -> orm.KpointsData:
    """Return the mesh that resolves `spacing`, in 2 pi/A as in aiida-vasp, in the cell of `structure`.

    It has one point across a vacuum, be it said by `freedom` or the periodic directions or found. Left to itself
    aiida-vasp would make one for each start, and the legs' energies could not be compared.
    """
    kpoints = orm.KpointsData()
    kpoints.set_cell_from_structure(structure)
    kpoints.set_kpoints_mesh_from_density(2 * math.pi * spacing.value)
    across = open_axes(read_freedom(freedom), structure)
    if across:
        mesh, _ = kpoints.get_kpoints_mesh()
        kpoints.set_kpoints_mesh([1 if axis in across else n for axis, n in enumerate(mesh)])
    return kpoints


def make_mesh(structure: orm.StructureData, mesh: Any, freedom: Freedom) -> orm.KpointsData:
    """Return the mesh that a protocol or a person gives, with one point across a vacuum.

    Parameters
    ----------
    mesh
        Three numbers of points, a mapping of these as `mesh` and of an `offset` in units of the spacing between
        points, or a node, which is returned as it is.

    Raises
    ------
    ValueError
        For anything else.
    """
    if isinstance(mesh, orm.KpointsData):
        return mesh
    given: Mapping[str, Any] = mesh if isinstance(mesh, Mapping) else {'mesh': mesh}
    points, offset = given.get('mesh', ()), list(given.get('offset', (0.0, 0.0, 0.0)))
    if not _are_counts(points) or len(offset) != 3:
        raise ValueError(f'`vasp.vasp.kpoints`: expected three numbers of points such as [6, 6, 6], found {mesh!r}')
    points = list(points)
    for axis in open_axes(freedom, structure):
        points[axis], offset[axis] = 1, 0.0
    kpoints = orm.KpointsData()
    kpoints.set_cell_from_structure(structure)
    kpoints.set_kpoints_mesh(points, offset)
    return kpoints


def _are_counts(points: Any) -> bool:
    return isinstance(points, Sequence) and len(points) == 3 and all(isinstance(n, int) and n > 0 for n in points)
