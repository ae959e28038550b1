import numpy as np
import pytest

from aiida_e3relax.workflows.freedom import Freedom
from tests.workflows.crystals import copper_gold, rattled_copper_gold, strained, to_crystals

RAW = to_crystals(copper_gold())
PREDICTED = to_crystals(strained(rattled_copper_gold(), np.diag([0.1, 0.0, -0.05])))


def test_positions_keep_the_cell_bit_by_bit_and_take_over_the_fractional_displacements():
    kept = Freedom.POSITIONS.restrict(RAW, PREDICTED)
    assert (kept.cell == RAW.cell).all()
    assert shifts(kept) == pytest.approx(shifts(PREDICTED), abs=1e-12)


def test_cell_takes_over_everything():
    kept = Freedom.CELL.restrict(RAW, PREDICTED)
    assert (kept.cell == PREDICTED.cell).all()
    assert shifts(kept) == pytest.approx(shifts(PREDICTED), abs=1e-12)


def test_no_atom_is_carried_across_the_cell():
    wrapped = PREDICTED.replace(PREDICTED.positions - PREDICTED.cell[0, 2], PREDICTED.cell)
    kept = Freedom.POSITIONS.restrict(RAW, wrapped)
    assert np.linalg.norm(kept.positions - RAW.positions, axis=1).max() < 0.5


@pytest.mark.parametrize('freedom', list(Freedom))
def test_a_shift_of_all_atoms_does_not_take_them_off_their_special_positions(freedom):
    shifted = RAW.replace(RAW.positions + [0.11, -0.07, 0.05], RAW.cell)
    assert freedom.restrict(RAW, shifted).positions == pytest.approx(RAW.positions, abs=1e-12)


def shifts(crystal):
    """Fractional shifts of the sites from the raw ones, against their mean."""
    difference = crystal.fractional() - RAW.fractional()
    return difference - difference.mean(axis=0)


def test_vasp_is_told_the_same():
    assert Freedom.POSITIONS.relax_flags() == {'positions': True, 'shape': False, 'volume': False}
    assert Freedom.CELL.relax_flags() == {'positions': True, 'shape': True, 'volume': True}
