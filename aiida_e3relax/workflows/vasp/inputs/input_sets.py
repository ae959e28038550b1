"""The inputs of VASP that pymatgen's input sets give to a structure, without potentials on the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from aiida import orm

from aiida_e3relax.common.mappings import check_keys, merge
from aiida_e3relax.crystals.structures import pymatgen_structure
from aiida_e3relax.data.structures import structures_to_crystals
from aiida_e3relax.workflows.vasp.inputs.incar import incar_tags, read_number

if TYPE_CHECKING:
    from pymatgen.io.vasp.inputs import Kpoints
    from pymatgen.io.vasp.sets import VaspInputSet

INPUT_SETS = ('MPRelaxSet', 'MITRelaxSet')
DEFAULT_MOMENT = 0.6
"""In Bohr magnetons, where an input set has no moment for an element; it is in pymatgen's code, not in its data."""
EDIFF = 1e-4
"""In eV; VASP's own, where nobody gives one."""
EDIFFG_FACTOR = 10
"""Of EDIFF: VASP's own criterion on the energy where EDIFFG is not given. aiida-vasp would set a force instead."""

SET_ELSEWHERE = ('ISIF', 'NSW', 'IBRION', 'MAGMOM', 'LDAU', 'LDAUTYPE', 'LDAUL', 'LDAUU', 'LDAUJ')
"""Tags that `freedom`, `relax_settings` and the mappings by element stand for."""
OF_EARLIER_RUNS = ('ICHARG', 'ISTART')
"""Tags by which VASP reads files of an earlier run; there is none, and VASP's own values are for that."""


def lay_over_input_set(inputs: Mapping[str, Any], structure: orm.StructureData, name: str) -> dict[str, Any]:
    """Return `inputs` of the chain, nested as its ports, with what an input set of pymatgen gives under them.

    Of the set there are no k-points where `inputs` have any. Where these have no force that ends the relaxation, it
    ends by the energy, as by the set, at `EDIFFG_FACTOR` times the EDIFF that holds.

    Raises ValueError for a set that is not in `INPUT_SETS`, and for an EDIFF that is no number.
    """
    under = read_input_set(structure, name)
    if {'kpoints', 'kpoints_spacing'} & inputs['vasp']['vasp'].keys():
        del under['kpoints']
    merged = merge({'vasp': {'vasp': under}}, inputs)
    if 'force_cutoff' in inputs['vasp']['relax_settings']:
        return merged
    ediff = read_number(incar_tags(merged['vasp']['vasp']['parameters']), 'ediff', EDIFF)
    by_energy = {'parameters': {'incar': {'ediffg': EDIFFG_FACTOR * ediff}}}
    return merge({'vasp': {'vasp': by_energy}}, merged)


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
    incar = {tag.lower(): value for tag, value in tags.items() if tag not in (*SET_ELSEWHERE, *OF_EARLIER_RUNS)}
    moments = input_set.CONFIG['INCAR']['MAGMOM']
    # the moments of a set are of elements and of ions, as Co3+
    names = {*structure.get_symbols_set(), *structure.get_kind_names()}
    inputs = {
        'parameters': {'incar': incar},
        'magmom_mapping': {
            'default': DEFAULT_MOMENT,
            **{species: moment for species, moment in moments.items() if species in names},
        },
        'potential_mapping': dict(zip(input_set.poscar.site_symbols, input_set.potcar_symbols, strict=True)),
        'kpoints': _read_mesh(input_set.kpoints, crystal.lattice.reciprocal_lattice_crystallographic.abc),
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
            mapping[symbol] = ['spdf'[int(orbital)], u]  # of MnS pymatgen's data have 2.5 for LDAUL, too
            jmapping[symbol] = j
    return {'mapping': mapping, 'jmapping': jmapping, 'utype': tags['LDAUTYPE']}


def _read_mesh(kpoints: Kpoints, reciprocal: Sequence[float]) -> dict[str, list]:
    """Return the k-points as `mesh` and `offset`: a Monkhorst-Pack mesh is off the Gamma point where it is even.

    Where a length stands for the mesh it is that of VASP's fully automatic scheme, around the Gamma point: the length
    times that of a `reciprocal` vector, in 1/A without 2 pi, rounded.
    """
    if kpoints.style.name == 'Automatic':
        points = np.floor(kpoints.kpts[0][0] * np.array(reciprocal) + 0.5).astype(int)
        return {'mesh': np.maximum(points, 1).tolist(), 'offset': [0.0, 0.0, 0.0]}
    mesh = list(kpoints.kpts[0])
    monkhorst = kpoints.style.name == 'Monkhorst'
    return {'mesh': mesh, 'offset': [0.5 if monkhorst and points % 2 == 0 else 0.0 for points in mesh]}
