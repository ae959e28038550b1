"""What VASP gets by the protocol `materials-project`, against what pymatgen's input set writes."""

import ase.build
import pytest
from aiida import orm
from aiida.engine import run_get_node
from ase.spacegroup import crystal
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.vasp import Incar, Kpoints
from pymatgen.io.vasp.sets import MPRelaxSet

OURS = {'ISIF', 'NSW', 'IBRION', 'EDIFFG', 'EDIFF', 'LDAUL'}
"""Set by `freedom` and `relax_settings`, or looked at by their values."""


def wustite():
    """FeO in its measured cell."""
    return ase.build.bulk('FeO', 'rocksalt', a=4.307)


def molybdenite():
    """Hexagonal 2H-MoS2 in its measured cell."""
    sites = [(1 / 3, 2 / 3, 1 / 4), (1 / 3, 2 / 3, 0.621)]
    return crystal(['Mo', 'S'], sites, spacegroup=194, cellpar=[3.160, 3.160, 12.294, 90, 90, 120])


@pytest.mark.parametrize('make', [wustite, molybdenite])
def test_vasp_gets_the_tags_and_k_points_of_the_input_set(make_builder, make_scripted_code, make):
    code = make_scripted_code('exit 1', 'e3relax-vasp-standin', 'vasp.vasp')
    atoms = make()
    builder = make_builder(
        structure=orm.StructureData(ase=atoms),
        vasp_code=code,
        network_code=None,
        protocol='materials-project',
        overrides={'vasp': {'vasp': {'max_iterations': 1}}},
    )
    chain = run_get_node(builder).node
    (job,) = [node for node in chain.called_descendants if isinstance(node, orm.CalcJobNode)]
    written = {name: job.base.repository.get_object_content(name) for name in ('INCAR', 'KPOINTS')}
    expected = MPRelaxSet(AseAtomsAdaptor.get_structure(atoms))
    ours, theirs = Incar.from_str(written['INCAR']), expected.incar
    assert {tag: ours.get(tag) for tag in theirs.keys() - OURS} == {tag: theirs[tag] for tag in theirs.keys() - OURS}
    assert set(ours) - set(theirs) <= OURS | {'SYSTEM'}
    corrected = [index for index, u in enumerate(theirs.get('LDAUU', [])) if u]
    assert [ours['LDAUL'][index] for index in corrected] == [theirs['LDAUL'][index] for index in corrected]
    assert ours['EDIFF'] == pytest.approx(theirs['EDIFF'])
    assert ours['EDIFFG'] == pytest.approx(10 * theirs['EDIFF'])
    kpoints = Kpoints.from_str(written['KPOINTS'])
    assert kpoints.kpts == expected.kpoints.kpts
    assert builder.vasp.vasp.potential_mapping.get_dict() == {
        symbol: MPRelaxSet.CONFIG['POTCAR'][symbol] for symbol in set(atoms.symbols)
    }
