"""From training pairs to distilled ones: starts are drawn, a teacher relaxes them, what is sound is kept."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.coordination import changed_shells
from aiida_e3relax.crystals.datasets.pairs_file import (
    pairs_hash,
    read_data_card,
    read_different_pairs,
    read_pairs,
    write_pairs,
)
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.gnn.data.card import made_card, write_card_beside
from aiida_e3relax.gnn.data.splits import chemical_systems
from aiida_e3relax.gnn.data.starts.draw import Drawn, draw_starts
from aiida_e3relax.gnn.data.starts.held_out import (
    HELD_OUT,
    Refusals,
    splits_of_held_out,
    systems_to_judge_by,
    systems_to_train_on,
)
from aiida_e3relax.gnn.data.starts.library import Library
from aiida_e3relax.gnn.data.starts.screening import find_outliers, find_refusal
from aiida_e3relax.gnn.distillation.chunks import ANOTHER_RUN, Relaxed, waited_for

STARTS_FILE = 'starts.npz'
"""In the folder of the parts."""

RULES = 2
"""Of drawing and of splits; those of other rules are other starts."""


@dataclasses.dataclass(frozen=True)
class StartOptions:
    """How starts are drawn.

    Attributes
    ----------
    held_out, held_out_val
        Families of anions and classes of prototypes to test on, and to validate on, as a calibration does.
    never
        Chemical systems that no start may have.
    kinds
        Kinds of starts; all where there are none.
    seed
        Of the draws.
    """

    held_out: tuple[str, ...] = HELD_OUT
    never: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    seed: int = 0
    held_out_val: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return the options as JSON has them; `held_out_val` is left out where there are none, as in older folders."""
        content = json.loads(json.dumps(dataclasses.asdict(self)))
        return {name: value for name, value in content.items() if value or name != 'held_out_val'}


def starts_of(paths: Sequence[Path], count: int, options: StartOptions, folder: Path, only_look: bool = False) -> Drawn:
    """Return `count` starts that the training files at `paths` make.

    They are written in `folder`, and read where that was done before. Who wants `only_look` at them overwrites none.

    Raises
    ------
    InputError
        For files that are no training files, where nothing can be drawn, and for a folder in which chunks of other
        starts are.
    """
    files = read_different_pairs(paths)
    asked = {
        'rules': RULES,
        'count': count,
        'options': options.record(),
        'pairs': [pairs_hash(pairs) for pairs in files],
    }
    folder.mkdir(exist_ok=True)
    path = folder / STARTS_FILE
    with waited_for(path.with_suffix('.lock')):
        before = (read_data_card(path) or {}) if path.is_file() else {}
        if before.get('asked') == asked:
            return Drawn(read_pairs(path), before['refused'])
        is_begun = any(folder.glob('chunk-*'))  # files, and locks of those that are not there yet
        if is_begun and not only_look and {**before.get('asked', {}), 'count': count} != asked:
            raise InputError(f'{path}: {ANOTHER_RUN}')
        drawn = _draw(files, count, options)
        if not (before and only_look):
            write_pairs(path, drawn.starts, {'asked': asked, 'refused': drawn.refused})
    return drawn


def _draw(files: Sequence[Pairs], count: int, options: StartOptions) -> Drawn:
    pairs = Pairs.concatenate(files)
    library = Library.of(pairs)
    if not library.real:
        raise InputError('the training files have no crystal to train on that is small enough for a start')
    judged = systems_to_judge_by(pairs) | set(options.never)
    refusals = Refusals(judged, systems_to_train_on(pairs), library.known)
    held_out = splits_of_held_out(options.held_out, options.held_out_val)
    return draw_starts(library, refusals, count, held_out, options.seed, options.kinds)


@dataclasses.dataclass(frozen=True)
class Distilled:
    """The pairs that are kept, and how many relaxations of each kind were refused for what."""

    pairs: Pairs
    refused: dict[str, dict[str, int]]


def screened(relaxed: Relaxed, teacher: str, trained: Collection[str] = ()) -> Distilled:
    """Return the relaxations that are sound as pairs in the frame of their starts.

    They know the `teacher`, and whether they left the `basin` that they started in: whether some site has other
    neighbours at the end. Such pairs are kept, as starts that users make do leave it, within the bounds of
    `find_refusal`. Pairs to judge by are left out where their chemical system is that of a pair to train on, of these
    or of others, whose systems are `trained`: whatever else they have in common, no model has seen their bonds.

    Raises InputError where none is left.
    """
    pairs, rows = relaxed
    reasons: dict[int, str] = {}
    for index, row in enumerate(rows):
        start, end = pairs.unrelaxed.select([index]), pairs.relaxed.select([index])
        if reason := find_refusal(start, end, row):
            reasons[index] = reason
    kept = np.setdiff1d(np.arange(len(pairs)), list(reasons))
    if len(kept):
        energies = [rows[index]['potential']['energy_prediction_eV_per_atom'] for index in kept.tolist()]
        outliers = kept[find_outliers(pairs.relaxed.select(kept), energies)]
        reasons |= dict.fromkeys(outliers.tolist(), 'an energy far from what its elements make of it')
        kept = np.setdiff1d(kept, outliers)
    seen = _with_systems_of(kept, pairs, trained)
    reasons |= dict.fromkeys(seen.tolist(), 'to judge by, with a chemical system that is trained on')
    kept = np.setdiff1d(kept, seen)
    kinds = pairs.kinds
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in np.unique(kinds).tolist()}
    for index, reason in reasons.items():
        counts[str(kinds[index])][reason] += 1
    if not len(kept):
        raise InputError(f'no relaxation is sound: {dict(Counter(reasons.values()))}')
    chosen = pairs.select(kept)
    left = [
        bool(changed_shells(chosen.unrelaxed.select([index]), chosen.relaxed.select([index])))
        for index in range(len(chosen))
    ]
    about = {**chosen.about, 'teacher': np.full(len(chosen), teacher), 'basin': np.where(left, 'left', 'kept')}
    filed = dataclasses.replace(chosen, filed=None, about=about)
    return Distilled(aligned(filed), {kind: dict(found) for kind, found in counts.items()})


def _with_systems_of(kept: NDArray[np.int64], pairs: Pairs, trained: Collection[str]) -> NDArray[np.int64]:
    """Return which of the `kept` pairs to judge by have a chemical system of those to train on, or a `trained` one."""
    systems, is_learnt = np.array(chemical_systems(pairs)), pairs.split == 'train'
    known = {*trained, *systems[kept[is_learnt[kept]]].tolist()}
    return np.array([index for index in kept.tolist() if not is_learnt[index] and systems[index] in known], dtype=int)


def write_distilled(
    path: Path,
    distilled: Distilled,
    drawn: Drawn,
    sources: Sequence[Path],
    options: StartOptions,
    teacher: dict[str, Any],
) -> dict[str, Any]:
    """Write the training file with its card, which it returns, and a copy of the card beside it."""
    rejected: Counter[str] = Counter()
    for reasons in distilled.refused.values():
        rejected.update(reasons)
    starts = {'drawn': len(drawn.starts), 'draws_refused': drawn.refused, 'relaxations_refused': distilled.refused}
    card = made_card(distilled.pairs, sources, options, rejected, teacher=teacher, starts=starts)
    write_pairs(path, distilled.pairs, card)
    write_card_beside(path, card)
    return card
