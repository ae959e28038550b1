"""Every row of the table of the network's faults in `docs/faults.md`, with an executable that fails as the row says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ase.build
import pytest
from aiida import orm
from aiida.engine import run_get_node

from aiida_e3relax.crystals.structures import make_crystals, write_npz
from aiida_e3relax.data.model import DEFAULT_CHECKPOINT
from aiida_e3relax.workflows.network.base import SMALLEST_MAX_EDGES, E3RelaxBaseWorkChain
from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain
from tests.workflows.accounting import AccountingScheduler
from tests.workflows.fault_tables import Codes, read_table

ROWS = read_table('Network')
OF_POTENTIAL, OF_BOTH = read_table('Potential'), read_table('Network and potential')
"""Where a potential without a network, and after one, is another matter."""
ALONE = {'potential': 'chgnet', 'start': 'input', 'steps': 1}
AFTER_NETWORK = ALONE | {'start': 'network'}
COPPER = ase.build.bulk('Cu', 'fcc', a=3.615)
LABEL = 'cu'
NO_REPORT = 'rm -f report.json predictions.npz'
REPORT_ERROR = """
echo '{{"schema": 1, "error": {{"code": "{}", "message": "as asked"}}, "structures": []}}' > report.json"""
CHANGE_PREDICTIONS = f"""{sys.executable} - <<END
import numpy as np
arrays = dict(np.load('predictions.npz'))
{{}}
np.savez('predictions.npz', **arrays)
END"""

# What is done to a good run's files, which lie in the working directory already, or in their stead.
FAULTS = {
    'out-of-memory': f'{NO_REPORT}; kill -KILL $$',
    'out-of-memory-job': f'{NO_REPORT}; account OUT_OF_MEMORY',
    'does-not-fit': f"""{NO_REPORT}
echo '{{"schema": 1, "error": {{"code": "out_of_memory", "message": "none of 1 structures fits"}},
       "device": {{"used": "cuda:0"}},
       "structures": [{{"label": "{LABEL}", "status": "out_of_memory", "message": ""}}]}}' > report.json""",
    'no-gpu': REPORT_ERROR.format('no_device'),
    'crash': f'{NO_REPORT}; echo "bus error" >&2; exit 1',
    'lost': f'{NO_REPORT}; kill -KILL $PPID $$',
    'node-failure': f'{NO_REPORT}; account NODE_FAIL',
    'unexpected-error': REPORT_ERROR.format('unexpected'),
    'garbage-report': 'head -c 300 /dev/urandom > report.json',
    'garbage-predictions': 'head -c 3000 /dev/urandom > predictions.npz',
    'empty-predictions': ': > predictions.npz',
    'not-a-number': CHANGE_PREDICTIONS.format("arrays['positions'][:] = np.nan"),
    'wrong-count': CHANGE_PREDICTIONS.format("arrays['n_atoms'] -= 1"),
    'walltime': f'{NO_REPORT}; account TIMEOUT',
    'bad-checkpoint': REPORT_ERROR.format('bad_checkpoint'),
    'missing-package': REPORT_ERROR.format('missing_package'),
}
LIKE_OTHERS = (
    'no-gpu',
    'crash',
    'unexpected-error',
    'garbage-report',
    'empty-predictions',
    'not-a-number',
    'wrong-count',
    'bad-checkpoint',
    'missing-package',
    'out-of-memory',
    'does-not-fit',
    'lost',
)
"""Rows with the same end and the same way there as one that is run, or as a test of the work chain itself; slow."""
ONE_END = 'lost'


@pytest.fixture(scope='module')
def make_good_run(find_program, tmp_path_factory) -> Callable[[dict | None], Path]:
    """A factory of the files of a good run on copper, of the network or of a potential."""
    made: dict[str, Path] = {}

    def make(potential: dict | None) -> Path:
        words = [word for name, value in (potential or {}).items() for word in (f'--{name}', str(value))]
        if not potential or potential['start'] == 'network':
            words += ['--model', str(DEFAULT_CHECKPOINT)]
        if (key := ' '.join(words)) not in made:
            folder = made[key] = tmp_path_factory.mktemp('good')
            crystal = [COPPER.numbers], [COPPER.positions], [COPPER.cell.array]
            write_npz(folder / 'structures.npz', make_crystals(*crystal, labels=[LABEL], pbc=[COPPER.pbc]))
            files = ['--output', 'predictions.npz', '--report', 'report.json', '--device', 'cpu']
            command = [find_program('e3relax'), 'predict', 'structures.npz', *files, *words]
            subprocess.run(command, cwd=folder, check=True)
            (folder / 'structures.npz').unlink()
        return made[key]

    return make


