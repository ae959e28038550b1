"""The numbers of a table, from runs whose measures are known."""

import numpy as np
import pytest

from aiida_e3relax.gnn.evaluation.evaluate import ALL_MEASURES, FRAMES, MOVABLE, Measured
from aiida_e3relax.gnn.experiments.config import read_experiment
from aiida_e3relax.gnn.experiments.figures import (
    axis_places,
    draw_comparison,
    draw_distributions,
    draw_violins,
    errors_by_row,
    measures_in_errors,
    measures_of,
)
from aiida_e3relax.gnn.experiments.plan import Measurement
from aiida_e3relax.gnn.experiments.report import write_figures, write_tables
from aiida_e3relax.gnn.experiments.results import Result, read_measured, together, write_measured, write_result
from aiida_e3relax.gnn.experiments.table import outcomes, table_rows

SEEN = {'device': 'cpu', 'threads': 1, 'torch': '2', 'trained': True, 'splits': ['test'], 'inference_batches': [1, 32]}
ERRORS = {('dummy', 0): 0.8, ('painn', 0): 0.3, ('painn', 1): 0.5, ('egnn', 0): 0.2, ('egnn', 1): 0.2}
"""Mean errors of the runs: 0.4 with a spread of 0.1414 for painn, 0.2 without one for egnn."""


def made(error: float, matched: float = 0.5, refused: int = 0, **others: float) -> list[tuple[str, Measured]]:
    """Two crystals whose errors have the mean `error` and as many matches as asked for, in both frames."""
    values = {name: others.get(name, error) * np.array([0.5, 1.5]) for name in dict.fromkeys((*ALL_MEASURES, *others))}
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
                np.arange(2) < refused,
                np.arange(2) < 2 * matched,
                None,
            ),
        )
        for frame in FRAMES
    ]


def finished(tmp_path, errors: dict, results: dict | None = None, **given):
    """An experiment with one seed whose runs have ended, with `made` of what `errors` say by row, and such results."""
    given = {'data': ['a.npz'], 'output': str(tmp_path), 'seeds': 1, 'models': ['painn', 'egnn']} | given
    experiment = read_experiment('benchmark', None, given, [])
    for run in experiment.runs:
        run.folder.mkdir(parents=True)
        write_measured(run.folder, made(0.5, **errors.get(run.variant, {})))
        facts = {} if run.variant == 'dummy' else {'content_hash': 'sha256:0', **(results or {}).get(run.variant, {})}
        write_result(run.folder, Result(measurement=together({}, experiment.measurement), **facts))
    return experiment


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
        of_painn = {'matched': 1.0, 'refused': 1} if run.variant == 'painn' else {}
        write_measured(run.folder, made(ERRORS[run.variant, run.seed], **of_painn))
        facts = {'measurement': together({}, Measurement()), 'parameters': 1234, 'steps': 10}
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
    assert [row['refused'] for row in rows.values()] == [0, 1, 0, None]


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
    assert 'a, test: 1 of 2 crystals are refused' in text
    assert 'and count as they came (painn).' in text
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


SHAPE = 'cell_shape_deviation_A2'
FIXED = {
    'dummy': {SHAPE: 0.0, 'volume_mae_A3': 0.0, 'lattice_mae_A': 0.0, MOVABLE: 1.0},
    'painn': {SHAPE: 1.7e-14, 'volume_mae_A3': 1e-13, 'lattice_mae_A': 2e-16, MOVABLE: 0.8},
    'egnn': {SHAPE: 0.0, 'volume_mae_A3': 0.0, 'lattice_mae_A': 0.0, MOVABLE: 0.4},
}
"""Slabs: fixed cells, which a model that turns them gives back with rounding, and half of the atoms."""


def test_rounding_is_no_error_and_no_improvement(tmp_path):
    experiment = finished(tmp_path, FIXED, reference='egnn')
    text = write_tables(experiment)
    assert '| painn | 0.500 (0.500) | 0.00 (0.00) | 0.00 (0.00) | 0.500 (0.500) | 0.00 (0.00) | 0.800 (0.800) |' in text
    assert '| egnn against the best other | +0.0 % |  |  | +0.0 % |  | +50.0 % | +0.0 % |' in text
    (egnn,) = (r for r in table_rows(experiment, outcomes(experiment)) if (r['of'], r['frame']) == ('egnn', 'aligned'))
    assert f'{SHAPE}_mean_improvement_percent' not in egnn


