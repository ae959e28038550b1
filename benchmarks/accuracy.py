"""Measure a checkpoint on the test splits of its data sets, named ones too: the README's table, and the model card.

    python benchmarks/accuracy.py pnictides.npz substitution.npz
    python benchmarks/accuracy.py pnictides.npz substitution.npz --model best.pt --publish

The data sets are those that `e3relax data` writes. With --publish the checkpoint becomes the package's default, and its
model card is written beside it with these figures.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aiida_e3relax.crystals.datasets.pairs_file import read_different_pairs
from aiida_e3relax.crystals.metrics import cell_shape_deviation, coordinate_mae, volume_error
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.crystals.structures import make_crystals
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint, load_checkpoint
from aiida_e3relax.gnn.checkpoints.model_card import write_card
from aiida_e3relax.gnn.device import prepare_device
from aiida_e3relax.gnn.evaluation.evaluate import FRAMES, MEASURES, MOVABLE, Measured, measure
from aiida_e3relax.gnn.prediction.predict import predict
from aiida_e3relax.gnn.training.targets import symmetrised_targets

DATA = {
    'pnictides': 'Pandey, Qu, Stevanovic, St. John, Gorai, Patterns 2021 (prashungorai/combined-gnn, MIT): '
    'hypothetical ternary and binary pnictides, unrelaxed and relaxed; the source states no DFT code or settings',
    'substitution': "a donor's DFT-relaxed structure with the target's elements put in, to the target's own "
    'DFT-relaxed structure; Materials Project (CC-BY-4.0), Alexandria and WBM structures as in SLICES, chemeleon '
    '(MIT), 3DSC (CC-BY-4.0), matcalc (BSD-3) and upper-bound-energy-gnn (MIT); synthetic inputs, mixed DFT settings',
    'slabs': 'Pd-Pt-Ag slabs with fixed atoms (Huamh/Data-for-cluster-expansion-of-PdPtAg-ternary-alloy, MIT)',
    'distilled': 'starts drawn by `e3relax distil` from the crystals of the others, relaxed by a potential, not by DFT',
    'denoising': "the others' DFT-relaxed crystals to train on, rattled and strained, back to themselves",
}

BONDS = 'bond_length_mae_A'
"""DeepRelax's measure, beside the others."""

NAMES = {'model': 'network', 'dummy': 'Dummy', 'dummy at volume of model': "Dummy at the network's volume"}

LIMITS = [
    'Trained on at most 64 (pnictides) or 24 (all others) atoms a cell; larger cells are extrapolation.',
    'Coordinates were learnt mostly from pnictides; in other chemistries the volume is predicted far better than '
    'shape and sites. In families of anions and classes of prototypes of which no distilled pair was learnt, '
    'coordinates are a fifth to a third better than those of the start at the predicted volume: see the rows test_... '
    'of the metrics. DFT pairs of these families, in other chemical systems, were learnt.',
    'Magnetism, charge and oxidation states are not inputs.',
    'Keeps the symmetry of what it is given, so that it cannot predict what breaks it: 23 % of the relaxations of the '
    'pnictides in the test split, which make up more than half of each mean error there, and 1 % of substitution.',
    'Inputs were mostly hypothetical compounds in the cells of other compounds, with volumes far off (see '
    'training_data); a structure already close to its minimum may be moved away from it.',
    'The targets mix DFT settings (PBE and PBE+U); expect volume errors of the size of those differences.',
    'The split of pnictides is the one it comes with: 487 of its 950 test pairs end in a crystal that is the end of a '
    'training pair, too, and over 100 repeat a training pair; its figures measure interpolation.',
]

OF_DATA = {
    'slabs': 'What it knows of surfaces are Pd-Pt-Ag slabs in a fixed cell.',
    'distilled': 'Layers with a vacuum and vacancies it knows from relaxations by a potential, whose errors it has.',
}
BULK_ONLY = 'Bulk crystals only: no surfaces, molecules, layers with vacuum, or defects were seen.'
"""Limits that depend on what was learnt from."""

BROKEN_COORDINATES_A, BROKEN_SHAPE_A2 = 0.02, 0.5
"""A relaxation breaks the symmetry of its start where it differs from its symmetric part by more than one of these."""

