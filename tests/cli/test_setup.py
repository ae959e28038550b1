"""`aiida-e3relax setup` in a fresh profile, in a prepared one, and without any."""

import re
import sys
from pathlib import Path

import pytest

from aiida_e3relax.cli.resources import provide_standin_code

BIN = Path(sys.executable).parent
NAMES = [
    'localhost',
    'e3relax@localhost',
    'network',
    'vasp-standin-emt@localhost',
    'vasp-standin-ionic@localhost',
    'standin-PBE',
]


def states(output: str) -> dict[str, str]:
    """The table's last column by its second one."""
    rows = [[cell.strip() for cell in line.split('│')[1:-1]] for line in output.splitlines() if line.startswith('│')]
    return {name: state for _, name, state in rows}


def test_first_setup_creates_what_is_missing(prepared):
    found = states(prepared[1])
    assert [name for name in NAMES if name not in found] == []
    assert set(found.values()) == {'created'}


def test_second_setup_leaves_everything(prepared, run_in):
    again = run_in(prepared[0], 'aiida-e3relax', 'setup', '--engine', 'emt', '--engine', 'ionic')
    assert again.returncode == 0, again.stderr
    assert set(states(again.stdout).values()) == {'was there'}


def test_the_default_pre_relaxer_is_shown_and_set(prepared, run_in):
    command = ('aiida-e3relax', 'pre-relaxer')
    refused = run_in(prepared[0], *command, 'e3relax@localhost', 'sevenet-0')
    assert refused.returncode == 1
    assert 'did you mean `sevennet-0`?' in refused.stderr
    assert run_in(prepared[0], *command, 'e3relax@localhost', 'chgnet').stdout == 'e3relax@localhost: chgnet\n'
    assert run_in(prepared[0], *command, 'e3relax@localhost', 'network').returncode == 0
    assert run_in(prepared[0], *command).stdout == 'e3relax@localhost: network\n'


def test_codes_run_absolute_paths(prepared, run_in):
    network = run_in(prepared[0], 'verdi', 'code', 'show', 'e3relax@localhost').stdout
    assert re.search(rf'Filepath executable +{BIN}/e3relax\n', network)
    standin = run_in(prepared[0], 'verdi', 'code', 'show', 'vasp-standin-ionic@localhost').stdout
    assert 'export E3RELAX_STANDIN_ENGINE=ionic; export OMP_NUM_THREADS=1' in standin


def test_potentials_cover_the_elements(prepared, run_in):
    listed = run_in(prepared[0], 'aiida-vasp', 'potcar', 'listsymbols', 'standin-PBE').stdout
    assert {'H', 'Cu', 'O', 'As', 'U'} <= set(re.findall(r'^- (\w+)', listed, re.MULTILINE))


def test_code_of_the_same_name_that_runs_something_else(run_in, tmp_path):
    run_in(tmp_path, 'verdi', 'presto', '--non-interactive', '--use-zeromq', '--profile-name', 'other')
    options = ['--label', 'e3relax', '--computer', 'localhost', '--filepath-executable', '/bin/true']
    run_in(tmp_path, 'verdi', 'code', 'create', 'core.code.installed', '--non-interactive', *options)
    setup = run_in(tmp_path, 'aiida-e3relax', 'setup')
    assert setup.returncode == 1
    assert states(setup.stdout) == {'localhost': 'was there'}
    assert f'expected it to run {BIN}/e3relax, found /bin/true' in setup.stderr
    assert 'verdi code relabel e3relax@localhost e3relax-old' in setup.stderr


def test_engine_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, 'gpaw', None)
    with pytest.raises(ValueError, match=r'expected the package gpaw in .*, not found; run `make demo` once'):
        provide_standin_code('gpaw')


def test_no_profile(run_in, tmp_path):
    setup = run_in(tmp_path, 'aiida-e3relax', 'setup')
    assert setup.returncode == 1
    assert 'make one with `verdi presto --use-zeromq`' in setup.stderr.splitlines()[-1]


def test_unknown_profile(prepared, run_in):
    setup = run_in(prepared[0], 'aiida-e3relax', 'setup', '--profile', 'frist-run')
    assert setup.returncode == 1
    assert 'No AiiDA profile `frist-run`: expected one of first-run.' in setup.stderr
