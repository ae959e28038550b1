"""Help and mistakes on the command line are answered before anything heavy is imported."""

import subprocess
import sys

import pytest

RUN = """
import sys
from aiida_e3relax.cli import main

try:
    main(sys.argv[1:])
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""
HEAVY = {'aiida', 'ase', 'matplotlib', 'numpy', 'pandas', 'pymatgen', 'rich', 'scipy'}


@pytest.mark.parametrize(
    ('words', 'exit_code', 'output'),
    [
        (['--help'], 0, 'Relax many structures, with and without the network'),
        (['--version'], 0, 'version'),
        (['campaign', '--help'], 0, 'Undo `pause`'),
        (['campaign', 'create', '--help'], 0, 'Protocols: fast'),
        (['relax', '--help'], 0, '[semiconductor|salt|metal]'),
        (['data', '--help'], 0, 'campaign:NAME'),
        (['setup', '--help'], 0, '[emt|ionic|gpaw]'),
        (['show', '--help'], 0, '--plot'),
        (['query', '--help'], 0, 'predictions'),
        (['query', 'chains', '--help'], 0, '--verdict'),
        (['validate', '--help'], 0, '--models MODEL...'),
        (['nonsense'], 2, "No such command 'nonsense'"),
        (['campaign', 'nonsense'], 2, "No such command 'nonsense'"),
        (['relax', '--nonsense'], 2, 'No such option: --nonsense'),
        (['relax', '--overrides', 'nowhere.yaml'], 2, "File 'nowhere.yaml' does not exist"),
    ],
)
def test_what_needs_no_profile_imports_nothing_heavy(words, exit_code, output):
    done = subprocess.run([sys.executable, '-c', RUN, *words], capture_output=True, text=True, check=False)
    assert done.returncode == exit_code, done.stderr
    *message, modules = done.stderr.splitlines()
    assert output in ' '.join([done.stdout, *message])
    assert not HEAVY & {name.split('.')[0] for name in modules.split()}


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['campaign', 'list', '--profile', 'nonsense'], 'No AiiDA profile'),
        (['relax', 'nowhere.cif'], 'nowhere.cif: expected a file that is there'),
        (['campaign', 'create', 'any', '--from', 'nowhere.cif'], '--from nowhere.cif: expected a file'),
    ],
)
def test_a_missing_profile_or_file_is_told_before_nodes_are_loaded(prepared, run_in, tmp_path, words, message):
    script = tmp_path / 'run.py'
    script.write_text(RUN, encoding='utf-8')
    done = run_in(prepared[0], 'python', script, *words)
    assert done.returncode == 1, done.stderr
    *told, modules = done.stderr.splitlines()
    assert message in ' '.join(told)
    assert not {'aiida.orm', 'aiida.engine', 'pymatgen', 'ase', 'numpy'} & set(modules.split())
