"""`relax` and `Relaxer`: structures of ASE and pymatgen in, the same kind out, as `e3relax predict` predicts them."""

import dataclasses
import json
import os
import subprocess
import sys
import threading

import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLengths, FixScaled
from ase.io import read, write
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import DummySpecies, IStructure, Lattice, Molecule, Structure
from pymatgen.core.surface import Slab

from aiida_e3relax.common.errors import CheckpointError, DeviceError
from aiida_e3relax.crystals.freedom.constraints import movable_coordinates
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn import Relaxation, RelaxationError, Relaxer, relax
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.prediction import relaxer as relaxer_module
from tests.gnn.crystals import rattled

ELEMENTS = [1, 8, 11, 14, 17, 22, 30, 31, 33]
EXACT = {'device': 'cpu', 'dtype': 'float64'}


def save_network(path, seed=1, elements=ELEMENTS, members=2):
    """A network with random weights that moves atoms and cells by tenths of an A, and states an uncertainty."""
    torch.manual_seed(seed)
    sizes = {'member_hyperparameters': {'features': 8, 'layers': 1}, 'members': members}
    model = make_model('ensemble', sizes)
    with torch.no_grad():
        for layer in (layer for member in model.members for layer in member.layers):
            layer.displacement.weight *= 100
            layer.atoms_to_lattice.distortion.weight *= 20
    save_checkpoint(path, 'ensemble', model, elements, {'step': 0})
    return path


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    return save_network(tmp_path_factory.mktemp('model') / 'small.pt')


@pytest.fixture(scope='module')
def relaxer(network):
    return Relaxer(network, **EXACT)


def read_output(path):
    with np.load(path) as arrays:
        return Crystals(**{field.name: arrays[field.name] for field in dataclasses.fields(Crystals)})


def slab():
    atoms = ase.build.diamond111('Si', (1, 1, 4), a=5.43, vacuum=6.0, periodic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def to_pymatgen(atoms, kind=Structure, **more):
    return kind(Lattice(atoms.cell.array), atoms.get_chemical_symbols(), atoms.get_scaled_positions(wrap=False), **more)


def moved(before, after):
    return np.abs(after.get_scaled_positions(wrap=False) - before.get_scaled_positions(wrap=False)).max(axis=1)


def mixed():
    """What a file may hold, good and bad."""
    held = slab()
    held.set_constraint([FixAtoms([0, 1]), FixScaled([2], mask=[False, False, True])])
    bonds = rattled()[0]
    bonds.set_constraint(FixBondLengths([[0, 1]]))
    close = rattled()[1]
    close.positions[1] = close.positions[0] + 0.01
    open_ended = rattled()[2]
    open_ended.pbc = [True, True, False]
    water = ase.build.molecule('H2O', vacuum=6.0, pbc=True)
    return [*rattled(), slab(), held, bonds, close, open_ended, water, ase.build.bulk('Cu')]


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_numbers_statuses_and_messages_are_those_of_the_command(network, tmp_path, dtype):
    write(tmp_path / 'in.traj', mixed())
    files = ['--output', str(tmp_path / 'out.npz'), '--report', str(tmp_path / 'report.json')]
    options = ['--model', str(network), '--device', 'cpu', '--dtype', dtype]
    assert main(['predict', str(tmp_path / 'in.traj'), *files, *options]) == 0
    rows = json.loads((tmp_path / 'report.json').read_text())['structures']
    crystals = read_output(tmp_path / 'out.npz')
    found = relax(read(tmp_path / 'in.traj', ':'), network, 'cpu', dtype)
    assert [one.status for one in found] == [row['status'] for row in rows]
    assert {one.status for one in found} == {
        'ok', 'freedom', 'overlapping_atoms', 'not_periodic', 'unknown_element'
    }  # fmt: skip
    for index, (one, row) in enumerate(zip(found, rows, strict=True)):
        assert one.uncertainty == row.get('uncertainty_A')
        if one.ok:
            expected = crystals.select([index])
            np.testing.assert_array_equal(one.structure.positions, expected.positions)
            np.testing.assert_array_equal(one.structure.cell.array, expected.cell[0])
            for note in one.notes:
                assert note in row['message']
        else:
            assert one.structure is None
            assert one.message == row['message']


def test_the_shipped_model_is_the_default(tmp_path):
    atoms = ase.build.bulk('NaCl', 'rocksalt', a=5.8)
    write(tmp_path / 'in.extxyz', atoms)
    assert main(['predict', str(tmp_path / 'in.extxyz'), '--output', str(tmp_path / 'out.npz'), '--device', 'cpu']) == 0
    relaxed = relax(atoms)
    np.testing.assert_array_equal(relaxed.structure.cell.array, read_output(tmp_path / 'out.npz').cell[0])
    assert relaxed.uncertainty > 0


def test_one_structure_gives_one_result_and_several_a_list_in_their_order(network):
    frames = mixed()
    one = relax(frames[0], network, **EXACT)
    assert isinstance(one, Relaxation)
    assert isinstance(one.structure, Atoms)
    assert one.structure.info['uncertainty_A'] == one.uncertainty
    for several in (frames, tuple(frames), iter(frames), (atoms for atoms in frames)):
        found = relax(several, network, **EXACT)
        assert len(found) == len(frames)
        for atoms, relaxed in zip(frames, found, strict=True):
            assert not relaxed.ok or relaxed.structure.get_chemical_symbols() == atoms.get_chemical_symbols()


def test_each_structure_comes_back_as_its_own_kind(relaxer):
    atoms = rattled()[1]
    found = relaxer([atoms, to_pymatgen(atoms), to_pymatgen(atoms, IStructure)])
    assert [type(one.structure) for one in found] == [Atoms, Structure, IStructure]
    for one in found[1:]:
        np.testing.assert_allclose(one.structure.lattice.matrix, found[0].structure.cell.array, atol=1e-9)
        np.testing.assert_allclose(one.structure.cart_coords, found[0].structure.positions, atol=1e-9)
        assert one.structure.properties['uncertainty_A'] == pytest.approx(one.uncertainty)


def test_the_input_stays_as_it_is(relaxer):
    atoms, structure = mixed()[4], to_pymatgen(rattled()[0])
    before = atoms.copy(), structure.copy()
    relaxer([atoms, structure])
    assert atoms == before[0]
    assert atoms.info == before[0].info
    assert structure == before[1]
    assert structure.properties == before[1].properties


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=5), st.integers(0, 1000), st.integers(40, 2000))
def test_neither_order_nor_company_nor_size_of_batches_changes_a_prediction(network, kinds, seed, max_edges):
    frames = [rattled(seed)[kind] for kind in kinds]
    alone = Relaxer(network, **EXACT)
    together = Relaxer(network, max_edges=max_edges, **EXACT)(frames)
    for atoms, one in zip(frames, together, strict=True):
        expected = alone(atoms)
        np.testing.assert_allclose(one.structure.positions, expected.structure.positions, atol=1e-9)
        np.testing.assert_allclose(one.structure.cell.array, expected.structure.cell.array, atol=1e-9)
        assert one.uncertainty == pytest.approx(expected.uncertainty, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2), st.integers(0, 1000), st.tuples(*[st.floats(0, 360)] * 3))
