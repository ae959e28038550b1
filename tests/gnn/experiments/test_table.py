"""The numbers of a table, from runs whose measures are known."""

import numpy as np
import pytest

from aiida_e3relax.gnn.evaluation.evaluate import ALL_MEASURES, FRAMES, Measured
from aiida_e3relax.gnn.experiments.config import read_experiment
from aiida_e3relax.gnn.experiments.plan import Measurement
from aiida_e3relax.gnn.experiments.report import write_figures, write_tables
from aiida_e3relax.gnn.experiments.results import Result, as_stored, read_measured, write_measured, write_result
from aiida_e3relax.gnn.experiments.table import outcomes, table_rows

ERRORS = {('dummy', 0): 0.8, ('painn', 0): 0.3, ('painn', 1): 0.5, ('egnn', 0): 0.2, ('egnn', 1): 0.2}
"""Mean errors of the runs: 0.4 with a spread of 0.1414 for painn, 0.2 without one for egnn."""


def made(error: float, matched: float = 0.5) -> list[tuple[str, Measured]]:
    """Two crystals whose errors have the mean `error` and as many matches as asked for, in both frames."""
    values = {name: error * np.array([0.5, 1.5]) for name in ALL_MEASURES}
    return [
        (
            'test',
            Measured(
                'a',
                frame,
                'model',
                np.array(['x', 'y']),
                np.array([1, 1]),
                values,
                np.array([6, 14]),
                np.array([error, error]),
                np.zeros(2, dtype=bool),
                np.arange(2) < 2 * matched,
                None,
            ),
        )
        for frame in FRAMES
    ]


@pytest.fixture
def experiment(tmp_path):
    given = {'data': ['a.npz'], 'output': str(tmp_path), 'seeds': 2, 'models': ['painn', 'egnn', 'hegnn']}
    experiment = read_experiment('benchmark', None, given | {'reference': 'egnn'}, [])
    for run in experiment.runs:
        run.folder.mkdir(parents=True)
        if run.variant == 'hegnn':
            if run.seed == 0:
                write_result(run.folder, Result(error='the loss | is not finite'))
            continue
        write_measured(run.folder, made(ERRORS[run.variant, run.seed], matched=1.0 if run.variant == 'painn' else 0.5))
        facts = {'measurement': as_stored(Measurement()), 'parameters': 1234, 'steps': 10}
        if run.variant != 'dummy':
            facts |= {'training_s': 3600.0, 'training_cpu_s': 1800.0 * (1 + run.seed), 'content_hash': 'sha256:0'}
            facts |= {'inference_ms': {'1': {'graph': 1.0, 'forward': 2.0}, '32': None}}
        write_result(run.folder, Result(**facts))
    return experiment


def test_means_spreads_and_improvements(experiment):
    rows = {row['of']: row for row in table_rows(experiment, outcomes(experiment)) if row['frame'] == 'aligned'}
    assert list(rows) == ['dummy', 'painn', 'egnn', 'hegnn']
    painn, egnn = rows['painn'], rows['egnn']
    assert painn['volume_mae_A3_mean'] == pytest.approx(0.4)
    assert painn['volume_mae_A3_mean_spread'] == pytest.approx(0.1 * 2**0.5)
    assert egnn['volume_mae_A3_mean_spread'] == 0
    assert egnn['volume_mae_A3_mean_improvement_percent'] == pytest.approx(50)
    assert painn['volume_mae_A3_mean_improvement_percent'] == pytest.approx(-100)
    assert painn['match_rate_percent_improvement_percent'] == pytest.approx(100)  # more is better
    assert 'volume_mae_A3_mean_improvement_percent' not in rows['dummy']
    assert (painn['training_h'], painn['training_cpu_h'], painn['inference_ms_batch_1']) == (1.0, 0.75, 3.0)
    assert (rows['hegnn']['seeds'], rows['hegnn']['failed'], rows['hegnn']['pending']) == (0, 1, 1)


def test_text_says_what_failed_and_what_is_not_done(experiment):
    text = write_tables(experiment)
    assert text == (experiment.output / 'table.md').read_text()
    assert '| painn | 0.400 ± 0.141 (0.400) |' in text
    assert '| egnn | **0.200 ± 0.000** (0.200) |' in text
    assert '| egnn against the best other | +50.0 % |' in text
    assert '| painn | 1,234 | 10 | 1 | 0.75 | 2 | 3 | no memory |' in text
    assert '| hegnn: failed: the loss / is not finite |' in text
    assert '- hegnn, a, seed 0: the loss / is not finite' in text
    assert 'Not done:\n\n- hegnn, a, seed 1' in text
    results = (experiment.output / 'results.csv').read_text()
    assert 'a,hegnn,1,not done' in results
    assert len(results.splitlines()) == 1 + 2 * 5 + 2  # both frames of five runs, and two without


def test_measures_are_read_as_they_were_written(tmp_path):
    write_measured(tmp_path, made(0.3))
    for (split, read), (_, written) in zip(read_measured(tmp_path), made(0.3), strict=True):
        assert (split, read.row()) == ('test', written.row())
        assert read.labels.tolist() == ['x', 'y']
        assert read.uncertainty is None


def test_without_a_finished_run_there_is_a_table_and_no_figure(tmp_path):
    given = {'data': ['a.npz'], 'output': str(tmp_path), 'seeds': 1, 'models': ['painn']}
    experiment = read_experiment('benchmark', None, given, [])
    assert 'Not done:' in write_tables(experiment)
    assert write_figures(experiment) == []
