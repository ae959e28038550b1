import csv
import dataclasses
import json

import numpy as np
import pytest
import scipy.stats
import torch
from ase.build import bulk
from scipy.spatial.transform import Rotation

from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.crystals.files.stream import read_crystal_files
from aiida_e3relax.crystals.metrics import Bonds, bond_length_mae, coordinate_mae, lattice_mae
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import Crystals, make_crystals, write_npz
from aiida_e3relax.gnn.checkpoints.checkpoint import save_checkpoint
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.evaluation.evaluate import ALL_MEASURES, as_filed, measure
from aiida_e3relax.gnn.evaluation.plot import plot_measured
from aiida_e3relax.gnn.evaluation.report import by_element, by_group, by_size, group_table
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.training.ensembles import combine
from tests.gnn.crystals import PROTOTYPES, batch_of, rattled
from tests.gnn.pairs import made_pairs
from tests.gnn.slabs import made_slabs


def in_standard_orientation(crystals: Crystals) -> Crystals:
    cell = np.linalg.cholesky(crystals.cell @ np.swapaxes(crystals.cell, 1, 2))
    positions = np.einsum('ac,acx->ax', crystals.fractional(), cell[crystals.structure_index])
    return crystals.replace(positions, cell)


def test_perfect_prediction_has_no_error_against_the_files():
    """Files in standard orientation; a prediction that is right but for a rotation."""
    after = in_standard_orientation(batch_of(*rattled(seed=2)))
    before = in_standard_orientation(batch_of(*rattled(seed=1)))
    rotation = Rotation.from_rotvec([0.4, 0.2, -0.1]).as_matrix()
    predicted = after.replace(after.positions @ rotation, after.cell @ rotation)
    pairs = Pairs(before, after, np.array(['test'] * 3), np.array(['made'] * 3))
    assert coordinate_mae(predicted, after).min() > 0.1
    np.testing.assert_allclose(coordinate_mae(as_filed(predicted, pairs), after), 0, atol=1e-9)


@pytest.mark.parametrize('signs', [(1, 1, -1), (-1, -1, 1), (-1, -1, -1)])
def test_perfect_prediction_has_none_where_lattice_vectors_are_filed_the_other_way(signs):
    before, after = (in_standard_orientation(batch_of(*rattled(seed=seed))) for seed in (1, 2))
    pairs = Pairs(
        *(c.replace(c.positions * signs, c.cell * signs) for c in (before, after)),
        np.array(['test'] * 3),
        np.array(['made'] * 3),
    )
    found = as_filed(pairs.relaxed, pairs)
    np.testing.assert_allclose(found.cell, pairs.relaxed.cell, atol=1e-9)
    np.testing.assert_allclose(coordinate_mae(found, pairs.relaxed), 0, atol=1e-9)


def saved_model(path):
    """Write a network of zeros, which leaves crystals as they are, and return its path."""
    model = make_model('e3relax-h2', {'features': 8, 'layers': 1})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    save_checkpoint(path, 'e3relax-h2', model, np.unique(made_pairs().unrelaxed.numbers).tolist(), {})
    return path


def test_errors_of_movable_atoms_stand_beside_those_of_all_where_some_are_fixed(tmp_path, capsys):
    torch.manual_seed(2)
    model = make_model('e3relax', {'features': 8, 'layers': 1})
    save_checkpoint(tmp_path / 'random.pt', 'e3relax', model, list(range(1, 100)), {})
    write_pairs(tmp_path / 'slabs.npz', made_slabs())
    write_pairs(tmp_path / 'bulk.npz', made_pairs(3))
    options = ['--model', str(tmp_path / 'random.pt'), '--split', 'val', '--no-match', '--device', 'cpu']
    files = [str(tmp_path / name) for name in ('slabs.npz', 'bulk.npz')]
    assert main(['evaluate', *files, *options, '--csv', str(tmp_path / 'table.csv')]) == 0
    assert 'movable atoms A' in capsys.readouterr().out
    with (tmp_path / 'table.csv').open() as handle:
        rows = list(csv.DictReader(handle))
    slabs = [row for row in rows if row['data'] == 'slabs']
    pairs = made_slabs().of_split('val')
    moves = np.abs(pairs.relaxed.positions - pairs.unrelaxed.positions)[~pairs.fixed.any(axis=1)]
    for row, expected in zip(
        (r for r in slabs if r['of'] == 'dummy'), 2 * list(moves.reshape(2, -1).mean(axis=1)), strict=True
    ):
        assert float(row['movable_coordinate_mae_A']) == pytest.approx(expected, rel=1e-4)
    for row in slabs:  # half of the atoms are fixed, and the network holds them
        assert float(row['coordinate_mae_A']) == pytest.approx(float(row['movable_coordinate_mae_A']) / 2, rel=1e-4)
        assert float(row['lattice_mae_A']) < 1e-12
    network = [float(row['movable_coordinate_mae_A']) for row in slabs if row['of'] == 'model']
    assert network != pytest.approx([float(r['movable_coordinate_mae_A']) for r in slabs if r['of'] == 'dummy'])
    assert {row['movable_coordinate_mae_A'] for row in rows if row['data'] == 'made'} == {''}


