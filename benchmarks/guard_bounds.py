"""Print how far real relaxations go in the training sets: the grounds for the guard's default bounds.

    python benchmarks/guard_bounds.py pnictides.npz substitution.npz

The data sets are those that `e3relax data` writes. Each relaxed crystal is judged as the guard would judge it as a
prediction for its unrelaxed one: a table of quantiles of every number measured for each data set, and at the end how
many relaxations the defaults would reject.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
from pathlib import Path

import numpy as np

from aiida_e3relax.crystals.datasets.pairs_file import read_pairs
from aiida_e3relax.workflows.guard import GuardSettings, judge

MEASURES = ('contact_ratio', 'volume_ratio', 'strain_min', 'strain_max', 'displacement_max_A')
PERCENTILES = (0, 0.01, 0.1, 1, 50, 99, 99.9, 99.99, 100)


def main() -> None:
    """Measure every pair, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', nargs='+', type=Path)
    print(datetime.date.today())
    for path in parser.parse_args().pairs:
        print_bounds(path)


def print_bounds(path: Path) -> None:
    """Print the table of one data set, and how many of its pairs the defaults would reject."""
    pairs = read_pairs(path)
    settings = GuardSettings()
    verdicts = [judge(pairs.unrelaxed.select([i]), pairs.as_filed.select([i]), settings) for i in range(len(pairs))]
    measured = [verdict.numbers for verdict in verdicts if verdict.numbers]
    print(f'\n{path.name}: {len(pairs)} relaxations, {len(pairs) - len(measured)} that cannot be measured')
    print('| | ' + ' | '.join(f'{percentile:g} %' for percentile in PERCENTILES) + ' |')
    print('|---' * (len(PERCENTILES) + 1) + '|')
    for measure in MEASURES:
        values = np.array([numbers[measure] for numbers in measured if numbers[measure] is not None], dtype=float)
        print(f'| {measure} | ' + ' | '.join(f'{value:.3f}' for value in np.percentile(values, PERCENTILES)) + ' |')
    for field in dataclasses.fields(settings)[1:]:
        print(field.name, getattr(settings, field.name))
    rejected = sum(not verdict.accepted for verdict in verdicts)
    print(f'rejected by the defaults: {rejected} ({100 * rejected / len(pairs):.2f} %)')


if __name__ == '__main__':
    main()
