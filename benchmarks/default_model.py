r"""Train the package's default model from its data, measure it and publish it.

    e3relax data pnictides/ substitution.npz --output pairs.npz
    e3relax data slabs/unrelaxed.extxyz::slabs/relaxed.extxyz --name slabs --output slabs.npz \
        --fractions 0.6 0.1 0.3
    python benchmarks/default_model.py pairs.npz --stages 2 --output default
    cp default/ensemble.pt two-stages.pt
    e3relax distil pairs.npz --output distilled.npz --teacher sevennet-mf-0 --model two-stages.pt \
        --count 2816 --never benchmarks/judged.txt --held-out-val carbides borides spinels half-Heuslers
    e3relax denoise pairs.npz --output denoising.npz
    python benchmarks/default_model.py pairs.npz slabs.npz distilled.npz denoising.npz --output default --publish

The default is an ensemble. Its members are trained one after the other, each in three stages: on DFT's relaxations of
bulk crystals as they are; then on the part of them that keeps the symmetry of the start, with the pnictides taken more
often; then on the symmetric part of everything: what a teacher relaxed, slabs, and DFT's crystals from their rattled
and strained selves, too. The teacher's steps begin
at what the first two stages predict. `--begin-with copy.pt` takes the members of an ensemble, such as a copy of that
one, for what these stages give. No training pair has a chemical system of `judged.txt`. The command goes on where it
was stopped, and leaves out what is done. The ensemble gets environments of its training, and its uncertainty is
calibrated on the validation splits, named ones too; the test splits are only measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import DATA, report

from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash, read_different_pairs
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint, load_content
from aiida_e3relax.gnn.data.splits import chemical_systems
from aiida_e3relax.gnn.data.starts.held_out import read_never
from aiida_e3relax.gnn.device import prepare_device
from aiida_e3relax.gnn.training.ensembles import calibrate, combine, separate
from aiida_e3relax.gnn.training.reference_sets import add_reference_set
from aiida_e3relax.gnn.training.run import check_same_settings, train
from aiida_e3relax.gnn.training.settings import TrainingSettings, read_settings

SECOND_STAGE: dict[str, Any] = {
    'learning_rate': 1e-3,
    'weight_decay': 0.3,
    'steps': 20000,
    'validate_every': 1000,
    'early_stop': None,
    'oversampling': {'pnictides': 2},
    'symmetric_targets': True,
}

THIRD_STAGE: dict[str, Any] = {
    'learning_rate': 8e-4,
    'weight_decay': 0.3,
    'steps': 12000,
    'validate_every': 1000,
    'early_stop': None,
    'oversampling': {'pnictides': 5, 'substitution': 3, 'slabs': 20, 'distilled': 2},
    'symmetric_targets': True,
    'balanced_validation': True,
}
"""DFT's pairs count more than a teacher's; a validation by pairs would hardly see the slabs and what is distilled."""

JUDGED = Path(__file__).parent / 'judged.txt'

MEMBERS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    'member-0': (
        {'seed': 0, 'steps': 16000},
        SECOND_STAGE | {'seed': 10, 'steps': 16000, 'oversampling': {'pnictides': 4}},
        THIRD_STAGE | {'seed': 20},
    ),
    'member-1': ({'seed': 1, 'steps': 12000}, SECOND_STAGE | {'seed': 11}, THIRD_STAGE | {'seed': 21}),
    'member-2': ({'seed': 2, 'steps': 14000}, SECOND_STAGE | {'seed': 12}, THIRD_STAGE | {'seed': 22}),
}
"""The members' three stages: what their settings are beside the presets `short`, `finetune` and `finetune`."""

EARLY = ('pnictides', 'substitution')
"""The data sets of the first two stages; the third one has all that are given."""


