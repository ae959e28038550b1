import numpy as np
import pytest

from aiida_e3relax.gnn.evaluation.calibration import Calibration
from aiida_e3relax.gnn.evaluation.error_law import ErrorLaw, fit_errors

RNG = np.random.default_rng(7)


def group(count: int, stated: float, distance: tuple[float, float] | None, law: ErrorLaw) -> Calibration:
    """Errors that follow `law` within a factor of about 1.6."""
    spread = stated * np.exp(0.7 * RNG.normal(size=count))
    away = None if distance is None else RNG.uniform(*distance, count)
    silent = Calibration(spread, np.ones(count), np.ones(count), away)
    errors = law.expected(silent) * np.exp(0.5 * RNG.normal(size=count))
    return Calibration(spread, errors, errors, away)


def test_one_factor_where_no_distance_is_stated():
    found = Calibration(np.array([0.1, 0.2, 0.4]), np.array([0.2, 0.2, 2.0]), np.zeros(3))
    law = fit_errors([found])
    assert law.scale == pytest.approx(2), 'the median of 2, 1 and 5'
    assert law.coefficient == 0
    assert law.ratio(found) == pytest.approx(1)


def test_law_is_found_again_and_tells_a_family_that_was_left_out():
    true = ErrorLaw(2.0, 0.15, 3.0, 3.0)
    groups = [group(2000, 0.05, (0.1, 1.0), true), *(group(60, 0.08, (1 + k / 4, 2 + k / 4), true) for k in range(4))]
    law = fit_errors(groups)
    assert law.scale == pytest.approx(2.0, rel=0.15)
    assert law.scale * law.coefficient == pytest.approx(0.3, rel=0.25)
    assert law.power == pytest.approx(3.0, rel=0.15)
    for k, left_out in enumerate(groups):
        blind = fit_errors([g for j, g in enumerate(groups) if j != k])
        assert 0.6 < blind.ratio(left_out) < 1.6
    near_alone = fit_errors(groups[:1])
    assert near_alone.ratio(groups[-1]) > law.ratio(groups[-1]), 'a random split alone says too little of them'


def test_small_families_count_as_much_as_large_data_sets():
    large = Calibration(np.full(1000, 0.1), np.full(1000, 0.1), np.zeros(1000))
    small = [Calibration(np.full(20, 0.1), np.full(20, 0.4), np.zeros(20)) for _ in range(2)]
    assert fit_errors([large, *small]).scale == pytest.approx(4)


def test_groups_of_few_crystals_count_less():
    large = Calibration(np.full(1000, 0.1), np.full(1000, 0.1), np.zeros(1000))
    single = [Calibration(np.full(1, 0.1), np.full(1, 0.4), np.zeros(1)) for _ in range(19)]
    assert fit_errors([large, *single]).scale == pytest.approx(1)
    assert fit_errors([large, *single, *single]).scale == pytest.approx(4)


def test_beyond_what_was_seen_the_error_stays():
    law = fit_errors([group(300, 0.05, (0.1, 1.5), ErrorLaw(1.0, 0.3, 2.0, 9.0))])
    at = [law.expected(Calibration(np.array([0.05]), np.ones(1), np.ones(1), np.array([d])))[0] for d in (1.0, 1.5, 50)]
    assert at[0] < at[1] == pytest.approx(at[2], rel=0.05)


@pytest.mark.parametrize('errors', [np.zeros(3), np.array([])])
def test_nothing_is_fitted_to_nothing(errors):
    nothing = np.zeros(len(errors))
    assert fit_errors([Calibration(nothing, errors, errors)]) is None
    assert fit_errors([]) is None


def test_members_that_agree_everywhere_are_told_by_the_distance():
    distance = np.linspace(0.2, 2, 50)
    found = Calibration(np.zeros(50), 0.1 * distance**2, np.zeros(50), distance)
    law = fit_errors([found])
    np.testing.assert_allclose(law.expected(found), found.bond_error, rtol=0.02)
