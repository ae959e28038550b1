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


@pytest.mark.parametrize(
    ('name', 'needed'),
    [('in.npz', set()), ('in.cif', {'gemmi'}), ('in.vasp', set()), ('POSCAR', set())],
)
@pytest.mark.parametrize('output', ['same', 'out.npz'])
def test_a_prediction_loads_what_its_files_need(tmp_path, name, needed, output):
    atoms = ase.build.bulk('NaCl', 'rocksalt', a=5.7)
    if name == 'in.npz':
        write_npz(tmp_path / name, batch_of(atoms))
    else:
        write(tmp_path / name, atoms, format='cif' if name == 'in.cif' else 'vasp')
    written = f'out{Path(name).suffix}' if output == 'same' and Path(name).suffix else 'out.npz'
    found = packages(tmp_path, 'predict', name, '--output', written, '--device', 'cpu')
    assert not found & (NEVER | {'scipy'})
    assert found & {'gemmi'} == needed
    assert (tmp_path / written).exists()


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
