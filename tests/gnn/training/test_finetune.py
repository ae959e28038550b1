import dataclasses
import json

import numpy as np
import pytest
import torch

from aiida_e3relax.common.errors import InputError, TrainingError
from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.checkpoints.model_card import read_card
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.cli.options import checkpoint_path
from aiida_e3relax.gnn.training.batches import PreparedPairs, validation_errors
from aiida_e3relax.gnn.training.run import train
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


def test_card_says_what_it_was_tuned_from(trained, place):
    assert main(['finetune', str(trained), 'tune.json']) == 0
    training = read_card(place / 'tuned' / 'best.pt')['training']
    start = load_checkpoint(trained)
    assert training['tuned_from'] == {'content_hash': start.content_hash, 'training': start.training}
    assert training['settings']['learning_rate'] == PRESETS['finetune']['learning_rate']
    assert training['settings']['hyperparameters'] == dataclasses.asdict(start.model.hyperparameters)


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
