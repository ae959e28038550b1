"""Measure what a network learns from a campaign's relaxations of a family that it does not know, in retrospect.

    python -m benchmarks.learning pnictides.npz substitution.npz --family As Li,Na,K,Rb,Cs --output arsenides

The data sets are those that `e3relax data` and `e3relax distil` write. All pairs with an element of each group of
--family are taken out, and networks are trained on the rest, which must know these elements from other crystals: the
base model, an ensemble that states its uncertainty and its distance to the training. Some chemical systems of the
family judge, each with a few pairs, and are never learnt from. The others are revealed, 25, 50, 100 at a time, in each
order: at random, those first of which the base model is least certain, and those first that are furthest from its
training. These orders are static: a campaign asks its newest model after every round, this one the base model once.
From each the base model is tuned as `e3relax finetune` does it, with as many pairs of its own training beside them
(`--replay`). Tuned models are measured on what judges and, for what tuning costs elsewhere, on the test pairs of each
of the other data sets, of chemical systems of which none is trained on (a data set without such systems has no column).
Beside them stand the base model, the potentials (relaxations from the unrelaxed crystals; none that has taught what
judges), the Dummy, and the Dummy scaled to the volume that the base model predicts. Networks and potentials are held to
what moved in each pair. What fails counts as it began, and is counted, as is what did not converge. Errors are in the
aligned frame.

Differences are paired: of each crystal, averaged over each chemical system, with the 95 % interval of their mean over
the systems by Student's t, as the crystals of one system are no independent evidence. Which systems judge is drawn by
--seed; with another one the base model and what else is the same are taken from the folder of --output.

The last row is for its time alone: the shipped default tuned on 100 pairs, on two threads. It has learnt from what
judges here. Seconds are those of a tuning, of its last process if it was broken off.

Every step leaves its result in the folder of --output, and the command goes on where it was. At the end it prints the
tables and draws the figure.
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
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray
from scipy import stats

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash, read_different_pairs
from aiida_e3relax.crystals.freedom.pairs import scaled
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint, load_checkpoint
from aiida_e3relax.gnn.data.splits import chemical_systems
from aiida_e3relax.gnn.device import prepare_device
from aiida_e3relax.gnn.training.ensembles import combine
from aiida_e3relax.gnn.training.reference_sets import add_reference_set
from aiida_e3relax.gnn.training.run import train
from aiida_e3relax.gnn.training.settings import read_settings
from benchmarks.judging import MEASURES, check_judges, errors, errors_of_each, judged, kept, network, relaxations

ORDERS = ('random', 'least-certain', 'most-different')
MEMBERS = 2
RULES = 5
"""Of what is measured; results of other rules are others."""
VALIDATION_SHARE = 0.15
"""Of what is revealed: it chooses the best step of the tuning."""
BASE = 'base model'
FEWEST = 3
"""Chemical systems of which an interval can be told."""
COMPARED = ('coordinates A', 'volume A^3')
"""The measures of which differences are told."""
DEFAULT_PAIRS, DEFAULT_THREADS = 100, 2
"""On what the shipped default is tuned for its time."""


def main() -> None:
    """Train, reveal, tune, measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', nargs='+', type=Path, help='training files that `e3relax data` wrote')
    parser.add_argument('--family', nargs='+', required=True, help='groups of elements: who has one of each is foreign')
    parser.add_argument('--output', type=Path, required=True, help='folder of all that is computed')
    parser.add_argument('--sizes', nargs='+', type=int, default=[25, 50, 100, 200, 400], help='(default: %(default)s)')
    parser.add_argument('--orders', nargs='+', choices=ORDERS, default=list(ORDERS))
    parser.add_argument(
        '--judging-systems', type=int, default=20, help='least chemical systems of the family that judge (default: 20)'
    )
    parser.add_argument('--judges', type=int, default=150, help='and least pairs, of half the systems (default: 150)')
    parser.add_argument(
        '--pairs-per-system', type=int, default=8, help='of each, and of those elsewhere, at most (default: 8)'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the draws (default: 0)')
    parser.add_argument(
        '--potentials',
        nargs='*',
        default=['chgnet', 'sevennet-mf-0'],
        help='that relax what judges; none that has taught it (default: %(default)s)',
    )
    parser.add_argument('--features', type=int, default=48)
    parser.add_argument('--base-steps', type=int, default=3000, help='of each of the two members')
    parser.add_argument('--steps', type=int, help='of a tuning at most (default: as `e3relax finetune`)')
    parser.add_argument('--replay', type=float, default=1.0, help='old pairs for each new one (default: %(default)s)')
    parser.add_argument('--device', default='auto')
    parser.add_argument('--threads', type=int)
    options = parser.parse_args()
    device = prepare_device(options.device, options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    files = read_different_pairs(options.pairs)
    check_settings(options, files, parser)

    groups = [[atomic_numbers[symbol] for symbol in group.split(',')] for group in options.family]
    family, rest = divide(Pairs.concatenate(files), groups)
    family, unknown = with_known_elements(family, rest)
    if unknown:
        print(f'left out of the family, as nothing else to train on has them: pairs with {", ".join(unknown)}')
    if not len(family):
        parser.error(
            f'--family {" ".join(options.family)}: no pair of elements that something else to train on has: add a '
            'group of elements, so that other crystals with these stay, or another training file'
        )
    least = options.judging_systems, options.judges
    judges, pool = draw_judges(family, *least, options.pairs_per_system, options.seed)
    elsewhere = find_elsewhere(rest, options.pairs_per_system, options.seed)
    n_systems = len(set(chemical_systems(judges)))
    if n_systems < FEWEST or len(pool) < min(options.sizes):
        parser.error(
            f'--judging-systems {options.judging_systems}: {n_systems} chemical systems judge and {len(pool)} pairs '
            f'are left to learn from, expected at least {FEWEST} and {min(options.sizes)}: take a larger --family'
        )
    try:
        check_judges(options.potentials, judges, *elsewhere.values())
    except InputError as error:
        parser.error(str(error))
    print(
        f'{len(family)} pairs of {" ".join(options.family)}: {len(judges)} of {n_systems} chemical systems judge, '
        f'{len(pool)} can be learnt from'
    )
    rows = Measurement(judges, pool, rest, elsewhere, options, device).run()
    print(markdown(rows))
    draw(rows, seed_folder(options) / 'learning.png')


def seed_folder(options: argparse.Namespace) -> Path:
    """Return where results with this seed are."""
    return options.output / f'seed-{options.seed}'


def check_settings(options: argparse.Namespace, files: Sequence[Pairs], parser: argparse.ArgumentParser) -> None:
    """End where the folder of the output has results of other pairs or settings than these."""
    may_change = ('output', 'sizes', 'orders', 'potentials', 'seed', 'device', 'threads')
    asked = {name: value for name, value in vars(options).items() if name not in may_change}
    asked = json.loads(json.dumps(asked | {'pairs': [pairs_hash(pairs) for pairs in files], 'rules': RULES}))
    found = kept(options.output / 'settings.json', lambda: asked)
    if other := [name for name in asked if asked[name] != found.get(name)]:
        told = 'other pairs' if other[0] == 'pairs' else f'another --{other[0].replace("_", "-")}'
        parser.error(f'{options.output}: has results of {told}; give another --output')


def divide(pairs: Pairs, groups: list[list[int]]) -> tuple[Pairs, Pairs]:
    """Return the pairs that have an element of each group, and the others."""
    crystals, has_all = pairs.unrelaxed, np.ones(len(pairs), dtype=bool)
    for numbers in groups:
        has = np.zeros(len(pairs), dtype=bool)
        has[crystals.structure_index[np.isin(crystals.numbers, numbers)]] = True
        has_all &= has
    return pairs.select(np.flatnonzero(has_all)), pairs.select(np.flatnonzero(~has_all))


def with_known_elements(family: Pairs, rest: Pairs) -> tuple[Pairs, list[str]]:
    """Return the pairs of elements that the base model is trained on, and the symbols of the other elements."""
    crystals = family.unrelaxed
    is_known = np.isin(crystals.numbers, rest.of_split('train').unrelaxed.numbers)
    unknown = [chemical_symbols[number] for number in np.unique(crystals.numbers[~is_known])]
    return family.select(np.setdiff1d(np.arange(len(family)), crystals.structure_index[~is_known])), unknown


def draw_judges(family: Pairs, systems: int, count: int, per_system: int, seed: int) -> tuple[Pairs, Pairs]:
    """Return the pairs that judge, a few of each of some chemical systems, and all pairs of the other systems.

    There are so many `systems`, and `count` pairs as far as half of all systems have them.
    """
    names = np.array(chemical_systems(family))
    found, sizes = np.unique(names, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(found))
    needed = 1 + int(np.searchsorted(np.minimum(sizes[order], per_system).cumsum(), count))
    judging = found[order[: max(systems, min(needed, len(found) // 2))]]
    is_judged = np.isin(names, judging)
    judges = draw_of_each(family.select(np.flatnonzero(is_judged)), per_system, seed)
    return judges, family.select(np.flatnonzero(~is_judged))


def find_elsewhere(rest: Pairs, per_system: int, seed: int) -> dict[str, Pairs]:
    """Return by source a few test pairs of each chemical system that nothing is trained on; without sources of none."""
    systems = np.array(chemical_systems(rest))
    is_new = ~np.isin(systems, systems[rest.split == 'train']) & np.char.startswith(rest.split, 'test')
    return {
        str(source): draw_of_each(rest.select(np.flatnonzero(is_new & (rest.source == source))), per_system, seed)
        for source in np.unique(rest.source[is_new])
    }


def draw_of_each(pairs: Pairs, count: int, seed: int) -> Pairs:
    """Return at most `count` pairs of each chemical system."""
    systems, rng = np.array(chemical_systems(pairs)), np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(systems == name))[:count] for name in np.unique(systems)]
    return pairs.select(np.sort(np.concatenate(drawn)))


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


def order_of(order: str, stated: Sequence[Mapping[str, Any]], seed: int = 0) -> NDArray[np.int64]:
    """Return the indices ``(S,)`` of crystals, those first that are to be learnt from first."""
    if order == 'random':
        return np.random.default_rng(seed).permutation(len(stated))
    key = 'uncertainty_A' if order == 'least-certain' else 'distance_to_training'
    return np.argsort([-row.get(key, np.inf) for row in stated], kind='stable')


@dataclasses.dataclass(frozen=True, eq=False)
class Measurement:
    """What is measured by, what can be learnt from, the base model's pairs, and how."""

    judges: Pairs
    pool: Pairs
    rest: Pairs
    elsewhere: Mapping[str, Pairs]
    options: argparse.Namespace
    device: torch.device

    @property
    def folder(self) -> Path:
        """Where results are."""
        return seed_folder(self.options)

    def run(self) -> list[dict[str, Any]]:
        """Return the rows of the tables."""
        self.folder.mkdir(exist_ok=True)
        base = train_base(self.rest, self.options, self.device)
        rows = self._measure_others(base)
        _, stated = network(base, self.pool, self.device)
        for order in self.options.orders:
            sequence = order_of(order, stated, self.options.seed)
            for size in [size for size in self.options.sizes if size <= len(self.pool)]:
                revealed = self.pool.select(np.sort(sequence[:size]))
                rows.append(self._learn(order, revealed, base))
        rows.append(kept(self.folder / 'default.json', self._time_default))
        return rows

    def _learn(self, order: str, revealed: Pairs, base: Checkpoint) -> dict[str, Any]:
        """Return the row of the base model tuned on the pairs that are `revealed`."""
        name = f'{order}-{len(revealed)}'

        def measure() -> dict[str, Any]:
            tuned, took = self._tune(name, revealed, base)
            return {'start': order.replace('-', ' '), 'pairs': len(revealed), **took, **self._measure(tuned)}

        return kept(self.folder / f'{name}.json', measure)

    def _tune(self, name: str, revealed: Pairs, base: Checkpoint) -> tuple[Checkpoint, dict[str, float]]:
        """Return a model tuned on the pairs that are `revealed`, and the seconds that took."""
        rng = np.random.default_rng(self.options.seed)
        count = max(3, round(VALIDATION_SHARE * len(revealed)))
        split = np.full(len(revealed), 'train', dtype=self.rest.split.dtype)
        split[rng.permutation(len(revealed))[:count]] = 'val'
        new, old = dataclasses.replace(revealed, split=split), self.rest.of_split('train')
        replayed = min(len(old), round(self.options.replay * len(revealed)))
        chosen = old.select(np.sort(rng.choice(len(old), replayed, replace=False)))
        settings = {
            'architecture': base.architecture,
            'hyperparameters': dataclasses.asdict(base.model.hyperparameters),
            'seed': self.options.seed,
            **({} if self.options.steps is None else {'steps': self.options.steps}),
        }
        folder = self.folder / name
        start, cpu = time.perf_counter(), time.process_time()
        train(
            Pairs.concatenate([new, chosen] if replayed else [new]),
            read_settings(settings, name, 'finetune'),
            folder,
            self.device,
            tuned_from=base,
        )
        took = {'CPU s': time.process_time() - cpu, 'wall s': time.perf_counter() - start}
        return load_checkpoint(folder / 'best.pt'), took

    def _time_default(self) -> dict[str, Any]:
        """Return the row of the shipped default, with its time alone."""
        count, threads = min(DEFAULT_PAIRS, len(self.pool)), torch.get_num_threads()
        drawn = np.random.default_rng(self.options.seed).choice(len(self.pool), count, replace=False)
        torch.set_num_threads(DEFAULT_THREADS)
        _, took = self._tune('default', self.pool.select(np.sort(drawn)), load_checkpoint(DEFAULT_CHECKPOINT))
        torch.set_num_threads(threads)
        return {'start': 'shipped default', 'pairs': count, **took}

    def _measure(self, model: Checkpoint) -> dict[str, Any]:
        """Return the errors of a model on what judges, and elsewhere."""
        return {
            'judged': measured(self.judges, *network(model, self.judges, self.device)),
            'elsewhere': {
                source: measured(pairs, *network(model, pairs, self.device)) for source, pairs in self.elsewhere.items()
            },
        }

    def _measure_others(self, base: Checkpoint) -> list[dict[str, Any]]:
        """Return the rows of what learns nothing: the Dummies, the base model, and the potentials."""
        judges = self.judges
        predicted, _ = network(base, judges, self.device)
        rows: list[dict[str, Any]] = [
            {'start': 'Dummy', 'judged': measured(judges, judges.unrelaxed)},
            {'start': 'scaled Dummy', 'judged': measured(judges, scaled(judges, predicted.volumes))},
            {'start': BASE, 'pairs': 0, **kept(self.folder / 'base.json', lambda: self._measure(base))},
        ]
        for name in self.options.potentials:
            relaxed, told, seconds = relaxations(judges, name, self.options.output, self.device)
            rows.append(
                {'start': name, 'is_potential': True, 'CPU s': seconds, 'judged': measured(judges, relaxed, told)}
            )
        return rows


def measured(pairs: Pairs, candidates: Crystals, rows: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Return what `judged` says, without `rows` what `errors` says, and the errors of each crystal with its system."""
    found = errors(pairs, candidates) if rows is None else judged(pairs, candidates, rows)
    each = errors_of_each(pairs, candidates)
    return {**found, 'each': {name: each[name].tolist() for name in COMPARED}, 'systems': chemical_systems(pairs)}


def means_of_systems(found: Mapping[str, Any], measure: str) -> NDArray[np.float64]:
    """Return the mean error over the crystals of each chemical system, in the order of their names."""
    _, place, counts = np.unique(found['systems'], return_inverse=True, return_counts=True)
    return np.bincount(place, weights=found['each'][measure]) / counts


def difference(one: Mapping[str, Any], other: Mapping[str, Any], measure: str) -> tuple[float, float]:
    """Return the mean over chemical systems of by how much `one` errs more, and half its 95 % interval, or NaN."""
    values = means_of_systems(one, measure) - means_of_systems(other, measure)
    if len(values) < FEWEST:
        return float(values.mean()), float('nan')
    return float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the tables: errors of what judges, their differences, and errors elsewhere; means, medians in brackets."""
    parts = [errors_table(rows), differences_table(rows), elsewhere_table(rows)]
    return '\n\n'.join(part for part in parts if part)


def errors_table(rows: list[dict[str, Any]]) -> str:
    """Return the table of all rows."""
    counts = ('failed', 'not converged')
    lines = []
    for row in rows:
        of = row.get('judged', {})
        cells = [row['start'], str(row.get('pairs', ''))]
        cells += [f'{of[name][0]:.3g} ({of[name][1]:.3g})' if of else '' for name in MEASURES]
        cells += [str(of.get(name, '')) for name in counts]
        lines.append([*cells, *(f'{row[name]:.0f}' if name in row else '' for name in ('CPU s', 'wall s'))])
    return table(['start or order', 'pairs learnt from', *MEASURES, *counts, 'CPU s', 'wall s'], lines)


def differences_table(rows: list[dict[str, Any]]) -> str:
    """Return the differences of each tuned model from the base model, and from the best potential of each measure."""
    base, learnt = find_base(rows), find_learnt(rows)
    others = [(measure, base) for measure in COMPARED if base and learnt]
    if learnt and (potentials := [row for row in rows if row.get('is_potential')]):
        others += [(measure, find_best(potentials, measure)) for measure in COMPARED]
    lines = [
        [row['start'], str(row['pairs'])]
        + [in_words(*difference(row['judged'], other['judged'], measure)) for measure, other in others]
        for row in learnt
    ]
    return table(['order', 'pairs', *(f'{measure}, minus {other["start"]}' for measure, other in others)], lines)


def elsewhere_table(rows: list[dict[str, Any]]) -> str:
    """Return the errors of each source elsewhere, and their differences from the base model."""
    base = find_base(rows)
    sources = list(base['elsewhere']) if base else []
    title = [f'{source}: {measure}{what}' for source in sources for measure in COMPARED for what in ('', ', change')]
    lines = []
    for row in [base, *find_learnt(rows)] if sources else []:
        cells = [row['start'], str(row['pairs'])]
        for source in sources:
            one, other = row['elsewhere'][source], base['elsewhere'][source]
            for measure in COMPARED:
                cells += [f'{one[measure][0]:.3g}', '' if row is base else in_words(*difference(one, other, measure))]
        lines.append(cells)
    return table(['order', 'pairs', *title], lines)


def find_best(rows: list[dict[str, Any]], measure: str) -> dict[str, Any]:
    """Return the row with the least mean over chemical systems, as differences are told."""
    return min(rows, key=lambda row: means_of_systems(row['judged'], measure).mean())


def find_base(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of the base model, empty where there is none."""
    return next((row for row in rows if row['start'] == BASE), {})


def find_learnt(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of tuned models that were measured."""
    return [row for row in rows if row.get('pairs') and 'judged' in row]


def in_words(mean: float, half: float) -> str:
    """Return a difference with its interval."""
    return f'{mean:+.3g}' if np.isnan(half) else f'{mean:+.3g} ({mean - half:+.3g} to {mean + half:+.3g})'


def table(title: list[str], lines: list[list[str]]) -> str:
    """Return a table in Markdown; empty without lines."""
    if not lines:
        return ''
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in [title, ['---'] * len(title), *lines])


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw mean errors over the number of pairs learnt from, with what learns nothing as lines."""
    figure, axes = plt.subplots(1, len(MEASURES), figsize=(15, 4), layout='constrained')
    base, found = find_base(rows), find_learnt(rows)
    learnt = {
        order: [base, *sorted((row for row in found if row['start'] == order), key=lambda row: row['pairs'])]
        for order in dict.fromkeys(row['start'] for row in found)
    }
    sizes = sorted({row['pairs'] for row in found})
    for axis, measure in zip(axes, MEASURES, strict=True):
        for order, points in learnt.items():
            axis.plot([p['pairs'] for p in points], [p['judged'][measure][0] for p in points], marker='o', label=order)
        for number, row in enumerate(row for row in rows if 'pairs' not in row):
            style = ('-', '--', ':', '-.')[number % 4]
            axis.axhline(row['judged'][measure][0], color='0.4', linestyle=style, label=row['start'])
        axis.set_xscale('symlog', linthresh=sizes[0])
        axis.set_xticks([0, *sizes], labels=[0, *sizes], minor=False)
        axis.minorticks_off()
        axis.set(
            xlabel='pairs of the family learnt from',
            ylabel=f'{measure}, mean',
            xlim=(-sizes[0] / 4, 1.2 * sizes[-1]),
            ylim=(0, None),
        )
    axes[0].legend(fontsize='small')
    figure.savefig(path, dpi=150)


if __name__ == '__main__':
    main()
