import dataclasses
import json

import pytest

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.training.config import read_config
from aiida_e3relax.gnn.training.settings import PRESETS, TrainingSettings, loss_settings, read_settings

PLACES = 'data: pairs.npz\noutput: run\n'


def config(tmp_path, text, *changes):
    path = tmp_path / 'run.yaml'
    path.write_text(PLACES + text)
    return read_config(path, list(changes))


def test_file_and_changes_make_the_settings(tmp_path):
    read = config(tmp_path, 'steps: 7\nhyperparameters: {features: 8}\n', 'layers=1', 'learning_rate=1e-4')
    assert ([str(path) for path in read.data], str(read.output)) == (['pairs.npz'], 'run')
    assert (read.settings.steps, read.settings.learning_rate) == (7, 1e-4)
    assert read.settings.hyperparameters == {'features': 8, 'layers': 1}


def test_json_is_read_as_well(tmp_path):
    path = tmp_path / 'run.json'
    path.write_text(json.dumps({'data': ['a.npz', 'b.npz'], 'output': 'run', 'steps': 7}))
    assert read_config(path, ['output=other']).settings == TrainingSettings(steps=7)


@pytest.mark.parametrize('text', ['1e-3', '1E-3', '1.0e-3', '0.001'])
def test_every_way_to_write_a_number_is_one(tmp_path, text):
    assert config(tmp_path, f'learning_rate: {text}').settings.learning_rate == 1e-3


def test_preset_fills_what_the_file_leaves_out(tmp_path):
    settings = config(tmp_path, 'preset: papers\nbatch_size: 16').settings
    assert (settings.schedule, settings.early_stop, settings.amsgrad, settings.batch_size) == ('plateau', 11, True, 16)
    assert (settings.loss, settings.align_targets, settings.ema_warmup) == ('pacd', False, 4000)


def test_settings_of_an_earlier_release_mean_what_they_meant():
    """Their files lack the names of what came later."""
    later = {'loss', 'layer_weights', 'align_targets', 'ema_warmup', 'plateau_threshold'}
    stated = {name: value for name, value in dataclasses.asdict(TrainingSettings()).items() if name not in later}
    settings = read_settings(stated, 'settings.json')
    assert (settings.loss, settings.layer_weights, settings.align_targets) == ('fractional', None, True)
    assert (settings.ema_warmup, settings.plateau_threshold) == (None, 0.0)


@pytest.mark.parametrize(
    ('text', 'weights'),
    [
        ('', None),
        ('layer_weights: last', (0.0, 0.0, 1.0)),
        ('layer_weights: [0, 0.5, 1e0]', (0.0, 0.5, 1.0)),
        ('layer_weights: [1, 2]\nhyperparameters: {layers: 2}', (1.0, 2.0)),
        ('layer_weights: [1, 2, 3, 4]\narchitecture: e3relax-h2-published', (1.0, 2.0, 3.0, 4.0)),
        ('layer_weights: [2]\narchitecture: painn', (2.0,)),
        ('layer_weights: last\narchitecture: egnn', (1.0,)),
    ],
)
def test_layers_have_weights(tmp_path, text, weights):
    assert loss_settings(config(tmp_path, text).settings, '').layer_weights == weights


