"""The inputs of public bug reports and those made to break, which lie beside the repository: training data and runs."""

import csv
from pathlib import Path

import pytest

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import read_pairs
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.training.config import read_config

CASES = Path(__file__).parents[3] / 'shared' / 'cases'
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason='the cases do not lie beside the repository')

RUNS = {
    '01_truncated_vasprun': {'killed_walltime': 'cut short'},
    '02_stopcar_vasprun': {'stopcar': 'largest force 0.8 eV/A'},
    '03_not_relaxations': {
        'ediffg0': 'EDIFFG = 0',
        'md_nve': 'molecular dynamics',
        'neb/01': 'elastic band',
        'phonon_fd': 'finite differences',
    },
    '04_mlff_relaxation': {'mlff_mixed': 'machine-learned', 'mlff_run': 'machine-learned'},
    '05_vasp4_poscar_contcar': {},
    '06_cif_partial_occupancy': {'lsmo': 'partial occupancies', 'tio': 'partial occupancies'},
    '14_compressed_and_double_relaxation_names': {'run1': 'does not start where'},
    '15_untouched_pair': {'untouched': 'nothing was relaxed'},
}
KEPT = {'05_vasp4_poscar_contcar': ['good', 'vasp4'], '06_cif_partial_occupancy': ['zn']}
KEPT['14_compressed_and_double_relaxation_names'] = ['run2']


@pytest.mark.parametrize('case', RUNS)
def test_folders_of_runs(case, tmp_path):
    source = next(path for name in ('runs', 'papers') if (path := CASES / 'files' / case / name).is_dir())
    output = tmp_path / 'all.npz'
    assert main(['data', str(source), '--output', str(output), '--no-repeats', '--split', 'random']) == 0
    pairs = read_pairs(output)
    assert sorted(pairs.unrelaxed.labels) == KEPT.get(case, ['good'])
    if case.startswith('05'):
        assert set(pairs.unrelaxed.numbers.tolist()) == {31, 33}
    rejected = {}
    if RUNS[case]:
        with output.with_suffix('.rejected.csv').open(newline='') as handle:
            rejected = {row['label']: row['reason'] for row in csv.DictReader(handle)}
    assert rejected.keys() == RUNS[case].keys()
    assert all(RUNS[case][label] in reason for label, reason in rejected.items())


def test_a_source_without_a_usable_pair(tmp_path, capsys):
    source = CASES / 'files' / '13_scf_not_converged_at_the_end' / 'runs'
    assert main(['data', str(source), '--output', str(tmp_path / 'all.npz')]) == 3
    assert '60 electronic steps, which is NELM' in capsys.readouterr().err


@pytest.mark.parametrize(
    'path', sorted(CASES.glob('hostile/train/*.npz')), ids=lambda path: getattr(path, 'stem', 'absent')
)
def test_training_files(path):
    if path.stem in {'good', 'compressed', 'f2'}:
        assert len(read_pairs(path)) == 40
        return
    with pytest.raises(InputError) as error:
        read_pairs(path)
    assert str(error.value).startswith(str(path))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('path', sorted(CASES.glob('hostile/cfg/*')), ids=lambda path: getattr(path, 'name', 'absent'))
def test_files_of_runs(path):
    with pytest.raises(InputError) as error:
        read_config(path, [])
    assert str(error.value).startswith(str(path))
    assert '\n' not in str(error.value)
