"""Tables for spreadsheets: no cell is a formula, numbers stay numbers."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.campaign.results.spreadsheet import to_csv

DANGEROUS = '=+-@\t\r'


def read_cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline='')))


@pytest.mark.parametrize('text', ['=1+1', '+1', '-1', '@SUM(A1)', '\t=1', '\r=1', ' =1', '=HYPERLINK("http://x")'])
def test_text_like_a_formula_is_text(text):
    frame = pd.DataFrame({'message': [text]}, index=pd.Index([text], name='label'))
    header, (label, message) = read_cells(to_csv(frame))
    assert header == ['label', 'message']
    assert label == message
    assert message.startswith(("'", r'\t', r'\r'))


def test_numbers_and_what_is_missing_stay():
    frame = pd.DataFrame({'energy': [-1.5, float('nan')], 'steps': [-3, None], 'same': [True, None]}, dtype=object)
    assert read_cells(to_csv(frame.astype({'energy': 'float64'})))[1:] == [
        ['0', '-1.5', '-3', 'True'],
        ['1', '', '', ''],
    ]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=20), st.floats(allow_nan=False)), min_size=1, max_size=5))
def test_no_cell_of_text_can_be_executed_or_moves_the_others(rows):
    frame = pd.DataFrame(rows, columns=['text', 'number'], index=pd.Index([text for text, _ in rows], name='label'))
    cells = read_cells(to_csv(frame))
    assert len(cells) == len(rows) + 1
    for (label, text, number), (_, given_number) in zip(cells[1:], rows, strict=True):
        assert float(number) == given_number
        for cell in (label, text):
            assert not cell.startswith(tuple(DANGEROUS))
            assert cell.isprintable()