def test_the_prediction_turns_with_the_crystal(relaxer, kind, seed, angles):
    atoms = rattled(seed)[kind]
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation(angles), scale_atoms=False)
    turned.set_positions(atoms.positions @ rotation(angles))
    one, other = relaxer([atoms, turned])
    np.testing.assert_allclose(other.structure.positions, one.structure.positions @ rotation(angles), atol=1e-8)
    np.testing.assert_allclose(other.structure.cell.array, one.structure.cell.array @ rotation(angles), atol=1e-8)


def rotation(angles):
    matrix = np.eye(3)
    for axis, angle in zip((2, 0, 2), np.radians(angles), strict=True):
        turn = np.eye(3)
        a, b = [k for k in range(3) if k != axis]
        turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        matrix = matrix @ turn
    return matrix


def test_sites_that_constraints_hold_stay_and_stay_held(relaxer):
    atoms = rattled()[2]
    atoms.set_constraint([FixAtoms([1, 0]), FixScaled([2], mask=[False, False, True])])
    relaxed = relaxer(atoms).structure
    assert moved(atoms, relaxed)[:2].max() < 1e-9
    assert abs((relaxed.get_scaled_positions() - atoms.get_scaled_positions())[2, 2]) < 1e-9
    assert moved(atoms, relaxed)[3:].max() > 1e-3
    assert sorted(type(constraint).__name__ for constraint in relaxed.constraints) == ['FixAtoms', 'FixScaled']


def test_selective_dynamics_hold_sites_too(relaxer):
    flags = [[False] * 3, [True, True, False], *[[True] * 3] * 4]
    structure = to_pymatgen(rattled()[2], site_properties={'selective_dynamics': flags})
    relaxed = relaxer(structure).structure
    change = np.abs(relaxed.frac_coords - structure.frac_coords)
    assert change[0].max() < 1e-9
    assert change[1, 2] < 1e-9
    assert change[1, :2].max() > 1e-4
    assert relaxed.site_properties['selective_dynamics'] == flags


