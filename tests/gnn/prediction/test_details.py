"""The structure after every layer, and the uncertainty of every bond, beside predictions."""

import csv
import dataclasses
import json

import ase.build
import numpy as np
import pytest
import torch
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read, write
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.progress import NoProgress
from aiida_e3relax.crystals.files.details import OF_BONDS, read_bonds, read_layers
from aiida_e3relax.crystals.files.errors import CrystalFileError
from aiida_e3relax.crystals.files.stream import stream_structures
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.crystals.structures import Crystals, write_npz
from aiida_e3relax.gnn import Relaxer, relax
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint, save_checkpoint
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.evaluation.evaluate import bonds_of
from aiida_e3relax.gnn.graph.batch import Geometry, make_batch
from aiida_e3relax.gnn.models.dummy import Dummy
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.potentials.base import Potential
from aiida_e3relax.gnn.prediction import streaming
from aiida_e3relax.gnn.prediction.plot import bond_errors
from aiida_e3relax.gnn.prediction.pre_relaxation import PreRelaxation
from aiida_e3relax.gnn.prediction.predict import predict
from aiida_e3relax.gnn.prediction.predictor import Predictor
from aiida_e3relax.gnn.prediction.settings import Details, PotentialSettings
from tests.gnn.crystals import batch_of, rattled

CPU = torch.device('cpu')
ELEMENTS = [8, 14, 22, 29, 30, 31, 33]
BOTH = Details(layers=True, bonds=True)
TINY = {'features': 8, 'layers': 2, 'max_neighbours': 8}


def network(architecture='ensemble'):
    """A network with random weights that moves atoms and cells by tenths of an A."""
    torch.manual_seed(3)
    sizes = {'member_hyperparameters': TINY, 'members': 2, 'uncertainty_scale': 1.5}
    if architecture.startswith('deeprelax'):
        sizes = {'features': 8, 'layers': 1}
    elif architecture != 'ensemble':
        sizes = TINY
    model = make_model(architecture, sizes)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if 'displacement.weight' in name or 'distortion.weight' in name:
                weight.mul_(30)
    return model.double().eval()


@pytest.fixture(scope='module')
def ensemble():
    return network()


@pytest.fixture(scope='module')
def checkpoint(ensemble, tmp_path_factory):
    path = tmp_path_factory.mktemp('model') / 'small.pt'
    save_checkpoint(path, 'ensemble', ensemble, ELEMENTS, {'step': 0})
    return path


@pytest.fixture
def run(checkpoint, tmp_path):
    """Predict for the crystals in `in.npz` of the folder, or for ASE's structures; returns the exit status."""

    def run_with(given, *options, output='out.npz', model=checkpoint):
        name = 'in.npz' if isinstance(given, Crystals) else 'in.extxyz'
        if isinstance(given, Crystals):
            write_npz(tmp_path / name, given)
        else:
            write(tmp_path / name, given)
        arguments = [str(tmp_path / name), '--model', str(model), '--output', str(tmp_path / output)]
        arguments += ['--report', str(tmp_path / 'report.json'), '--device', 'cpu', '--dtype', 'float64']
        return main(['predict', *arguments, *options])

    return run_with


def load(path):
    with np.load(path) as arrays:
        return dict(arrays)


def left_handed(crystals):
    """The same crystals with the third lattice vector reversed."""
    return crystals.replace(crystals.positions, crystals.cell * np.array([1, 1, -1])[:, None])


def many():
    return batch_of(*rattled(1), ase.build.bulk('Si'))


@pytest.mark.parametrize('architecture', ['ensemble', 'deeprelax', 'deeprelax-published', 'egnn-published'])
def test_details_change_no_prediction(architecture):
    model, crystals = network(architecture), many()
    plain = predict(model, crystals, ELEMENTS, CPU, torch.float64)
    told = predict(model, crystals, ELEMENTS, CPU, torch.float64, details=Details(True, model.states_bonds))
    np.testing.assert_array_equal(plain.crystals.positions, told.crystals.positions)
    np.testing.assert_array_equal(plain.crystals.cell, told.crystals.cell)
    assert (plain.layers, plain.bonds) == (None, None)
    assert len(told.layers) == (1 if architecture == 'ensemble' else 0)
    assert (told.bonds is not None) == (architecture != 'egnn-published')
    if told.bonds:
        np.testing.assert_array_equal(plain.uncertainty, told.uncertainty)


