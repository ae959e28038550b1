"""Crystals that are stepped together take the steps that they take alone, whatever happens to the others."""

import json
import time

import numpy as np
import pytest
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from aiida_e3relax.common.errors import RunError
from aiida_e3relax.common.progress import NoProgress
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.gnn.potentials.base import Potential
from aiida_e3relax.gnn.potentials.evaluation import Batches, evaluate_alone
from aiida_e3relax.gnn.prediction.freedom import PredictionFreedom
from aiida_e3relax.gnn.prediction.pre_relaxation import PreRelaxation
from aiida_e3relax.gnn.prediction.settings import PotentialSettings
from aiida_e3relax.parsers.report_schema import parse_report
from tests.gnn.crystals import batch_of


def alloy(seed):
    atoms = bulk('Cu', a=3.7, cubic=True)
    atoms.numbers[: seed % 3] = 79
    atoms.set_cell(atoms.cell.array + 0.1 * np.random.default_rng(seed).normal(size=(3, 3)), scale_atoms=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def slab():
    atoms = fcc111('Cu', (1, 1, 3), a=3.7, vacuum=6.0, periodic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def held():
    atoms = alloy(4)
    atoms.set_constraint(FixAtoms([0, 1]))
    return atoms


def unknown():
    """EMT has no parameters for it."""
    return bulk('NaCl', 'rocksalt', a=5.64)


CRYSTALS = [alloy(1), slab(), held(), bulk('Ag', a=4.3), alloy(2), alloy(3) * (2, 1, 1)]


class Together:
    """EMT in batches, which notes how many atoms its crystals had; `fault` is called with the crystals of a batch."""

    def __init__(self, fault=lambda crystals: None):
        self.fault, self.seen = fault, []

    def __call__(self, crystals):
        self.fault(crystals)
        results = [evaluate_alone(EMT(), atoms) for atoms in crystals]
        self.seen.append([len(atoms) for atoms in crystals])
        return results


def relaxed(frames, together=None, start='input', calculator=None, freedom=None, most_atoms=None):
    """Return positions, cell and row of each crystal, without its time, and the failures."""
    batches = together and Batches(together, 'EMT')
    potential = Potential(calculator or EMT(), 'emt', '3', 'of ASE', batches=batches)
    relaxation = PreRelaxation(potential, PotentialSettings('emt', start, 12, 0.1, 10.0))
    if most_atoms:
        relaxation._lockstep.most_atoms = most_atoms
    crystals = batch_of(*frames)
    free = PredictionFreedom(freedom, crystals, frames)
    begin = time.perf_counter()
    end, rows, failures = relaxation.relax(crystals, crystals, range(len(frames)), free, NoProgress())
    times = [row.pop('wall_time_s') for row in rows.values()]
    assert 0 < min(times) <= sum(times) <= time.perf_counter() - begin
    assert rows.keys() == {*range(len(frames))}
    ends = [end.select([index]) for index in range(len(frames))]
    return [(one.positions, one.cell[0], rows[index]) for index, one in enumerate(ends)], failures


def assert_same(found, expected):
    """EMT rounds sums in the order of its list of neighbours, which depends on what came before."""
    for (positions, cell, row), (other_positions, other_cell, other) in zip(found, expected, strict=True):
        np.testing.assert_allclose(positions, other_positions, rtol=0, atol=1e-9)
        np.testing.assert_allclose(cell, other_cell, rtol=0, atol=1e-9)
        numbers = {name: value for name, value in row.items() if isinstance(value, float)}
        assert numbers == pytest.approx({name: other[name] for name in numbers}, rel=1e-6, abs=1e-9)
        assert row == other | numbers


@pytest.fixture(scope='module')
def alone():
    return relaxed(CRYSTALS)[0]


@pytest.mark.parametrize('most_atoms', [None, 9, 1])
def test_company_changes_nothing(alone, most_atoms):
    together = Together()
    found, failures = relaxed(CRYSTALS, together, most_atoms=most_atoms)
    assert_same(found, alone)
    assert not failures
    steps = [row['steps'] for *_, row in alone]
    assert len({*steps}) > 2
    assert {row['converged'] for *_, row in alone} == {True, False}
    assert all(len(batch) == 1 or sum(batch) <= (most_atoms or 1000) for batch in together.seen)
    if most_atoms is None:
        assert together.seen[0] == [len(atoms) for atoms in CRYSTALS]
        assert len(together.seen) == max(steps) + 2  # where each begins, and again when its symmetry is made exact
    if most_atoms == 1:
        assert {len(batch) for batch in together.seen} == {1}


def test_nor_does_the_order(alone):
    assert_same(relaxed(CRYSTALS[::-1], Together(), most_atoms=12)[0], alone[::-1])


def test_what_waits_takes_the_place_of_what_has_ended():
    together = Together()
    relaxed([alloy(seed) for seed in range(5)], together, most_atoms=8)
    assert {len(batch) for batch in together.seen[:28]} == {2}


@pytest.mark.parametrize('moves', ['positions', 'volume'])
def test_freedoms_hold_in_company(moves):
    frames = [alloy(1), held(), alloy(2)]
    assert_same(relaxed(frames, Together(), freedom=Freedom(moves))[0], relaxed(frames, freedom=Freedom(moves))[0])


def test_after_the_network_the_input_is_measured_too():
    frames = [alloy(1), alloy(2)]
    assert_same(relaxed(frames, Together(), start='network')[0], relaxed(frames, start='network')[0])


def test_a_crystal_that_cannot_be_computed_takes_no_other_down(alone):
    together = Together()
    found, failures = relaxed([*CRYSTALS[:3], unknown(), *CRYSTALS[3:]], together)
    assert failures.keys() == {3}
    assert failures[3][0] == 'potential_failed'
    assert found.pop(3)[2].keys() == {'error'}
    assert_same(found, alone)
    assert max(map(len, together.seen)) == 6  # with the fault gone they are together again


def test_a_crystal_that_fails_in_batches_is_computed_alone_and_says_so(alone):
    def fault(crystals):
        if any('Ag' in atoms.symbols for atoms in crystals):
            raise RuntimeError('no silver in batches')

    together = Together(fault)
    found, failures = relaxed(CRYSTALS, together)
    assert not failures
    told = [row.pop('computed_alone', None) for *_, row in found]
    assert told == [None, None, None, 'RuntimeError: no silver in batches', None, None]
    assert_same(found, alone)
    assert max(map(len, together.seen)) == 5


def test_batches_that_never_work_leave_the_calculator(alone):
    def fault(crystals):
        raise TypeError('of another version')

    found, failures = relaxed(CRYSTALS, Together(fault))
    assert not failures
    assert {row.pop('computed_alone') for *_, row in found} == {'TypeError: of another version'}
    assert_same(found, alone)


def test_where_memory_runs_out_batches_become_smaller(alone):
    failed = []

    def fault(crystals):
        if sum(map(len, crystals)) > 10:
            failed.append(len(crystals))
            raise RuntimeError('CUDA out of memory')

    together = Together(fault)
    assert_same(relaxed(CRYSTALS, together)[0], alone)
    assert len(failed) == 2  # and then it is known
    assert max(map(sum, together.seen)) <= 10
    assert max(map(len, together.seen)) > 1


def test_memory_that_runs_out_for_one_alone_is_its_own(alone):
    def fault(crystals):
        if any(len(atoms) == 8 for atoms in crystals):
            raise MemoryError

    class Small(EMT):
        def calculate(self, atoms=None, *arguments, **options):
            fault([atoms])
            super().calculate(atoms, *arguments, **options)

    found, failures = relaxed(CRYSTALS, Together(fault), calculator=Small())
    assert {index: failure[0] for index, failure in failures.items()} == {5: 'out_of_memory'}
    assert found[5][2]['error'].startswith('out of memory: ')
    assert_same(found[:5], alone[:5])


class Broken(Together):
    """Knows no forces on silver."""

    def __call__(self, crystals):
        results = super().__call__(crystals)
        for atoms, each in zip(crystals, results, strict=True):
            if 'Ag' in atoms.symbols:
                each.forces[:] = np.nan
        return results


def test_numbers_that_are_not_finite_in_a_batch_are_asked_for_alone(alone):
    together = Broken()
    found, failures = relaxed(CRYSTALS, together)
    assert not failures
    told = [row.pop('computed_alone', None) for *_, row in found]
    assert told == [None] * 3 + ['in a batch its energy, forces or stress are no finite numbers'] + [None] * 2
    assert_same(found, alone)
    assert max(map(len, together.seen[1:])) == 5


def test_numbers_that_are_not_finite_alone_either_are_the_fault_of_one(alone):
    class Lost(EMT):
        def calculate(self, atoms=None, *arguments, **options):
            super().calculate(atoms, *arguments, **options)
            if 'Ag' in atoms.symbols:
                self.results['forces'][:] = np.nan

    found, failures = relaxed(CRYSTALS, Broken(), calculator=Lost())
    assert failures.keys() == {3}
    assert 'largest force nan eV/A' in failures[3][1]
    assert_same(found[:3] + found[4:], alone[:3] + alone[4:])


class Sticky(EMT):
    """Fails for all crystals once it has met silver, as a GPU does after an error."""

    broken = False

    def calculate(self, atoms=None, *arguments, **options):
        self.broken |= 'Ag' in atoms.symbols
        if self.broken:
            raise RuntimeError('CUDA error: unspecified launch failure')
        super().calculate(atoms, *arguments, **options)


@pytest.mark.parametrize('in_batches', [False, True])
def test_a_potential_that_computes_nothing_any_more_is_no_fault_of_crystals(in_batches):
    calculator = Sticky()

    def fault(crystals):
        if calculator.broken or any('Ag' in atoms.symbols for atoms in crystals):
            raise RuntimeError('CUDA error: unspecified launch failure')

    together = Together(fault) if in_batches else None
    told = 'emt computes nothing any more, not even .*, which it had computed before: RuntimeError: CUDA error'
    with pytest.raises(RunError, match=told):
        relaxed(CRYSTALS, together, calculator=calculator)


def test_so_is_one_that_never_computed_anything():
    class Useless(EMT):
        def calculate(self, *arguments, **options):
            raise TypeError('of another version')

    told = 'emt computes none of the crystals, and neither Cu nor MgO: TypeError: of another version'
    with pytest.raises(RunError, match=told):
        relaxed(CRYSTALS[:2], calculator=Useless())


def test_crystals_that_all_fail_are_at_fault_where_a_known_one_does_not():
    _, failures = relaxed([unknown(), unknown()])
    assert [failure[0] for failure in failures.values()] == ['potential_failed'] * 2


def test_a_potential_without_batches_of_its_own_calculator_still_computes(alone):
    """Batches compute what the calculator cannot."""

    class Useless(EMT):
        def calculate(self, *arguments, **options):
            raise TypeError('of another version')

    found, failures = relaxed([*CRYSTALS, unknown()], Together(), calculator=Useless())
    assert failures.keys() == {len(CRYSTALS)}
    assert_same(found[:-1], alone)


def overlapping():
    atoms = bulk('Cu', a=3.7, cubic=True)
    atoms.positions[1] = atoms.positions[0] + 0.8
    return atoms


@pytest.mark.parametrize('in_batches', [False, True])
@pytest.mark.parametrize('is_raised', [False, True])
def test_after_the_network_the_input_need_not_be_computable(in_batches, is_raised):
    class NoOverlaps(EMT):
        def calculate(self, atoms=None, *arguments, **options):
            super().calculate(atoms, *arguments, **options)
            if atoms.get_all_distances(mic=True)[0, 1:].min() < 2:
                if is_raised:
                    raise ValueError('overlapping atoms')
                self.results['energy'] = self.results['free_energy'] = np.nan

    def fault(crystals):
        for atoms in crystals:
            evaluate_alone(NoOverlaps(), atoms)
            if atoms.get_all_distances(mic=True)[0, 1:].min() < 2:
                raise ValueError('no numbers')

    potential = Potential(
        NoOverlaps(), 'emt', '3', 'of ASE', batches=Batches(Together(fault), 'EMT') if in_batches else None
    )
    given, starts = batch_of(overlapping(), alloy(2)), batch_of(alloy(1), alloy(2))
    relaxation = PreRelaxation(potential, PotentialSettings('emt', 'network', 12, 0.1, 10.0))
    end, rows, failures = relaxation.relax(
        given, starts, range(2), PredictionFreedom(None, given, [None] * 2), NoProgress()
    )
    assert not failures
    told = rows[0].pop('input_error')
    assert 'overlapping atoms' in told if is_raised else 'energy nan' in told
    assert (rows[0]['energy_input_eV_per_atom'], rows[0]['max_force_input_eV_per_A']) == (None, None)
    assert rows[0]['energy_prediction_eV_per_atom'] < rows[0]['energy_network_eV_per_atom']
    assert not np.allclose(end.select([0]).positions, starts.select([0]).positions)
    assert 'input_error' not in rows[1]
    report = {'schema': 1, 'error': None, 'model': {'content_hash': '0'}, 'device': {'used': 'cpu'}}
    report |= {'timings_s': {'total': 1.0}, 'potential': {'potential': 'emt', 'start': 'network', 'steps': 12}}
    row = {'label': 'a', 'status': 'ok', 'message': '', 'n_atoms': 4, 'potential': rows[0]}
    told = 'expected `error`, or the energies of input and prediction'
    with pytest.raises(ValueError, match=told):
        parse_report(json.dumps(report | {'structures': [row]}))
    row['potential'] = rows[0] | {'input_error': 'overlapping atoms'}
    content = parse_report(json.dumps(report | {'structures': [row]}))[1]
    assert content['structures'] == [row]


def test_an_interruption_ends_all():
    def fault(crystals):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        relaxed(CRYSTALS, Together(fault))