def test_sites_that_a_freedom_holds_stay_held(relaxer):
    atoms = rattled()[2]
    of_ase, of_pymatgen = (
        one.structure for one in relaxer([atoms, to_pymatgen(atoms)], freedom={'fixed': {'abc': [0], 'c': [1]}})
    )
    expected = [[False] * 3, [True, True, False], *[[True] * 3] * (len(atoms) - 2)]
    assert movable_coordinates(of_ase).tolist() == expected
    assert of_pymatgen.site_properties['selective_dynamics'] == expected


def test_a_layer_keeps_its_cell_and_a_note_says_so(relaxer):
    relaxed = relaxer(slab())
    np.testing.assert_allclose(relaxed.structure.cell.array, slab().cell.array, atol=1e-9)
    assert moved(slab(), relaxed.structure).max() > 1e-3
    assert 'a layer with 12.2 A of vacuum along c: the cell is kept' in relaxed.notes[0]


@pytest.mark.parametrize('freedom', ['in-plane', {'moves': 'in-plane', 'vacuum': 'c'}])
def test_a_freedom_is_followed(relaxer, freedom):
    cell = relaxer(slab(), freedom=freedom, vacuum='c').structure.cell.array
    np.testing.assert_allclose(cell[2], slab().cell.array[2], atol=1e-9)
    assert np.abs(cell[:2] - slab().cell.array[:2]).max() > 1e-3


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'freedom': 'in plane'}, 'did you mean `in-plane`'),
        ({'freedom': {'moves': 'cell', 'vacum': 'c'}}, 'did you mean `vacuum`'),
        ({'vacuum': 'c'}, "expected freedom='in-plane'"),
        ({'freedom': {'vacuum': 'a'}, 'vacuum': 'b'}, 'leave one of the two out'),
        ({'dtype': 'float16'}, "did you mean 'float64'"),
        ({'engine': 'quick'}, 'known: fast, reference'),
        ({'max_edges': 0}, 'max_edges: expected a number above 0'),
        ({'threads': 0}, 'threads: expected a number above 0'),
    ],
)
def test_arguments_without_a_meaning_are_refused(network, arguments, words):
    with pytest.raises(ValueError, match=words):
        relax(slab(), network, **arguments)


def test_a_single_structure_without_a_prediction_raises(relaxer):
    with pytest.raises(RelaxationError, match=r'unknown_element.*Z=29') as caught:
        relaxer(ase.build.bulk('Cu'))
    assert caught.value.relaxation.status == 'unknown_element'


@pytest.mark.parametrize(
    ('value', 'words'),
    [
        ('POSCAR', 'a path, .*POSCAR.*read it first.*e3relax predict'),
        (Atoms('Si')[0], 'of type Atom'),
        (Molecule(['O'], [[0, 0, 0]]), 'crystals alone'),
        ({'a': slab()}, 'list'),
        (None, 'of type NoneType'),
        (7, 'of type int'),
    ],
)
def test_what_is_no_structure_is_named(relaxer, value, words):
    with pytest.raises(TypeError, match=words):
        relaxer(value)
    with pytest.raises(TypeError, match=f'structure 1: .*{words}'):
        relaxer([slab(), value])


def test_a_node_of_aiida_is_told_how_to_become_a_structure(relaxer):
    class StructureData:
        def get_ase(self): ...

    for value in (StructureData(), [StructureData()]):
        with pytest.raises(TypeError, match=r'StructureData of AiiDA: give what its `get_ase\(\)` returns'):
            relaxer(value)


@pytest.mark.parametrize('nothing', [[], (), iter([])])
def test_nothing_is_refused(relaxer, nothing):
    with pytest.raises(ValueError, match='no structure given'):
        relaxer(nothing)


def test_what_readers_refuse_is_refused(relaxer):
    lattice = Lattice.cubic(4)
    partial = Structure(lattice, [{'Si': 0.5, 'O': 0.5}], [[0, 0, 0]])
    vacancy = Structure(lattice, [{'Si': 0.9}], [[0, 0, 0]])
    dummy = Structure(lattice, [DummySpecies('X')], [[0, 0, 0]])
    ghost, empty, lost = Atoms('X', cell=[4, 4, 4], pbc=True), Atoms(cell=[4, 4, 4], pbc=True), slab()
    lost.positions[0, 0] = np.nan
    shared = Atoms('Si', cell=[4, 4, 4], pbc=True, info={'occupancy': {'0': {'Si': 0.5, 'O': 0.5}}})
    *refused, good = relaxer([partial, vacancy, dummy, ghost, empty, lost, shared, rattled()[0]])
    words = ['partial occupancies', 'partial occupancies', 'element', 'dummy', 'no atoms', 'NaN', 'partial occupancies']
    assert [one.status for one in refused] == ['unreadable'] * 7
    for one, word in zip(refused, words, strict=True):
        assert word in one.message
        assert one.structure is None
    assert good.ok
    with pytest.raises(RelaxationError, match='OrderDisorderedStructureTransformation'):
        relaxer(partial)


