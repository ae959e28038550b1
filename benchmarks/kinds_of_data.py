"""Measure what each kind of training data is worth: short trainings from one network, with one kind more each time.

    python benchmarks/kinds_of_data.py pnictides.npz substitution.npz slabs.npz distilled.npz denoising.npz \
        --begin-with member.pt --output kinds

The first training has the data sets of `default_model.py`'s first two stages, the others one set more each, in the
order in which they are given. All take the same steps with the same seed; each goes on where it was stopped, and is
left out where it is done. The tables have, for each test split, what the network reached that they began with, what
each of them reached after all steps, and the Dummy at the volume that the first network predicts: means of the
coordinates' errors, those of atoms that may move where some are fixed, and medians of the bonds'; both in the aligned
frame.
"""

from __future__ import annotations

import argparse
import datetime
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from default_model import EARLY, THIRD_STAGE, train_once, without_judged

from aiida_e3relax.crystals.datasets.pairs_file import read_different_pairs
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint, load_content
from aiida_e3relax.gnn.device import prepare_device
from aiida_e3relax.gnn.evaluation.evaluate import MOVABLE, Measured, measure
from aiida_e3relax.gnn.training.settings import read_settings
from aiida_e3relax.gnn.training.targets import symmetrised_targets

BEGIN = 'begin'
LEARNING_RATE = 5e-4


def main() -> None:
    """Train what is missing, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', nargs='+', type=Path)
    parser.add_argument('--begin-with', type=Path, required=True, help='the network that all begin with')
    parser.add_argument('--output', type=Path, default=Path('kinds'), help='folder of the runs')
    parser.add_argument('--steps', type=int, default=2000)
    parser.add_argument('--device', default='auto')
    parser.add_argument('--threads', type=int)
    options = parser.parse_args()
    device = prepare_device(options.device, options.threads)
    pairs = without_judged(Pairs.concatenate(read_different_pairs(options.pairs)))
    pairs = Pairs.concatenate(  # once for all trainings
        [symmetrised_targets(pairs.of_split('train')), pairs.select(np.flatnonzero(pairs.split != 'train'))]
    )
    models = {BEGIN: load_checkpoint(options.begin_with)}
    for name, sources in additions(pairs).items():
        chosen = pairs.select(np.flatnonzero(np.isin(pairs.source, sources)))
        trained = chosen.source[chosen.split == 'train']
        content = THIRD_STAGE | {
            'seed': 20,
            'steps': options.steps,
            'learning_rate': LEARNING_RATE,
            'symmetric_targets': False,  # as they are already
            'oversampling': {
                source: times for source, times in THIRD_STAGE['oversampling'].items() if source in trained
            },
        }
        folder = options.output / name.replace('+ ', 'with-')
        settings = read_settings(content, folder.name, 'finetune')
        train_once(chosen, settings, folder, device, options.begin_with)
        models[name] = load_checkpoint(folder / 'best.pt')
        models[name].model.load_state_dict(load_content(folder / 'last.pt')['average'])
    splits = [split for split in np.unique(pairs.split).tolist() if split.startswith('test')]
    found = [(split, measure(models, pairs.of_split(split), device, with_matches=False)) for split in splits]
    for title, statistic, key in (
        ('coordinates A, mean', np.nanmean, 'coordinate_mae_A'),
        ('bonds A, median', np.nanmedian, 'bond_length_mae_A'),
    ):
        print(markdown(found, list(models), title, statistic, key))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    packages = f'torch {torch.__version__}, aiida-e3relax {version("aiida-e3relax")}'
    print(f'\n{options.steps} steps each. Measured {today} on {platform.machine()}, {packages}.')


def additions(pairs: Pairs) -> dict[str, list[str]]:
    """Return the data sets of each training by what it adds."""
    sources = list(dict.fromkeys(pairs.source[pairs.split == 'train'].tolist()))
    known = [source for source in sources if source in EARLY]
    rows = {' and '.join(known): list(known)}
    for source in sources:
        if source not in EARLY:
            known.append(source)
            rows[f'+ {source}'] = list(known)
    return rows


def markdown(
    found: list[tuple[str, list[Measured]]], models: list[str], title: str, statistic: np.ufunc, key: str
) -> str:
    """Return a table of one measure: a line for each data set and split, a column for each model."""
    scaled = f'dummy at volume of {BEGIN}'
    heads = {scaled: 'scaled Dummy', BEGIN: 'before'}
    lines = [
        f'\n| {title} | pairs | ' + ' | '.join(heads.get(name, name) for name in (scaled, *models)) + ' |',
        '|---' * (len(models) + 3) + '|',
    ]
    for split, measured in found:
        aligned = [m for m in measured if m.frame == 'aligned']
        for data in dict.fromkeys(m.data for m in aligned):
            of = {m.of: m for m in aligned if m.data == data}
            values = of[BEGIN].values
            which = MOVABLE if key == 'coordinate_mae_A' and MOVABLE in values else key
            figures = [f'{statistic(of[name].values[which]):.3g}' for name in (scaled, *models)]
            name = f'{data}, {split.removeprefix("test_")}' if split != 'test' else data
            lines.append(f'| {name} | {len(of[BEGIN].labels)} | ' + ' | '.join(figures) + ' |')
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