def test_figures_show_movable_atoms_and_leave_out_what_is_zero_for_all(tmp_path):
    experiment = finished(tmp_path, FIXED)
    found = outcomes(experiment)
    errors = errors_by_row(found, 'a', 'test')
    assert measures_in_errors(errors) == [MOVABLE, 'bond_length_mae_A']
    rows = table_rows(experiment, found)
    assert measures_of(rows) == [MOVABLE]
    draw_comparison(experiment, rows, tmp_path / 'means.png')
    draw_violins(experiment, errors, 'a', tmp_path / 'violins.png')
    draw_distributions(experiment, errors, 'a', tmp_path / 'distributions.png')
    assert all((tmp_path / f'{name}.png').is_file() for name in ('means', 'violins', 'distributions'))
    free = outcomes(finished(tmp_path / 'free', {}))
    assert measures_in_errors(errors_by_row(free, 'a', 'test')) == list(ALL_MEASURES)


def test_dates_and_jobs_are_those_of_the_measurements(tmp_path):
    seen = {
        'painn': {'machine': {'sessions': [SEEN | {'date': '2026-03-01', 'jobs': 2}]}},
        'egnn': {'machine': {'sessions': [SEEN | {'date': '2026-04-02', 'jobs': 2}]}},
    }
    text = write_tables(finished(tmp_path, {}, seen))
    assert 'Measured 2026-03-01 to 2026-04-02 on cpu, 1 threads, torch 2.\n' in text
    assert 'Times are of 2 jobs side by side' in text


def test_result_of_an_earlier_release_tells_neither_date_nor_jobs(tmp_path):
    machine = {'device': 'cpu', 'threads': 1, 'torch': '2'}
    text = write_tables(finished(tmp_path, {}, {name: {'machine': machine} for name in ('painn', 'egnn')}))
    assert 'Measured on cpu, 1 threads, torch 2.\n' in text
    assert 'Times' not in text


def test_times_of_several_machines_are_told_apart(tmp_path):
    sessions = [
        SEEN | {'date': '2026-03-01', 'jobs': 1, 'inference_batches': [1, 32]},
        SEEN | {'date': '2026-03-01', 'jobs': 1, 'inference_batches': [512], 'device': 'H200', 'trained': False},
    ]
    text = write_tables(
        finished(tmp_path, {}, {name: {'machine': {'sessions': sessions}} for name in ('painn', 'egnn')})
    )
    assert 'Times are of one job at a time.' in text
    assert 'in batches of 512 on H200, 1 threads, torch 2; 1, 32 on cpu, 1 threads, torch 2.' in text


def test_models_with_and_without_kernels_are_named(tmp_path):
    text = write_tables(
        finished(
            tmp_path,
            {},
            {of: {'machine': SEEN | {'has_kernels': has}} for of, has in (('painn', True), ('egnn', False))},
        )
    )
    assert "predictions of painn kernels of this package's own sum the messages, in those of egnn PyTorch's" in text


@pytest.mark.parametrize(('validation', 'is_said'), [('test', True), ('val', False), ('', False)])
def test_measuring_on_the_split_that_chose_the_checkpoint_is_said(tmp_path, validation, is_said):
    results = {name: {'machine': SEEN | {'validation': validation}} for name in ('painn', 'egnn')}
    text = write_tables(finished(tmp_path, {}, results))
    assert ('On the split test the best checkpoint of each training was chosen' in text) == is_said


def test_axis_of_a_sweep_has_the_values_of_its_rows(tmp_path):
    values = [None, 'last']
    given = {'data': ['a.npz'], 'output': str(tmp_path), 'seeds': 1, 'sweep': {'layer_weights': values}}
    experiment = read_experiment('sweep', None, given, [])
    assert [variant.name for variant in experiment.variants] == ['layer_weights=null', 'layer_weights=last']
    assert axis_places(values) == ([0.0, 1.0], ['null', 'last'])
    assert axis_places([1, 2.5]) == ([1.0, 2.5], ['1', '2.5'])