def test_layers_of_an_ensemble_are_the_means_of_its_members(ensemble):
    crystals = many()
    (layer,) = predict(ensemble, crystals, ELEMENTS, CPU, torch.float64, details=Details(layers=True)).layers
    batch = make_batch(crystals, ensemble.graph, dtype=torch.float64)
    with torch.no_grad():
        first = [member(batch)[0] for member in ensemble.members]
    cell = sum(geometry.cell for geometry in first) / 2
    fractional = sum(geometry.fractional for geometry in first) / 2
    np.testing.assert_allclose(layer.cell, cell.numpy(), atol=1e-12)
    np.testing.assert_allclose(layer.fractional(), fractional.numpy(), atol=1e-12)


def test_bonds_of_an_ensemble_have_the_spread_of_its_members(ensemble):
    crystals = many()
    result = predict(ensemble, crystals, ELEMENTS, CPU, torch.float64, details=Details(bonds=True))
    members = [predict(m, crystals, ELEMENTS, CPU, torch.float64).crystals for m in ensemble.members]
    for index in range(len(crystals)):
        stated, one = result.bonds[index], crystals.select([index])
        bonds = bonds_of(one)
        np.testing.assert_array_equal(stated.offset, bonds.offset)
        lengths = np.array([bonds.lengths(member.select([index])) for member in members])
        np.testing.assert_allclose(stated.predicted_length, lengths.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(stated.uncertainty, 1.5 * np.abs(lengths[0] - lengths[1]) / 2, atol=1e-12)
        np.testing.assert_allclose(stated.initial_length, bonds.lengths(one), atol=1e-12)
        np.testing.assert_allclose(stated.final_length, bonds.lengths(result.crystals.select([index])), atol=1e-12)


@pytest.mark.parametrize('architecture', ['deeprelax', 'deeprelax-published'])
@pytest.mark.parametrize('change', [lambda crystals: crystals, left_handed])
def test_bonds_of_deeprelax_are_its_edges_with_their_scales(architecture, change):
    """In the given lattice vectors, too, where the crystal is shown to the network with others."""
    model, crystals = network(architecture), change(many())
    result = predict(model, crystals, ELEMENTS, CPU, torch.float64, details=Details(bonds=True))
    for index in range(3):
        stated, one = result.bonds[index], crystals.select([index])
        difference = one.positions[stated.neighbour] - one.positions[stated.centre] + stated.offset @ one.cell[0]
        np.testing.assert_allclose(np.linalg.norm(difference, axis=1), stated.initial_length, atol=1e-12)
        assert stated.initial_length.min() > 1
        assert stated.uncertainty.mean() == pytest.approx(result.uncertainty[index], rel=0.5)
    if change is not left_handed and architecture == 'deeprelax':
        batch = make_batch(crystals, model.graph, dtype=torch.float64)
        with torch.no_grad():
            prediction = model.distances(batch)
        edges = len(batch.graph.centre)
        together = np.concatenate([result.bonds[index].predicted_length for index in range(len(crystals))])
        np.testing.assert_allclose(together, prediction.distance[-edges:].numpy(), atol=1e-12)
        scale = prediction.log_scale[-edges:].clamp(-3, 3).exp()
        together = np.concatenate([result.bonds[index].uncertainty for index in range(len(crystals))])
        np.testing.assert_allclose(together, scale.numpy(), atol=1e-12)


def test_a_left_handed_crystal_has_the_same_bonds():
    model = network('deeprelax-published')
    both = batch_of(rattled(1)[0]), left_handed(batch_of(rattled(1)[0]))
    right, left = (predict(model, c, ELEMENTS, CPU, torch.float64, details=Details(bonds=True)).bonds[0] for c in both)
    flipped = left.offset * [1, 1, -1]
    assert sorted(map(tuple, np.column_stack([left.centre, left.neighbour, flipped]).tolist())) == sorted(
        map(tuple, np.column_stack([right.centre, right.neighbour, right.offset]).tolist())
    )


def test_an_ensemble_of_deeprelax_adds_spread_and_scales():
    torch.manual_seed(5)
    sizes = {'member': 'deeprelax', 'member_hyperparameters': {'features': 8, 'layers': 1}, 'uncertainty_scale': 2.0}
    model, crystals = make_model('ensemble', sizes).double(), many()
    stated = predict(model, crystals, ELEMENTS, CPU, torch.float64, details=BOTH).bonds
    parts = [predict(m, crystals, ELEMENTS, CPU, torch.float64, details=BOTH).bonds for m in model.members]
    one, other = (part[0] for part in parts)
    spread = (one.predicted_length - other.predicted_length) / 2
    scale = (one.uncertainty + other.uncertainty) / 2
    np.testing.assert_allclose(stated[0].uncertainty, 2 * np.hypot(spread, scale), atol=1e-12)
    np.testing.assert_allclose(stated[0].predicted_length, (one.predicted_length + other.predicted_length) / 2)


@pytest.mark.parametrize('architecture', ['ensemble', 'deeprelax'])
def test_bonds_do_not_depend_on_orientation_origin_and_images(architecture):
    model, crystal = network(architecture), batch_of(rattled(1)[2])
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    images = np.random.default_rng(2).integers(-1, 2, (len(crystal.numbers), 3)) @ crystal.cell[0]
    other = crystal.replace((crystal.positions + images + 0.3) @ turn, crystal.cell @ turn)
    both = [predict(model, c, ELEMENTS, CPU, torch.float64, details=Details(bonds=True)) for c in (crystal, other)]
    one, same = ({tuple(row): k for k, row in enumerate(_atoms_and_cells(r.bonds[0], r.crystals))} for r in both)
    assert one.keys() == same.keys()
    order = [same[key] for key in one]
    for name in ('predicted_length', 'uncertainty', 'final_length', 'initial_length'):
        values = [getattr(result.bonds[0], name) for result in both]
        np.testing.assert_allclose(values[0], values[1][order], atol=1e-8)


def _atoms_and_cells(bonds, crystals):
    """The bonds with the cells that they cross where all atoms are in the first cell, from their shifted centre."""
    wrap = np.floor(crystals.fractional() - crystals.fractional()[0] + 0.013).astype(int)
    crossed = bonds.offset + wrap[bonds.neighbour] - wrap[bonds.centre]
    return np.column_stack([bonds.centre, bonds.neighbour, crossed]).tolist()


def test_models_that_state_no_bonds_are_refused(run, tmp_path, capsys):
    for name, sizes in (('e3relax-h2', TINY), ('deeprelax', {'features': 8, 'layers': 1, 'local_uncertainty': False})):
        save_checkpoint(tmp_path / 'm.pt', name, make_model(name, sizes), ELEMENTS, {'step': 0})
        assert run(many(), '--bonds', model=tmp_path / 'm.pt') == 3
        assert f'bonds: {name} states no uncertainty of bonds as it is; expected an ensemble' in capsys.readouterr().err
        with pytest.raises(InputError, match='expected an ensemble'):
            relax(rattled(1), tmp_path / 'm.pt', 'cpu', bonds=True)
    assert not (tmp_path / 'out.npz').exists()


def test_files_hold_what_is_returned_and_pieces_give_what_the_whole_gives(run, tmp_path, monkeypatch):
    crystals = many()
    unknown = batch_of(ase.build.bulk('Al'))
    given = dataclasses.replace(
        Crystals.concatenate([crystals, unknown, crystals]), labels=np.array([f'x{i}' for i in range(9)])
    )
    found = []
    for piece in (100, 2):
        monkeypatch.setattr(streaming, 'stream_structures', lambda paths, piece=piece: stream_structures(paths, piece))
        assert run(given, '--layers', '--bonds') == 0
        found.append((load(tmp_path / 'out.layers.npz'), load(tmp_path / 'out.bonds.npz')))
    for whole, parts in zip(*found, strict=True):
        assert whole.keys() == parts.keys()
        for name, array in whole.items():
            if array.dtype.kind == 'f':
                np.testing.assert_allclose(array, parts[name], atol=1e-9)
            else:
                np.testing.assert_array_equal(array, parts[name])
    layers, bonds = found[1]
    assert layers['labels'].tolist() == bonds['labels'].tolist() == ['x0', 'x1', 'x2', 'x3', 'x5', 'x6', 'x7', 'x8']
    predicted = load(tmp_path / 'out.npz')
    kept = np.repeat(predicted['labels'] != 'x4', predicted['n_atoms'])
    assert layers['positions'].shape == (kept.sum(), 3, 3)
    np.testing.assert_array_equal(layers['positions'][:, 0], given.positions[kept])
    np.testing.assert_array_equal(layers['positions'][:, -1], predicted['positions'][kept])
    np.testing.assert_array_equal(layers['cell'][:, -1], predicted['cell'][predicted['labels'] != 'x4'])
    assert not np.allclose(layers['positions'][:, 1], layers['positions'][:, -1])
    steps = read_layers(tmp_path / 'out.layers.npz', given)
    np.testing.assert_array_equal(steps['x8'][0][0], given.select([8]).positions)
    of_bonds = read_bonds(tmp_path / 'out.bonds.npz', given)
    assert list(of_bonds['x1']) == list(OF_BONDS.values())
    assert sum(len(of_one['centre']) for of_one in of_bonds.values()) == len(bonds['centre']) == bonds['n_bonds'].sum()
    assert not list(tmp_path.glob('*.partial'))


def test_other_formats_have_a_trajectory_and_a_table(run, tmp_path):
    frames = rattled(1)
    frames[0].set_constraint(FixAtoms([0]))
    assert run(frames, '--layers', '--bonds', output='out.npz') == 0
    assert run(frames, '--layers', '--bonds', output='out.cif') == 0
    trajectory = read(tmp_path / 'out.layers.traj', ':')
    arrays, bonds = load(tmp_path / 'out.layers.npz'), load(tmp_path / 'out.bonds.npz')
    assert [(f.info['label'], f.info['layer']) for f in trajectory[:4]] == [
        ('in:0', 0),
        ('in:0', 1),
        ('in:0', 2),
        ('in:1', 0),
    ]
    steps = read_layers(tmp_path / 'out.layers.npz', dataclasses.replace(batch_of(*frames), labels=arrays['labels']))
    for index, label in enumerate(arrays['labels'].tolist()):
        of_one = trajectory[3 * index : 3 * index + 3]
        np.testing.assert_array_equal([f.positions for f in of_one], steps[label][0])
        np.testing.assert_array_equal([f.cell.array for f in of_one], steps[label][1])
    assert all(constraint.get_indices().tolist() == [0] for f in trajectory[:3] for constraint in f.constraints)
    with (tmp_path / 'out.bonds.csv').open(newline='') as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == len(bonds['centre'])
    assert [float(row['uncertainty_A']) for row in rows] == bonds['uncertainty_A'].tolist()
    assert [int(row['offset_c']) for row in rows] == bonds['offset'][:, 2].tolist()
    assert {(row['label'], row['centre_element']) for row in rows} == {
        *(('in:0', e) for e in ('Ga', 'As')),
        *(('in:1', e) for e in ('Zn', 'O')),
        *(('in:2', e) for e in ('Ti', 'O')),
    }


def test_predictions_as_a_trajectory_are_read_again(run, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, 'stream_structures', lambda paths: stream_structures(paths, 1))
    assert run(rattled(1), output='out.traj') == 0
    assert [str(frame.symbols) for frame in read(tmp_path / 'out.traj', ':')] == ['GaAs', 'ZnOZnO', 'Ti2O4']


def test_what_may_not_move_stays_in_every_layer(run, tmp_path):
    slab = ase.build.diamond111('Si', (1, 1, 4), a=5.43, vacuum=6.0, periodic=True)
    slab.rattle(0.1, seed=1)
    slab.set_constraint(FixAtoms([0, 1]))
    bulk = rattled(1)[1]
    assert run([slab, bulk], '--layers', '--bonds') == 0
    given = dataclasses.replace(batch_of(slab, bulk), labels=load(tmp_path / 'out.npz')['labels'])
    positions, cells = next(iter(read_layers(tmp_path / 'out.layers.npz', given).values()))
    assert np.ptp(cells, axis=0).max() < 1e-12
    assert np.abs(positions[:, :2] - positions[0, :2]).max() < 1e-9
    assert np.abs(positions[1:, 2:] - positions[:-1, 2:]).max(axis=(1, 2)).min() > 1e-3
    np.testing.assert_array_equal(positions[-1], load(tmp_path / 'out.npz')['positions'][: len(slab)])
    bonds = next(iter(read_bonds(tmp_path / 'out.bonds.npz', given).values()))
    held = (bonds['centre'] < 2) & (bonds['neighbour'] < 2)
    np.testing.assert_allclose(bonds['final_length_A'][held], bonds['initial_length_A'][held], atol=1e-9)
    assert bonds['uncertainty_A'][held].max() < 1e-9
    assert bonds['uncertainty_A'][~held].mean() > 1e-3


def test_steps_of_a_second_opinion_come_after_the_layers():
    torch.manual_seed(1)
    model = make_model('e3relax-h2', TINY)
    opinion = PreRelaxation(Potential(EMT(), 'emt', '3', 'of ASE'), PotentialSettings('emt', steps=3), is_opinion=True)
    predictor = Predictor(
        Checkpoint(model, 'e3relax-h2', ELEMENTS, {}, 'sha256:0'), CPU, torch.float64, 'fast', opinion
    )
    copper = batch_of(ase.build.bulk('Cu', a=3.9))
    result, _, rows = predictor.predict(copper, [None], None, 10_000, NoProgress(), Details(layers=True))
    assert rows[0]['second_opinion']['improved']
    plain = predict(model, copper, ELEMENTS, CPU, torch.float64)
    assert len(result.layers) == 2
    np.testing.assert_allclose(result.layers[-1].cell, plain.crystals.cell, atol=1e-4)
    assert np.abs(result.crystals.cell - plain.crystals.cell).max() > 0.05


class Folding(Dummy):
    """Predicts its input, by way of a flat cell for crystals of two atoms."""

    def forward(self, batch):
        cell = batch.cell.clone()
        cell[batch.n_atoms == 2, 2] = cell[batch.n_atoms == 2, 1]
        return [Geometry(batch.fractional, cell), Geometry(batch.fractional, batch.cell)]


@pytest.mark.parametrize('freedom', [None, Freedom('volume')])
def test_a_layer_that_is_no_crystal_leaves_the_prediction(freedom):
    checkpoint = Checkpoint(Folding(Dummy.Hyperparameters()), 'dummy', ELEMENTS, {}, 'sha256:0')
    frames = rattled(1)
    flat, whole = Relaxer(checkpoint, 'cpu').relax(frames[:2], layers=True, freedom=freedom)
    assert (flat.ok, flat.layers, len(whole.layers)) == (True, None, 3)
    assert flat.notes[-1].startswith('no layers: after layer 1: ')


@pytest.mark.parametrize('kind', ['ase', 'pymatgen'])
def test_in_python(checkpoint, tmp_path, kind):
    given = rattled(1)[0]
    structure = given if kind == 'ase' else AseAtomsAdaptor.get_structure(given)
    relaxed = relax(structure, checkpoint, 'cpu', 'float64', layers=True, bonds=True)
    plain = relax(structure, checkpoint, 'cpu', 'float64')
    assert (plain.layers, plain.bonds) == (None, None)
    assert relaxed.layers[-1] is relaxed.structure
    assert {type(step) for step in relaxed.layers} == {type(relaxed.structure)}
    if kind == 'ase':
        np.testing.assert_array_equal(relaxed.layers[0].positions, given.positions)
        np.testing.assert_array_equal(relaxed.structure.positions, plain.structure.positions)
    else:
        assert isinstance(relaxed.layers[1], Structure)
    relaxed.plot_bonds(tmp_path / 'with_errors.png', relaxed=structure)
    assert (tmp_path / 'with_errors.png').stat().st_size > 10_000
    with pytest.raises(ValueError, match='relax with `bonds=True`'):
        plain.plot_bonds(tmp_path / 'none.png')
    with pytest.raises(ValueError, match='expected the same elements in the same order'):
        relaxed.plot_bonds(tmp_path / 'none.png', relaxed=rattled(1)[2])


def test_errors_of_bonds_do_not_depend_on_images_and_origin(ensemble):
    crystal = batch_of(rattled(1)[1])
    result = predict(ensemble, crystal, ELEMENTS, CPU, torch.float64, details=Details(bonds=True))
    cell = crystal.cell[0]
    images = np.random.default_rng(0).integers(-2, 3, (len(crystal.numbers), 3))
    elsewhere = crystal.replace(crystal.positions + images @ cell + [0.3, 1.0, -2.0], crystal.cell)
    bonds = result.bonds[0]
    found = bond_errors(bonds, result.crystals, elsewhere)
    np.testing.assert_allclose(found, np.abs(bonds.predicted_length - bonds.initial_length), atol=1e-10)


def test_figures(run, tmp_path, capsys):
    assert run(rattled(1), '--bonds', '--plot', str(tmp_path / 'figures')) == 0
    assert sorted(path.name for path in (tmp_path / 'figures').iterdir()) == ['in_0.png', 'in_1.png', 'in_2.png']
    assert run(rattled(1), '--plot', str(tmp_path / 'figures')) == 3
    assert 'expected --bonds beside it' in capsys.readouterr().err
    assert run(rattled(1), '--bonds', '--plot', str(tmp_path / 'report.json')) == 3
    assert 'expected a folder, found a file' in capsys.readouterr().err


def test_nothing_predicted_leaves_no_file_of_an_earlier_run(run, tmp_path):
    assert run(many(), '--layers', '--bonds') == 0
    assert run(batch_of(ase.build.bulk('Al')), '--layers', '--bonds') == 0
    assert not list(tmp_path.glob('out.*s.npz'))


def test_no_input_is_replaced(run, tmp_path, capsys):
    write_npz(tmp_path / 'in.npz', many())
    (tmp_path / 'x.layers.npz').symlink_to(tmp_path / 'in.npz')
    assert run(many(), '--layers', output='x.npz') == 3
    assert '--layers' in capsys.readouterr().err
    assert json.loads((tmp_path / 'report.json').read_text())['error']['code'] == 'bad_input'


@pytest.fixture(scope='module')
def written(ensemble, tmp_path_factory):
    """Files of layers and bonds, and the crystals that they are about."""
    folder = tmp_path_factory.mktemp('written')
    save_checkpoint(folder / 'm.pt', 'ensemble', ensemble, ELEMENTS, {'step': 0})
    write_npz(folder / 'in.npz', many())
    files = [str(folder / 'in.npz'), '--model', str(folder / 'm.pt'), '--output', str(folder / 'out.npz')]
    assert main(['predict', *files, '--layers', '--bonds', '--device', 'cpu']) == 0
    return folder, many()


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('labels', np.array(['0', '1', '2', 'z']), 'array `labels`'),
        ('labels', np.array(['1', '0', '2', '3']), 'array `labels`'),
        ('labels', np.array(['0'] * 4), 'array `labels`'),
        ('labels', np.array([str(k) for k in range(9)]), 'expected at most 4'),
        ('n_atoms', np.array([2, 4, 6, 3]), 'array `n_atoms`'),
        ('n_atoms', np.array([2.0, 4, 6, 2]), 'expected whole numbers'),
        ('numbers', np.full(14, 8), 'array `numbers`'),
        ('cell', np.zeros((4, 1, 3, 3)), 'expected from 2 to 1000 geometries'),
        ('cell', np.zeros((4, 3, 3)), 'expected from 2 to 1000 geometries'),
        ('positions', np.zeros((14, 4, 3)), 'array `positions`'),
        ('positions', np.zeros((14, 3, 3), dtype=int), 'array `positions`'),
        ('n_bonds', np.array([1, 2, 3, -1]), 'array `n_bonds`'),
        ('n_bonds', np.full(4, 10**6), 'array `n_bonds`'),
        ('centre', lambda array: array + 1, 'expected sites from 0 to'),
        ('neighbour', lambda array: array - 1, 'expected sites from 0 to'),
        ('offset', lambda array: array[:, :2], 'array `offset`'),
        ('offset', lambda array: array * 1.0, 'array `offset`'),
        ('uncertainty_A', lambda array: -array, 'expected finite numbers from 0 on'),
        ('final_length_A', lambda array: array * np.nan, 'expected finite numbers from 0 on'),
        ('uncertainty_A', None, 'array `uncertainty_A` is missing'),
    ],
)
def test_files_of_others_are_refused(written, tmp_path, name, value, message):
    folder, given = written
    for source, reader in (('out.layers.npz', read_layers), ('out.bonds.npz', read_bonds)):
        arrays = load(folder / source)
        reader(folder / source, given)
        if name not in arrays:
            continue
        changed = value(arrays.pop(name)) if callable(value) else value
        np.savez(tmp_path / source, **({**arrays, name: changed} if changed is not None else _without(arrays, name)))
        with pytest.raises(CrystalFileError, match=message):
            reader(tmp_path / source, given)


def _without(arrays, name):
    return {key: array for key, array in arrays.items() if key != name}


@pytest.mark.parametrize('reader', [read_layers, read_bonds])
def test_a_file_that_is_none(tmp_path, reader):
    with pytest.raises(CrystalFileError, match='no such file'):
        reader(tmp_path / 'x.npz', many())
    (tmp_path / 'x.npz').write_bytes(b'PK\x03\x04 garbage')
    with pytest.raises(CrystalFileError, match=r'expected an \.npz'):
        reader(tmp_path / 'x.npz', many())
