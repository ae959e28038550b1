"""The classes by which crystals are told apart: those that a person gives, or else those of their anions."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from aiida_e3relax.campaign.results.chemistry import anion_class
from aiida_e3relax.common.messages import short

COLUMNS = ('label', 'class')


def read_classes(path: Path) -> dict[str, str]:
    """Return the class of each crystal by its label, from a CSV file with `COLUMNS`; other columns count for nothing.

    Raises ValueError for a file that cannot be read, lacks a column or a class, or names two classes for a crystal.
    """
    try:
        with path.open(newline='', encoding='utf-8-sig') as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f'{path}: cannot be read: {error}') from error
    classes: dict[str, str] = {}
    for line, row in enumerate(rows, 2):
        label, name = ((row.get(column) or '').strip() for column in COLUMNS)
        if not label or not name:
            raise ValueError(
                f'{path}, line {line}: expected a text in the columns {" and ".join(COLUMNS)}, found {row}'
            )
        if classes.setdefault(label, name) != name:
            raise ValueError(f'{path}, line {line}: {short(label)} is in {short(classes[label])} already')
    return classes


def classify(elements: pd.Series, given: Mapping[str, str] | None = None) -> pd.Series:
    """Return the class of each crystal of a table, from its `elements` by label: the `given` one, or that of its anion.

    Raises ValueError where some are given, and not for each crystal.
    """
    if given is None:
        return elements.map(anion_class)
    if missing := [label for label in elements.index if label not in given]:
        raise ValueError(
            f'classes: expected one for each crystal, found none for {len(missing)} of {len(elements)}, such as '
            f'`{missing[0]}`; add a line for each'
        )
    return elements.index.to_series().map(given)
