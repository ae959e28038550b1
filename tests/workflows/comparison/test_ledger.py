import dataclasses

import numpy as np
import pytest
from ase import Atoms

from aiida_e3relax.workflows.comparison.ledger import compare_legs
from aiida_e3relax.workflows.comparison.legs import Leg
from aiida_e3relax.workflows.comparison.vasp_runs import MeasuredStep, VaspRun
from aiida_e3relax.workflows.vasp.messages import describe_comparison
from tests.workflows.crystals import copper_gold, rattled_copper_gold, strained, to_crystals

RELAXED = strained(copper_gold(), np.eye(3) * 0.02)


def run(ionic_steps: int | None, **changes) -> VaspRun:
    steps = ionic_steps or 0
    known = {'code_version': '6.4.2', 'cores': 4, 'electronic_steps': 10 * steps, 'wall_time': 5.0 * steps}
    return VaspRun(ionic_steps=ionic_steps, **(known | changes))


def step(atoms: Atoms, energy: float) -> MeasuredStep:
    return MeasuredStep(crystal=to_crystals(atoms), energy=energy, max_force=0.1, pressure=3.0)


def leg(start: Atoms, *runs: VaspRun, first_energy: float = -3.0, energy: float = -3.2, end: Atoms = RELAXED) -> Leg:
    return Leg(runs=runs, static_wall_time=2.0, first=step(start, first_energy), last=step(end, energy))


RAW = leg(rattled_copper_gold(), run(8), run(4))
PREDICTED = leg(strained(copper_gold(), np.eye(3) * 0.018), run(3), first_energy=-3.19)


def test_savings_count_all_runs_of_a_leg():
    told = compare_legs(RAW, PREDICTED)
    assert (told['raw']['vasp_runs'], told['raw']['ionic_steps'], told['predicted']['ionic_steps']) == (2, 12, 3)
    assert (told['ionic_steps_saved'], told['ionic_steps_saved_percent']) == (9, 75.0)
    assert (told['electronic_steps_saved'], told['wall_time_saved_s'], told['core_time_saved_s']) == (90, 45.0, 180.0)


def test_a_prediction_that_costs_steps_shows_negative_savings():
    told = compare_legs(PREDICTED, RAW)
    assert (told['ionic_steps_saved'], told['ionic_steps_saved_percent']) == (-9, -300.0)


def test_each_start_is_measured_against_the_end_of_its_leg():
    told = compare_legs(RAW, PREDICTED)['predicted']
    cell = copper_gold().cell[0, 0]
    assert told['start_energy_error_meV_per_atom'] == pytest.approx(10.0)
    assert told['start_coordinate_mae_A'] == pytest.approx(0.0, abs=1e-12)
    assert told['start_volume_error_A3'] == pytest.approx(cell**3 * (1.02**3 - 1.018**3))
    assert told['start_cell_shape_deviation_A2'] == pytest.approx(np.sqrt(3) * cell**2 * (1.02**2 - 1.018**2))


def test_the_same_minimum_needs_the_same_energy_and_the_same_crystal():
    swapped = RELAXED.copy()
    swapped.symbols = ['Cu', 'Cu', 'Au', 'Au']
    start = copper_gold()
    assert compare_legs(RAW, PREDICTED)['same_minimum'] is True
    assert compare_legs(RAW, leg(start, run(3), energy=-3.21))['same_minimum'] is False
    assert compare_legs(RAW, leg(start, run(3), end=swapped))['same_minimum'] is False
    assert compare_legs(RAW, leg(start, run(3), energy=-3.21))['energy_difference_final_meV_per_atom'] == (
        pytest.approx(-10.0)
    )


def test_a_failed_leg_has_what_is_known_of_its_cost_and_no_savings_are_told():
    failed = Leg(
        runs=(run(5, cores=None), run(2, electronic_steps=None, cores=None)),
        static_wall_time=None,
        first=None,
        last=None,
    )
    told = compare_legs(RAW, failed)
    assert (told['predicted']['finished'], told['predicted']['ionic_steps']) == (False, 7)
    assert (told['predicted']['electronic_steps'], told['predicted']['core_time_s']) == (50, None)
    assert 'energy_final_eV_per_atom' not in told['predicted']
    assert 'ionic_steps_saved' not in told