def main() -> None:
    """Train what is missing, combine, calibrate, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', nargs='+', type=Path, help='training files that `e3relax data` and `distil` wrote')
    parser.add_argument('--output', type=Path, default=Path('default'), help='folder of the runs')
    parser.add_argument('--begin-with', type=Path, help='an ensemble whose members begin the third stage')
    parser.add_argument('--stages', type=int, choices=[2, 3], default=3, help='2 made the default that knew no slabs')
    parser.add_argument('--members', nargs='+', choices=MEMBERS, help='train these alone, and combine none')
    parser.add_argument('--device', default='auto')
    parser.add_argument('--threads', type=int)
    parser.add_argument('--publish', action='store_true', help="make the ensemble the package's default")
    options = parser.parse_args()
    device = prepare_device(options.device, options.threads)
    files = [without_judged(pairs) for pairs in read_different_pairs(options.pairs)]
    pairs, names = Pairs.concatenate(files), options.members or list(MEMBERS)
    if unknown := sorted(set(pairs.source.tolist()) - set(DATA)):
        parser.error(f'data sets: expected {", ".join(DATA)}, found {", ".join(unknown)} (see DATA of accuracy.py)')
    early = early_pairs(files)
    if options.stages == 2:
        pairs = early
    if options.begin_with is None:
        begin = {name: trained_early(name, early, options.output, device) for name in names}
    else:
        paths = separate(options.begin_with, options.output / 'begin')
        if len(paths) != len(MEMBERS):
            parser.error(f'--begin-with {options.begin_with}: expected {len(MEMBERS)} members, found {len(paths)}')
        begin = dict(zip(MEMBERS, paths, strict=True))
    members = [begin[name] for name in names]
    if options.stages == 3:
        members = [trained_on_all(name, pairs, begin[name], options.output, device) for name in names]
    if options.members:
        return
    ensemble = options.output / 'ensemble.pt'
    combine(members, ensemble, half=True)
    add_reference_set(ensemble, pairs.of_split('train'), device)
    held_back = pairs.select(np.flatnonzero(np.char.startswith(pairs.split, 'val')))
    calibrate(ensemble, held_back, device, trained_on=pairs.of_split('train'))
    report(ensemble, pairs, device, options.publish)


def without_judged(pairs: Pairs) -> Pairs:
    """Return the pairs without those to train on whose chemical systems are judged elsewhere."""
    is_judged = np.isin(chemical_systems(pairs), list(read_never([str(JUDGED)])))
    return pairs.select(np.flatnonzero(~is_judged | (pairs.split != 'train')))


def early_pairs(files: Sequence[Pairs]) -> Pairs:
    """Return the pairs of the first two stages, of the files that have some: with or without others the same ones."""
    early = [pairs.select(np.flatnonzero(np.isin(pairs.source, EARLY))) for pairs in files]
    return Pairs.concatenate(pairs for pairs in early if len(pairs))


def trained_early(name: str, early: Pairs, output: Path, device: torch.device) -> Path:
    """Take a member through its first two stages, as far as they are not done, and return its checkpoint."""
    first, second = output / name, output / f'{name}-tuned'
    stages = MEMBERS[name]
    train_once(early, read_settings(stages[0], first.name), first, device)
    tuning = read_settings(stages[1], second.name, 'finetune')
    train_once(early, tuning, second, device, first / 'best.pt')
    return second / 'best.pt'


def trained_on_all(name: str, pairs: Pairs, begin: Path, output: Path, device: torch.device) -> Path:
    """Take a member through its third stage, from the checkpoint `begin`, and return its checkpoint."""
    last = output / f'{name}-all'
    settings = read_settings(MEMBERS[name][2], last.name, 'finetune')
    train_once(pairs, settings, last, device, begin)
    return last / 'best.pt'


def train_once(
    pairs: Pairs, settings: TrainingSettings, folder: Path, device: torch.device, begin: Path | None = None
) -> None:
    """Train from the checkpoint `begin`, or from scratch; a training that is complete is not prepared once more."""
    state = folder / 'last.pt'
    if state.is_file():
        check_same_settings(settings, folder / 'settings.json')
        done = load_content(state)
        if (done['step'], done['data_hash']) == (settings.steps, pairs_hash(pairs)):
            return
    train(pairs, settings, folder, device, tuned_from=begin and load_checkpoint(begin))


if __name__ == '__main__':
    main()
