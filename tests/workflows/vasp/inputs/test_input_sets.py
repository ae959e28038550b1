"""What VASP gets by the protocol `materials-project` and its sets, against what pymatgen's input sets write."""

import ase.build
import pytest
from aiida import orm
from aiida.engine import run_get_node
from ase.spacegroup import crystal
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.vasp import Incar, Kpoints
from pymatgen.io.vasp.sets import MITRelaxSet, MPRelaxSet

OURS = {'ISIF', 'NSW', 'IBRION', 'EDIFFG', 'EDIFF', 'LDAUL', 'ICHARG'}
"""Set by `freedom` and `relax_settings`, looked at by their values, or for files that are not there."""


def wustite():
    """FeO in its measured cell."""
    return ase.build.bulk('FeO', 'rocksalt', a=4.307)


def molybdenite():
    """Hexagonal 2H-MoS2 in its measured cell."""
    sites = [(1 / 3, 2 / 3, 1 / 4), (1 / 3, 2 / 3, 0.621)]
    return crystal(['Mo', 'S'], sites, spacegroup=194, cellpar=[3.160, 3.160, 12.294, 90, 90, 120])


def alabandite():
    """MnS in its measured cell."""
    return ase.build.bulk('MnS', 'rocksalt', a=5.224)


def mesh_of(kpoints, atoms):
    """The mesh that VASP makes of k-points, by the formula in its manual where they are a length."""
    if kpoints.style.name != 'Automatic':
        return kpoints.kpts
    return [tuple(max(1, int(kpoints.kpts[0][0] * length + 0.5)) for length in atoms.cell.reciprocal().lengths())]


@pytest.mark.parametrize(
    ('make', 'input_set', 'potentials'),
    [
        (wustite, MPRelaxSet, {'Fe': 'Fe_pv', 'O': 'O'}),
        (molybdenite, MPRelaxSet, {'Mo': 'Mo_pv', 'S': 'S'}),
        pytest.param(molybdenite, MITRelaxSet, {'Mo': 'Mo_pv', 'S': 'S'}, marks=pytest.mark.slow),
        (alabandite, MITRelaxSet, {'Mn': 'Mn', 'S': 'S'}),
    ],
)
def test_vasp_gets_the_tags_and_k_points_of_the_input_set(
    make_builder, make_scripted_code, make, input_set, potentials
):
    code = make_scripted_code('exit 1', 'e3relax-vasp-standin', 'vasp.vasp')
    atoms = make()
    builder = make_builder(
        structure=orm.StructureData(ase=atoms),
        vasp_code=code,
        network_code=None,
        protocol='materials-project',
        overrides={'input_set': input_set.__name__, 'vasp': {'vasp': {'max_iterations': 1}}},
    )
    chain = run_get_node(builder).node
    (job,) = [node for node in chain.called_descendants if isinstance(node, orm.CalcJobNode)]
    written = {name: job.base.repository.get_object_content(name) for name in ('INCAR', 'KPOINTS')}
    expected = input_set(AseAtomsAdaptor.get_structure(atoms))
    ours, theirs = Incar.from_str(written['INCAR']), expected.incar
    assert {tag: ours.get(tag) for tag in theirs.keys() - OURS} == {tag: theirs[tag] for tag in theirs.keys() - OURS}
    assert set(ours) - set(theirs) <= OURS | {'SYSTEM'}
    corrected = [index for index, u in enumerate(theirs.get('LDAUU', [])) if u]
    assert [ours['LDAUL'][index] for index in corrected] == [int(theirs['LDAUL'][index]) for index in corrected]
    assert 'ICHARG' not in ours
    assert ours['EDIFF'] == pytest.approx(theirs['EDIFF'])
    assert ours['EDIFFG'] == pytest.approx(10 * theirs['EDIFF'])
    kpoints = Kpoints.from_str(written['KPOINTS'])
    assert kpoints.kpts == mesh_of(expected.kpoints, atoms)
    assert builder.vasp.vasp.potential_mapping.get_dict() == potentials
