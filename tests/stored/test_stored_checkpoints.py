"""Networks, pairs and training runs that earlier releases wrote."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from aiida_e3relax.crystals.datasets.pairs_file import read_pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.checkpoints.model_card import read_card
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.engine.native import library
from aiida_e3relax.gnn.models.registry import MODELS

RELEASES = sorted(path for path in Path(__file__).parent.iterdir() if path.is_dir() and (path / 'networks').is_dir())
NETWORKS = [path for release in RELEASES for path in sorted((release / 'networks').glob('*.pt'))]

# What is stored was computed by the compiled kernels, whose tables are that much off (docs/model.md).
ATOL = 1e-7 if library() is None else 1e-9


def name_of(path: Path) -> str:
    return '-'.join(path.relative_to(Path(__file__).parent).with_suffix('').parts)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def read_log(path: Path) -> list[dict[str, float]]:
    with path.open(newline='') as lines:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)]


def test_a_network_of_every_architecture_is_stored():
    stored = {path.stem for path in RELEASES[0].joinpath('networks').glob('*.pt')}
    assert stored == set(MODELS) - {'dummy'}


@pytest.mark.parametrize('path', NETWORKS, ids=name_of)
def test_a_network_predicts_what_it_predicted(path, tmp_path):
    crystals, output = path.parents[1] / 'crystals.npz', tmp_path / 'predicted.npz'
    words = ['predict', crystals, '--model', path, '--output', output, '--dtype', 'float64', '--device', 'cpu']
    assert main([str(word) for word in words]) == 0
    stored, predicted = read_arrays(path.with_suffix('.npz')), read_arrays(output)
    assert predicted.keys() == stored.keys()
    for name, values in stored.items():
        if values.dtype.kind == 'f':
            np.testing.assert_allclose(predicted[name], values, rtol=0, atol=ATOL)
        else:
            assert predicted[name].tolist() == values.tolist()


@pytest.mark.parametrize('path', NETWORKS, ids=name_of)
def test_a_network_says_what_it_is(path):
    checkpoint = load_checkpoint(path)
    assert checkpoint.architecture == path.stem
    assert {8, 12, 33} <= set(checkpoint.elements)


@pytest.mark.parametrize('release', RELEASES, ids=name_of)
def test_pairs_are_read(release):
    pairs, stored = read_pairs(release / 'pairs.npz'), read_arrays(release / 'pairs.npz')
    assert pairs.split.tolist() == stored['split'].tolist()
    assert pairs.unrelaxed.labels.tolist() == stored['labels'].tolist()
    for crystals, state in ((pairs.unrelaxed, 'unrelaxed'), (pairs.relaxed, 'relaxed')):
        np.testing.assert_array_equal(crystals.cell, stored[f'cell_{state}'])
        np.testing.assert_allclose(crystals.positions, stored[f'positions_{state}'], rtol=0, atol=1e-12)


@pytest.mark.parametrize('release', RELEASES, ids=name_of)
def test_a_training_run_goes_on_to_where_it_would_have_come(release, tmp_path, monkeypatch):
    shutil.copytree(release, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    assert read_card(Path('training/best.pt'))['training']['step'] == 10
    assert main(['train', 'train.json', '--device', 'cpu', '--threads', '1']) == 0
    there, whole = read_log(Path('training/log.csv')), read_log(Path('whole-training.csv'))
    assert [row['step'] for row in there] == [10, 20]
    for row, expected in zip(there, whole, strict=True):
        assert row == pytest.approx(expected, rel=1e-4)
    assert read_card(Path('training/best.pt'))['training']['step'] == 20
