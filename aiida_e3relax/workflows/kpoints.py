"""One k-point mesh for both legs."""

from __future__ import annotations

import math

from aiida import orm
from aiida.engine import calcfunction

from aiida_e3relax.workflows.freedom import Freedom


@calcfunction
def make_kpoints(structure: orm.StructureData, spacing: orm.Float, freedom: orm.Str | orm.Dict) -> orm.KpointsData:
    """Return the mesh that resolves `spacing`, in 2 pi/A as in aiida-vasp, in the cell of `structure`.

    It has one point across the vacuum that `freedom` or the periodic directions tell. Left to itself aiida-vasp would
    make one for each start, and the legs' energies could not be compared.
    """
    kpoints = orm.KpointsData()
    kpoints.set_cell_from_structure(structure)
    kpoints.set_kpoints_mesh_from_density(2 * math.pi * spacing.value)
    vacuum = Freedom.from_node(freedom).vacuum_axis(structure.pbc)
    if vacuum is not None:
        mesh, _ = kpoints.get_kpoints_mesh()
        mesh[vacuum] = 1
        kpoints.set_kpoints_mesh(mesh)
    return kpoints
