"""One k-point mesh for both legs."""

from __future__ import annotations

import math

from aiida import orm
from aiida.engine import calcfunction


@calcfunction
def make_kpoints(structure: orm.StructureData, spacing: orm.Float) -> orm.KpointsData:
    """Return the mesh that resolves `spacing`, in 2 pi/A as in aiida-vasp, in the cell of `structure`.

    Left to itself aiida-vasp would make one for each start, and the legs' energies could not be compared.
    """
    kpoints = orm.KpointsData()
    kpoints.set_cell_from_structure(structure)
    kpoints.set_kpoints_mesh_from_density(2 * math.pi * spacing.value)
    return kpoints