def test_table_of_a_model_beside_the_dummy(tmp_path, capsys):
    write_pairs(tmp_path / 'pairs.npz', made_pairs())
    saved_model(tmp_path / 'still.pt')
    arguments = ['evaluate', str(tmp_path / 'pairs.npz'), '--model', str(tmp_path / 'still.pt'), '--device', 'cpu']
    assert main([*arguments, '--json', str(tmp_path / 'table.json')]) == 0
    printed = capsys.readouterr().out
    assert 'as filed' in printed
    assert 'dummy' in printed
    rows = json.loads((tmp_path / 'table.json').read_text())['rows']
    assert len(rows) == 6
    still, dummy, rescaled = (row for row in rows if row['frame'] == 'aligned')
    assert [row['of'] for row in (still, dummy, rescaled)] == ['model', 'dummy', 'dummy at volume of model']
    for name in ('volume_mae_A3_mean', 'coordinate_mae_A_mean', 'cell_shape_deviation_A2_median', 'match_rate_percent'):
        assert np.isclose(still[name], dummy[name], rtol=1e-4, atol=1e-4), (
            'a network of zeros leaves crystals as they are'
        )


def test_crystals_survive_their_file(tmp_path):
    crystals = make_crystals([[6, 8], [14]], [np.eye(3)[:2], np.zeros((1, 3))], [np.eye(3) * 4] * 2, ['CO', 'Si'])
    write_npz(tmp_path / 'crystals.npz', crystals)
    again = read_crystal_files([tmp_path / 'crystals.npz', tmp_path / 'crystals.npz'])
    assert again.labels.tolist() == ['CO', 'Si', 'CO', 'Si']
    np.testing.assert_array_equal(again.positions, np.concatenate([crystals.positions] * 2))


def test_bond_lengths_and_lattices_by_hand():
    before, after = (bulk('NaCl', 'rocksalt', a=a) for a in (5.6, 5.7))
    predicted, relaxed = batch_of(before), batch_of(after)
    bonds = Bonds(np.array([0, 0]), np.array([1, 1]), np.array([[0, 0, 0], [-1, 0, 0]]))
    np.testing.assert_allclose(bonds.lengths(relaxed), [5.7 / 2, 5.7 / 2 * np.sqrt(3)])
    np.testing.assert_allclose(bond_length_mae(predicted, relaxed, bonds), [0.05 * (1 + np.sqrt(3)) / 2])
    np.testing.assert_allclose(lattice_mae(predicted, relaxed), [6 * 0.05 / 9])
    none = Bonds(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 3), int))
    assert np.isnan(bond_length_mae(predicted, relaxed, none)).all()


def test_input_is_scaled_to_a_volume():
    crystals = batch_of(*rattled())
    scaled = crystals.scaled_to(crystals.volumes * [0.5, 1.0, 2.0])
    np.testing.assert_allclose(scaled.volumes, crystals.volumes * [0.5, 1.0, 2.0])
    np.testing.assert_allclose(scaled.fractional(), crystals.fractional(), atol=1e-12)


