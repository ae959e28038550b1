"""Splits from a table: a CSV file that names the split of every pair."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.messages import short
from aiida_e3relax.crystals.pairs import SPLIT_NAMES, is_split
from aiida_e3relax.gnn.data.sources.base import Source

COLUMNS = ('label', 'split')


def with_splits_of(table: Path, sources: Sequence[Source]) -> list[Source]:
    """Return `sources` whose pairs have the splits that `table` gives their labels, and none where it gives none.

    Raises
    ------
    InputError
        For a table that cannot be read, lacks a column, names no split, or knows none of the labels.
    """
    splits = _read(table)
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


def _read(table: Path) -> dict[str, str]:
    """Return the split of each label."""
    try:
        with table.open(newline='', encoding='utf-8') as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f'{table}: cannot be read: {error}') from error
    splits: dict[str, str] = {}
    for line, row in enumerate(rows, 2):
        label, split = (row.get(column) for column in COLUMNS)
        if label is None or split is None:
            raise InputError(f'{table}, line {line}: expected the columns {" and ".join(COLUMNS)}, found {list(row)}')
        if not is_split(split):
            raise InputError(f'{table}, line {line}: expected {SPLIT_NAMES}, found {short(split)!r}')
        if splits.setdefault(label, split) != split:
            raise InputError(f'{table}, line {line}: {short(label)} is in {splits[label]} already')
    return splits
