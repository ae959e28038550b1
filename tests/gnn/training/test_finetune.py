import csv
import dataclasses
import json

import numpy as np
import pytest
import torch

from aiida_e3relax.common.errors import InputError, TrainingError
from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.checkpoints.model_card import hash_file, read_card, write_card
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.cli.options import checkpoint_path
from aiida_e3relax.gnn.data.splits import chemical_systems
from aiida_e3relax.gnn.evaluation.evaluate import measure
from aiida_e3relax.gnn.training.batches import PreparedPairs, validation_errors
from aiida_e3relax.gnn.training.ensembles import combine
from aiida_e3relax.gnn.training.finetune import fit_batches
from aiida_e3relax.gnn.training.reference_sets import add_reference_set
from aiida_e3relax.gnn.training.run import TrainingRun, train
from aiida_e3relax.gnn.training.settings import PRESETS, TrainingSettings
from tests.gnn.pairs import made_pairs

CPU = torch.device('cpu')
SIZES = {'features': 8, 'layers': 1}
GALLIUM = 31


def without(pairs, number):
    """Return the pairs that do not hold the element."""
    has = np.zeros(len(pairs), dtype=bool)
    has[pairs.unrelaxed.structure_index[pairs.unrelaxed.numbers == number]] = True
    return pairs.select(np.flatnonzero(~has))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained')
    settings = TrainingSettings(hyperparameters=SIZES, steps=4, batch_size=8, validate_every=4, learning_rate=5e-3)
    train(without(made_pairs(), GALLIUM), settings, folder, CPU)
    return folder / 'best.pt'


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with data and a configuration, to work in."""
    monkeypatch.chdir(tmp_path)
    write_pairs('all.npz', made_pairs())
    write_pairs('known.npz', without(made_pairs(), GALLIUM))
    config = {'data': 'known.npz', 'output': 'tuned', 'steps': 4, 'batch_size': 8, 'validate_every': 2}
    (tmp_path / 'tune.json').write_text(json.dumps(config))
    return tmp_path


def test_starts_where_the_checkpoint_ended(trained, place):
    assert main(['finetune', str(trained), 'tune.json', '--set=learning_rate=0', '--set=steps=1']) == 0
    tuned, start = load_checkpoint('tuned/best.pt').model, load_checkpoint(trained).model
    pairs = PreparedPairs(made_pairs().of_split('val'), start, CPU)
    assert validation_errors(tuned, pairs).tolist() == validation_errors(start, pairs).tolist()


def test_start_stays_the_best_where_no_step_is_better(trained, place, capsys):
    assert main(['finetune', str(trained), 'tune.json', '--set=learning_rate=1', '--set=ema_decay=0']) == 0
    with (place / 'tuned' / 'log.csv').open(newline='') as handle:
        start, *steps = list(csv.DictReader(handle))
    assert [row['step'] for row in (start, *steps)] == ['0', '2', '4']
    assert start['train_cell_A'] == 'nan', 'nothing has been trained on'
    losses = [float(row['val_loss']) for row in (start, *steps)]
    assert losses[0] < min(losses[1:])
    assert f'loss {losses[0]:.4f} A, that of the start, as no step was better' in capsys.readouterr().err
    best = load_checkpoint('tuned/best.pt')
    assert best.training['step'] == 0
    weights = load_checkpoint(trained).model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in best.model.state_dict().items())
    assert main(['finetune', str(trained), 'tune.json', '--set=output=better']) == 0
    assert load_checkpoint('better/best.pt').training['step'] > 0
    assert f'({losses[0]:.4f} A at the start)' in capsys.readouterr().err


def test_start_whose_errors_are_not_finite_is_not_the_best(trained, place, monkeypatch):
    found = iter([[np.nan, 0.1], [3.0, 1.0], [4.0, 1.0]])
    monkeypatch.setattr(TrainingRun, '_validation_errors', lambda _: next(found))
    assert main(['finetune', str(trained), 'tune.json', '--stop-after=1']) == 0
    assert not (place / 'tuned' / 'best.pt').exists()
    assert main(['finetune', str(trained), 'tune.json']) == 0
    assert load_checkpoint('tuned/best.pt').training['step'] == 2


def test_card_says_what_it_was_tuned_from(trained, place):
    assert main(['finetune', str(trained), 'tune.json']) == 0
    training = read_card(place / 'tuned' / 'best.pt')['training']
    start = load_checkpoint(trained)
    assert training['tuned_from'] == {'content_hash': start.content_hash, 'training': start.training}
    assert training['settings']['learning_rate'] == PRESETS['finetune']['learning_rate']
    assert training['settings']['hyperparameters'] == dataclasses.asdict(start.model.hyperparameters)


@pytest.fixture(scope='module')
def ensemble(tmp_path_factory):
    """Two networks of eight features with environments of their training, and a card."""
    folder = tmp_path_factory.mktemp('ensemble')
    for seed in (1, 2):
        settings = TrainingSettings(hyperparameters=SIZES, steps=2, batch_size=8, validate_every=2, seed=seed)
        train(made_pairs(), settings, folder / str(seed), CPU)
    path = folder / 'both.pt'
    combine([folder / '1' / 'best.pt', folder / '2' / 'best.pt'], path)
    about = {'licence': 'CC-BY-4.0', 'doi': '10.1000/182', 'citation': 'Someone', 'limits': ['Metals only.']}
    write_card(path, {**read_card(path), **about})
    add_reference_set(path, made_pairs().of_split('train'), CPU)
    return path


def test_licence_and_limits_stay_and_what_does_not_is_told(ensemble, place):
    assert main(['finetune', str(ensemble), 'tune.json', '--set=data=all.npz']) == 0
    assert load_checkpoint('tuned/best.pt').reference is None
    card = read_card(place / 'tuned' / 'best.pt')
    told = {name: card[name] for name in ('licence', 'doi', 'citation', 'limits', 'limits_of')}
    about = {'licence': 'CC-BY-4.0', 'doi': '10.1000/182', 'citation': 'Someone', 'limits': ['Metals only.']}
    assert told == {**about, 'limits_of': 'both'}
    assert card['training']['tuned_from']['reference_is_kept'] is False
    assert main(['finetune', 'tuned/best.pt', 'tune.json', '--set=data=all.npz', '--set=output=again']) == 0
    assert read_card(place / 'again' / 'best.pt')['limits_of'] == 'both'


def test_uncertainty_of_a_tuned_ensemble_is_scaled_to_its_errors(ensemble, place, capsys):
    pairs = made_pairs(copies=7)
    pairs = dataclasses.replace(pairs, split=np.resize(['train', 'train', 'val'], len(pairs)))
    write_pairs('more.npz', pairs)
    tune = ['finetune', str(ensemble), 'tune.json', '--device', 'cpu']
    assert main([*tune, '--set=data=more.npz', '--set=output=more']) == 0
    tuned = load_checkpoint('more/best.pt')
    (found,) = measure({'tuned': tuned}, pairs.of_split('val'), CPU, with_matches=False, with_dummy=False)[1:]
    assert found.frame == 'aligned'
    assert found.calibration.row()['observed_over_stated_median'] == pytest.approx(1, rel=1e-4)
    assert tuned.training['calibration']['pairs'] == 21
    assert main([*tune, '--set=data=more.npz', '--set=output=more']) == 0  # it has ended
    assert load_checkpoint('more/best.pt').content_hash == tuned.content_hash
    assert main([*tune, '--set=data=all.npz']) == 0
    few = load_checkpoint('tuned/best.pt')
    assert 'calibration' not in few.training
    factor = few.model.hyperparameters.uncertainty_scale
    assert factor == load_checkpoint(ensemble).model.hyperparameters.uncertainty_scale
    told = 'not scaled to errors, for which 10 pairs to validate on are needed that have an uncertainty and an error'
    assert f'warning: uncertainty: {told}' in capsys.readouterr().err
    assert 'calibration' not in read_card('tuned/best.pt')['training']
    assert main([*tune, '--set=data=all.npz', '--set=needs_calibration=true', '--set=output=needs']) == 1
    assert f'{told} of bonds, of 9: give more of them' in capsys.readouterr().err


def test_a_kill_between_the_calibrated_checkpoint_and_its_card_is_mended(ensemble, place, monkeypatch):
    pairs = made_pairs(copies=7)
    write_pairs('more.npz', dataclasses.replace(pairs, split=np.resize(['train', 'train', 'val'], len(pairs))))
    tune = ['finetune', str(ensemble), 'tune.json', '--device', 'cpu', '--set=data=more.npz']

    def be_killed(*_):
        raise RuntimeError('killed')

    with monkeypatch.context() as patched:
        patched.setattr('aiida_e3relax.gnn.training.ensembles.write_card', be_killed)
        with pytest.raises(RuntimeError, match='killed'):
            main(tune)
    assert read_card('tuned/best.pt')['content_hash'] != hash_file(place / 'tuned' / 'best.pt')
    assert main(tune) == 0
    tuned = load_checkpoint('tuned/best.pt')
    assert tuned.training['calibration']['pairs'] == 21
    assert read_card('tuned/best.pt')['training'] == json.loads(json.dumps(tuned.training))
    assert main([*tune, '--set=output=whole']) == 0
    assert read_card('tuned/best.pt') == {**read_card('whole/best.pt'), 'name': 'tuned'}


def test_old_pairs_are_learnt_again_beside_the_new_ones(trained, place, capsys):
    known = without(made_pairs(), GALLIUM)
    old = dataclasses.replace(made_pairs(copies=3), source=np.full(len(made_pairs(copies=3)), 'old'))
    write_pairs('old.npz', old)
    tune = ['finetune', str(trained), 'tune.json', '--new-elements', '--replay', 'old.npz', '--replay-share', '0.5']
    assert main(tune) == 0
    measured = set(chemical_systems(known.select(np.flatnonzero(known.split != 'train'))))
    free = [system not in measured for system in chemical_systems(old.of_split('train'))]
    asked = round(0.5 * len(known.of_split('train')))
    assert f'replay: {min(sum(free), asked)} of {asked} old pairs asked for are learnt again' in capsys.readouterr().err
    assert load_checkpoint('tuned/best.pt').training['data']['old']['train'] == min(sum(free), asked)
    assert main(tune) == 0  # it has ended, with the same pairs
    with pytest.raises(SystemExit):
        main([*tune, '--replay-share', '-1'])
    assert "expected a number from 0 to 100, found '-1'" in capsys.readouterr().err
    assert main(['finetune', str(trained), 'tune.json', '--replay', 'known.npz']) == 3
    assert 'holds the same pairs as known.npz' in capsys.readouterr().err


def test_batches_are_no_larger_than_what_there_is_to_train_on(trained, place):
    tune = ['finetune', str(trained), 'tune.json', '--set=batch_size=4000']
    for _ in range(2):  # and it goes on, or knows that it has ended
        assert main(tune) == 0
    known = without(made_pairs(), GALLIUM).of_split('train')
    assert json.loads((place / 'tuned' / 'settings.json').read_text())['batch_size'] == len(known)
    settings = TrainingSettings(batch_size=32)
    assert [fit_batches(settings, *counts).batch_size for counts in ((40,), (7,), (7, 2), (0,))] == [32, 7, 6, 32]
    tuning = PRESETS['finetune']
    assert (tuning['steps'], tuning['early_stop'] * tuning['validate_every']) == (400, 100)  # it stops by itself


def test_stopped_run_continues(trained, place):
    for arguments in (['--set=output=parts', '--stop-after=2'], ['--set=output=parts'], ['--set=output=whole']):
        assert main(['finetune', str(trained), 'tune.json', *arguments]) == 0
    assert (place / 'parts' / 'log.csv').read_text() == (place / 'whole' / 'log.csv').read_text()


def test_other_start_in_the_same_folder_is_refused(trained, place):
    assert main(['finetune', str(trained), 'tune.json', '--stop-after=2']) == 0
    settings = TrainingSettings(**json.loads((place / 'tuned' / 'settings.json').read_text()))
    settings = dataclasses.replace(settings, augmentation=TrainingSettings().augmentation)
    with pytest.raises(TrainingError, match=r'started from sha256:.*, not from scratch'):
        train(without(made_pairs(), GALLIUM), settings, place / 'tuned', CPU)


def test_new_elements_are_named_and_learnt_only_if_wanted(trained, place, capsys):
    command = ['finetune', str(trained), 'tune.json', '--set=data=all.npz']
    assert main(command) == InputError.exit_status
    assert 'was not trained on Z=31 in 6 pairs' in capsys.readouterr().err
    assert main([*command, '--new-elements']) == 0
    assert GALLIUM in load_checkpoint('tuned/best.pt').elements


def test_another_model_is_refused(trained, place, capsys):
    assert main(['finetune', str(trained), 'tune.json', '--set=features=32']) == InputError.exit_status
    assert 'features: 32, but the checkpoint has 8' in capsys.readouterr().err


def test_default_is_the_checkpoint_that_comes_with_the_package(place, capsys):
    assert checkpoint_path('default') == DEFAULT_CHECKPOINT
    assert main(['finetune', 'default', 'missing.json']) != 0
    assert 'missing.json' in capsys.readouterr().err


@pytest.mark.parametrize(
    'command', [['finetune', 'nothing.pt', 'tune.json'], ['evaluate', 'all.npz', '--model', 'nothing.pt']]
)
def test_a_checkpoint_that_is_not_there_comes_with_what_is_expected(place, capsys, command):
    assert main(command) != 0
    assert 'no such checkpoint file; give one that `e3relax train` wrote, or `default`' in capsys.readouterr().err
