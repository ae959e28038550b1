"""``e3relax import-checkpoint``."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import read, write

from aiida_e3relax.gnn.cli import main
from tests.gnn.crystals import rattled

MODEL = 'e3relax-h2-published'


@pytest.fixture
def authors_file(tmp_path):
    """A file as E3Relax-H2's training writes it, of the small network of the reference arrays."""
    with np.load(Path(__file__).parent / 'models' / 'published' / 'h2.npz') as arrays:
        weights = {key[8:]: torch.tensor(arrays[key]) for key in arrays.files if key.startswith('weights/')}
    torch.save({'ema': weights, 'step': 10}, tmp_path / 'model.pt')
    return tmp_path / 'model.pt'


def test_imported_weights_predict(authors_file, tmp_path, capsys):
    output = tmp_path / 'imported.pt'
    assert main(['import-checkpoint', str(authors_file), '--output', str(output)]) == 0
    printed = capsys.readouterr().out
    for words in (MODEL, 'features ', 'sha256:', f'--model {output}'):
        assert words in printed
    write(tmp_path / 'crystal.vasp', rattled()[0])
    arguments = ['predict', str(tmp_path / 'crystal.vasp'), '--model', str(output), '--device', 'cpu']
    assert main([*arguments, '--output', str(tmp_path / 'out.vasp')]) == 0
    assert len(read(tmp_path / 'out.vasp')) == 2


@pytest.mark.parametrize(
    ('source', 'output', 'status', 'words'),
    [
        ('absent.pt', 'out.pt', 4, 'no such checkpoint'),
        ('model.pt', 'model.pt', 3, 'name another'),
        ('model.pt', 'out.ckpt', 3, 'ends in .pt'),
        ('model.pt', 'absent/out.pt', 3, 'does not exist'),
    ],
)
def test_files_that_cannot_be_used_are_named(authors_file, tmp_path, capsys, source, output, status, words):
    assert main(['import-checkpoint', str(tmp_path / source), '--output', str(tmp_path / output)]) == status
    assert words in capsys.readouterr().err
    assert torch.load(authors_file, weights_only=True)['step'] == 10
