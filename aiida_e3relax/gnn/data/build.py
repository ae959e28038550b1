"""One set of pairs from several sources: the steps in turn, and a count of what each did."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.progress import progress
from aiida_e3relax.crystals.duplicates import Repeats, find_repeats
from aiida_e3relax.crystals.files.errors import explain
from aiida_e3relax.crystals.pairs import Pairs, find_moved, is_split, split_names
from aiida_e3relax.crystals.structures import make_crystals
from aiida_e3relax.gnn.data.doubts import find_doubts
from aiida_e3relax.gnn.data.repair import RepairOptions, UnusableError, aligned_in_frame, repaired
from aiida_e3relax.gnn.data.sources.base import Candidate, Sites, Source
from aiida_e3relax.gnn.data.splits import check_fractions, make_split

MOVES = 'moves'
"""The text about a pair that says what its relaxation moved."""


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """What is done to the pairs of the sources.

    Attributes
    ----------
    repair
        Which repairs are made.
    split, fractions, seed
        See `aiida_e3relax.gnn.data.splits`; a split of None is as-given where every pair has one, else random.
    find_repeats
        Look for crystals that occur more than once.
    drop_duplicates
        Leave out pairs that repeat an earlier one of the same split.
    drop_leaks
        Leave out pairs whose relaxed crystal is in a later split (train before val before test), too.
    atoms_min, atoms_max
        Pairs with fewer or more atoms are rejected.
    fixed_cell
        Whether no relaxation changed the cell, whatever the files say of it.
    """

    repair: RepairOptions = dataclasses.field(default_factory=RepairOptions)
    split: str | None = None
    fractions: tuple[float, ...] = (0.8, 0.1, 0.1)
    seed: int = 0
    find_repeats: bool = True
    drop_duplicates: bool = False
    drop_leaks: bool = False
    atoms_min: int = 1
    atoms_max: int | None = None
    fixed_cell: bool = False

    def check(self) -> None:
        """Raise InputError for options that cannot be met."""
        check_fractions(self.fractions)
        if (self.drop_duplicates or self.drop_leaks) and not self.find_repeats:
            raise InputError('duplicates and leaks cannot be dropped without looking for them: leave out one option')


@dataclasses.dataclass(frozen=True)
class Rejection:
    """A pair that was left out, and why."""

    source: str
    label: str
    reason: str

    @property
    def kind(self) -> str:
        """The reason up to its first colon, which other pairs may share."""
        return self.reason.partition(':')[0]


@dataclasses.dataclass(frozen=True)
class BuiltData:
    """A data set and what was done to it.

    Attributes
    ----------
    pairs
        The repaired pairs.
    rejections
        Those that were left out.
    repairs
        How many pairs each step of repair touched.
    repeats
        How many pairs repeat another, and how many leak from one split to another; empty where not looked for.
    notes
        How many pairs each remark of a reader is about.
    split
        How the split was made.
    """

    pairs: Pairs
    rejections: list[Rejection]
    repairs: dict[str, int]
    repeats: dict[str, int]
    notes: dict[str, int]
    split: str


def build(sources: Sequence[Source], options: BuildOptions, name: str | None = None) -> BuiltData:
    """Return the pairs of `sources`, repaired, searched for duplicates, and split.

    Parameters
    ----------
    sources
        As `open_source` returns them.
    options
        What to do.
    name
        Name of the data set that every pair gets; default that of its source.

    Raises
    ------
    InputError
        Where no pair is left, and for splits that cannot be made.
    """
    options.check()
    pairs, rejections, steps, notes = _read(sources, options, name)
    pairs, counts = aligned_in_frame(pairs, options.repair)
    repairs = {'site order': steps['site order'], 'mirror image': steps['mirror image'], **counts}
    repeats = find_repeats(pairs) if options.find_repeats else None
    method = options.split or ('as-given' if all(map(is_split, np.unique(pairs.split))) else 'random')
    same_crystal = None if repeats is None else repeats.relaxed
    split = make_split(pairs, method, options.fractions, options.seed, same_crystal)
    pairs = dataclasses.replace(pairs, split=split)
    found: dict[str, int] = {}
    if repeats is not None:
        found = _count(repeats, split)
        unwanted = _unwanted(repeats, split, options)
        rejections += [
            Rejection(str(pairs.source[i]), str(pairs.unrelaxed.labels[i]), reason) for i, reason in unwanted.items()
        ]
        pairs = pairs.select(np.setdiff1d(np.arange(len(pairs)), list(unwanted)))
    doubts = find_doubts(pairs, options.repair.match_sites)
    return BuiltData(pairs, rejections, repairs, found, dict(notes) | doubts, method)


def _earlier_and_later(split: NDArray[np.str_]) -> list[tuple[str, str]]:
    """Return the names of two splits of different kinds, train before val before test."""
    names = itertools.combinations(split_names(split.tolist()), 2)
    return [(one, other) for one, other in names if one.partition('_')[0] != other.partition('_')[0]]


def _count(repeats: Repeats, split: NDArray[np.str_]) -> dict[str, int]:
    """Return how many pairs repeat another, and how many of a later split have a crystal of an earlier one."""
    counts = {'repeats of a pair of the same split': len(repeats.superfluous(split))}
    for earlier, later in _earlier_and_later(split):
        counts[f'{later} pairs whose relaxed crystal is in {earlier}'] = len(repeats.shared(split, later, earlier))
    return counts


def _unwanted(repeats: Repeats, split: NDArray[np.str_], options: BuildOptions) -> dict[int, str]:
    """Return the pairs to leave out, with the reason."""
    unwanted: dict[int, str] = {}
    if options.drop_duplicates:
        unwanted |= dict.fromkeys(repeats.superfluous(split).tolist(), 'repeats an earlier pair of its split')
    if options.drop_leaks:
        for earlier, later in _earlier_and_later(split):
            leaking = repeats.shared(split, earlier, later).tolist()
            unwanted |= dict.fromkeys(leaking, f'leaks: its relaxed crystal is in {later}, too')
    return unwanted


def _read(
    sources: Sequence[Source], options: BuildOptions, name: str | None
) -> tuple[Pairs, list[Rejection], Counter[str], Counter[str]]:
    """Return the usable pairs of all sources, the rejected ones, the counts of repairs, and notes."""
    rejections: list[Rejection] = []
    steps: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    befores: list[Sites] = []
    afters: list[Sites] = []
    usable: list[tuple[Candidate, str]] = []
    moves: list[str] = []
    for source in sources:
        title = name or source.name
        for candidate in progress(source.candidates, f'reading {title}'):
            try:
                before, after, note = candidate.load()
                _check_size(len(before.numbers), options)
                told = before.moves or after.moves or candidate.about.get(MOVES, '')
                after, taken = repaired(before, after, options.repair)
            except UnusableError as error:
                rejections.append(Rejection(title, candidate.label, str(error)))
            except Exception as error:  # readers of foreign formats raise anything; the reason is reported
                rejections.append(Rejection(title, candidate.label, explain(error)))
            else:
                steps.update(taken)
                notes.update([note] if note else [])
                befores.append(before)
                afters.append(after)
                usable.append((candidate, title))
                moves.append(told)
    if not usable:
        examples = {r.kind: r.reason for r in rejections}
        counts = Counter(r.kind for r in rejections).most_common(3)
        raise InputError(
            f'no usable pair in {", ".join(s.path for s in sources)}: '
            + '; '.join(f'{count} times: {examples[kind]}' for kind, count in counts)
        )
    labels = [candidate.label for candidate, _ in usable]
    unrelaxed, relaxed = (
        make_crystals([s.numbers for s in p], [s.positions for s in p], [s.cell for s in p], labels, [s.pbc for s in p])
        for p in (befores, afters)
    )
    split = np.array([candidate.split for candidate, _ in usable], dtype=np.str_)
    pairs = Pairs(
        unrelaxed,
        relaxed,
        split,
        np.array([title for _, title in usable]),
        fixed=np.concatenate([np.zeros_like(s.positions, dtype=bool) if s.fixed is None else s.fixed for s in afters]),
        fixed_cell=np.array([options.fixed_cell or bool(s.fixed_cell) for s in afters]),
        about={
            name: np.array([candidate.about.get(name, '') for candidate, _ in usable])
            for name in dict.fromkeys(name for candidate, _ in usable for name in candidate.about)
        }
        | ({MOVES: np.array(moves)} if any(moves) else {}),
    )
    moved = find_moved(pairs)
    rejections += [Rejection(usable[i][1], usable[i][0].label, reason) for i, reason in sorted(moved.items())]
    if len(moved) == len(pairs):
        raise InputError(f'no usable pair in {", ".join(s.path for s in sources)}: {moved[0]}')
    return pairs.select(np.setdiff1d(np.arange(len(pairs)), list(moved))), rejections, steps, notes


def _check_size(n_atoms: int, options: BuildOptions) -> None:
    if n_atoms < options.atoms_min:
        raise UnusableError(f'{n_atoms} atoms, fewer than {options.atoms_min}')
    if options.atoms_max is not None and n_atoms > options.atoms_max:
        raise UnusableError(f'{n_atoms} atoms, more than {options.atoms_max}')