def test_measures_of_a_perfect_prediction_are_zero():
    """Relaxed crystals as input: the Dummy is right in everything, whatever the frame."""
    relaxed = made_pairs().relaxed
    exact = dataclasses.replace(made_pairs(), unrelaxed=relaxed)
    dummies = [m for m in measure({}, exact, torch.device('cpu'), with_matches=False) if m.of == 'dummy']
    assert [m.frame for m in dummies] == ['as filed', 'aligned']
    for measured in dummies:
        assert set(measured.values) == set(ALL_MEASURES)
        for values in measured.values.values():
            np.testing.assert_allclose(values, 0, atol=1e-9)


def test_bonds_of_a_stretched_crystal_are_off_by_the_stretch():
    frames = [PROTOTYPES['rock salt'](), PROTOTYPES['perovskite']()]
    before = batch_of(*frames)
    after = before.scaled_to(before.volumes * 1.01**3)
    pairs = Pairs(before, after, np.array(['test'] * 2), np.array(['made'] * 2))
    (measured,) = (m for m in measure({}, pairs, torch.device('cpu'), with_matches=False) if m.frame == 'aligned')
    rock_salt = np.sqrt([n for n in (1, 2, 3, 4) for _ in range({1: 6, 2: 12, 3: 8, 4: 6}[n])]) * 5.64 / 2
    within = rock_salt[rock_salt < 6]
    assert measured.values['bond_length_mae_A'][0] == pytest.approx(0.01 * within.mean(), rel=1e-6)


def test_tables_by_size_and_element():
    pairs = made_pairs()
    measured = measure({}, pairs, torch.device('cpu'), with_matches=False)
    aligned_dummy = next(m for m in measured if m.frame == 'aligned')
    sizes = by_size([aligned_dummy])
    assert sum(row['pairs'] for row in sizes) == len(pairs)
    small = aligned_dummy.n_atoms <= 4
    assert sizes[0]['atoms'] == '1-4'
    assert sizes[0]['volume_mae_A3_median'] == np.median(aligned_dummy.values['volume_mae_A3'][small])
    elements = {row['element']: row for row in by_element([aligned_dummy])}
    assert sum(row['atoms'] for row in elements.values()) == len(pairs.unrelaxed.numbers)
    of_sodium = aligned_dummy.atom_errors[pairs.unrelaxed.numbers == 11]
    assert elements['Na']['coordinate_mae_A_mean'] == pytest.approx(of_sodium.mean())


def test_tables_by_kind_and_family(tmp_path, capsys):
    pairs = made_pairs()
    kinds = np.resize(['layer', 'rattled', ''], len(pairs))
    told = dataclasses.replace(pairs, about={'kind': kinds, 'recipe': np.full(len(pairs), 'any')})
    measured = measure({}, told, torch.device('cpu'), with_matches=False)
    rows = [row for row in by_group(measured, 'kind') if row['frame'] == 'aligned']
    assert [row['kind'] for row in rows] == ['layer', 'rattled']
    (dummy,) = (m for m in measured if m.frame == 'aligned')
    errors = dummy.values['volume_mae_A3'][kinds == 'rattled']
    assert rows[1]['volume_mae_A3_mean'] == pytest.approx(errors.mean())
    assert rows[1]['pairs'] == (kinds == 'rattled').sum()
    assert by_group(measured, 'family') == []
    assert group_table(measured, 'family') == ''
    assert f'({np.median(errors):.3f})' in group_table(measured, 'kind')
    write_pairs(tmp_path / 'told.npz', told)
    model = saved_model(tmp_path / 'zeros.pt')
    files = ['--json', str(tmp_path / 'e.json'), '--csv', str(tmp_path / 'e.csv')]
    assert main(['evaluate', str(tmp_path / 'told.npz'), '--model', str(model), '--no-match', *files]) == 0
    assert 'rattled' in capsys.readouterr().out
    assert {row['kind'] for row in json.loads((tmp_path / 'e.json').read_text())['by_kind']} == {'layer', 'rattled'}
    with (tmp_path / 'e.csv').open() as handle:
        assert {row['kind'] for row in csv.DictReader(handle)} == {'layer', 'rattled', ''}


