"""Measure what a network learns from a campaign's relaxations of a family that it does not know, in retrospect.

    python -m benchmarks.learning pnictides.npz substitution.npz --family P Li,Na,K,Rb,Cs --output phosphides

The data sets are those that `e3relax data` writes. All pairs with an element of each group of --family are taken out,
and networks are trained on the rest, which must know these elements from other crystals: the base model, an ensemble
that states its uncertainty and its distance to the training. Some chemical systems of the family judge and are never
learnt from. The others are revealed, 25, 50, 100 at a time, in each order: at random, those first of which the base
model is least certain, and those first that are furthest from its training. From each the base model is tuned, with as
many pairs of its own training beside them (`--replay`). Tuned models are measured on what judges and, for what tuning
costs elsewhere, on the test pairs of the rest; beside them stand the base model, the potentials (relaxations from the
unrelaxed crystals; none that has taught what judges), the Dummy, and the Dummy scaled to the volume that the base model
predicts. Networks and potentials are held to what moved in each pair. What fails counts as it began, and is counted, as
is what did not converge. Errors are in the aligned frame; CPU seconds are those of the tuning, of the last process if
it was broken off. Pairs of one chemical system are alike: with few systems among the judges small differences mean
nothing.

Every step leaves its result in the folder of --output, and the command goes on where it was. At the end it prints the
table and draws the figure.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from ase.data import atomic_numbers
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import read_different_pairs
from aiida_e3relax.crystals.freedom.pairs import scaled
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint, load_checkpoint
from aiida_e3relax.gnn.data.splits import chemical_systems
from aiida_e3relax.gnn.device import prepare_device
from aiida_e3relax.gnn.training.ensembles import combine
from aiida_e3relax.gnn.training.reference_sets import add_reference_set
from aiida_e3relax.gnn.training.run import train
from aiida_e3relax.gnn.training.settings import read_settings
from benchmarks.judging import MEASURES, check_judges, errors, judged, kept, network, relaxations

ORDERS = ('random', 'least-certain', 'most-different')
MEMBERS = 2
RULES = 4
"""Of what is measured; results of other rules are others."""
VALIDATION_SHARE = 0.15
"""Of what is revealed: it chooses the best step of the tuning."""


def main() -> None:
    """Train, reveal, tune, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', nargs='+', type=Path, help='training files that `e3relax data` wrote')
    parser.add_argument('--family', nargs='+', required=True, help='groups of elements: who has one of each is foreign')
    parser.add_argument('--output', type=Path, required=True, help='folder of all that is computed')
    parser.add_argument('--sizes', nargs='+', type=int, default=[25, 50, 100, 200, 400], help='(default: %(default)s)')
    parser.add_argument('--orders', nargs='+', choices=ORDERS, default=list(ORDERS))
    parser.add_argument('--judges', type=int, default=150, help='pairs of the family that judge (default: %(default)s)')
    parser.add_argument(
        '--potentials',
        nargs='*',
        default=['chgnet', 'sevennet-mf-0'],
        help='that relax what judges; none that has taught it (default: %(default)s)',
    )
    parser.add_argument('--features', type=int, default=48)
    parser.add_argument('--base-steps', type=int, default=3000, help='of each of the two members')
    parser.add_argument('--steps', type=int, default=500, help='of a tuning at most (default: %(default)s)')
    parser.add_argument('--replay', type=float, default=1.0, help='old pairs for each new one (default: %(default)s)')
    parser.add_argument('--device', default='auto')
    parser.add_argument('--threads', type=int)
    options = parser.parse_args()
    device = prepare_device(options.device, options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    check_settings(options, parser)

    everything = Pairs.concatenate(read_different_pairs(options.pairs))
    groups = [[atomic_numbers[symbol] for symbol in group.split(',')] for group in options.family]
    family, rest = divide(everything, groups)
    judges, pool = draw_judges(family, options.judges)
    elsewhere = rest.of_split('test')
    try:
        check_judges(options.potentials, judges, elsewhere)
    except InputError as error:
        parser.error(str(error))
    print(
        f'{len(family)} pairs of {" ".join(options.family)}: {len(judges)} of {len(set(chemical_systems(judges)))} '
        f'chemical systems judge, {len(pool)} can be learnt from'
    )
    base = train_base(rest, options, device)
    rows = measure_others(judges, elsewhere, base, options, device)
    _, stated = network(base, pool, device)
    for order in options.orders:
        sequence = order_of(order, stated)
        for size in [size for size in options.sizes if size <= len(pool)]:
            name = f'{order}-{size}'
            revealed = pool.select(np.sort(sequence[:size]))
            rows.append(
                kept(
                    options.output / f'{name}.json',
                    lambda name=name, revealed=revealed: {
                        'start': order_title(name),
                        'pairs': len(revealed),
                        **tune(name, revealed, rest, judges, elsewhere, base, options, device),
                    },
                )
            )
    print(markdown(rows))
    draw(rows, options.output / 'learning.png')


def check_settings(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """End where the folder of the output has results of other settings than these."""
    may_grow = ('output', 'sizes', 'orders', 'potentials', 'device', 'threads')
    asked = {name: value for name, value in vars(options).items() if name not in may_grow}
    asked = json.loads(json.dumps(asked | {'rules': RULES}, default=str))
    found = kept(options.output / 'settings.json', lambda: asked)
    if other := [name for name in asked if asked[name] != found.get(name)]:
        parser.error(f'{options.output}: has results of another --{other[0].replace("_", "-")}; give another --output')


def divide(pairs: Pairs, groups: list[list[int]]) -> tuple[Pairs, Pairs]:
    """Return the pairs that have an element of each group, and the others."""
    crystals, has_all = pairs.unrelaxed, np.ones(len(pairs), dtype=bool)
    for numbers in groups:
        has = np.zeros(len(pairs), dtype=bool)
        has[crystals.structure_index[np.isin(crystals.numbers, numbers)]] = True
        has_all &= has
    return pairs.select(np.flatnonzero(has_all)), pairs.select(np.flatnonzero(~has_all))


def draw_judges(family: Pairs, count: int) -> tuple[Pairs, Pairs]:
    """Return about `count` pairs that judge, of whole chemical systems, and the others."""
    systems = np.array(chemical_systems(family))
    names = np.random.default_rng(0).permutation(np.unique(systems))
    sizes = np.cumsum([np.count_nonzero(systems == name) for name in names])
    judging = np.isin(systems, names[: 1 + int(np.searchsorted(sizes, count))])
    return family.select(np.flatnonzero(judging)), family.select(np.flatnonzero(~judging))


def train_base(rest: Pairs, options: argparse.Namespace, device: torch.device) -> Checkpoint:
    """Return the ensemble that has learnt from the rest alone."""
    path = options.output / 'base.pt'
    if not path.is_file():
        members = []
        for seed in range(MEMBERS):
            settings = {
                'architecture': 'e3relax-h2',
                'hyperparameters': {'features': options.features, 'layers': 3, 'max_neighbours': 24},
                'steps': options.base_steps,
                'seed': seed,
            }
            folder = options.output / f'base-{seed}'
            train(rest, read_settings(settings, folder.name), folder, device)
            members.append(folder / 'best.pt')
        unfinished = path.with_suffix('.part.pt')
        combine(members, unfinished)
        add_reference_set(unfinished, rest.of_split('train'), device)
        unfinished.replace(path)
    return load_checkpoint(path)


def order_of(order: str, stated: Sequence[Mapping[str, Any]]) -> NDArray[np.int64]:
    """Return the indices ``(S,)`` of crystals, those first that are to be learnt from first."""
    if order == 'random':
        return np.random.default_rng(0).permutation(len(stated))
    key = 'uncertainty_A' if order == 'least-certain' else 'distance_to_training'
    return np.argsort([-row.get(key, np.inf) for row in stated], kind='stable')


def tune(
    name: str,
    revealed: Pairs,
    rest: Pairs,
    judges: Pairs,
    elsewhere: Pairs,
    base: Checkpoint,
    options: argparse.Namespace,
    device: torch.device,
) -> dict[str, Any]:
    """Return the errors of the base model tuned on the pairs that are `revealed`, and what the tuning took."""
    rng = np.random.default_rng(0)
    count = max(3, round(VALIDATION_SHARE * len(revealed)))
    split = np.full(len(revealed), 'train', dtype=rest.split.dtype)
    split[rng.permutation(len(revealed))[:count]] = 'val'
    new = dataclasses.replace(revealed, split=split)
    old = rest.of_split('train')
    replayed = min(len(old), round(options.replay * len(revealed)))
    chosen = old.select(np.sort(rng.choice(len(old), replayed, replace=False)))
    settings = {
        'architecture': base.architecture,
        'hyperparameters': dataclasses.asdict(base.model.hyperparameters),
        'steps': options.steps,
        'validate_every': 50,
        'early_stop': 4,
    }
    folder = options.output / name
    start = time.process_time()
    train(
        Pairs.concatenate([new, chosen] if replayed else [new]),
        read_settings(settings, name, 'finetune'),
        folder,
        device,
        tuned_from=base,
    )
    seconds = time.process_time() - start
    tuned = load_checkpoint(folder / 'best.pt')
    return {
        'CPU s': seconds,
        'judged': judged(judges, *network(tuned, judges, device)),
        'elsewhere': judged(elsewhere, *network(tuned, elsewhere, device)),
    }


def measure_others(
    judges: Pairs, elsewhere: Pairs, base: Checkpoint, options: argparse.Namespace, device: torch.device
) -> list[dict[str, Any]]:
    """Return the rows of what learns nothing: the Dummies, the base model, and the potentials."""
    predicted, told = network(base, judges, device)
    rows: list[dict[str, Any]] = [
        {'start': 'Dummy', 'judged': errors(judges, judges.unrelaxed)},
        {'start': 'scaled Dummy', 'judged': errors(judges, scaled(judges, predicted.volumes))},
        {
            'start': 'base model',
            'pairs': 0,
            'judged': judged(judges, predicted, told),
            'elsewhere': judged(elsewhere, *network(base, elsewhere, device)),
        },
    ]
    for name in options.potentials:
        relaxed, told, seconds = relaxations(judges, name, options.output, device)
        rows.append({'start': name, 'CPU s': seconds, 'judged': judged(judges, relaxed, told)})
    return rows


def order_title(name: str) -> str:
    """Return the order of a tuning in words."""
    return name.rpartition('-')[0].replace('-', ' ')


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table: means, medians in brackets."""
    counts = ('failed', 'not converged')
    title = ['start or order', 'pairs learnt from', *MEASURES, *(f'{name}, elsewhere' for name in MEASURES)]
    title += [*counts, 'CPU s']
    lines = ['| ' + ' | '.join(title) + ' |', '|' + '---|' * len(title)]
    for row in rows:
        cells = [row['start'], str(row.get('pairs', ''))]
        for part in ('judged', 'elsewhere'):
            of = row.get(part, {})
            cells += [f'{of[name][0]:.3g} ({of[name][1]:.3g})' if of else '' for name in MEASURES]
        cells += [str(row['judged'].get(name, '')) for name in counts]
        cells.append(f'{row["CPU s"]:.0f}' if 'CPU s' in row else '')
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw mean errors over the number of pairs learnt from, with what learns nothing as lines."""
    figure, axes = plt.subplots(1, len(MEASURES), figsize=(15, 4), layout='constrained')
    (base,) = [row for row in rows if row['start'] == 'base model']
    learnt = {row['start']: [] for row in rows if row.get('pairs')}
    for order in learnt:
        learnt[order] = [base, *sorted((r for r in rows if r['start'] == order), key=lambda row: row['pairs'])]
    for axis, measure in zip(axes, MEASURES, strict=True):
        for order, points in learnt.items():
            axis.plot([p['pairs'] for p in points], [p['judged'][measure][0] for p in points], marker='o', label=order)
        for number, row in enumerate(row for row in rows if 'pairs' not in row):
            style = ('-', '--', ':', '-.')[number % 4]
            axis.axhline(row['judged'][measure][0], color='0.4', linestyle=style, label=row['start'])
        axis.set(xlabel='pairs of the family learnt from', ylabel=f'{measure}, mean', xscale='symlog', ylim=(0, None))
        axis.xaxis.set_major_formatter('{x:.0f}')
    axes[0].legend(fontsize='small')
    figure.savefig(path, dpi=150)


if __name__ == '__main__':
    main()
