"""The crystals of a validation, drawn at random from a data set."""

from __future__ import annotations

import dataclasses

import numpy as np

from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.crystals.geometry import is_same_crystal
from aiida_e3relax.crystals.pairs import Pairs


@dataclasses.dataclass(frozen=True)
class Draw:
    """What was drawn.

    Attributes
    ----------
    pairs
        The pairs, in the order of the data set.
    looked_at, matched
        How many pairs were looked at for it, and how many of these were left out since StructureMatcher maps the
        unrelaxed crystal on the relaxed one; None where that was not asked.
    """

    pairs: Pairs
    looked_at: int | None = None
    matched: int | None = None


def draw_pairs(pairs: Pairs, count: int | None, seed: int, unmatched: bool) -> Draw:
    """Return `count` of `pairs` drawn at random, all of them for None; the same arguments draw the same pairs.

    With `unmatched` only those whose unrelaxed crystal pymatgen's StructureMatcher, with its defaults, does not map on
    the relaxed one: the crystals that a relaxation changes (DeepRelax, section 2.5). Pairs are looked at in a random
    order until there are enough, which is as if all that match had been left out before the draw.

    Raises ValueError where there are too few.
    """
    order = np.arange(len(pairs)) if count is None else np.random.default_rng(seed).permutation(len(pairs))
    wanted = len(pairs) if count is None else count
    if not unmatched:
        _check_count(min(wanted, len(pairs)), wanted, 'pairs')
        return Draw(pairs.select(np.sort(order[:wanted])))
    drawn: list[int] = []
    looked_at = 0
    line = ProgressLine('drawing crystals that do not match', count)
    for index in order.tolist():
        if len(drawn) == wanted:
            break
        looked_at += 1
        pair = pairs.select(np.array([index]))
        if not is_same_crystal(pair.unrelaxed, pair.as_filed):
            drawn.append(index)
            line.advance()
    line.close()
    _check_count(len(drawn), 1 if count is None else wanted, 'pairs whose two crystals do not match')
    return Draw(pairs.select(np.sort(drawn)), looked_at, looked_at - len(drawn))


def _check_count(found: int, wanted: int, what: str) -> None:
    if found < wanted or not found:
        raise ValueError(f'draw: expected at least {max(wanted, 1)} {what}, found {found}; draw fewer')
