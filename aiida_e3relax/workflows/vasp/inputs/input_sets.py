"""The inputs of VASP that pymatgen's input sets give to a structure, without potentials on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiida import orm

from aiida_e3relax.common.mappings import check_keys
from aiida_e3relax.crystals.structures import pymatgen_structure
from aiida_e3relax.data.structures import structures_to_crystals

if TYPE_CHECKING:
    from pymatgen.io.vasp.inputs import Kpoints
    from pymatgen.io.vasp.sets import VaspInputSet

INPUT_SETS = ('MPRelaxSet', 'MITRelaxSet')
DEFAULT_MOMENT = 0.6
"""In Bohr magnetons, where an input set has no moment for an element; it is in pymatgen's code, not in its data."""
EDIFFG_FACTOR = 10
"""Of EDIFF: VASP's own criterion on the energy where EDIFFG is not given. aiida-vasp would set a force instead."""

SET_ELSEWHERE = ('ISIF', 'NSW', 'IBRION', 'MAGMOM', 'LDAU', 'LDAUTYPE', 'LDAUL', 'LDAUU', 'LDAUJ')
"""Tags that `freedom`, `relax_settings` and the mappings by element stand for."""


def read_input_set(structure: orm.StructureData, name: str) -> dict[str, Any]:
    """Return what an input set of pymatgen gives to `structure`, as values of the ports of `vasp.v2.vasp`.

    These are the INCAR tags, the moments, the Hubbard corrections, which depend on the anion, the names of the
    potentials, and the k-points, as a mesh with its offset.

    Raises ValueError for a set that is not in `INPUT_SETS`.
    """
    try:
        check_keys([name], INPUT_SETS)
    except ValueError as error:
        raise ValueError(f'`input_set`: {error}') from error
    import pymatgen.io.vasp.sets  # takes a second, and most chains do without

    crystal = pymatgen_structure(structures_to_crystals({'structure': structure}), 0)
    input_set = getattr(pymatgen.io.vasp.sets, name)(crystal)
    tags = input_set.incar
    incar = {tag.lower(): value for tag, value in tags.items() if tag not in SET_ELSEWHERE}
    potentials, elements = input_set.CONFIG['POTCAR'], structure.get_symbols_set()
    incar.setdefault('ediffg', EDIFFG_FACTOR * tags['EDIFF'])
    inputs = {
        'parameters': {'incar': incar},
        'magmom_mapping': {'default': DEFAULT_MOMENT, **input_set.CONFIG['INCAR']['MAGMOM']},
        'potential_mapping': {element: name for element, name in potentials.items() if element in elements},
        'kpoints': _read_mesh(input_set.kpoints),
    }
    return inputs | ({'ldau_mapping': _read_hubbard(input_set)} if 'LDAU' in tags else {})


def _read_hubbard(input_set: VaspInputSet) -> dict[str, Any]:
    """Return the Hubbard corrections as aiida-vasp's `ldau_mapping`."""
    tags = input_set.incar
    mapping, jmapping = {}, {}
    for symbol, orbital, u, j in zip(
        input_set.poscar.site_symbols, tags['LDAUL'], tags['LDAUU'], tags['LDAUJ'], strict=True
    ):
        if u or j:
            mapping[symbol] = ['spdf'[orbital], u]
            jmapping[symbol] = j
    return {'mapping': mapping, 'jmapping': jmapping, 'utype': tags['LDAUTYPE'], 'felec': tags['LMAXMIX'] == 6}


def _read_mesh(kpoints: Kpoints) -> dict[str, list]:
    """Return the k-points as `mesh` and `offset`: a Monkhorst-Pack mesh is off the Gamma point where it is even."""
    mesh = list(kpoints.kpts[0])
    monkhorst = kpoints.style.name == 'Monkhorst'
    return {'mesh': mesh, 'offset': [0.5 if monkhorst and points % 2 == 0 else 0.0 for points in mesh]}
