import numpy as np
import pytest

from aiida_e3relax.gnn.evaluation.calibration import Calibration

STATED = np.array([0.1, 0.2, 0.3, 0.4, np.nan, 0.5])
BONDS = np.array([0.1, 0.3, 0.9, 0.8, 0.7, np.nan])
COORDINATES = np.array([0.4, 0.3, 0.2, 0.1, 0.0, 0.0])


def test_figures_by_hand_leave_out_what_has_no_number():
    row = Calibration.of(STATED, BONDS, COORDINATES).row()
    assert row['uncertainty_A_median'] == pytest.approx(0.25)
    assert row['spearman_coordinates'] == pytest.approx(-1)
    assert row['spearman_bonds'] == pytest.approx(0.8), 'ranks 1 2 4 3: 1 - 6 * 2 / (4 * 15)'
    assert row['observed_over_stated_median'] == pytest.approx(1.75), 'of 1, 1.5, 2 and 3'


@pytest.mark.parametrize('stated', [[0.1, 0.1, 0.1], [0.0, 0.0, 0.0], [0.1, np.nan, np.nan], [np.nan] * 3])
def test_ranks_that_say_nothing_give_none(stated):
    row = Calibration.of(np.array(stated), np.array([0.1, 0.2, 0.3]), np.array([0.1, 0.2, 0.3])).row()
    assert (row['spearman_bonds'], row['spearman_coordinates']) == (None, None)


def test_bins_hold_as_many_crystals_and_rise():
    stated = np.random.default_rng(0).permutation(np.linspace(0.01, 1, 100))
    medians, (lower, middle, upper) = Calibration.of(stated, 2 * stated, stated).binned()
    np.testing.assert_allclose(medians, np.arange(0.055, 1, 0.1))
    np.testing.assert_allclose(middle, 2 * medians)
    assert (lower < middle).all()
    assert (middle < upper).all()


def test_three_crystals_are_one_bin():
    medians, errors = Calibration.of(np.array([0.1, 0.2, 0.3]), np.array([0.1, 0.2, 0.3]), np.zeros(3)).binned()
    assert medians.tolist() == [0.2]
    assert errors.shape == (3, 1)