def test_a_leg_that_did_not_run_is_none():
    assert compare_legs(RAW, None)['predicted'] is None


def test_costs_that_a_run_did_not_write_are_not_saved():
    unknown = dataclasses.replace(PREDICTED, runs=(run(3, cores=None),))
    told = compare_legs(RAW, unknown)
    assert told['core_time_saved_s'] is None
    assert told['wall_time_saved_s'] == 45.0


@pytest.mark.parametrize(('cached_raw', 'cached_predicted', 'known'), [(1, 0, False), (0, 1, False), (2, 1, True)])
def test_times_are_saved_only_where_both_legs_ran_or_both_came_from_the_cache(cached_raw, cached_predicted, known):
    told = compare_legs(
        dataclasses.replace(RAW, runs_from_cache=cached_raw),
        dataclasses.replace(PREDICTED, runs_from_cache=cached_predicted),
    )
    assert told['ionic_steps_saved'] == 9
    assert told['times_side_by_side'] is known
    assert (told['wall_time_saved_s'], told['core_time_saved_s']) == ((45.0, 180.0) if known else (None, None))


def test_wall_times_on_other_numbers_of_cores_are_not_subtracted():
    told = compare_legs(RAW, dataclasses.replace(PREDICTED, runs=(run(3, cores=16),)))
    assert told['times_side_by_side'] is False
    assert (told['wall_time_saved_s'], told['core_time_saved_s']) == (None, 4 * 60.0 - 16 * 15.0)
    assert told['ionic_steps_saved'] == 9


def test_the_raw_leg_of_an_earlier_chain_did_not_run_side_by_side():
    told = compare_legs(RAW, PREDICTED, raw_is_earlier=True)
    assert told.pop('times_side_by_side') is False
    expected = compare_legs(RAW, PREDICTED)
    assert expected.pop('times_side_by_side') is True
    assert told == expected


def test_a_start_whose_energy_does_not_compare_has_no_energy_error_and_all_other_figures():
    breached = dataclasses.replace(PREDICTED, runs=(run(3, starts_converged=False),))
    for changed in (breached, dataclasses.replace(PREDICTED, other_surface=('METAGGA',))):
        told = compare_legs(RAW, changed)
        expected = compare_legs(RAW, PREDICTED)
        assert told['predicted'].pop('start_energy_error_meV_per_atom') is None
        del expected['predicted']['start_energy_error_meV_per_atom']
        assert told == expected
    later = dataclasses.replace(PREDICTED, runs=(run(3), run(3, starts_converged=False)))
    assert compare_legs(RAW, later)['predicted']['start_energy_error_meV_per_atom'] == pytest.approx(10.0)


def test_ionic_steps_that_are_not_known_are_not_counted_as_none():
    unknown = dataclasses.replace(RAW, runs=(run(None), run(4)))
    told = compare_legs(unknown, PREDICTED)
    assert (told['raw']['ionic_steps'], told['raw']['vasp_runs']) == (None, 2)
    assert (told['ionic_steps_saved'], told['ionic_steps_saved_percent']) == (None, None)
    assert describe_comparison(told).startswith('VASP took 3 ionic steps from the prediction and an unknown number of')


def test_savings_of_no_steps_have_no_percentage():
    told = compare_legs(dataclasses.replace(RAW, runs=(run(0),)), PREDICTED)
    assert (told['ionic_steps_saved'], told['ionic_steps_saved_percent']) == (-3, None)


@pytest.mark.parametrize(('version', 'engine'), [('6.4.2-standin-gpaw', 'gpaw'), ('6.4.2', None), (None, None)])
def test_a_stand_in_is_named(version, engine):
    told = compare_legs(leg(copper_gold(), run(3, code_version=version)), None)
    assert (told['raw']['code_version'], told['raw']['stand_in']) == (version, engine)
