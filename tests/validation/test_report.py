"""The report of a validation, from a table made by hand."""

import numpy as np
import pandas as pd
import pytest

from aiida_e3relax.validation.group import ValidationSettings
from aiida_e3relax.validation.report import draw_differences, make_text, summarise
from aiida_e3relax.validation.results import COLUMNS, DIFFERENCE, ENERGY

ABOVE = {
    'a': {'relaxed': 0.0, 'unrelaxed': 0.4, 'good': 0.1, 'poor': 0.5},
    'b': {'relaxed': 0.0, 'unrelaxed': 0.8, 'good': -0.1, 'poor': 0.2},
    'c': {'relaxed': 0.0, 'unrelaxed': 1.2, 'good': 0.3, 'poor': np.nan},
}


@pytest.fixture
def frame() -> pd.DataFrame:
    """Three crystals and two models, of which one has no energy for one of them."""
    rows = []
    for crystal, of_crystal in ABOVE.items():
        for geometry, above in of_crystal.items():
            row = dict.fromkeys(COLUMNS) | {'crystal': crystal, 'geometry': geometry, 'formula': 'X|Y', 'n_atoms': 2}
            row |= {DIFFERENCE: above, ENERGY: above - 3.0, 'kpoints': '2x2x2', 'state': 'finished', 'reason': ''}
            if np.isnan(above):
                row |= {'state': 'failed', 'reason': 'out of\nmemory'}
            if geometry in ('good', 'poor'):
                row['checkpoint'] = f'sha256:{geometry}'
            rows.append(row)
    return pd.DataFrame(rows)


SETTINGS = ValidationSettings(
    name='mine',
    created='2026-11-29T00:00:00+00:00',
    request={
        'pairs': 'pairs.npz',
        'content_hash': 'sha256:1',
        'split': 'test',
        'draw': 3,
        'seed': 7,
        'unmatched': True,
        'static': {'protocol': 'fast', 'overrides': {'vasp': {'kpoints_spacing': 0.08}}},
    },
    looked_at=5,
    matched=2,
    crystals={},
    order=['a', 'b', 'c'],
    batch='',
    versions={'aiida-core': '2'},
    same_starts=[['a', 'c']],
)


def test_the_summary_is_of_what_is_there(frame):
    summary = summarise(frame)
    assert summary.index.tolist() == ['unrelaxed', 'good', 'poor']
    good, poor = summary.loc['good'], summary.loc['poor']
    assert (good['n'], good['missing'], poor['n'], poor['missing']) == (3, 0, 2, 1)
    assert good['median'] == pytest.approx(0.1)
    assert (good['quartile_1'], good['quartile_3']) == pytest.approx((0.0, 0.2))
    assert good['mean_absolute'] == pytest.approx(0.5 / 3)
    assert good['mean'] == pytest.approx(0.1)
    assert (good['lower_than_unrelaxed'], poor['lower_than_unrelaxed'], poor['n_both']) == (3, 1, 2)
    common = summarise(frame, common=True)
    assert common['n'].tolist() == [2, 2, 2]
    assert common.loc['good', 'median'] == pytest.approx(0.0)


def test_the_text_tells_the_draw_the_numbers_and_what_is_missing(frame):
    text = make_text(SETTINGS, frame, has_figure=False)
    assert '3 pairs drawn at random (seed 7)' in text
    assert 'a, c start as the same crystal' in text
    assert 'Beside the protocol: `{"vasp": {"kpoints_spacing": 0.08}}`.' in text
    assert 'of 5 pairs that were looked at 2 were left out' in text
    assert '| good | 3 | 0 | 0.100 | 0.000 to 0.200 | 0.100 | 0.167 | 0.300 | 3 of 3 |' in text
    assert 'On the 2 crystals that have every energy:' in text
    assert '| c | X\\|Y | 2 | 2x2x2 | -3.0000 | 1.2000 | 0.3000 | · |' in text
    assert '- c, poor: out of\\nmemory' in text
    assert 'stand-in' not in text


def test_nothing_is_there_yet(frame):
    empty = frame.assign(**{DIFFERENCE: np.nan, ENERGY: np.nan, 'state': 'waiting', 'reason': ''})
    text = make_text(SETTINGS, empty, has_figure=False)
    assert '12 of 12 energies are not there yet' in text
    assert '| good | 0 | 3 | · |' in text


def test_the_boxes_of_the_figure_are_the_quartiles_of_the_table(frame):
    axes = draw_differences(frame).axes[0]
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels == ['unrelaxed\nn = 3', 'good\nn = 3', 'poor\nn = 2']
    boxes = [patch.get_path().vertices[:, 1] for patch in axes.patches]
    summary = summarise(frame)
    for box, (_, row) in zip(boxes, summary.iterrows(), strict=True):
        assert 0.01 * np.sinh([box.min(), box.max()]) == pytest.approx([row['quartile_1'], row['quartile_3']], abs=1e-9)
