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


def test_costs_are_means_over_seeds(tmp_path):
    cost = [{'parameters': 1234, 'training_cpu_h': hours} for hours in (0.1, 0.2)]
    file = _write(tmp_path / 'a.csv', _row('painn', 0, 1.0, 1.0) | cost[0], _row('painn', 1, 1.0, 1.0) | cost[1])
    assert list(format_costs(read_results([file])))[2] == '| painn | 1,234 | 0.15 |'


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