SAMPLE = ('AlSb', 'GaP', 'AlP', 'CdTe', 'InP', 'ZnSe')
"""Zinc-blende crystals, put into the cell of GaAs, whose predictions stand in the card."""


def main() -> None:
    """Measure, print the table, and publish where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', nargs='+', type=Path)
    parser.add_argument('--model', type=Path, default=DEFAULT_CHECKPOINT)
    parser.add_argument('--device', default='auto')
    parser.add_argument('--publish', action='store_true', help="make the checkpoint the package's default")
    options = parser.parse_args()
    pairs = Pairs.concatenate(read_different_pairs(options.pairs))
    report(options.model, pairs, prepare_device(options.device, None), options.publish)


def report(model: Path, pairs: Pairs, device: torch.device, publish: bool) -> None:
    """Print what a checkpoint reaches on the test splits, and make it the package's default where asked."""
    checkpoint = load_checkpoint(model)
    splits = [split for split in np.unique(pairs.split).tolist() if split.startswith('test')]
    measured = {split: measure({'model': checkpoint}, pairs.of_split(split), device) for split in splits}
    rows = [{'split': split, **m.row()} for split, found in measured.items() for m in found]
    print(markdown(rows))
    print(symmetry_markdown(pairs.of_split('test'), measured['test']))
    if publish:
        made = card(checkpoint, rows, volume_changes(pairs.of_split('train')))
        if model != DEFAULT_CHECKPOINT:
            shutil.copyfile(model, DEFAULT_CHECKPOINT)
        write_card(DEFAULT_CHECKPOINT, made)
        print(f'published as {DEFAULT_CHECKPOINT.name}')


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a table: mean (median). Where files have no frame of their own, the aligned rows alone."""
    lines = [
        '| data, test split | frame | | coordinates A | cell shape A^2 | volume A^3 | bonds A | match % |',
        '|---|---|---|---|---|---|---|---|',
    ]
    aligned_rows = {_place(row): row for row in rows if row['frame'] == FRAMES[1]}
    for row in rows:
        if row['frame'] == FRAMES[0] and _figures(row) == _figures(aligned_rows[_place(row)]):
            continue
        figures, name = _figures(row), NAMES[row['of']]
        if f'{MOVABLE}_mean' in row:
            figures[0] += f', of movable atoms {row[f"{MOVABLE}_mean"]:.3g} ({row[f"{MOVABLE}_median"]:.3g})'
        split = row['split'].removeprefix('test').replace('_', ', ', 1)
        lines.append(
            f'| {row["data"]}{split}, {row["pairs"]} pairs | {row["frame"]} | {name} | '
            + ' | '.join(figures)
            + f' | {row["match_rate_percent"]:.1f} |'
        )
    return '\n'.join([*lines, '', f'Mean (median) over pairs. {_circumstances()}'])


def _place(row: dict[str, Any]) -> tuple[str, str, str]:
    """Return data set, split and model."""
    return row['data'], row['split'], row['of']


def _figures(row: dict[str, Any]) -> list[str]:
    """Return means and medians."""
    return [f'{row[f"{name}_mean"]:.3g} ({row[f"{name}_median"]:.3g})' for name in (*MEASURES, BONDS)]


def symmetry_markdown(pairs: Pairs, measured: list[Measured]) -> str:
    """Return a table of the aligned errors where relaxation keeps the symmetry of the start, and where it breaks it.

    The last line of a data set has what an oracle would reach that keeps the symmetry, as the network does: the
    symmetric part of the relaxations themselves.
    """
    lines = [
        '| test split, aligned | pairs | coordinates A | cell shape A^2 | volume A^3 |',
        '|---|---|---|---|---|',
    ]
    for m in measured:
        if (m.frame, m.of) != ('aligned', 'model'):
            continue
        of_source = pairs.select(np.flatnonzero(pairs.source == m.data))
        target = of_source.centred(aligned(of_source).relaxed)
        symmetric = of_source.centred(symmetrised_targets(of_source).relaxed)
        coordinates, shape = coordinate_mae(symmetric, target), cell_shape_deviation(symmetric, target)
        oracle = dict(zip(MEASURES, (coordinates, shape, volume_error(symmetric, target)), strict=True))
        broken = (coordinates > BROKEN_COORDINATES_A) | (shape > BROKEN_SHAPE_A2)
        everywhere = np.ones_like(broken)
        for name, values, chosen in (
            ('network, symmetry kept', m.values, ~broken),
            ('network, symmetry broken', m.values, broken),
            ('the symmetric part of the relaxation', oracle, everywhere),
        ):
            if not chosen.any():
                continue
            figures = [_mean_and_median(values[key][chosen]) for key in MEASURES]
            lines.append(f'| {m.data}: {name} | {chosen.sum()} | ' + ' | '.join(figures) + ' |')
    return '\n'.join(['', *lines])


def _mean_and_median(values: NDArray[np.float64]) -> str:
    mean, median = (f'{value:.3g}' if value >= 1e-3 else '0' for value in (np.nanmean(values), np.nanmedian(values)))
    return f'{mean} ({median})'


def volume_changes(pairs: Pairs) -> dict[str, float]:
    """Return the median |V_relaxed / V_unrelaxed - 1| of each data set, in percent."""
    change = 100 * np.abs(pairs.relaxed.volumes / pairs.unrelaxed.volumes - 1)
    return {
        str(source): round(float(np.median(change[pairs.source == source])), 1) for source in np.unique(pairs.source)
    }


def card(checkpoint: Checkpoint, rows: list[dict[str, Any]], changes: dict[str, float]) -> dict[str, Any]:
    """Return the model card of a checkpoint with measured `rows` and median changes of volume in percent."""
    from ase.data import chemical_symbols

    return {
        'name': 'e3relax-h2-default',
        'version': 2,  # of the default: raise it with the next one
        'architecture': checkpoint.architecture,
        'form': 'symmetric',
        'hyperparameters': dict(vars(checkpoint.model.hyperparameters)),
        'parameters': sum(p.numel() for p in checkpoint.model.parameters()),
        'licence': 'CC-BY-4.0',
        'elements': [chemical_symbols[z] for z in checkpoint.elements],
        'training': checkpoint.training,
        'training_data': {
            name: {'source': DATA[name], 'median_volume_change_percent': change} for name, change in changes.items()
        },
        'units': {'length': 'A', 'volume': 'A^3', 'cell shape deviation': 'A^2'},
        'metrics': {'measured': _circumstances(), 'rows': rows},
        'sample': sample(checkpoint),
        'limits': LIMITS + ([text for name, text in OF_DATA.items() if name in changes] or [BULK_ONLY]),
        'versions': {name: version(name) for name in ('aiida-e3relax', 'torch', 'numpy')},
    }


def sample(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Return crystals with what the checkpoint makes of them on a CPU, so that anyone can see that a file is whole."""
    from ase.build import bulk

    starts = []
    for seed, formula in enumerate(SAMPLE):
        atoms = bulk(formula, 'zincblende', a=5.6533)
        atoms.rattle(0.05, seed=seed)
        starts.append(atoms)
    crystals = make_crystals(
        [atoms.numbers for atoms in starts],
        [atoms.positions for atoms in starts],
        [atoms.cell.array for atoms in starts],
        list(SAMPLE),
    )
    relaxed = predict(checkpoint.model, crystals, checkpoint.elements, torch.device('cpu')).crystals
    first = np.cumsum(crystals.n_atoms) - crystals.n_atoms
    return [
        {
            'formula': formula,
            'numbers': atoms.numbers.tolist(),
            'positions_A': atoms.positions.tolist(),
            'cell_A': atoms.cell.array.tolist(),
            'predicted_positions_A': relaxed.positions[first[index] : first[index] + len(atoms)].tolist(),
            'predicted_cell_A': relaxed.cell[index].tolist(),
        }
        for index, (formula, atoms) in enumerate(zip(SAMPLE, starts, strict=True))
    ]


def _circumstances() -> str:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return f'Measured {today} on {platform.machine()} with {os.cpu_count()} cores, torch {version("torch")}.'


if __name__ == '__main__':
    main()