def test_several_models_in_one_table_with_files_and_figure(tmp_path, capsys):
    write_pairs(tmp_path / 'pairs.npz', made_pairs())
    models = [saved_model(tmp_path / name) for name in ('one.pt', 'two.pt')]
    outputs = {kind: tmp_path / f'out.{kind}' for kind in ('json', 'csv', 'figure')}
    outputs['figure'] = tmp_path / 'out.png'
    options = [text for kind, path in outputs.items() for text in (f'--{kind}', str(path))]
    arguments = ['evaluate', str(tmp_path / 'pairs.npz'), '--no-match', '--device', 'cpu', *options]
    assert main([*arguments, '--model', *map(str, models)]) == 0
    assert 'dummy at volume of two' in capsys.readouterr().out
    content = json.loads(outputs['json'].read_text())
    assert list(content['models']) == ['one', 'two']
    assert {row['of'] for row in content['by_element']} >= {'one', 'two', 'dummy'}
    with outputs['csv'].open(newline='') as handle:
        lines = list(csv.DictReader(handle))
    n_test = len(made_pairs().of_split('test'))
    assert len(lines) == n_test * 2 * 5
    means = {row['of']: row for row in content['rows'] if row['frame'] == 'aligned'}
    chosen = [line for line in lines if line['frame'] == 'aligned' and line['of'] == 'dummy']
    assert np.mean([float(line['volume_mae_A3']) for line in chosen]) == pytest.approx(
        means['dummy']['volume_mae_A3_mean'], rel=1e-5
    )
    assert outputs['figure'].read_bytes().startswith(b'\x89PNG')


def test_stated_uncertainty_stands_beside_the_errors(tmp_path, capsys):
    pairs = made_pairs(copies=8)
    write_pairs(tmp_path / 'pairs.npz', pairs)
    members = []
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        model = make_model('e3relax-h2', {'features': 16, 'layers': 2})
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        members.append(tmp_path / f'{seed}.pt')
        save_checkpoint(members[-1], 'e3relax-h2', model, np.unique(pairs.unrelaxed.numbers).tolist(), {})
    combine(members, tmp_path / 'three.pt')
    outputs = {kind: tmp_path / f'out.{kind}' for kind in ('json', 'csv')} | {'figure': tmp_path / 'out.png'}
    options = [text for kind, path in outputs.items() for text in (f'--{kind}', str(path))]
    arguments = ['evaluate', str(tmp_path / 'pairs.npz'), '--split', 'train', '--no-match', '--device', 'cpu', *options]
    assert main([*arguments, '--model', str(tmp_path / 'three.pt'), str(members[0])]) == 0
    assert 'rank, bonds' in capsys.readouterr().out
    rows = [row for row in json.loads(outputs['json'].read_text())['rows'] if row['frame'] == 'aligned']
    assert [row['of'] for row in rows if 'spearman_bonds' in row] == ['three']
    with outputs['csv'].open(newline='') as handle:
        lines = [line for line in csv.DictReader(handle) if line['frame'] == 'aligned']
    stated = np.array([[line['uncertainty_A'], line['bond_length_mae_A']] for line in lines if line['of'] == 'three'])
    expected = scipy.stats.spearmanr(*stated.astype(float).T).statistic
    assert next(row for row in rows if row['of'] == 'three')['spearman_bonds'] == pytest.approx(expected, abs=1e-4)
    assert {line['uncertainty_A'] for line in lines if line['of'] != 'three'} == {''}
    assert outputs['figure'].read_bytes().startswith(b'\x89PNG')


def test_figure_of_errors_that_are_zero(tmp_path):
    relaxed = made_pairs().relaxed
    exact = dataclasses.replace(made_pairs(), unrelaxed=relaxed)
    plot_measured(measure({}, exact, torch.device('cpu'), with_matches=False), tmp_path / 'zero.png')
    assert (tmp_path / 'zero.png').stat().st_size > 10_000


@pytest.mark.parametrize(
    ('options', 'message'),
    [(['--json', 'nowhere/out.json'], 'does not exist'), (['--figure', 'out.txt'], '.png')],
)
def test_outputs_are_looked_at_first(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(['evaluate', 'missing.npz', *options]) == 3
    assert message in capsys.readouterr().err


def test_split_without_pairs_is_named(tmp_path, capsys):
    write_pairs(tmp_path / 'pairs.npz', made_pairs().of_split('train'))
    assert main(['evaluate', str(tmp_path / 'pairs.npz'), '--device', 'cpu']) == 3
    assert "no pair of the split 'test'" in capsys.readouterr().err
