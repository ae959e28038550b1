"""Training as a job of AiiDA: what comes out, what continues, and how mistakes end."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from aiida import orm
from aiida.common.exceptions import ValidationError
from aiida.common.links import LinkType
from aiida.engine import run_get_node

from aiida_e3relax.calculations.train import E3RelaxTrainCalculation
from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.data.pairs import E3RelaxPairsData
from aiida_e3relax.gnn.training.run import train
from aiida_e3relax.gnn.training.settings import read_settings
from aiida_e3relax.parsers.train import find_campaign, read_log
from aiida_e3relax.workflows.training.base import E3RelaxTrainBaseWorkChain
from tests.gnn.pairs import made_pairs

EXIT_CODES = E3RelaxTrainCalculation.exit_codes
PROGRAM = Path(sys.executable).with_name('e3relax')
SETTINGS = {'steps': 6, 'batch_size': 4, 'validate_every': 2, 'hyperparameters': {'features': 8, 'layers': 1}}
STOPPED_ONCE = f"""
if mkdir {{mark}} 2> /dev/null; then
    {PROGRAM} "$@" & pid=$!
    while kill -0 $pid && [ ! -e run/*/last.pt ]; do sleep 0.05; done
    kill -{{signal}} $pid; wait $pid; exit
fi
e3relax "$@"
"""
"""The program, which is ended by a signal the first time, once it has saved a state."""


@pytest.fixture(scope='module')
def pairs() -> E3RelaxPairsData:
    """A node of pairs."""
    return E3RelaxPairsData.from_pairs(made_pairs()).store()


@pytest.fixture
def run(make_code, find_program, tmp_path, pairs):
    """A factory of runs of the work chain, with the program or a few lines of shell as the code."""

    def run_base(lines: str = 'e3relax "$@"', settings: dict = SETTINGS, also: dict | None = None, **parameters):
        path = tmp_path / 'program.sh'
        path.write_text(f'#!/bin/bash\nPATH={find_program("e3relax").parent}:$PATH\n{lines}\n')
        path.chmod(0o755)
        inputs = {
            'code': make_code(path, f'train-{tmp_path.name}', 'e3relax.train'),
            'pairs': {'made': pairs},
            'parameters': {'device': 'cpu', 'threads': 1, 'settings': settings, **parameters},
            **(also or {}),
        }
        return run_get_node(E3RelaxTrainBaseWorkChain, train=inputs)[1]

    return run_base


@pytest.mark.usefixtures('aiida_profile')
@pytest.mark.parametrize(
    ('label', 'value', 'found'),
    [
        ('E3RelaxFinetuneWorkChain', {'name': 'mine'}, 'mine'),
        ('E3RelaxFinetuneWorkChain', 'mine', None),
        ('OtherWorkChain', {'name': 'mine'}, None),
        ('OtherWorkChain', 'mine', None),
    ],
)
def test_the_campaign_of_a_job_is_that_of_its_round(label, value, found):
    """Not what another work chain around it has by that name."""
    settings = orm.to_aiida_type(value).store()
    caller = orm.WorkChainNode()
    caller.base.attributes.set('process_label', label)
    caller.base.links.add_incoming(settings, LinkType.INPUT_WORK, 'campaign')
    job = orm.CalcJobNode()
    job.base.links.add_incoming(caller.store(), LinkType.CALL_CALC, 'train')
    assert find_campaign(job) == (found and {'uuid': settings.uuid, 'name': found})


@pytest.mark.usefixtures('aiida_profile')
class TestTraining:
    def test_a_model_comes_out_and_can_be_tuned(self, run, pairs):
        node = run(name='small')
        assert node.is_finished_ok, node.exit_message
        model = node.outputs.model
        assert model.name == 'small'
        (job,) = node.called
        assert model.card['made_of'] == {
            'process': job.uuid,
            'pairs': {'made': {'uuid': pairs.uuid, 'content_hash': pairs.content_hash}},
        }
        curves = node.outputs.curves
        assert curves.get_array('step').tolist() == [2, 4, 6]
        assert curves.get_array('val_coordinates_A').min() == pytest.approx(
            model.card['training']['validation_coordinates_A'], rel=1e-4
        )
        report = node.outputs.report.get_dict()
        assert (report['step'], report['is_complete'], report['device']) == (6, True, 'cpu')

        tuned = run(settings={'steps': 2, 'batch_size': 4, 'validate_every': 1}, also={'model': model}, name='tuned')
        assert tuned.is_finished_ok, tuned.exit_message
        card = tuned.outputs.model.card
        assert card['made_of']['model'] == {'uuid': model.uuid, 'content_hash': model.content_hash}
        assert card['training']['tuned_from']['content_hash'] == model.content_hash
        assert card['training']['settings']['learning_rate'] == 2e-4  # of the preset for tuning

    @pytest.mark.parametrize('signal', ['TERM', pytest.param('KILL', marks=pytest.mark.slow)])
    def test_a_run_that_is_ended_goes_on_and_ends_as_one_that_was_not(self, run, tmp_path, signal):
        settings = SETTINGS | {'steps': 60}
        node = run(STOPPED_ONCE.format(mark=tmp_path / 'mark', signal=signal), settings)
        assert node.is_finished_ok, node.exit_message
        first, second = sorted(node.called, key=lambda job: job.pk)
        ended = EXIT_CODES.ERROR_INTERRUPTED if signal == 'TERM' else EXIT_CODES.ERROR_OUT_OF_MEMORY  # `Killed`
        assert first.exit_status == ended.status
        assert second.inputs.parent_folder == first.outputs.remote_folder
        assert first.outputs.model.card['training']['step'] <= first.outputs.curves.get_array('step')[-1]
        assert node.outputs.curves.get_array('step').tolist() == list(range(2, 61, 2))
        assert 'step 1 ' not in second.outputs.retrieved.base.repository.get_object_content('e3relax.err')

        train(made_pairs(), read_settings(settings, 'settings'), tmp_path / 'whole', torch.device('cpu'))
        for name, values in read_log(tmp_path / 'whole' / 'log.csv').items():
            np.testing.assert_array_equal(node.outputs.curves.get_array(name), values)

    def test_a_run_that_makes_no_progress_is_given_up(self, run):
        node = run('echo "bus error" >&2; exit 1')
        assert node.exit_status == EXIT_CODES.ERROR_PROGRAM_CRASHED.status
        assert 'bus error' in node.exit_message
        assert len(node.called) == 2
        assert 'retrieved' in node.outputs  # what there is of a run that was given up
        assert 'model' not in node.outputs

    @pytest.mark.parametrize(
        ('settings', 'name', 'told'),
        [
            (SETTINGS | {'hyperparameters': {'featurs': 8}}, 'ERROR_BAD_INPUT', 'featurs'),
            (SETTINGS | {'batch_size': 4000}, 'ERROR_TRAINING_FAILED', 'lower batch_size'),
        ],
    )
    def test_mistakes_of_settings_end_at_once_with_what_to_do(self, run, settings, name, told):
        node = run(settings=settings)
        assert node.exit_status == EXIT_CODES[name].status
        assert told in node.exit_message
        assert len(node.called) == 1


@pytest.mark.usefixtures('aiida_profile')
class TestRefused:
    @pytest.mark.parametrize(
        ('parameters', 'told'),
        [
            ({'settings': {'stepz': 3}}, "unknown setting 'stepz'"),
            ({'settings': {'steps': 0}}, 'steps'),
            ({'settings': {'preset': 'long'}}, "unknown preset 'long'"),
            ({'settings': {'output': 'mine'}}, 'the job sets it'),
            ({'device': 'gpu'}, 'expected auto, cpu, cuda'),
            ({'name': '../mine'}, '`name`: expected letters'),
            ({'steps': 3}, "unknown setting 'steps'"),
        ],
    )
    def test_parameters(self, run, parameters, told):
        with pytest.raises(ValueError, match=told):
            run(**{'settings': SETTINGS, **parameters})

    def test_the_architecture_of_a_model_that_is_tuned(self, run, model):
        with pytest.raises(ValueError, match='hyperparameters: expected none beside `model`'):
            run(also={'model': model})

    def test_pairs_without_a_split_to_judge_by(self, run, tmp_path):
        pairs = made_pairs()
        node = E3RelaxPairsData.from_pairs(pairs.of_split('train'))
        with pytest.raises(ValueError, match='none of the split val, found train; make splits with'):
            run(also={'pairs': {'made': node}})
        with pytest.raises(ValueError, match='`pairs`: found none'):
            run(also={'pairs': {}})


@pytest.mark.usefixtures('aiida_profile')
class TestPairsData:
    def test_a_node_is_its_file(self, pairs, tmp_path):
        given = made_pairs()
        again = orm.load_node(pairs.uuid)
        assert len(again) == len(given)
        assert again.splits == {'test': 9, 'train': 36, 'val': 9}
        for read, written in ((again.pairs.unrelaxed, given.unrelaxed), (again.pairs.relaxed, given.relaxed)):
            np.testing.assert_array_equal(read.positions, written.positions)
            np.testing.assert_array_equal(read.cell, written.cell)
        write_pairs(tmp_path / 'same.npz', given)
        found, created = E3RelaxPairsData.get_or_create(tmp_path / 'same.npz')
        assert (found.content_hash, created) == (pairs.content_hash, False)

    def test_what_is_no_training_file_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match='no such file'):
            E3RelaxPairsData(tmp_path / 'nowhere.npz')
        (tmp_path / 'text.npz').write_text('crystals')
        with pytest.raises(ValueError, match=r'text\.npz'):
            E3RelaxPairsData(tmp_path / 'text.npz')

    def test_a_file_that_was_changed_is_not_stored(self, tmp_path):
        write_pairs(tmp_path / 'one.npz', made_pairs())
        node = E3RelaxPairsData(tmp_path / 'one.npz')
        shutil.copy(tmp_path / 'one.npz', tmp_path / 'other.npz')
        with (tmp_path / 'other.npz').open('ab') as handle:
            handle.write(b'more')
        node.base.repository.put_object_from_file(str(tmp_path / 'other.npz'), 'one.npz')
        with pytest.raises(ValidationError, match='expected sha256'):
            node.store()
