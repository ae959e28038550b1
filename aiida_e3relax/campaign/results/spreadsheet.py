"""Tables for spreadsheets."""

from __future__ import annotations

from typing import Any

import pandas as pd

from aiida_e3relax.common.messages import printable

BEGIN_FORMULAS = ('=', '+', '-', '@')
"""Characters with which a cell of text begins that a spreadsheet takes for a formula, and would execute."""


def to_csv(frame: pd.DataFrame) -> str:
    """Return a table as CSV of which no cell is executed or obeyed, whatever texts are in it.

    Text that begins like a formula gets a quotation mark `'` before it, and control characters are written as escapes.
    Numbers stay numbers.
    """
    safe = {
        name: pd.Series([_escape(value) for value in column], frame.index, dtype=object)
        for name, column in frame.select_dtypes(exclude='number').items()
    }
    return frame.assign(**safe).rename(index=_escape).to_csv()


def _escape(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if value.lstrip().startswith(BEGIN_FORMULAS) else text
