"""Numbers on the command line of ``e3relax`` that cannot be are refused in one line, before anything is computed."""

import pytest
import torch
from ase.build import bulk

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.data.splits import check_fractions
from aiida_e3relax.gnn.device import set_threads
from aiida_e3relax.gnn.prediction.relaxer import relax
from aiida_e3relax.gnn.prediction.settings import PotentialSettings, PredictionSettings
from aiida_e3relax.gnn.training.config import read_config
from tests.gnn.pairs import made_pairs

PREDICT = 'predict in.npz --output out.npz'


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (f'{PREDICT} --threads 0', '--threads: expected a whole number from 1 to 4096'),
        (f'{PREDICT} --threads 99999', '--threads: expected a whole number from 1 to 4096'),
        (f'{PREDICT} --max-edges 0', '--max-edges: expected a whole number from 1 on'),
        (f'{PREDICT} --max-edges -5', '--max-edges: expected a whole number from 1 on'),
        (f'{PREDICT} --potential chgnet --candidates 2 --seed -1', '--seed: expected a whole number from 0'),
        ('evaluate pairs.npz --threads -1', '--threads: expected a whole number from 1 to 4096'),
        ('potentials check chgnet --threads 0', '--threads: expected a whole number from 1 to 4096'),
        ('benchmark pairs.npz --threads 0', '--threads: expected a whole number from 1 to 4096'),
        ('benchmark pairs.npz --jobs 0', '--jobs: expected a whole number from 1 to 4096'),
        ('data pairs.npz --output out.npz --seed -1', '--seed: expected a whole number from 0'),
        ('denoise pairs.npz --output out.npz --seed -1', '--seed: expected a whole number from 0'),
        ('distil pairs.npz --output out.npz --list --seed 1.5', '--seed: expected a whole number from 0'),
        ('train run.yaml --stop-after 0', '--stop-after: expected a whole number from 1 on'),
        ('finetune default run.yaml --stop-after -1', '--stop-after: expected a whole number from 1 on'),
    ],
)
def test_options_that_are_no_number_of_their_kind(words, told, capsys):
    with pytest.raises(SystemExit, match='2'):
        main(words.split())
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ('options', 'told'),
    [
        (['--freedom', ''], '--freedom: expected positions'),
        (['--potential', 'chgnet', '--candidates', '1000000000'], '`candidates`: expected an integer from 0 to 1000'),
        (['--potential', 'chgnet', '--steps', '1000000000'], '`steps`: expected an integer from 0 to 100000'),
        (
            ['--second-opinion', 'chgnet', '--second-opinion-steps', '1000000000'],
            '--second-opinion: `steps`: expected an integer from 0 to 100000',
        ),
    ],
)
def test_what_a_prediction_cannot_be_told(options, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*PREDICT.split(), *options]) == 3
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_python_is_told_as_well():
    threads = torch.get_num_threads()
    for number in (0, 99_999):
        with pytest.raises(InputError, match='threads: expected a number above 0, up to 4096'):
            set_threads(number)
    assert torch.get_num_threads() == threads
    with pytest.raises(ValueError, match='`max_edges`: expected a number above 0, found -5'):
        PredictionSettings(max_edges=-5)
    with pytest.raises(ValueError, match="expected positions, cell, shape, volume or in-plane, found ''"):
        relax(bulk('Si'), freedom='', device='cpu')
    with pytest.raises(ValueError, match='`steps`, `candidates`: dls-volume scales crystals once'):
        PotentialSettings('dls-volume', steps=3, candidates=2)


@pytest.mark.parametrize('fractions', [(float('nan'), 0.5, 0.5), (2.0, -0.5, -0.5), (0.5, 0.5), (0.5, 0.5, 0.1)])
def test_fractions_that_are_none(fractions):
    with pytest.raises(InputError, match='that sum to 1'):
        check_fractions(fractions)


@pytest.mark.parametrize(
    ('line', 'told'),
    [
        ('gradient_clip: 0', 'gradient_clip: expected a number above 0, found 0'),
        ('training_share: 0', 'training_share: expected a number above 0, up to 1, found 0'),
        ('training_share: 1.5', 'training_share: expected a number above 0, up to 1, found 1.5'),
        ('plateau_factor: 0', 'plateau_factor: expected a number above 0, up to 1, found 0'),
    ],
)
def test_settings_by_which_nothing_is_learnt(line, told, tmp_path):
    (tmp_path / 'run.yaml').write_text(f'data: a.npz\noutput: run\n{line}\n')
    with pytest.raises(InputError, match=told):
        read_config(tmp_path / 'run.yaml', [])


def test_a_share_that_is_too_small_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / 'pairs.npz', made_pairs())
    (tmp_path / 'run.yaml').write_text('{data: pairs.npz, output: run, steps: 2, batch_size: 2, training_share: 1e-6}')
    assert main(['train', 'run.yaml', '--device', 'cpu']) == 1
    assert 'raise training_share, which is 1e-06, or make a split' in capsys.readouterr().err


def test_pairs_and_models_are_taken_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ('pairs.npz', 'copy.npz'):
        write_pairs(tmp_path / name, made_pairs())
    (tmp_path / 'run.yaml').write_text('{data: [pairs.npz, copy.npz], output: run, steps: 2}')
    for words, told in (
        ('evaluate pairs.npz ./pairs.npz', 'pairs.npz: holds the same pairs as pairs.npz'),
        ('evaluate pairs.npz copy.npz', 'copy.npz: holds the same pairs as pairs.npz'),
        ('train run.yaml', 'copy.npz: holds the same pairs as pairs.npz'),
        ('denoise pairs.npz copy.npz --output new.npz', 'copy.npz: holds the same pairs as pairs.npz'),
        ('distil pairs.npz copy.npz --output new.npz --teacher chgnet', 'copy.npz: holds the same pairs as pairs.npz'),
        ('ensemble default --output new.pt --calibrate pairs.npz copy.npz', 'copy.npz: holds the same pairs'),
        ('evaluate pairs.npz --model default default', 'default.pt stands there twice: leave one out'),
    ):
        device = [] if words.startswith('denoise') else ['--device', 'cpu']
        assert main([*words.split(), *device]) == 3
        message = capsys.readouterr().err
        assert told in message
        assert ('oversampling' in message) == words.startswith('train')
    assert not any((tmp_path / name).exists() for name in ('new.pt', 'new.npz', 'run'))


def test_words_of_an_experiment_may_come_after_its_options(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / 'pairs.npz', made_pairs())
    options = ['--output', 'swept', '--seeds', '1', '--prepare']
    assert main(['sweep', 'pairs.npz', *options, 'features=8,16']) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    for words in (['sweep', 'pairs.npz', *options, '--wrong'], ['predict', 'a.cif', '--output', 'b.cif', 'c.cif']):
        with pytest.raises(SystemExit, match='2'):
            main(words)
        assert f'unrecognized arguments: {words[-1]}' in capsys.readouterr().err


def test_a_run_that_stops_before_its_first_validation_has_no_best(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / 'pairs.npz', made_pairs())
    (tmp_path / 'run.yaml').write_text(
        '{data: pairs.npz, output: run, steps: 4, batch_size: 2, hyperparameters: {features: 8, layers: 1}}'
    )
    assert main(['train', 'run.yaml', '--device', 'cpu', '--stop-after', '1']) == 0
    assert 'best validation: loss none yet' in capsys.readouterr().err
