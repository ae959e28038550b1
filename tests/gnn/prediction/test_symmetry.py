"""Predictions in float32 are as symmetric as those in float64, and a report says what was done and why."""

from __future__ import annotations

import dataclasses
import importlib.util
import json

import numpy as np
import pytest
import spglib
import torch

from aiida_e3relax.common.progress import NoProgress
from aiida_e3relax.crystals.files.stream import read_crystal_files
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.crystals.structures import Crystals, write_npz
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.device import choose_dtype
from aiida_e3relax.gnn.prediction import streaming, symmetry
from aiida_e3relax.gnn.prediction.predictor import Predictor
from tests.gnn.crystals import PROTOTYPES, batch_of, rattled
from tests.gnn.networks import random_network

CPU = torch.device('cpu')
NAMES = [*PROTOTYPES, 'rattled']


@pytest.fixture(scope='module')
def crystals() -> Crystals:
    """The prototypes in a cell that is 2 % too small, and a crystal without symmetry."""
    frames = [make() for make in PROTOTYPES.values()]
    for atoms in frames:
        atoms.set_cell(0.98 * atoms.cell.array, scale_atoms=True)
    return batch_of(*frames, rattled()[0])


def save(path, architecture: str, crystals: Crystals):
    """Store a network with random weights that moves things."""
    model = random_network(architecture).float()
    save_checkpoint(path, architecture, model, sorted(set(crystals.numbers.tolist())), {'step': 0})
    return path


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, crystals):
    return save(tmp_path_factory.mktemp('model') / 'random.pt', 'e3relax-h2', crystals)


def predict(checkpoint, crystals, dtype, freedom=None, restores_symmetry=True):
    predictor = Predictor(load_checkpoint(checkpoint), CPU, dtype, 'fast', restores_symmetry=restores_symmetry)
    result, free, rows = predictor.predict(crystals, [None] * len(crystals), freedom, 50_000, NoProgress())
    assert not result.faults
    return result.crystals, predictor, free, rows


def groups_of(crystals: Crystals, precision: float) -> list[str]:
    fractional = np.split(crystals.fractional(), crystals.offsets[1:-1])
    numbers = np.split(crystals.numbers, crystals.offsets[1:-1])
    cells = zip(crystals.cell.tolist(), fractional, numbers, strict=True)
    return [
        spglib.get_symmetry_dataset((c, f.tolist(), n.tolist()), symprec=precision).international for c, f, n in cells
    ]


def test_float32_has_the_space_groups_of_float64(checkpoint, crystals):
    double = predict(checkpoint, crystals, torch.float64)[0]
    single, predictor, free, _ = predict(checkpoint, crystals, torch.float32)
    as_computed = predict(checkpoint, crystals, torch.float32, restores_symmetry=False)[0]
    expected = groups_of(crystals, 1e-8)
    assert groups_of(double, 1e-8) == expected
    for precision in (1e-5, 1e-6, 1e-8):
        assert groups_of(single, precision) == expected, precision
    assert groups_of(as_computed, 1e-8) != expected, 'rounding would hide nothing, and nothing is tested'
    np.testing.assert_allclose(single.positions, double.positions, atol=1e-4)
    np.testing.assert_allclose(single.cell, double.cell, atol=1e-4)
    moved = np.abs(single.positions - crystals.positions).max()
    assert moved > 0.01
    facts = predictor.symmetry.facts()
    assert (facts['state'], facts['crystals'], facts['left']) == ('restored', len(crystals) - expected.count('P1'), 0)
    assert 1e-8 < facts['largest_correction_A'] < 1e-4
    assert not free.notes


def test_without_symmetry_it_is_what_was_computed(checkpoint):
    crystals = batch_of(rattled()[0])
    single, predictor, *_ = predict(checkpoint, crystals, torch.float32)
    as_computed = predict(checkpoint, crystals, torch.float32, restores_symmetry=False)[0]
    assert predictor.symmetry.facts()['crystals'] == 0
    assert np.array_equal(single.positions, as_computed.positions)
    assert np.array_equal(single.cell, as_computed.cell)


def test_held_sites_and_cells_stay(checkpoint, crystals):
    rutile = crystals.select([NAMES.index('rutile')])
    single, *_ = predict(
        checkpoint, rutile, torch.float32, Freedom.from_value({'moves': 'positions', 'fixed': {'abc': [0]}})
    )
    assert np.array_equal(single.cell, rutile.cell)
    np.testing.assert_allclose(single.fractional()[0], rutile.fractional()[0], atol=1e-14)


def test_batches_do_not_matter(checkpoint, crystals):
    together = predict(checkpoint, crystals, torch.float32)[0]
    alone = predict(checkpoint, crystals.select([5]), torch.float32)[0]
    np.testing.assert_allclose(alone.positions, together.select([5]).positions, atol=1e-5)


