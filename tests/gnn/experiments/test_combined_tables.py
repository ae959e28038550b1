"""Tables of runs that several machines have done, and those of the documentation."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.combine_tables import format_costs, format_measures, read_results

ROOT = Path(__file__).parents[3]
TABLES = sorted((ROOT / 'docs/examples/tables').glob('*.csv'))
START = {'data': 'metals', 'state': 'done', 'split': 'test', 'frame': 'aligned', 'pairs': 7}


def _write(path: Path, *rows: dict) -> Path:
    pd.DataFrame([START | row for row in rows]).to_csv(path, index=False)
    return path


def _row(of: str, seed: int, mean: float, median: float) -> dict:
    return {'of': of, 'seed': seed, 'coordinate_mae_A_mean': mean, 'coordinate_mae_A_median': median}


def test_seeds_of_several_files_are_one_row(tmp_path):
    first = _write(tmp_path / 'a.csv', _row('painn', 0, 9.0, 9.0), _row('egnn', 0, 0.5, 0.4))
    second = _write(
        tmp_path / 'b.csv',
        _row('painn', 0, 0.1, 0.05),
        _row('painn', 1, 0.3, 0.15),
        _row('dummy', 0, 1.0, 0.8),
        _row('painn', 2, 7.0, 7.0) | {'state': 'failed'},
    )
    rows = read_results([first, second])
    assert list(format_measures(rows))[2:] == [
        '| Dummy |  | 1.00 (0.800) |',
        '| painn | 2 | 0.200 ± 0.141 (0.100) |',
        '| egnn | 1 | 0.500 (0.400) |',
        '',
    ]


def test_costs_are_means_over_the_seeds_that_have_them(tmp_path):
    first = {'parameters': 1234, 'training_cpu_h': 0.1, 'training_h': 0.4, 'inference_ms_batch_1': 3.0}
    second = {'parameters': 1234, 'training_cpu_h': 0.2, 'inference_ms_batch_32': 0.5}
    file = _write(
        tmp_path / 'a.csv',
        _row('painn', 0, 1.0, 1.0) | first,
        _row('painn', 1, 1.0, 1.0) | second,
        _row('egnn', 0, 1.0, 1.0) | {'parameters': 99},
    )
    assert list(format_costs(read_results([file]))) == [
        '| metals: cost | parameters | hours of one core, training | hours by the clock, training '
        '| ms a crystal, batch of 1 | ms a crystal, batch of 32 |',
        '|---|---|---|---|---|---|',
        '| painn | 1,234 | 0.15 | 0.4 | 3 | 0.5 |',
        '| egnn | 99 |  |  |  |  |',
        '',
    ]


def test_costs_that_nobody_knows_are_no_table(tmp_path):
    assert list(format_costs(read_results([_write(tmp_path / 'a.csv', _row('painn', 0, 1.0, 1.0))]))) == []


def test_match_rates_are_of_the_seeds_that_have_them(tmp_path):
    file = _write(
        tmp_path / 'a.csv',
        *(_row('painn', seed, 1.0, 1.0) | {'match_rate_percent': match} for seed, match in ((0, 50.0), (1, 60.0))),
        _row('painn', 2, 1.0, 1.0),
        _row('egnn', 0, 2.0, 2.0),
    )
    assert list(format_measures(read_results([file]))) == [
        '| metals, test split, 7 pairs, aligned | seeds | coordinates A | match % |',
        '|---|---|---|---|',
        '| painn | 3 | 1.00 ± 0.00 (1.00) | 55.0 ± 7.1 |',
        '| egnn | 1 | 2.00 (2.00) |  |',
        '',
    ]


def test_movable_atoms_stand_beside_the_coordinates(tmp_path):
    of_slabs = {'movable_coordinate_mae_A_mean': 0.2, 'movable_coordinate_mae_A_median': 0.1}
    file = _write(
        tmp_path / 'a.csv',
        _row('painn', 0, 0.1, 0.05) | of_slabs | {'data': 'slabs'},
        _row('painn', 0, 1.0, 1.0),
    )
    lines = list(format_measures(read_results([file])))
    assert '| slabs, test split, 7 pairs, aligned | seeds | coordinates A | movable atoms A |' in lines
    assert '| painn | 1 | 0.100 (0.0500) | 0.200 (0.100) |' in lines
    assert '| metals, test split, 7 pairs, aligned | seeds | coordinates A |' in lines


def test_improvement_over_the_best_other_row(tmp_path):
    """The best other is that of means over seeds, the Dummy is none; where it has no error nothing is stated."""

    def cell(error: float) -> dict:
        return {'cell_shape_deviation_A2_mean': error, 'cell_shape_deviation_A2_median': error}

    file = _write(
        tmp_path / 'a.csv',
        _row('dummy', 0, 0.01, 0.01) | cell(0.0),
        _row('painn', 0, 0.3, 0.3) | cell(1.7e-14),
        _row('painn', 1, 0.5, 0.5) | cell(1.7e-14),
        _row('hegnn', 0, 0.9, 0.9) | cell(1.7e-14),
        _row('egnn', 0, 0.2, 0.2) | cell(0.0),
    )
    lines = list(format_measures(read_results([file]), 'egnn'))
    assert lines[-2:] == ['| egnn against the best other |  | +50.0 % |  |', '']
    assert '| painn | 2 | 0.400 ± 0.141 (0.400) | 0.00 ± 0.00 (0.00) |' in lines
    assert not [line for line in format_measures(read_results([file])) if 'against' in line]


def test_sources_of_a_data_set_are_tables_of_their_own(tmp_path):
    file = _write(
        tmp_path / 'a.csv',
        _row('painn', 0, 0.1, 0.1) | {'source': 'bulk'},
        _row('painn', 0, 0.3, 0.3) | {'source': 'slabs', 'pairs': 9},
    )
    lines = list(format_measures(read_results([file])))
    assert '| metals (bulk), test split, 7 pairs, aligned | seeds | coordinates A |' in lines
    assert '| painn | 1 | 0.100 (0.100) |' in lines
    assert '| metals (slabs), test split, 9 pairs, aligned | seeds | coordinates A |' in lines


def test_other_pairs_are_refused(tmp_path):
    files = [
        _write(tmp_path / 'a.csv', _row('painn', 0, 1.0, 1.0)),
        _write(tmp_path / 'b.csv', _row('egnn', 0, 1.0, 1.0) | {'pairs': 8}),
    ]
    with pytest.raises(ValueError, match='metals, test: expected the same pairs in all rows'):
        read_results(files)


@pytest.mark.parametrize('file', TABLES, ids=lambda file: file.stem)
def test_the_documentation_has_the_tables_of_what_was_measured(file):
    lines = (ROOT / 'docs/experiments.md').read_text(encoding='utf-8').splitlines()
    for line in format_measures(read_results([file])):
        assert line in lines
