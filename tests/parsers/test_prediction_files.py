"""The files of a prediction run: what is taken from them and what is refused."""

import json

import numpy as np
import pytest

from aiida_e3relax.gnn.structures import Crystals, make_crystals, write_npz
from aiida_e3relax.parsers.prediction_files import (
    PredictionFilesError,
    find_last_words,
    find_out_of_memory,
    read_predictions,
    read_report,
)

GIVEN = make_crystals(
    numbers=[[29], [12, 8]],
    positions=[np.zeros((1, 3)), np.array([[0, 0, 0], [2.1, 0, 0]])],
    cells=[3.6 * np.eye(3), 4.2 * np.eye(3)],
    labels=['cu', 'mgo'],
)


def write_report(path, statuses=('ok', 'ok'), labels=('cu', 'mgo'), **changes):
    structures = [{'label': a, 'status': b, 'message': ''} for a, b in zip(labels, statuses, strict=True)]
    path.write_text(json.dumps({'schema': 1, 'structures': structures, 'error': None, **changes}))
    return path


def write_predictions(path, crystals: Crystals = GIVEN):
    write_npz(path, crystals, status=np.array(['ok'] * len(crystals)))
    return path


class TestReport:
    def test_statuses_in_order(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json', ['ok', 'empty']))
        assert report.error is None
        assert [(s.label, s.status) for s in report.structures] == [('cu', 'ok'), ('mgo', 'empty')]

    def test_error(self, tmp_path):
        error = {'code': 'no_device', 'message': 'no CUDA device', 'remedy': 'use --device cpu'}
        report = read_report(write_report(tmp_path / 'report.json', error=error))
        assert (report.error.code, report.error.message) == ('no_device', 'no CUDA device')

    @pytest.mark.parametrize(
        ('text', 'message'),
        [
            ('', 'expected JSON'),
            ('{"schema": 1, "structures"', 'expected JSON'),
            ('{"schema": 1, "structures": [], "error": null, "peak_memory_mb": NaN}', 'the constant NaN'),
            ('[]', 'expected `schema` 1, found None'),
            ('{"schema": 2}', 'expected `schema` 1, found 2'),
            ('{"schema": 1, "error": null}', "KeyError\\('structures'\\)"),
            ('{"schema": 1, "error": "no", "structures": []}', 'of the wrong type'),
            ('{"schema": 1, "error": null, "structures": [{"label": "a"}]}', "KeyError\\('status'\\)"),
        ],
    )
    def test_garbage(self, tmp_path, text, message):
        path = tmp_path / 'report.json'
        path.write_text(text)
        with pytest.raises(PredictionFilesError, match=message):
            read_report(path)


class TestPredictions:
    def test_only_ok_ones(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json', ['singular_cell', 'ok']))
        moved = GIVEN.replace(GIVEN.positions + 0.1, 1.1 * GIVEN.cell)
        predictions = read_predictions(write_predictions(tmp_path / 'p.npz', moved), report, GIVEN)
        assert predictions.labels.tolist() == ['mgo']
        np.testing.assert_array_equal(predictions.cell[0], 1.1 * GIVEN.cell[1])
        np.testing.assert_array_equal(predictions.positions, GIVEN.positions[1:] + 0.1)

    def test_missing_file(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json'))
        with pytest.raises(PredictionFilesError, match='no such file'):
            read_predictions(tmp_path / 'p.npz', report, GIVEN)

    def test_file_cut_off(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json'))
        path = write_predictions(tmp_path / 'p.npz')
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(PredictionFilesError, match='cannot be read'):
            read_predictions(path, report, GIVEN)

    def test_report_of_another_run(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json', labels=['cu', 'nacl']))
        with pytest.raises(PredictionFilesError, match=r'labels of report\.json'):
            read_predictions(write_predictions(tmp_path / 'p.npz'), report, GIVEN)

    def test_sites_in_another_order(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json'))
        swapped = make_crystals([[29], [8, 12]], np.split(GIVEN.positions, [1]), GIVEN.cell, GIVEN.labels)
        with pytest.raises(PredictionFilesError, match=r'elements.* \[29, 12, 8\], found \[29, 8, 12\]'):
            read_predictions(write_predictions(tmp_path / 'p.npz', swapped), report, GIVEN)

    def test_structure_missing(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json'))
        with pytest.raises(PredictionFilesError, match=r'labels of p\.npz'):
            read_predictions(write_predictions(tmp_path / 'p.npz', GIVEN.select([0])), report, GIVEN)

    def test_ok_but_not_finite(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json'))
        broken = GIVEN.replace(np.full_like(GIVEN.positions, np.nan), GIVEN.cell)
        with pytest.raises(PredictionFilesError, match='`cu` is `ok` but not finite'):
            read_predictions(write_predictions(tmp_path / 'p.npz', broken), report, GIVEN)


@pytest.mark.parametrize(
    'stderr',
    [
        'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB',
        "RuntimeError: [enforce fail at alloc_cpu.cpp:125] DefaultCPUAllocator: can't allocate memory",
        'submit.sh: line 12: 4242 Killed    e3relax predict structures.npz',
        'slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch',
        'MemoryError',
    ],
)
def test_memory_runs_out_in_many_words(stderr):
    assert find_out_of_memory(f'predicting 3/7\n{stderr}\nbye\n') == stderr


def test_last_words():
    stderr = 'Traceback (most recent call last):\n  File "x"\nImportError: no torch\n\n'
    assert find_out_of_memory(stderr) is None
    assert find_last_words(stderr) == 'ImportError: no torch'
    assert find_last_words('\n') is None
