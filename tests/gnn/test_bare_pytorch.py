"""A GPU node that holds PyTorch and numpy, and of this package's other needs none."""

import json
import subprocess
import sys

from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.crystals.structures import write_npz
from tests.gnn.pairs import made_pairs

BARE = """
import sys
absent = ['aiida', 'ase', 'pymatgen', 'scipy', 'yaml', 'rich', 'click', 'spglib', 'e3nn', 'vesin', 'matplotlib']
absent += ['torch_geometric']
sys.modules.update(dict.fromkeys(absent))
from aiida_e3relax.gnn.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_training_and_prediction_run_there(tmp_path):
    write_pairs(tmp_path / 'pairs.npz', made_pairs())
    write_npz(tmp_path / 'crystals.npz', made_pairs().of_split('test').unrelaxed)
    config = {'data': 'pairs.npz', 'output': 'run', 'steps': 4, 'batch_size': 4, 'hyperparameters': {'features': 8}}
    (tmp_path / 'run.json').write_text(json.dumps(config))
    train = ['train', 'run.json']
    freedom = json.dumps({'moves': 'positions', 'fixed': {'c': [0]}, 'keep_symmetry': False})
    predict = ['predict', 'crystals.npz', '--model', 'run/best.pt', '--output', 'out.npz', '--report', 'report.json']
    predict += ['--freedom', freedom]
    for arguments in (train, predict):
        command = [sys.executable, '-c', BARE, *arguments, '--threads', '1']
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / 'out.npz').exists()
