"""Commands load what they need and no more: what a heavy import costs, every run costs."""

import json
import subprocess
import sys
from pathlib import Path

import ase.build
import pytest
from ase.io import write

from aiida_e3relax.crystals.structures import write_npz
from benchmarks import start
from tests.gnn.crystals import batch_of

LISTED = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr))
from aiida_e3relax.gnn.cli import main
sys.exit(main(sys.argv[1:]))
"""

NEVER = {
    'aiida',
    'pymatgen',
    'matplotlib',
    'pandas',
    'plotly',
    'e3nn',
    'torch_geometric',
    'spglib',
    'networkx',
    'triton',
    'sklearn',
    'yaml',
}
"""Not even a prediction needs these."""


def packages(folder: Path, *arguments: str, status: int = 0) -> set[str]:
    """The packages that a run of `e3relax` loads."""
    done = subprocess.run(
        [sys.executable, '-c', LISTED, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    ('arguments', 'status'),
    [
        (['--help'], 0),
        (['predict', '--help'], 0),
        (['train', '--help'], 0),
        (['data', '--help'], 0),
        (['benchmark', '--help'], 0),
        (['ablate', '--help'], 0),
        (['sweep', '--help'], 0),
        (['predict', '--no-such-option'], 2),
        (['predict', 'absent.cif', '--output', 'out.cif', '--report', 'report.json'], 3),
        (['predict', 'Cu.npz', '--output', 'out.cif', '--model', 'absent.pt'], 4),
        (['predict', 'Cu.npz', '--output', 'absent/out.cif'], 3),
        (['predict', 'Cu.npz', '--output', 'out.npz', '--freedom', 'all'], 3),
    ],
)
def test_help_and_errors_load_no_torch(tmp_path, arguments, status):
    (tmp_path / 'Cu.npz').write_bytes(b'anything')
    assert not packages(tmp_path, *arguments, status=status) & (NEVER | {'torch', 'scipy', 'ase', 'gemmi'})


PREDICTIONS = {
    'in.npz': {'out.npz'},
    'in.cif': {'out.cif', 'out.npz'},
    'in.vasp': {'out.vasp', 'out.npz'},
    'POSCAR': {'out.npz'},
}

FORKED = """
import json, os, sys
import torch  # which every prediction loads: once for all
for folder, *words in json.loads(sys.argv[1]):
    if not os.fork():
        os.chdir(folder)
        from aiida_e3relax.gnn.cli import main
        status = main(words)
        with open('packages.json', 'w') as listed:
            json.dump(sorted({name.partition('.')[0] for name in sys.modules}), listed)
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0, words
"""


@pytest.fixture(scope='module')
def packages_of_predictions(tmp_path_factory) -> dict[tuple[str, str], set[str]]:
    """The packages that predictions load, by the names of input and output."""
    atoms = ase.build.bulk('NaCl', 'rocksalt', a=5.7)
    folders = {}
    for name, outputs in PREDICTIONS.items():
        for output in outputs:
            folders[name, output] = folder = tmp_path_factory.mktemp('prediction')
            if name == 'in.npz':
                write_npz(folder / name, batch_of(atoms))
            else:
                write(folder / name, atoms, format='cif' if name == 'in.cif' else 'vasp')
    runs = [
        [str(folder), 'predict', name, '--output', output, '--device', 'cpu']
        for (name, output), folder in folders.items()
    ]
    subprocess.run([sys.executable, '-c', FORKED, json.dumps(runs)], check=True)
    assert all((folder / output).exists() for (_, output), folder in folders.items())
    return {files: set(json.loads((folder / 'packages.json').read_text())) for files, folder in folders.items()}


@pytest.mark.parametrize(
    ('name', 'output'), [(name, output) for name, outputs in PREDICTIONS.items() for output in sorted(outputs)]
)
def test_a_prediction_loads_what_its_files_need(packages_of_predictions, name, output):
    found = packages_of_predictions[name, output]
    assert not found & (NEVER | {'scipy'})
    assert found & {'gemmi'} == ({'gemmi'} if name == 'in.cif' else set())


def test_the_benchmark_measures_and_tells_what_is_slow(tmp_path, monkeypatch, capsys):
    quick = start.Command(('python', '-c', 'pass'), bound=60.0)
    monkeypatch.setattr(start, 'COMMANDS', (quick,))
    assert start.main(['--repeats', '1', '--check']) == 0
    assert '| `python -c pass` | ' in capsys.readouterr().out
    monkeypatch.setattr(start, 'COMMANDS', (quick, start.Command(('python', '-c', 'pass'), bound=0.0)))
    assert start.main(['--repeats', '1', '--check']) == 1
    assert 'expected at most 0.0' in capsys.readouterr().err
    assert start.main(['--repeats', '1']) == 0
    with pytest.raises(RuntimeError, match='expected an error, found status 0'):
        start.Command(('python', '-c', 'pass'), fails=True).run(tmp_path)
