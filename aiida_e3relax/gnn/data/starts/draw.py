"""Starts drawn at random, kind by kind: always the same ones from the same pairs, seed and choices."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.crystals.freedom.words import Moves
from aiida_e3relax.crystals.geometry import find_overlap
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.validation import geometry_fault
from aiida_e3relax.gnn.data.starts.elements import family_of
from aiida_e3relax.gnn.data.starts.held_out import Refusals, split_of
from aiida_e3relax.gnn.data.starts.kinds import KINDS, Start
from aiida_e3relax.gnn.data.starts.library import MOST_ATOMS, Library, as_crystals

SOURCE = 'distilled'
"""The data set that the pairs are of."""

MOST_TRIES = 5000
"""For one start: what takes more there is no more of."""


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Starts, and how many draws were refused for what.

    Attributes
    ----------
    starts
        Pairs whose relaxed crystals are the unrelaxed ones yet, with `about` them `kind`, `recipe`, `prototype`,
        `family` and `moves`.
    refused
        By kind, how many draws for what reason.
    """

    starts: Pairs
    refused: dict[str, dict[str, int]]


@dataclasses.dataclass(frozen=True, eq=False)
class _Accepted:
    kind: str
    label: str
    split: str
    family: str
    start: Start


def draw_starts(
    library: Library,
    refusals: Refusals,
    count: int,
    held_out: Mapping[str, str],
    seed: int,
    kinds: Sequence[str] = (),
) -> Drawn:
    """Return `count` starts of these `kinds`, all by default, in their shares, one kind after the other in turn.

    `held_out` are the splits of families and classes of prototypes, see `splits_of_held_out`. The first starts are the
    same whatever the count, so that more can be drawn later.

    Raises InputError where there is nothing left to draw of any of them.
    """
    chosen = {name: KINDS[name][0] for name in (kinds or KINDS)}
    total = sum(chosen.values())
    refused: dict[str, Counter[str]] = {name: Counter() for name in chosen}
    streams = {name: _draws(name, library, refusals, held_out, seed, refused[name]) for name in chosen}
    taken: Counter[str] = Counter()
    accepted: list[_Accepted] = []
    line = ProgressLine('drawing starts', count)
    while streams and len(accepted) < count:
        name = min(streams, key=lambda kind: ((taken[kind] + 0.5) * total / chosen[kind], kind))
        start = next(streams[name], None)
        if start is None:
            del streams[name]
            continue
        taken[name] += 1
        accepted.append(start)
        line.advance()
    line.close()
    if not accepted:
        raise InputError('no start can be drawn of these pairs: expected some real crystals in their training split')
    return Drawn(_as_pairs(accepted), {name: dict(reasons) for name, reasons in refused.items()})


def _draws(
    kind: str,
    library: Library,
    refusals: Refusals,
    held_out: Mapping[str, str],
    seed: int,
    refused: Counter[str],
) -> Iterator[_Accepted]:
    """Yield the accepted starts of one kind until `MOST_TRIES` in a row are none, and count the refused."""
    make, known, since, number = KINDS[kind][1], set(), 0, 0
    for attempt in itertools.count():
        since += 1
        if since > MOST_TRIES:
            return
        start = make(library, np.random.default_rng([seed, list(KINDS).index(kind), attempt]))
        if start is None:
            continue
        formula = start.structure.composition.reduced_formula
        symbols = sorted(element.symbol for element in start.structure.composition.elements)
        system = '-'.join(symbols)
        family = family_of(symbols)
        split = split_of(system, family, start.base.prototype_class, held_out, refusals.trained)
        reason = refusals.reason(system, formula, start.base.prototype, start.is_real, split) or _fault(start)
        if reason is None and (same := (start.recipe if start.is_real else formula, start.base.prototype)) in known:
            reason = 'drawn before'
        if reason:
            refused[reason] += 1
            continue
        known.add(same)
        yield _Accepted(kind, f'{kind}-{number:05d}-{formula}', split, family, start)
        number, since = number + 1, 0


def _fault(start: Start) -> str | None:
    """Return why a start cannot be relaxed, None where it can."""
    if len(start.structure) > MOST_ATOMS:
        return f'more than {MOST_ATOMS} atoms'
    crystal = as_crystals([start.structure])
    if fault := geometry_fault(crystal):
        return fault[0].replace('_', ' ')
    return 'overlapping atoms' if find_overlap(crystal) else None


def _as_pairs(accepted: Sequence[_Accepted]) -> Pairs:
    crystals = as_crystals([one.start.structure for one in accepted], [one.label for one in accepted])
    about: Mapping[str, list[str]] = {
        'kind': [one.kind for one in accepted],
        'recipe': [one.start.recipe for one in accepted],
        'prototype': [one.start.base.prototype for one in accepted],
        'family': [one.family for one in accepted],
        'moves': [one.start.moves for one in accepted],
    }
    return Pairs(
        crystals,
        crystals,
        np.array([one.split for one in accepted]),
        np.full(len(accepted), SOURCE),
        fixed_cell=np.array([one.start.moves == Moves.POSITIONS for one in accepted]),
        about={name: np.array(texts) for name, texts in about.items()},
    )
