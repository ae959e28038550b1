"""The crystals that a validation draws."""

import pytest

from aiida_e3relax.validation.draw import draw_pairs
from tests.validation.crystals import metal_pairs

PAIRS = metal_pairs(12)
UNMATCHED = PAIRS.unrelaxed.labels[1::2].tolist()


def drawn(count, seed=0, unmatched=False):
    return draw_pairs(PAIRS, count, seed, unmatched).pairs.unrelaxed.labels.tolist()


def test_a_draw_is_random_without_repeats_and_the_same_for_the_same_seed():
    labels = drawn(5)
    assert len(set(labels)) == 5
    assert labels == drawn(5)
    assert len({tuple(drawn(5, seed)) for seed in range(5)}) > 1
    assert labels == [label for label in PAIRS.unrelaxed.labels.tolist() if label in labels]


def test_everything_is_taken_where_no_number_is_given():
    assert drawn(None) == PAIRS.unrelaxed.labels.tolist()
    assert drawn(None, unmatched=True) == UNMATCHED


def test_only_crystals_that_change_are_drawn_and_what_was_left_out_is_counted():
    draw = draw_pairs(PAIRS, 4, 0, unmatched=True)
    assert set(draw.pairs.unrelaxed.labels) < set(UNMATCHED)
    assert draw.looked_at == 4 + draw.matched
    assert draw.matched > 0
    everything = {label for seed in range(20) for label in drawn(2, seed, unmatched=True)}
    assert everything == set(UNMATCHED)


@pytest.mark.parametrize(('count', 'unmatched'), [(13, False), (7, True)])
def test_too_few_are_told(count, unmatched):
    with pytest.raises(ValueError, match=f'expected at least {count} pairs.*found {12 // (1 + unmatched)}; draw fewer'):
        draw_pairs(PAIRS, count, 0, unmatched)