def test_ions_of_one_element_on_a_site_are_one_atom(relaxer):
    structure = Structure(Lattice.cubic(4.2), [{'Ti3+': 0.5, 'Ti4+': 0.5}, 'O2-'], [[0, 0, 0], [0.5, 0.5, 0.5]])
    relaxed = relaxer(structure)
    assert relaxed.structure.species_and_occu == structure.species_and_occu
    assert 'oxidation states are kept as they are' in relaxed.notes[0]


def test_what_belongs_to_the_atoms_of_ase_is_kept_and_what_was_computed_is_not(relaxer):
    atoms = rattled()[1]
    atoms.set_tags([1, 2, 3, 4])
    atoms.set_initial_magnetic_moments([1.0, -1.0, 0.5, 0.0])
    atoms.set_array('names', np.array(['a', 'b', 'c', 'd']))
    atoms.set_momenta(np.ones((4, 3)))
    atoms.set_array('forces', np.ones((4, 3)))
    atoms.info = {'name': 'mp-1', 'energy': -1.0, 'uncertainty_A': 99.0}
    atoms.calc = EMT()
    relaxed = relaxer(atoms)
    structure = relaxed.structure
    assert structure.get_tags().tolist() == [1, 2, 3, 4]
    assert structure.get_initial_magnetic_moments().tolist() == [1.0, -1.0, 0.5, 0.0]
    assert structure.arrays['names'].tolist() == ['a', 'b', 'c', 'd']
    assert structure.info == {'name': 'mp-1', 'uncertainty_A': relaxed.uncertainty}
    assert structure.calc is None
    assert not {'momenta', 'forces'} & set(structure.arrays)
    assert relaxed.notes == (
        'magnetic moments are kept as they are: the network does not see them',
        'energy, forces, momenta left out: of the crystal before it is relaxed',
    )


def test_what_belongs_to_the_sites_of_pymatgen_is_kept_and_what_was_computed_is_not(relaxer):
    structure = Structure(
        Lattice.cubic(5.7),
        ['Na+', 'Cl-'],
        [[0, 0, 0], [0.5, 0.5, 1.5]],
        charge=0,
        labels=['first', 'second'],
        site_properties={'magmom': [1.0, 0.0], 'wyckoff': ['a', 'b'], 'forces': [[0.0] * 3] * 2},
        properties={'material_id': 'mp-1', 'energy': -1.0},
    )
    relaxed = relaxer(structure)
    new = relaxed.structure
    assert new.species == structure.species
    assert new.labels == ['first', 'second']
    assert new._charge == 0
    assert new.site_properties == {'magmom': [1.0, 0.0], 'wyckoff': ['a', 'b']}
    assert new.properties == {'material_id': 'mp-1', 'uncertainty_A': relaxed.uncertainty}
    assert new.frac_coords[1, 2] > 1
    assert relaxed.notes == (
        'magnetic moments and oxidation states are kept as they are: the network does not see them',
        'energy, forces left out: of the crystal before it is relaxed',
    )


def test_a_model_without_uncertainty_leaves_none(tmp_path):
    save_checkpoint(tmp_path / 'single.pt', 'dummy', make_model('dummy', {}), [14], {})
    atoms = ase.build.bulk('Si')
    atoms.info['uncertainty_A'] = 0.5
    relaxed = relax(atoms, tmp_path / 'single.pt')
    assert relaxed.uncertainty is None
    assert 'uncertainty_A' not in relaxed.structure.info


def test_slabs_of_pymatgen_come_back_as_plain_structures(relaxer):
    bulk = to_pymatgen(ase.build.bulk('Si', cubic=True))
    whole = to_pymatgen(slab())
    special = Slab(whole.lattice, whole.species, whole.frac_coords, (1, 1, 1), bulk, 0, np.eye(3))
    assert type(relaxer(special).structure) is Structure


def test_results_print_on_one_line(relaxer):
    good, layer, bad = relaxer([rattled()[0], to_pymatgen(slab()), ase.build.bulk('Cu')])
    assert repr(good) == f'<Relaxation ok: AsGa, uncertainty {good.uncertainty:.3f} A>'
    assert repr(layer).startswith('<Relaxation ok: Si')
    assert 'the cell is kept' in repr(layer)
    assert repr(bad) == f'<Relaxation unknown_element: {bad.message}>'