@pytest.mark.parametrize('preset', PRESETS)
def test_presets_are_settings(preset):
    read_settings({}, 'preset', preset)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('learning_rte: 1', "run.yaml: unknown setting 'learning_rte': did you mean 'learning_rate'"),
        ('learning_rate: fast', "learning_rate: expected a number, found the text 'fast'"),
        ('steps: 10.5', 'steps: expected a whole number, found 10.5'),
        ('steps: true', 'steps: expected a whole number, found True'),
        ('steps: 0', 'steps: expected a number at least 1, found 0'),
        ('ema_decay: 1.5', 'ema_decay: expected a number from 0 to 1, found 1.5'),
        ('early_stop: soon', "early_stop: expected a whole number or null, found the text 'soon'"),
        ('schedule: onecycle', "schedule: unknown choice 'onecycle': did you mean 'one-cycle'"),
        ('architecture: e3relax-h3', "architecture: unknown choice 'e3relax-h3': did you mean 'e3relax-h2'"),
        ('preset: paper', "unknown preset 'paper': did you mean 'papers'"),
        ('oversampling: {a: 0}', 'oversampling: a: expected a whole number from 1 to 100000, found 0'),
        ('oversampling: {a: 1.5}', 'oversampling: a: expected a whole number from 1 to 100000, found 1.5'),
        ('features: 8', 'features is a size of e3relax-h2: write it below `hyperparameters:`'),
        ('hyperparameters: {featurs: 8}', "hyperparameters: unknown setting 'featurs': did you mean 'features'"),
        ('hyperparameters: {features: wide}', "features: expected a whole number, found the text 'wide'"),
        ('hyperparameters: 8', 'hyperparameters: expected names and values, found 8'),
        ('augmentation: {copy: 2}', "augmentation: unknown setting 'copy': did you mean 'copies'"),
        ('augmentation: 2', 'augmentation: expected names and values, found 2'),
        ('steps: [', 'it is not YAML in line 3'),
        ('steps: 1\n---\nsteps: 2', 'it is not YAML in line 4: but found another document'),
        ('\tsteps: 1', "it is not YAML in line 3: found character '\\t' that cannot start any token"),
        ('steps: 1\nsteps: 2', "'steps' stands there twice"),
        ('augmentation: {copies: 1, copies: 2}', "'copies' stands there twice"),
        ('steps: ' + '[' * 5000, 'lists or names lie too deep in each other'),
        ('steps: 2026-13-45', 'month must be in 1..12'),
        ('? [a]\n: b', 'found unhashable key'),
        ('seed: !!python/name:os.system x', 'could not determine a constructor'),
        ('learning_rate: .nan', 'learning_rate: expected a finite number, found nan'),
        ('learning_rate: .inf', 'learning_rate: expected a finite number, found inf'),
        ('seed: -1', 'seed: expected a number from 0 to'),
        ('hyperparameters: {features: 0}', 'features: expected a number above 0, up to 100000, found 0'),
        ('hyperparameters: {features: 1000000000}', 'features: expected a number above 0, up to 100000, found 1000'),
        ('hyperparameters: {cutoff: -1}', 'cutoff: expected a number above 0, up to 100000, found -1'),
        ('augmentation: {copies: -1}', 'copies: expected a number from 0 to 1000, found -1'),
        ('augmentation: {strain: 5}', 'strain: expected a number from 0 to 0.15, found 5'),
        ('a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nsteps: [*c, *c]', "unknown setting 'a'"),
        ('#' * 2**20, 'expected a file of some lines'),
        ('loss: pacdl', "loss: unknown choice 'pacdl': did you mean 'pacd'"),
        ('layer_weights: 1', 'layer_weights: expected a list or a word or null, found 1'),
        ('layer_weights: first', 'layer_weights: expected a list of 3 numbers, one for each layer of e3relax-h2, or'),
        ('layer_weights: [1, 1]', 'or the word last, found [1, 1], which has 2'),
        ('layer_weights: [1, 1, 1]\narchitecture: egnn', 'expected a list of one number of egnn, or the word last'),
        ('layer_weights: [1, -1, 1]', 'layer_weights: layer 2: expected a number that is at least 0, found -1'),
        ('layer_weights: [1, true, 1]', 'layer_weights: layer 2: expected a number that is at least 0, found True'),
        ('layer_weights: [1, .nan, 1]', 'layer_weights: layer 2: expected a number that is at least 0, found nan'),
        ('layer_weights: [1, 1, 0]', 'layer_weights: layer 3 is the prediction: expected a number above 0, found 0'),
        ('layer_weights: last\narchitecture: deeprelax', 'deeprelax has a loss of its own, which is not one of layers'),
        ('symmetric_targets: true\nalign_targets: false', 'symmetric_targets are aligned with the unrelaxed crystals'),
        ('ema_warmup: -1', 'ema_warmup: expected a number at least 0, found -1'),
        ('layer_weights: [' + '1, ' * 10000 + '1]', 'which has 10001'),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(InputError) as caught:
        config(tmp_path, text)
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ('change', 'message'),
    [('data=[]', r'data: expected training files .*found \[\]'), ('output=null', 'output: .* folder .*found None')],
)
def test_places_are_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        config(tmp_path, '', change)


def test_aliases_that_multiply_are_not_written_out(tmp_path):
    """A list of 2^60 words by a few lines of aliases."""
    path = tmp_path / 'run.yaml'
    lines = ['a0: &a0 [x, x]', *(f'a{k}: &a{k} [*a{k - 1}, *a{k - 1}]' for k in range(1, 60))]
    path.write_text('\n'.join([*lines, 'data: *a59', 'output: run']))
    with pytest.raises(InputError, match='it stands for more than 100,000 values'):
        read_config(path, [])


def test_misspelt_change_gets_a_suggestion(tmp_path):
    with pytest.raises(InputError, match="--set: unknown setting 'featurs': did you mean 'features'"):
        config(tmp_path, '', 'featurs=8')


def test_change_without_a_value_is_refused(tmp_path):
    with pytest.raises(InputError, match='--set steps: expected NAME=VALUE'):
        config(tmp_path, '', 'steps')


def test_command_ends_with_the_message(tmp_path, capsys):
    assert main(['train', str(tmp_path / 'absent.yaml')]) == InputError.exit_status
    assert 'absent.yaml: cannot be read as YAML or JSON' in capsys.readouterr().err