def test_a_model_that_breaks_symmetries_is_left_alone(tmp_path, crystals):
    path = save(tmp_path / 'published.pt', 'painn', crystals)
    _, predictor, *_ = predict(path, crystals.select([0]), torch.float32)
    assert predictor.symmetry.facts() == {
        'state': 'as computed',
        'reason': 'PaiNN does not keep it, whatever the precision',
    }


def test_a_prediction_that_lacks_it_by_more_than_rounding_is_told(checkpoint, crystals, monkeypatch):
    monkeypatch.setattr('aiida_e3relax.crystals.rounding.MOST_ROUNDING', 0.0)
    single, predictor, free, _ = predict(checkpoint, crystals.select([0]), torch.float32)
    as_computed = predict(checkpoint, crystals.select([0]), torch.float32, restores_symmetry=False)[0]
    assert np.array_equal(single.cell, as_computed.cell)
    assert predictor.symmetry.facts()['left'] == 1
    assert 'the symmetry was not restored: the prediction lacks the symmetry Fm-3m' in free.notes[0]


class OnAGpu:
    """A device that says that it is a GPU."""

    type = 'cuda'


@pytest.mark.parametrize(
    ('capability', 'has_spglib', 'expected', 'reason'),
    [
        ((9, 0), True, 'float64', 'is made for it'),
        ((8, 0), True, 'float64', 'is made for it'),
        ((7, 0), False, 'float64', 'is made for it'),
        ((8, 9), True, 'float32', 'many times slower on a GPU of compute capability 8.9'),
        ((7, 5), True, 'float32', 'many times slower'),
        ((8, 6), True, 'float32', 'many times slower'),
        ((12, 0), True, 'float32', 'many times slower'),
        ((10, 3), True, 'float32', 'many times slower'),
        ((8, 9), False, 'float64', 'but spglib is not installed'),
    ],
)
def test_the_precision_by_the_device(monkeypatch, capability, has_spglib, expected, reason):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda _: capability)
    if not has_spglib:
        monkeypatch.setattr(importlib.util, 'find_spec', lambda _: None)
    dtype, why = choose_dtype('auto', OnAGpu())
    assert (dtype, reason in why) == (expected, True)
    assert choose_dtype('float32', OnAGpu()) == ('float32', 'as asked for')
    assert choose_dtype('auto', OnAGpu(), with_potential=True)[0] == 'float64'


def test_a_processor_takes_float64():
    assert choose_dtype('auto', CPU)[0] == 'float64'


@pytest.fixture
def run(tmp_path, checkpoint, crystals):
    """A function that runs the command on three crystals and returns its report and output."""
    write_npz(tmp_path / 'in.npz', dataclasses.replace(crystals.select([0, 1, 2])))

    def run_program(*words: str):
        files = ['--output', str(tmp_path / 'out.npz'), '--report', str(tmp_path / 'report.json')]
        command = ['predict', str(tmp_path / 'in.npz'), '--model', str(checkpoint), '--device', 'cpu', *files, *words]
        assert main(command) == 0
        report = json.loads((tmp_path / 'report.json').read_text(encoding='utf-8'))
        return report, read_crystal_files([tmp_path / 'out.npz'])

    return run_program


def test_the_report_says_what_was_done_and_why(run, monkeypatch):
    report, _ = run('--dtype', 'float64')
    assert report['precision'] == {
        'requested': 'float64',
        'reason': 'as asked for',
        'symmetry': {'state': 'as computed', 'reason': 'the rounding of float64 hides none'},
    }
    report, _ = run('--dtype', 'auto')
    assert (report['dtype'], report['precision']['requested']) == ('float64', 'auto')
    assert 'processor' in report['precision']['reason']
    report, _ = run('--dtype', 'float32')
    assert (report['dtype'], report['precision']['symmetry']) == (
        'float32',
        {'state': 'as computed', 'reason': 'not asked for'},
    )
    report, _ = run('--dtype', 'float32', '--restore-symmetry')
    assert report['precision']['symmetry']['state'] == 'restored'
    monkeypatch.setattr(streaming, 'choose_dtype', lambda *_: ('float32', 'float64 is slow there'))
    report, found = run('--dtype', 'auto')
    assert (report['dtype'], report['precision']['reason']) == ('float32', 'float64 is slow there')
    assert (report['precision']['symmetry']['state'], report['precision']['symmetry']['crystals']) == ('restored', 3)
    assert report['timings_s']['symmetry'] > 0
    assert groups_of(found, 1e-8) == ['Fm-3m', 'F-43m', 'Pm-3m']


def test_without_spglib_the_report_says_so(run, monkeypatch):
    monkeypatch.setattr(symmetry.importlib.util, 'find_spec', lambda _: None)
    report, _ = run('--restore-symmetry')
    assert report['precision']['symmetry'] == {'state': 'as computed', 'reason': 'spglib is not installed'}