def test_many_come_in_pieces(relaxer, monkeypatch, capsys):
    monkeypatch.setattr(relaxer_module, 'PIECE', 2)
    taken = []

    def frames():
        for atoms in rattled(3) * 2:
            taken.append(len(taken))
            yield atoms

    found = relaxer.iterate(frames(), progress=True)
    next(found)
    assert len(taken) == 2
    assert len(list(found)) == 5
    assert 'relaxing' in capsys.readouterr().err
    with pytest.raises(TypeError, match='structure 2:'):
        list(relaxer.iterate([*rattled()[:2], 'POSCAR']))


def test_nothing_is_printed_unless_it_is_wanted(network, capfd):
    relax(mixed(), network)
    assert capfd.readouterr() == ('', '')


def test_a_file_is_loaded_once_until_it_changes(network, tmp_path, monkeypatch):
    loads = []

    def counted(path):
        loads.append(path)
        return load_checkpoint(path)

    monkeypatch.setattr(relaxer_module, 'load_checkpoint', counted)
    monkeypatch.setattr(relaxer_module, '_loaded', {})
    monkeypatch.chdir(tmp_path)
    path = save_network(tmp_path / 'changing.pt')
    first = relax(slab(), path, **EXACT)
    for same in (path, str(path), 'changing.pt'):
        assert relax(slab(), same, **EXACT).uncertainty == first.uncertainty
    assert len(loads) == 1
    relax(slab(), path)
    assert len(loads) == 2  # of another precision
    save_network(path, seed=2)
    assert relax(slab(), path, **EXACT).uncertainty != first.uncertainty
    assert len(loads) == 3
    for name in 'abcd':
        os.link(network, tmp_path / f'{name}.pt')
        Relaxer(tmp_path / f'{name}.pt')
    assert len(relaxer_module._loaded) == relaxer_module.MOST_LOADED


def test_a_loaded_checkpoint_is_taken_and_left_alone(network, relaxer):
    checkpoint = load_checkpoint(network)
    classes = [type(module) for module in checkpoint.model.modules()]
    assert relax(slab(), checkpoint, **EXACT).uncertainty == relaxer(slab()).uncertainty
    assert [type(module) for module in checkpoint.model.modules()] == classes
    assert {parameter.dtype for parameter in checkpoint.model.parameters()} == {torch.float32}
    with pytest.raises(TypeError, match='a Ensemble alone, which does not know the elements'):
        Relaxer(checkpoint.model)


def test_models_and_devices_that_are_not_there_are_named(network, tmp_path):
    with pytest.raises(CheckpointError, match='no such checkpoint file'):
        relax(slab(), tmp_path / 'absent.pt')
    with pytest.raises(DeviceError, match='unknown device'):
        relax(slab(), network, 'tpu')


def test_threads_take_turns(network):
    shared = Relaxer(network, **EXACT)
    frames = [atoms for seed in range(4) for atoms in rattled(seed)]
    expected = shared(frames)
    found = {}

    def work(index):
        found[index] = shared(frames[index])

    threads = [threading.Thread(target=work, args=[index]) for index in range(len(frames))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, one in enumerate(expected):
        np.testing.assert_allclose(found[index].structure.positions, one.structure.positions, atol=1e-9)


def test_the_engines_agree(network, relaxer):
    reference = Relaxer(network, engine='reference', **EXACT)
    for one, other in zip(relaxer(rattled()), reference(rattled()), strict=True):
        np.testing.assert_allclose(one.structure.positions, other.structure.positions, atol=1e-6)


@pytest.mark.parametrize(
    'program',
    [
        'import aiida_e3relax.gnn, sys; assert "relax" in dir(aiida_e3relax.gnn); assert "torch" not in sys.modules',
        'import aiida_e3relax, sys; assert aiida_e3relax.__version__; assert "numpy" not in sys.modules',
        'import sys\nsys.modules["torch"] = None\ntry:\n    from aiida_e3relax.gnn import relax\n'
        'except ImportError as error:\n    assert "pip install" in str(error), error\nelse:\n    raise SystemExit(1)',
    ],
)
def test_the_packages_are_cheap_to_import(program):
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('name', ['aiida_e3relax', 'aiida_e3relax.gnn'])
def test_other_names_are_unknown(name):
    with pytest.raises(AttributeError, match='nothing_of_this_name'):
        sys.modules[name].nothing_of_this_name  # noqa: B018