@pytest.fixture
def run_network(make_good_run, model, tmp_path, monkeypatch, entry_points, aiida_computer):
    """Run the network's work chain with a fault, and return it and its jobs in order."""
    entry_points.add(AccountingScheduler, 'aiida.schedulers:tests.accounting')
    accounts = tmp_path / 'accounts'
    monkeypatch.setenv('ACCOUNTS', str(accounts))

    def run(fault: str, once: bool, potential: dict | None = None) -> tuple[orm.WorkChainNode, list[orm.CalcJobNode]]:
        script = tmp_path / 'network.sh'
        guard = f'mkdir {tmp_path / "mark"} 2> /dev/null || exit 0' if once else ''
        account = f'account() {{ echo $1 > {accounts}; }}\naccount COMPLETED'
        script.write_text(f'#!/bin/bash\n{account}\ncp {make_good_run(potential)}/* .\n{guard}\n{FAULTS[fault]}\n')
        script.chmod(0o755)
        computer = aiida_computer(label='accounted', scheduler_type='tests.accounting')
        computer.configure(safe_interval=0)
        code = orm.InstalledCode(computer=computer, filepath_executable=str(script), label='network')
        inputs = {
            'code': code,
            **({} if potential and potential['start'] == 'input' else {'model': model}),
            'structures': {LABEL: orm.StructureData(ase=COPPER)},
            'parameters': {'max_edges': 4 * SMALLEST_MAX_EDGES, **(potential or {})},
        }
        node = run_get_node(E3RelaxBaseWorkChain, predict=inputs)[1]
        return node, sorted(node.called, key=lambda job: job.pk)

    return run


def test_every_fault_is_in_the_table_and_no_other():
    assert set(ROWS) == set(FAULTS)
    assert set(OF_POTENTIAL) < set(ROWS)
    assert set(OF_BOTH) < set(ROWS)


@pytest.mark.parametrize(
    'fault', [pytest.param(name, marks=pytest.mark.slow if name in LIKE_OTHERS else []) for name in ROWS]
)
def test_a_fault_that_happens_once_is_mended_if_it_can(run_network, fault):
    assert_restarts(*run_network(fault, once=True), ROWS[fault])


@pytest.mark.parametrize(
    'fault', [pytest.param(name, marks=[] if name in OF_POTENTIAL else pytest.mark.slow) for name in ROWS]
)
def test_so_it_is_of_a_potential_alone(run_network, fault):
    pytest.importorskip('chgnet')
    assert_restarts(*run_network(fault, once=True, potential=ALONE), (ROWS | OF_POTENTIAL)[fault])


@pytest.mark.parametrize(
    'fault', [pytest.param(name, marks=[] if name in OF_BOTH else pytest.mark.slow) for name in ROWS]
)
def test_so_it_is_of_a_potential_after_the_network(run_network, fault):
    pytest.importorskip('chgnet')
    assert_restarts(*run_network(fault, once=True, potential=AFTER_NETWORK), (ROWS | OF_BOTH)[fault])


def assert_restarts(node, jobs, row):
    codes, change = Codes.parse(row[0]), row[2]
    assert ([job.exit_status for job in jobs], node.exit_status) == (codes.jobs, codes.end)
    parameters = [job.inputs.parameters.get_dict() for job in jobs]
    if change.startswith('nothing'):
        assert parameters[0] == parameters[1]
    elif change == 'the CPU':
        assert parameters[1] == parameters[0] | {'device': 'cpu'}
    elif change.startswith('the smallest'):
        assert parameters[1] == parameters[0] | {'max_edges': SMALLEST_MAX_EDGES}
    elif not change.startswith('no restart'):
        assert parameters[1] == parameters[0] | {'max_edges': 2 * SMALLEST_MAX_EDGES}


@pytest.mark.parametrize(
    'fault', [pytest.param(name, marks=[] if name == ONE_END else pytest.mark.slow) for name in ROWS]
)
def test_a_fault_that_happens_every_time_is_an_error(run_network, fault):
    codes = Codes.parse(ROWS[fault][1])
    node, jobs = run_network(fault, once=False)
    assert ([job.exit_status for job in jobs], node.exit_status) == (codes.jobs, codes.end)


@pytest.mark.slow
@pytest.mark.parametrize('fault', ROWS)
@pytest.mark.parametrize(('potential', 'own'), [(ALONE, OF_POTENTIAL), (AFTER_NETWORK, OF_BOTH)])
def test_so_it_is_of_a_potential_every_time(run_network, potential, own, fault):
    pytest.importorskip('chgnet')
    codes = Codes.parse((ROWS | own)[fault][1])
    node, jobs = run_network(fault, once=False, potential=potential)
    assert ([job.exit_status for job in jobs], node.exit_status) == (codes.jobs, codes.end)


def test_a_network_that_fails_for_good_ends_the_chain_if_that_is_asked_for(make_builder, make_scripted_code):
    code = make_scripted_code('exit 1', 'e3relax', 'e3relax.predict')
    builder = make_builder(network_code=code, overrides={'on_network_failure': 'error'})
    results, chain = run_get_node(builder)
    assert chain.exit_status == E3RelaxVaspWorkChain.exit_codes.ERROR_NETWORK_FAILED.status
    assert 'The network failed with exit code 330' in chain.exit_message
    assert 'structure' not in results
    assert [called.process_label for called in chain.called if isinstance(called, orm.WorkChainNode)] == [
        'E3RelaxBaseWorkChain'
    ]


def test_another_word_for_what_to_do_is_refused(make_builder):
    with pytest.raises(ValueError, match='expected `raw` or `error`, found `stop`'):
        make_builder(overrides={'on_network_failure': 'stop'})
