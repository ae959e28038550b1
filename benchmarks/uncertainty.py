"""Measure what the stated uncertainty of an ensemble is worth: the tables of docs/model.md, and bounds for the guard.

    python benchmarks/uncertainty.py pnictides.npz substitution.npz

The data sets are those that `e3relax data` writes. The ensemble is measured beside its members. The first table
has accuracy and calibration on the val and test splits, in the aligned frame. The second one asks of the val splits how
many predictions are worse than no prediction where the ensemble is least sure.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aiida_e3relax.crystals.datasets.pairs_file import read_pairs
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.evaluation.evaluate import DUMMY, MEASURES, Measured, measure
from aiida_e3relax.gnn.models.ensemble import Ensemble

LEAST_SURE = (100, 50, 20, 10, 5, 2, 1)
"""Percents of the crystals in the second table."""

FIGURES = ('uncertainty_A_median', 'spearman_coordinates', 'spearman_bonds')


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', nargs='+', type=Path)
    parser.add_argument('--model', type=Path, default=DEFAULT_CHECKPOINT, help='an ensemble')
    options = parser.parse_args()
    ensemble = load_checkpoint(options.model)
    if not isinstance(ensemble.model, Ensemble):
        raise SystemExit(f'--model {options.model}: is no ensemble; give one that `e3relax ensemble` wrote')
    members: Any = ensemble.model.members
    models = {'ensemble': ensemble} | {
        f'member {number} alone': dataclasses.replace(ensemble, model=member) for number, member in enumerate(members)
    }
    pairs = Pairs.concatenate(read_pairs(path) for path in options.pairs)
    measured = {
        split: [
            m
            for m in measure(models, pairs.of_split(split), torch.device('cpu'), with_matches=False)
            if m.frame == 'aligned'
        ]
        for split in ('val', 'test')
    }
    print(calibration_table(measured))
    for source in dict.fromkeys(m.data for m in measured['val']):
        of = {m.of: m for m in measured['val'] if m.data == source}
        print(f'\n{least_sure_table(of["ensemble"], of[DUMMY])}')
    print(f'\nMeasured {datetime.datetime.now(datetime.UTC).date()} on {platform.machine()}, torch {version("torch")}.')


def calibration_table(measured: dict[str, list[Measured]]) -> str:
    """Return accuracy, mean (median), and calibration of the models on each split.

    The last column has the median and, in brackets, the quartiles.
    """
    lines = [
        '| data | | coordinates A | cell shape A^2 | volume A^3 | uncertainty A, median | rank, coordinates '
        '| rank, bonds | bond error / uncertainty |',
        '|---|---|---|---|---|---|---|---|---|',
    ]
    for split, every in measured.items():
        for m in (m for m in every if not m.of.startswith(DUMMY)):
            row = m.row()
            cells = [f'{row[f"{name}_mean"]:.3f} ({row[f"{name}_median"]:.3f})' for name in MEASURES]
            if m.calibration is None:
                cells += [''] * (len(FIGURES) + 1)
            else:
                lower, median, upper = np.quantile(m.calibration.bond_error / m.calibration.stated, [0.25, 0.5, 0.75])
                cells += [f'{row[name]:.3f}' for name in FIGURES] + [f'{median:.2f} ({lower:.2f}, {upper:.2f})']
            lines.append(f'| {row["data"]}, {split} | {row["of"]} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def least_sure_table(ensemble: Measured, dummy: Measured) -> str:
    """Return how good the predictions are above growing uncertainties."""
    assert ensemble.uncertainty is not None
    lines = [
        f'| {ensemble.data}, least sure % | uncertainty above A | coordinates A | Dummy | worse than Dummy % '
        '| bonds A | Dummy | worse than Dummy % |',
        '|---|---|---|---|---|---|---|---|',
    ]
    for percent in LEAST_SURE:
        bound = np.nanpercentile(ensemble.uncertainty, 100 - percent)
        chosen = ensemble.uncertainty >= bound
        cells = []
        for name in ('coordinate_mae_A', 'bond_length_mae_A'):
            ours, theirs = ensemble.values[name][chosen], dummy.values[name][chosen]
            cells += [f'{ours.mean():.3f}', f'{theirs.mean():.3f}', f'{100 * np.mean(ours > theirs):.0f}']
        lines.append(f'| {percent} | {bound:.3f} | {" | ".join(cells)} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
