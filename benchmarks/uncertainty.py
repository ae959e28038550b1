"""Measure what the stated uncertainty of an ensemble, and its distance to the training, are worth.

    python -m benchmarks.uncertainty pnictides.npz substitution.npz
    python -m benchmarks.uncertainty distilled.npz slabs.npz --model new.pt --split test test_ood_oxides --no-members

These are the tables of docs/model.md, and what a bound of the guard is chosen from. The data sets are those that
`e3relax data` writes. The ensemble is measured beside its members. The first table has accuracy and calibration, in the
aligned frame. The second one asks of the first split how many predictions are worse than no prediction where the
ensemble is least sure. The third has, by group, distances to the training and what they and the uncertainty tell of the
errors, and behind it the distances of crystals of which no relaxation is known: prototypes with other elements, and
random cells. The last ones have, in bins of the distance and of the uncertainty, the mean errors of the predictions,
of the raw crystals, and of these at the predicted volume: a bound pays where the first is the largest.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import itertools
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aiida_e3relax.crystals.datasets.pairs_file import read_different_pairs
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import Crystals, make_crystals
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint, load_checkpoint
from aiida_e3relax.gnn.evaluation.evaluate import DUMMY, MEASURES, Measured, measure
from aiida_e3relax.gnn.models.ensemble import Ensemble
from aiida_e3relax.gnn.prediction.predict import predict

LEAST_SURE = (100, 50, 20, 10, 5, 2, 1)
"""Percents of the crystals in the second table."""

FIGURES = ('uncertainty_A_median', 'spearman_coordinates', 'spearman_bonds')

DISTANCES = (0, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, np.inf)
UNCERTAINTIES = (0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, np.inf)
"""Where bins of the last tables begin."""

COMPARED = ('coordinate_mae_A', 'bond_length_mae_A', 'volume_mae_A3')

RANDOM = 60
"""Random cells of a kind."""


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', nargs='+', type=Path)
    parser.add_argument('--model', type=Path, default=DEFAULT_CHECKPOINT, help='an ensemble')
    parser.add_argument('--split', nargs='+', default=['val', 'test'], help='such as test_ood_oxides')
    parser.add_argument('--no-members', action='store_true', help='leave out the members alone')
    parser.add_argument('--threads', type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ensemble = load_checkpoint(options.model)
    if not isinstance(ensemble.model, Ensemble):
        raise SystemExit(f'--model {options.model}: is no ensemble; give one that `e3relax ensemble` wrote')
    models = {'ensemble': ensemble}
    if not options.no_members:
        members: Any = ensemble.model.members
        models |= {
            f'member {number} alone': dataclasses.replace(ensemble, model=member, reference=None)
            for number, member in enumerate(members)
        }
    pairs = Pairs.concatenate(read_different_pairs(options.pairs))
    if missing := [split for split in options.split if split not in pairs.split]:
        raise SystemExit(f'--split {missing[0]}: not in the files; theirs are {", ".join(np.unique(pairs.split))}')
    measured = {
        split: [
            m
            for m in measure(models, pairs.of_split(split), torch.device('cpu'), with_matches=False)
            if m.frame == 'aligned'
        ]
        for split in options.split
    }
    print(calibration_table(measured))
    of_first = measured[options.split[0]]
    for source in dict.fromkeys(m.data for m in of_first):
        of = {m.of: m for m in of_first if m.data == source}
        print(f'\n{least_sure_table(of["ensemble"], of[DUMMY])}')
    print(f'\n{group_table(measured)}')
    if ensemble.reference is not None:
        print(f'\n{unknown_table(ensemble)}')
        print(f'\n{bins_table(measured, "distance", DISTANCES)}')
    print(f'\n{bins_table(measured, "uncertainty", UNCERTAINTIES)}')
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


def named_groups(measured: dict[str, list[Measured]]) -> Iterable[tuple[str, Measured, NDArray[np.bool_]]]:
    """Yield the name of each group, what was measured of its data set, and which of that belong to it."""
    for split, every in measured.items():
        for m in every:
            families = m.groups.get('family', np.full(len(m.labels), ''))
            for family in np.unique(families).tolist():
                yield ', '.join(filter(None, (m.data, split, family))), m, families == family


def group_table(measured: dict[str, list[Measured]]) -> str:
    """Return, by group, distances to the training and what they and the uncertainty tell of the errors of bonds."""
    lines = [
        '| | pairs | distance, 5 % | half | 95 % | unlike % | bond error A, median | uncertainty A, median '
        '| rank, distance | rank, uncertainty | error / uncertainty |',
        '|---|---|---|---|---|---|---|---|---|---|---|',
    ]
    for name, m, chosen in named_groups(measured):
        found = m.calibration_of(chosen)
        if m.of != 'ensemble' or found is None:
            continue
        row, cells = found.row(), ['', '', '', '']
        if found.distance is not None:
            cells = [f'{value:.2f}' for value in np.nanquantile(found.distance, [0.05, 0.5, 0.95])]
            cells.append(f'{row["unlike_training_percent"]:.0f}')
        cells += [f'{np.median(found.bond_error):.3f}', f'{row["uncertainty_A_median"]:.3f}']
        names = ('spearman_distance_bonds', 'spearman_bonds', 'observed_over_stated_median')
        cells += ['' if row.get(key) is None else f'{row[key]:.2f}' for key in names]
        lines.append(f'| {name} | {len(found.stated)} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def unknown_table(ensemble: Checkpoint) -> str:
    """Return the distances of crystals whose relaxed form is not known."""
    lines = [
        '| crystals | | distance, 5 % | half | 95 % | unlike % | uncertainty A, median |',
        '|---|---|---|---|---|---|---|',
    ]
    for name, crystals in unknown_crystals(ensemble.elements):
        found = predict(ensemble.model, crystals, ensemble.elements, torch.device('cpu'), reference=ensemble.reference)
        assert found.distance is not None
        assert found.uncertainty is not None
        known = found.distance[np.isfinite(found.distance)]
        cells = [f'{value:.2f}' for value in np.quantile(known, [0.05, 0.5, 0.95])]
        cells += [f'{100 * np.mean(known > 1):.0f}', f'{np.nanmedian(found.uncertainty):.3f}']
        lines.append(f'| {name} | {len(known)} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def unknown_crystals(elements: list[int]) -> Iterable[tuple[str, Crystals]]:
    """Yield sets of crystals by name: those of `benchmarks/families.py`, and random cells of two kinds."""
    from pymatgen.io.ase import AseAtomsAdaptor

    from benchmarks.families import family_crystals

    for title, scaled in (('prototypes with other elements', False), ('the same, volumes by pymatgen', True)):
        frames = [AseAtomsAdaptor.get_atoms(structure) for _, _, structure in family_crystals(scaled)]
        yield title, make_crystals([a.numbers for a in frames], [a.positions for a in frames], [a.cell for a in frames])
    yield 'random cells, Sr-Nb-H', random_cells([38, 41, 1], seed=0)
    yield 'random cells, any elements', random_cells(elements, seed=1)


def random_cells(elements: list[int], seed: int) -> Crystals:
    """Return cells of 4 to 12 atoms of three elements, at random places that are not too near, and twice their volume.

    The volume is that of spheres of the covalent radii.
    """
    from ase import Atoms
    from ase.data import covalent_radii

    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(RANDOM):
        numbers = rng.choice(rng.choice(elements, 3), rng.integers(4, 13))
        volume = 2 * (4 / 3 * np.pi * covalent_radii[numbers] ** 3).sum()
        cell = np.eye(3) + 0.2 * rng.normal(size=(3, 3))
        cell *= np.cbrt(volume / abs(np.linalg.det(cell)))
        tries = [Atoms(numbers, scaled_positions=rng.random((len(numbers), 3)), cell=cell, pbc=True) for _ in range(50)]
        frames.append(
            max(tries, key=lambda atoms: min(atoms.get_all_distances(mic=True)[np.triu_indices(len(atoms), 1)]))
        )
    return make_crystals([a.numbers for a in frames], [a.positions for a in frames], [a.cell.array for a in frames])


def bins_table(measured: dict[str, list[Measured]], by: str, edges: tuple[float, ...]) -> str:
    """Return mean errors of predictions, of raw crystals, and of these scaled, in bins of what is stated `by` a name.

    For each data set and split, and for all together.
    """
    lines = [
        f'| {by} | | pairs | coordinates A | raw | scaled | bonds A | raw | scaled | volume A^3 | raw '
        '| worse than raw % | than scaled % |',
        '|---|---|---|---|---|---|---|---|---|---|---|---|---|',
    ]
    rows: dict[str, list[tuple[NDArray[np.float64], ...]]] = {'all': []}
    for split, every in measured.items():
        for source in dict.fromkeys(m.data for m in every):
            of = {m.of: m for m in every if m.data == source}
            stated = getattr(of['ensemble'], by)
            if stated is None:
                continue
            trio = [of[name].values for name in ('ensemble', DUMMY, f'{DUMMY} at volume of ensemble')]
            found = (stated, *(values[measure] for measure in COMPARED for values in trio))
            rows[f'{source}, {split}'] = [found]
            rows['all'].append(found)
    for name, parts in rows.items():
        if not parts:
            continue
        stated, *errors = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        for least, most in itertools.pairwise(edges):
            chosen = (stated >= least) & (stated < most)
            if not chosen.any():
                continue
            means = [f'{error[chosen].mean():.3f}' for error in errors[:8]]
            ours, raw, scaled = (error[chosen] for error in errors[:3])
            worse = [f'{100 * np.mean(ours > other):.0f}' for other in (raw, scaled)]
            upper = f'to {most:g}' if np.isfinite(most) else 'and more'
            lines.append(f'| {least:g} {upper} | {name} | {chosen.sum()} | {" | ".join(means + worse)} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
