"""Tables in CSV files by which a person gives each crystal a word."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.messages import short

LABEL = 'label'


def read_label_table(
    path: Path, column: str, is_word: Callable[[str], bool] = bool, expected: str = 'a text'
) -> dict[str, str]:
    """Return the word in `column` by the label, from a CSV file with the columns `LABEL` and `column`, and any others.

    Raises InputError for a file that cannot be read, lacks a column or a label, gives a label two words, or one for
    which `is_word` does not hold; `expected` says what would.
    """
    try:
        with path.open(newline='', encoding='utf-8-sig') as handle:  # spreadsheets put a mark in front
            reader = csv.DictReader(handle)
            rows, found = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f'{path}: cannot be read: {error}') from error
    if not {LABEL, column} <= set(found):
        raise InputError(f'{path}: expected the columns {LABEL} and {column}, found {found}')
    words: dict[str, str] = {}
    for line, row in enumerate(rows, 2):
        label, word = ((row[name] or '').strip() for name in (LABEL, column))
        if not label:
            raise InputError(f'{path}, line {line}: expected a text in the column {LABEL}, found none')
        if not is_word(word):
            raise InputError(f'{path}, line {line}: expected {expected} in the column {column}, found {short(word)!r}')
        if words.setdefault(label, word) != word:
            raise InputError(f'{path}, line {line}: {short(label)} is in {short(words[label])} already')
    return words
