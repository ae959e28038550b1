"""Reference sets from training files to what predictions say: one ensemble serves all tests."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from aiida_e3relax.common.errors import CheckpointError, InputError
from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import make_crystals, write_npz
from aiida_e3relax.gnn import relax
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint, load_content, save_atomically, save_checkpoint
from aiida_e3relax.gnn.checkpoints.model_card import read_card
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.evaluation.evaluate import measure
from aiida_e3relax.gnn.models.reference_set import nearest_environments
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.prediction.predict import predict
from aiida_e3relax.gnn.training.ensembles import combine
from aiida_e3relax.gnn.training.reference_sets import add_reference_set, make_reference_set
from tests.gnn.crystals import batch_of
from tests.gnn.pairs import made_pairs

CPU = torch.device('cpu')
PAIRS = made_pairs(copies=5)
TRAINED = PAIRS.of_split('train')
ELEMENTS = np.unique(PAIRS.unrelaxed.numbers).tolist()


def member(path, seed, architecture='e3relax-h2', **sizes):
    torch.manual_seed(seed)
    model = make_model(architecture, {'features': 8, 'layers': 2} | sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save_checkpoint(path, architecture, model, ELEMENTS, {'step': seed})
    return path


def foreign(copies: int = 3) -> Pairs:
    """Crystals of known elements in places that no training crystal has, which relax far, as a named split."""
    rng = np.random.default_rng(4)
    before, after = [], []
    for _ in range(copies * 3):
        atoms = Atoms(rng.choice(ELEMENTS, 4), cell=5.5 * np.eye(3), pbc=True)
        corners = [(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
        atoms.set_scaled_positions(np.array(corners) + 0.06 * rng.normal(size=(4, 3)))
        before.append(atoms)
        after.append(atoms.copy())
        after[-1].set_cell(atoms.cell.array * 2, scale_atoms=True)
    split = np.full(len(before), 'val_ood')
    about = {'family': np.resize(['oxides', 'fluorides'], len(before))}
    return Pairs(batch_of(*before), batch_of(*after), split, np.full(len(before), 'foreign'), about=about)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('reference')
    write_pairs(path / 'pairs.npz', PAIRS)
    write_pairs(path / 'foreign.npz', foreign())
    members = [str(member(path / f'{seed}.pt', seed)) for seed in (1, 2)]
    arguments = ['ensemble', *members, '--output', str(path / 'told.pt'), '--device', 'cpu']
    arguments += ['--reference', str(path / 'pairs.npz'), '--split', 'val', 'val_ood']
    assert main([*arguments, '--calibrate', str(path / 'pairs.npz'), str(path / 'foreign.npz')]) == 0
    combine([path / '1.pt', path / '2.pt'], path / 'bare.pt')
    return path


@pytest.fixture(scope='module')
def told(folder):
    return load_checkpoint(folder / 'told.pt')


def test_what_was_learnt_is_near_and_other_crystals_are_not(told):
    near = predict(told.model, TRAINED.unrelaxed, ELEMENTS, CPU, reference=told.reference)
    assert near.distance.max() < 0.05, 'half precision, and float32'
    labels = np.array(told.reference.labels)[near.example]
    formulas = np.array(told.reference.formulas)[near.example]
    assert set(labels) <= set(TRAINED.unrelaxed.labels)
    assert {'NaCl', 'SrTiO3', 'CaF2'} <= set(formulas)
    new = predict(told.model, PAIRS.of_split('test').unrelaxed, ELEMENTS, CPU, reference=told.reference)
    far = predict(told.model, foreign().unrelaxed, ELEMENTS, CPU, reference=told.reference)
    assert near.distance.max() < np.median(new.distance) < np.median(far.distance)


def test_unit_is_a_distance_between_chemical_systems(told):
    made = make_reference_set(told, TRAINED, CPU)
    assert made.unit == pytest.approx(told.reference.unit, rel=1e-5)
    shifted = made.environments.clone()
    formulas = np.array(made.formulas)[made.example.numpy()]
    kinds = np.unique(formulas, return_inverse=True)[1]
    number = torch.as_tensor(kinds)
    between, _ = nearest_environments(shifted, made.environments, (number, number))
    assert 0.1 * made.unit < float(between.median()) < 2 * made.unit


def test_fewer_environments_are_spread_over_all(told):
    whole, few = (make_reference_set(told, TRAINED, CPU, most) for most in (10**6, 12))
    assert len(few.environments) == 12 < len(whole.environments)
    furthest, _ = nearest_environments(whole.environments, few.environments)
    rng = torch.Generator().manual_seed(0)
    drawn = whole.environments[torch.randperm(len(whole.environments), generator=rng)[:12]]
    at_random, _ = nearest_environments(whole.environments, drawn)
    assert furthest.max() < at_random.max()


def test_predictions_stay_as_they_are(folder, told):
    bare = load_checkpoint(folder / 'bare.pt')
    assert bare.reference is None
    crystals = PAIRS.of_split('test').unrelaxed
    without = predict(bare.model, crystals, ELEMENTS, CPU)
    with_set = predict(told.model, crystals, ELEMENTS, CPU, reference=told.reference)
    assert without.distance is None
    np.testing.assert_array_equal(with_set.crystals.positions, without.crystals.positions)
    np.testing.assert_array_equal(with_set.crystals.cell, without.crystals.cell)


def test_calibration_holds_in_each_group_and_is_told(told, folder):
    training = told.training
    assert read_card(folder / 'told.pt')['training'] == json.loads(json.dumps(training))
    assert training['reference'].keys() == {'data', 'crystals', 'environments', 'unit'}
    groups = training['calibration']['groups']
    assert groups.keys() == {'made, val', 'foreign, val_ood, oxides', 'foreign, val_ood, fluorides'}
    assert groups['foreign, val_ood, oxides']['distance_median'] > groups['made, val']['distance_median']
    before = {
        name: next(m.row() for m in measure({'bare': load_checkpoint(folder / 'bare.pt')}, pairs, CPU, False, False))
        for name, pairs in (('made', PAIRS.of_split('val')), ('foreign', foreign()))
    }
    apart = [before[name]['observed_over_stated_median'] for name in ('foreign', 'made')]
    after = [groups[name]['observed_over_stated_median'] for name in ('foreign, val_ood, oxides', 'made, val')]
    assert after[0] / after[1] < 0.9 * apart[0] / apart[1], 'one factor leaves the foreign ones as far off as they are'
    assert all(row['observed_over_stated_median_left_out'] > 0 for row in groups.values())
    assert told.reference.growth is not None
    assert training['calibration']['growth']['power'] == told.reference.growth.power


def test_report_and_python_say_what_is_unlike_the_training(folder, told, capsys):
    frames = [bulk('NaCl', 'rocksalt', a=5.6), Atoms('NaMg', [(0, 0, 0), (0, 0, 2.1)], cell=[4, 5, 4], pbc=True)]
    between = predict(told.model, batch_of(*frames), ELEMENTS, CPU, reference=told.reference).distance.mean()
    content = load_content(folder / 'told.pt')  # a network that has learnt nothing tells little but elements apart
    content['reference']['unit'] *= float(between)
    save_atomically(folder / 'strict.pt', content)
    write_npz(folder / 'in.npz', batch_of(*frames))
    report = folder / 'report.json'
    arguments = ['predict', str(folder / 'in.npz'), '--output', str(folder / 'out.npz'), '--report', str(report)]
    assert main([*arguments, '--model', str(folder / 'strict.pt'), '--device', 'cpu']) == 0
    near, far = json.loads(report.read_text())['structures']
    assert near['distance_to_training'] < 1 < far['distance_to_training']
    assert (near['unlike_training'], far['unlike_training']) == (False, True)
    assert near['message'] == ''
    assert far['message'].startswith('unlike the training data (distance ')
    assert near['nearest_training']['formula'] == 'NaCl'
    assert far['nearest_training']['label'] in far['message']
    assert f'most by site {far["nearest_training"]["site"]}, ' in far['message']
    message = capsys.readouterr()
    assert 'unlike the training data' in message.err
    median = np.median([near['uncertainty_A'], far['uncertainty_A']])
    assert message.out.startswith(f'predicted 2 of 2 structures, expected error of bond lengths {median:.2g} A in the ')
    assert message.out.endswith(f', 1 unlike the training data; wrote {folder / "out.npz"}\n')
    for row, relaxed in zip((near, far), relax(frames, folder / 'strict.pt', 'cpu'), strict=True):
        assert relaxed.distance_to_training == pytest.approx(row['distance_to_training'], rel=1e-5)
        assert relaxed.nearest_training == row['nearest_training']
        assert any('unlike the training' in note for note in relaxed.notes) == row['unlike_training']
    assert relax(frames[1], folder / 'bare.pt', 'cpu').distance_to_training is None


def test_report_without_a_reference_set_has_no_distance(folder):
    write_npz(folder / 'one.npz', batch_of(bulk('NaCl', 'rocksalt', a=5.6)))
    report = folder / 'bare.json'
    arguments = ['predict', str(folder / 'one.npz'), '--output', str(folder / 'o.npz'), '--report', str(report)]
    assert main([*arguments, '--model', str(folder / 'bare.pt'), '--device', 'cpu']) == 0
    assert not [key for key in json.loads(report.read_text())['structures'][0] if 'training' in key]


def test_evaluation_shows_the_distance(folder, capsys):
    arguments = ['evaluate', str(folder / 'foreign.npz'), '--split', 'val_ood', '--no-match', '--device', 'cpu']
    arguments += ['--json', str(folder / 'e.json'), '--csv', str(folder / 'e.csv')]
    assert main([*arguments, '--model', str(folder / 'told.pt')]) == 0
    assert 'rank, distance' in capsys.readouterr().out
    rows = {row['of']: row for row in json.loads((folder / 'e.json').read_text())['rows'] if row['frame'] == 'aligned'}
    assert rows['model']['distance_median'] > 0
    assert rows['model']['unlike_training_percent'] >= 0
    assert 'distance_median' not in rows['dummy']
    assert 'distance_to_training' in (folder / 'e.csv').read_text().splitlines()[0]


def test_a_single_network_gets_one_too(folder, tmp_path, capsys):
    arguments = ['ensemble', str(folder / '1.pt'), '--output', str(tmp_path / 'one.pt'), '--device', 'cpu']
    assert main([*arguments, '--reference', str(folder / 'pairs.npz')]) == 0
    assert '1 member,' in capsys.readouterr().out
    found = load_checkpoint(tmp_path / 'one.pt')
    assert found.architecture == 'e3relax-h2'
    assert len(found.reference.labels) > 0
    relaxed = relax(bulk('NaCl', 'rocksalt', a=5.6), tmp_path / 'one.pt', 'cpu')
    assert relaxed.uncertainty is None
    assert relaxed.distance_to_training < 1


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        (['{}/1.pt'], 'at least two members; 1 given'),
        (['{}/1.pt', '--calibrate', '{}/pairs.npz'], 'expected an ensemble, found e3relax-h2'),
        (['{}/1.pt', '--half', '--reference', '{}/pairs.npz'], '--half: expected several checkpoints'),
        (['{}/bare.pt', '--calibrate', '{}/pairs.npz', '--split', 'train'], 'the members were trained on it'),
        (['{}/bare.pt', '--calibrate', '{}/pairs.npz', '--split', 'val_x'], 'no pair of the split val_x; its splits'),
        (['{}/bare.pt', '--reference', '{}/foreign.npz'], 'no pair of the split train'),
    ],
)
def test_what_cannot_be_made_is_said(folder, tmp_path, arguments, reason, capsys):
    arguments = [argument.format(folder) for argument in arguments]
    assert main(['ensemble', *arguments, '--output', str(tmp_path / 'no.pt'), '--device', 'cpu']) == 3
    assert reason in capsys.readouterr().err


def test_a_checkpoint_is_not_written_over_itself(folder, capsys):
    path = str(folder / 'bare.pt')
    assert main(['ensemble', path, '--output', path, '--reference', str(folder / 'pairs.npz')]) == 3
    assert 'which would be lost' in capsys.readouterr().err


def test_models_and_crystals_without_what_it_takes_are_named(folder, tmp_path):
    deeprelax = make_model('deeprelax', {'features': 8, 'layers': 1})
    save_checkpoint(tmp_path / 'd.pt', 'deeprelax', deeprelax, ELEMENTS, {})
    with pytest.raises(InputError, match='deeprelax states no features of sites'):
        add_reference_set(tmp_path / 'd.pt', TRAINED, CPU)
    salt = TRAINED.select(np.flatnonzero([label.startswith('0') for label in TRAINED.unrelaxed.labels])[:1])
    with pytest.raises(InputError, match='two or more chemical systems'):
        make_reference_set(load_checkpoint(folder / '1.pt'), salt, CPU)
    gold = bulk('Au')
    crystals = make_crystals([gold.numbers], [gold.positions], [gold.cell.array])
    with pytest.raises(InputError, match='atomic number 79'):
        make_reference_set(
            load_checkpoint(folder / '1.pt'), Pairs(crystals, crystals, np.array(['train']), np.array(['gold'])), CPU
        )


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'centre': None}, 'expected tensors by name'),
        ({'centre': torch.zeros(3)}, 'centre: expected the 16 features of the model'),
        ({'axes': torch.zeros(16)}, r'axes: expected the shape \(16, K\)'),
        ({'axes': torch.zeros(16, 3)}, 'environments: expected the shape'),
        ({'environments': torch.full((2, 16), torch.nan)}, 'expected finite numbers'),
        ({'example': torch.zeros(5)}, 'example: expected a plain tensor of int32'),
        ({'example': torch.zeros(1, dtype=torch.int32).expand(7)}, 'example: expected numbers in a row'),
        ({'example': torch.full((7,), 10**6, dtype=torch.int32)}, 'example: expected numbers from 0 to'),
        ({'labels': ['a']}, 'expected'),
        ({'labels': [5]}, 'labels: expected printable words'),
        ({'formulas': ['\x1b[2J']}, 'formulas: expected printable words'),
        ({'unit': 0.0}, 'unit: expected a number above 0'),
        ({'unit': float('nan')}, 'unit: expected a number above 0'),
        ({'growth': {'coefficient': 0.1}}, '`power`, a number, is missing'),
        ({'growth': {'coefficient': -1.0, 'power': 2.0, 'limit': 1.0}}, 'coefficient: expected a number above 0'),
        ({'growth': 5}, 'field `growth`: expected how uncertainties grow'),
    ],
)
def test_a_damaged_set_is_named(folder, tmp_path, changes, message):
    content = load_content(folder / 'told.pt')
    content['reference'] = content['reference'] | changes
    save_atomically(tmp_path / 'odd.pt', content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / 'odd.pt')


@pytest.mark.parametrize('odd', [None, 5, 'yes', [1], {}])
def test_a_set_that_is_something_else_is_named(folder, tmp_path, odd):
    save_atomically(tmp_path / 'odd.pt', load_content(folder / 'told.pt') | {'reference': odd})
    with pytest.raises(CheckpointError, match='field `reference`'):
        load_checkpoint(tmp_path / 'odd.pt')
