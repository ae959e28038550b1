"""A run of an experiment that is trained as a job of AiiDA and measured here, as docs/experiments.md says."""

import dataclasses
import json
from pathlib import Path

import pytest
from aiida.engine import run_get_node
from aiida.plugins import DataFactory, WorkflowFactory
from click.testing import CliRunner

from aiida_e3relax.cli.model import model as command_group
from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.experiments.results import read_result
from aiida_e3relax.gnn.experiments.training import trained_elsewhere
from aiida_e3relax.gnn.training.config import read_config
from tests.gnn.experiments.test_experiments import CONFIG, QUICK
from tests.gnn.pairs import made_pairs


@pytest.mark.usefixtures('aiida_profile')
def test_training_of_an_aiida_job_is_measured(tmp_path, monkeypatch, capsys, make_code):
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / 'made.npz', made_pairs(3))
    (tmp_path / 'file.json').write_text(json.dumps(CONFIG))
    command = ['benchmark', 'file.json', '--models', 'painn', *QUICK]
    assert main([*command, '--prepare']) == 0
    run = Path('out/runs/made/painn/seed-0')
    node = _train(run, make_code('e3relax', 'train', 'e3relax.train'))
    report = node.outputs.report.get_dict()
    (run / 'report.json').write_text(json.dumps(report | {'is_complete': False}))
    exported = CliRunner().invoke(command_group, ['export', node.outputs.model.uuid, str(run)])
    assert exported.exit_code == 0, exported.output

    settings = read_config(run / 'run.json', []).settings
    write_pairs(tmp_path / 'other.npz', made_pairs(4))
    with pytest.raises(InputError, match=r'report\.json does not say that it is complete'):
        trained_elsewhere(run, Path('made.npz'), settings)
    (run / 'report.json').write_text(json.dumps(report))
    with pytest.raises(InputError, match=r'its card does not say that it was made of other\.npz alone'):
        trained_elsewhere(run, Path('other.npz'), settings)
    for changes in ({'seed': 1}, {'steps': 5}):
        with pytest.raises(InputError, match=r'it has other settings than run\.json'):
            trained_elsewhere(run, Path('made.npz'), dataclasses.replace(settings, **changes))

    capsys.readouterr()
    assert main(command) == 0
    result = read_result(run)
    assert (result.steps, result.training_s) == (4, None)
    assert result.content_hash == node.outputs.model.content_hash
    assert [session['trained'] for session in result.sessions] == [False]
    assert not (run / 'last.pt').exists()
    assert '| painn | ' in capsys.readouterr().out
    assert main([*command, '--set', 'steps=8']) != 0
    assert 'steps 4 there, 8 here' in capsys.readouterr().err
    assert read_config(run / 'run.json', []).settings.steps == 4


def _train(run: Path, code):
    content = json.loads((run / 'run.json').read_text())
    (file,), _ = content.pop('data'), content.pop('output')
    pairs, _ = DataFactory('e3relax.pairs').get_or_create(file)
    parameters = {'name': 'best', 'device': 'cpu', 'threads': 1, 'settings': content}
    train = {'code': code, 'pairs': {'all': pairs}, 'parameters': parameters}
    node = run_get_node(WorkflowFactory('e3relax.train'), train=train)[1]
    assert node.is_finished_ok, node.exit_message
    return node
