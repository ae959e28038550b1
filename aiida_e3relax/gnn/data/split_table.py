"""Splits from a table: a CSV file that names the split of every pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.label_table import read_label_table
from aiida_e3relax.common.messages import short
from aiida_e3relax.crystals.pairs import SPLIT_NAMES, is_split
from aiida_e3relax.gnn.data.sources.base import Source

SPLIT = 'split'


def with_splits_of(table: Path, sources: Sequence[Source]) -> list[Source]:
    """Return `sources` whose pairs have the splits that `table` gives their labels, and none where it gives none.

    Raises
    ------
    InputError
        For a table that cannot be read, lacks a column, names no split, or knows none of the labels.
    """
    splits = read_label_table(table, SPLIT, is_split, SPLIT_NAMES)
    result = []
    for source in sources:
        candidates = [dataclasses.replace(c, split=splits.get(c.label, '')) for c in source.candidates]
        known = len(splits.keys() & {c.label for c in candidates})
        note = f'splits from {table.name}, {known} of whose {len(splits)} labels are here'
        result.append(dataclasses.replace(source, candidates=candidates, notes=(*source.notes, note)))
    labels = {candidate.label for source in sources for candidate in source.candidates}
    if labels.isdisjoint(splits):
        raise InputError(
            f'{table}: none of its labels, such as {short(next(iter(splits), ""))}, is one of the pairs, such as '
            f'{short(min(labels, default=""))}'
        )
    return result
