"""What may move in the predictions of `e3relax predict`."""

import dataclasses
import json

import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.constraints import FixAtoms, FixBondLengths, FixScaled
from ase.io import read, write

from aiida_e3relax.common.errors import SOME_UNREADABLE
from aiida_e3relax.crystals.files.stream import stream_structures
from aiida_e3relax.crystals.freedom.constraints import movable_coordinates
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.crystals.structures import write_npz
from aiida_e3relax.crystals.symmetry import SpaceGroup
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.graph.batch import make_batch
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.prediction import freedom as freedoms
from aiida_e3relax.gnn.prediction import predict as predictions
from aiida_e3relax.gnn.prediction import streaming
from aiida_e3relax.gnn.prediction.freedom import PredictionFreedom
from tests.gnn.crystals import batch_of

ROUNDING = 1e-6
"""In A; single precision of the network does not count where nothing may move."""


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A network with random weights that moves atoms and cells by tenths of an A."""
    torch.manual_seed(1)
    model = make_model('e3relax-h2', {'features': 8, 'layers': 1})
    with torch.no_grad():
        for layer in model.layers:
            layer.displacement.weight *= 100
            layer.atoms_to_lattice.distortion.weight *= 20
    path = tmp_path_factory.mktemp('model') / 'small.pt'
    save_checkpoint(path, 'e3relax-h2', model, [1, 8, 14], {'step': 0})
    return path


@pytest.fixture
def predict(checkpoint, tmp_path):
    """Predict for one structure; returns the predicted one, or None, and its row of the report."""

    def run(atoms, *options, output='out.extxyz', name='in.vasp'):
        if name.endswith('.npz'):
            write_npz(tmp_path / name, batch_of(atoms))
        else:
            write(tmp_path / name, atoms)
        arguments = [str(tmp_path / name), '--model', str(checkpoint), '--output', str(tmp_path / output)]
        main(['predict', *arguments, '--report', str(tmp_path / 'report.json'), *options])
        row = json.loads((tmp_path / 'report.json').read_text())['structures'][0]
        return (read(tmp_path / output) if (tmp_path / output).exists() else None), row

    return run


def slab():
    atoms = ase.build.diamond111('Si', (1, 1, 4), a=5.43, vacuum=6.0, periodic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def silicon():
    atoms = ase.build.bulk('Si', cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def moved(before, after):
    return np.abs(after.get_scaled_positions(wrap=False) - before.get_scaled_positions(wrap=False)).max(axis=1)


@pytest.mark.parametrize('name', ['in.vasp', 'in.npz'])
def test_a_slab_keeps_its_cell_and_is_told_how_to_relax_its_lattice(predict, name):
    predicted, row = predict(slab(), name=name)
    assert row['status'] == 'ok'
    assert 'a layer with 12.2 A of vacuum along c: the cell is kept' in row['message']
    assert '`--freedom in-plane`' in row['message']
    assert predicted.cell.array == pytest.approx(slab().cell.array, abs=ROUNDING)
    assert moved(slab(), predicted).max() > 1e-3


def test_a_slab_that_declares_its_vacuum_keeps_it_too(predict):
    declared = slab()
    declared.pbc = [True, True, False]
    predicted, row = predict(declared, name='in.extxyz')
    assert row['message'].startswith('predicted as if periodic in all three directions; a layer with')
    assert predicted.cell.array == pytest.approx(slab().cell.array, abs=ROUNDING)
    assert moved(slab(), predicted).max() > 1e-3


def test_in_plane_keeps_the_vacuum_vector(predict):
    predicted, row = predict(slab(), '--freedom', 'in-plane')
    assert (row['status'], row['message']) == ('ok', '')
    assert predicted.cell.array[2] == pytest.approx(slab().cell.array[2], abs=ROUNDING)
    assert np.abs(predicted.cell.array[:2] - slab().cell.array[:2]).max() > 1e-3


def test_a_freedom_that_would_close_the_vacuum_is_refused(predict, capsys):
    predicted, row = predict(slab(), '--freedom', 'cell')
    assert predicted is None
    assert row['status'] == 'vacuum'
    assert '`--freedom in-plane --vacuum c`' in row['message']
    assert 'in: vacuum: `cell` would close a vacuum' in capsys.readouterr().err


@pytest.mark.parametrize('options', [(), ('--freedom', 'positions'), ('--freedom', 'in-plane')])
def test_a_molecule_is_not_predicted(predict, options):
    predicted, row = predict(ase.build.molecule('H2O', vacuum=6.0, pbc=True), *options)
    assert predicted is None
    assert row['status'] == 'not_periodic'
    assert row['message'].startswith('a molecule with at least 5.5 A of vacuum around')


def test_a_crystal_that_hangs_together_is_not_searched_for_gaps(predict, monkeypatch):
    """A search takes as long as many predictions; those of a slab are the test above."""
    monkeypatch.setattr(freedoms, 'find_gap', None)
    for freedom in ('cell', 'positions', 'shape'):
        _, row = predict(silicon(), '--freedom', freedom)
        assert (row['status'], row['message']) == ('ok', '')
    _, row = predict(silicon(), '--freedom', '{moves: cell, fixed: {abc: [8]}}')
    assert (row['status'], row['message']) == ('freedom', '`fixed`: there is no site 8; sites count from 0 to 7')


def test_whoever_knows_better_says_so(predict):
    predicted, row = predict(slab(), '--vacuum', 'none')
    assert (row['status'], row['message']) == ('ok', '')
    assert np.abs(predicted.cell.array[2] - slab().cell.array[2]).max() > 1e-3
    assert predict(ase.build.molecule('H2O', vacuum=6.0, pbc=True), '--vacuum', 'none')[1]['status'] == 'ok'


@pytest.mark.parametrize('output', ['out.vasp', 'out.extxyz'])
def test_sites_that_a_file_holds_stay_and_their_flags_are_written_back(predict, output):
    atoms = slab()
    atoms.set_constraint([FixAtoms([0, 1]), FixScaled([2], mask=[False, False, True])])
    predicted, row = predict(atoms, output=output)
    assert row['status'] == 'ok'
    assert moved(atoms, predicted)[:2].max() < ROUNDING
    assert abs(predicted.get_scaled_positions()[2, 2] - atoms.get_scaled_positions()[2, 2]) < ROUNDING
    assert moved(atoms, predicted)[3:].max() > 1e-3
    frozen = {tuple(sorted(map(int, constraint.get_indices()))) for constraint in predicted.constraints}
    assert {site for sites in frozen for site in sites} >= {0, 1, 2}
    masks = [constraint.mask.tolist() for constraint in predicted.constraints if 2 in constraint.get_indices()]
    assert masks == [[False, False, True]]


@pytest.mark.parametrize('output', ['out.vasp', 'out.extxyz'])
def test_sites_that_the_freedom_holds_are_written_too(predict, output):
    """They once stayed in the prediction, and moved in the next relaxation of its file."""
    atoms = silicon()
    atoms.set_constraint(FixAtoms([1]))
    predicted, row = predict(atoms, '--freedom', '{moves: positions, fixed: {abc: [3], c: [5]}}', output=output)
    assert (row['status'], row['message']) == ('ok', '')
    held = np.zeros((8, 3), dtype=bool)
    held[[1, 3]], held[5, 2] = True, True
    np.testing.assert_array_equal(movable_coordinates(predicted), ~held)
    row = predict(atoms, '--freedom', '{fixed: {abc: [3]}}', output='out.cif')[1]
    assert row['message'] == 'which sites are held is not written: cif cannot hold it, .vasp can'


def test_a_label_without_a_structure_is_told_before_anything_runs(predict, checkpoint, tmp_path, capsys):
    (tmp_path / 'fixed.json').write_text('{"inn": {"abc": [0]}}')
    options = ['--fixed-sites', str(tmp_path / 'fixed.json')]
    write(tmp_path / 'in.vasp', silicon())
    files = ['--model', str(checkpoint), '--output', str(tmp_path / 'out.vasp'), '--report', str(tmp_path / 'r.json')]
    assert main(['predict', str(tmp_path / 'in.vasp'), *files, *options]) == 3
    told = '--fixed-sites: no structure has the label inn, so its sites are held nowhere'
    assert f'{told}; labels are in' in capsys.readouterr().err
    assert not (tmp_path / 'out.vasp').exists()
    (tmp_path / 'fixed.json').write_text('{"inn": {"abc": [0]}, "in": {"abc": [1]}}')
    assert main(['predict', str(tmp_path / 'in.vasp'), *files, *options]) == SOME_UNREADABLE
    rows = json.loads((tmp_path / 'r.json').read_text())['structures']
    assert [(row['label'], row['status']) for row in rows] == [('in', 'ok'), ('inn', 'unreadable')]
    assert rows[1]['message'] == told
    assert told in capsys.readouterr().err
    assert movable_coordinates(read(tmp_path / 'out.vasp'))[:2].tolist() == [[True] * 3, [False] * 3]


def test_a_label_of_a_file_that_cannot_be_read_is_no_unknown_one(checkpoint, tmp_path):
    (tmp_path / 'fixed.json').write_text('{"broken": {"abc": [0]}}')
    (tmp_path / 'broken.cif').write_text('nothing')
    write(tmp_path / 'in.vasp', silicon())
    files = ['--model', str(checkpoint), '--output', str(tmp_path / 'out.vasp'), '--report', str(tmp_path / 'r.json')]
    options = ['--fixed-sites', str(tmp_path / 'fixed.json')]
    assert (
        main(['predict', str(tmp_path / 'in.vasp'), str(tmp_path / 'broken.cif'), *files, *options]) == SOME_UNREADABLE
    )
    rows = json.loads((tmp_path / 'r.json').read_text())['structures']
    assert [(row['label'], row['status']) for row in rows] == [('in', 'ok'), ('broken', 'unreadable')]


def test_a_label_without_a_structure_costs_a_long_run_nothing(checkpoint, tmp_path, monkeypatch):
    """Its structures come in pieces, and whether one has the label is known at the end."""
    monkeypatch.setattr(streaming, 'stream_structures', lambda paths: stream_structures(paths, 1))
    (tmp_path / 'fixed.json').write_text('{"inn": {"abc": [0]}}')
    write_npz(tmp_path / 'in.npz', batch_of(silicon(), silicon(), silicon()))
    files = ['--model', str(checkpoint), '--output', str(tmp_path / 'out.npz')]
    options = ['--fixed-sites', str(tmp_path / 'fixed.json')]
    assert main(['predict', str(tmp_path / 'in.npz'), *files, *options]) == SOME_UNREADABLE
    with np.load(tmp_path / 'out.npz') as arrays:
        assert arrays['status'].tolist() == ['ok'] * 3


def test_the_network_itself_gets_what_is_held(checkpoint):
    atoms = [slab(), silicon(), silicon()]
    atoms[0].set_constraint(FixAtoms([0, 1]))
    atoms[1].set_constraint(FixScaled([2], mask=[False, False, True]))
    crystals, model = batch_of(*atoms), load_checkpoint(checkpoint).model
    freedom = PredictionFreedom(None, crystals, atoms)
    expected = predictions.predict(model, crystals, [14], torch.device('cpu'), freedom=freedom).crystals
    fixed = np.zeros((len(crystals.numbers), 3), dtype=bool)
    fixed[:2], fixed[len(atoms[0]) + 2, 2] = True, True
    for found, mask in zip(freedom.masks([0, 1, 2]), (fixed, [True, False, False]), strict=True):
        np.testing.assert_array_equal(found, mask)
    batch = make_batch(crystals, model.graph)
    masks = {'fixed': torch.from_numpy(fixed), 'fixed_cell': torch.tensor([True, False, False])}
    with torch.no_grad():
        geometry = model(dataclasses.replace(batch, **masks))[-1]
    np.testing.assert_allclose(geometry.positions(batch), expected.positions, atol=1e-4)
    still = fixed[: len(atoms[0])]
    np.testing.assert_allclose(expected.positions[: len(atoms[0])][still], atoms[0].positions[still], atol=1e-12)
    np.testing.assert_array_equal(expected.cell[0], crystals.cell[0])
    by_volume = PredictionFreedom(Freedom('volume'), crystals, atoms).masks([2])
    assert by_volume[0].all()
    assert by_volume[1] is None


def test_in_a_free_cell_held_sites_keep_their_fractional_coordinates(predict):
    atoms = silicon()
    atoms.set_constraint(FixAtoms([3]))
    predicted, _ = predict(atoms)
    assert moved(atoms, predicted)[3] < ROUNDING
    assert np.abs(predicted.cell.array - atoms.cell.array).max() > 1e-3


def test_it_is_told_where_a_format_cannot_hold_the_flags(predict):
    atoms = silicon()
    atoms.set_constraint(FixAtoms([3]))
    predicted, row = predict(atoms, output='out.cif')
    assert predicted is not None
    assert row['message'] == 'which sites are held is not written: cif cannot hold it, .vasp can'


def test_constraints_that_cannot_be_held_are_refused(predict):
    atoms = silicon()
    atoms.set_constraint(FixBondLengths([[0, 1]]))
    assert predict(atoms, name='in.traj')[1]['status'] == 'freedom'


@pytest.mark.parametrize('name', ['in.vasp', 'in.npz'])
def test_a_crystal_is_predicted_as_it_would_be_without_a_look_for_gaps(predict, name):
    looked, _ = predict(silicon(), name=name)
    assert looked.get_positions() == pytest.approx(predict(silicon(), '--vacuum', 'none', name=name)[0].positions)


def test_the_mapping_is_taken_as_a_whole(predict):
    predicted, row = predict(silicon(), '--freedom', '{moves: volume}')
    assert row['status'] == 'ok'
    assert moved(silicon(), predicted).max() < ROUNDING
    fault = predict(silicon(), '--freedom', '{moves: positions, fixed: {abc: [99]}}')[1]
    assert (fault['status'], 'there is no site 99' in fault['message']) == ('freedom', True)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--freedom', 'in plane'], "found 'in plane'; did you mean `in-plane`?"),
        (['--freedom', '{moves: in-plane, vacum: c}'], 'did you mean `vacuum`'),
        (['--freedom', '{moves: ['], 'expected YAML such as'),
        (['--vacuum', 'c'], 'expected `--freedom in-plane` or `--freedom positions` beside it'),
        (['--freedom', '{moves: in-plane, vacuum: a}', '--vacuum', 'c'], 'leave one of the two out'),
    ],
)
def test_what_is_no_freedom_is_one_line(checkpoint, tmp_path, capsys, options, message):
    write(tmp_path / 'in.vasp', silicon())
    arguments = ['predict', str(tmp_path / 'in.vasp'), '--model', str(checkpoint), '--output', str(tmp_path / 'o.npz')]
    assert main([*arguments, *options]) == 3
    assert message in capsys.readouterr().err


def test_one_structure_with_a_vacuum_takes_no_other_down(checkpoint, tmp_path):
    wire = Atoms('Si', cell=[12, 12, 2.4], pbc=True)
    write_npz(tmp_path / 'in.npz', batch_of(silicon(), ase.build.molecule('H2O', vacuum=6.0, pbc=True), wire, slab()))
    arguments = ['predict', str(tmp_path / 'in.npz'), '--model', str(checkpoint), '--output', str(tmp_path / 'out.npz')]
    assert main([*arguments, '--report', str(tmp_path / 'report.json')]) == 0
    rows = json.loads((tmp_path / 'report.json').read_text())['structures']
    assert [row['status'] for row in rows] == ['ok', 'not_periodic', 'ok', 'ok']
    assert [row['message'].partition(' with')[0] for row in rows] == ['', 'a molecule', 'a wire', 'a layer']


def test_of_the_symmetry_that_is_kept_goes_what_fixed_sites_do_not_have():
    """The chain tells sites of one element apart by their kinds; the files of this program cannot."""
    raw = batch_of(ase.build.bulk('Si', cubic=True))
    free = PredictionFreedom(Freedom(keep_symmetry=True, fixed={'abc': [0]}), raw, [None])
    assert free.find_faults([0]) == {}
    assert free.notes[0].startswith('of Fd-3m 24 of 192 operations are kept')
    generator = np.random.default_rng(1)
    moved = raw.replace(raw.positions + 0.1 * generator.normal(size=(8, 3)), raw.cell + 0.1 * np.eye(3))
    faults = {}
    kept = free.restrict(moved, faults)
    assert faults == {}
    np.testing.assert_allclose(kept.fractional()[0], raw.fractional()[0], atol=1e-12)
    group = SpaceGroup.of(kept, ['fixed', *7 * ['free']])
    assert len(group.rotations) >= 24
