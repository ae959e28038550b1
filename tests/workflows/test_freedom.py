import numpy as np
import pytest

from aiida_e3relax.workflows.freedom import Freedom
from tests.workflows.crystals import copper_gold, rattled_copper_gold, strained, to_crystals

RAW = to_crystals(copper_gold())
PREDICTED = to_crystals(strained(rattled_copper_gold(), np.diag([0.1, 0.0, -0.05])))


def test_positions_keep_the_cell_bit_by_bit_and_take_over_the_fractional_displacements():
    kept = Freedom.POSITIONS.restrict(RAW, PREDICTED)
    assert (kept.cell == RAW.cell).all()
    assert kept.fractional() - RAW.fractional() == pytest.approx(PREDICTED.fractional() - RAW.fractional(), abs=1e-12)


def test_positions_do_not_carry_an_atom_across_the_cell():
    wrapped = PREDICTED.replace(PREDICTED.positions - PREDICTED.cell[0, 2], PREDICTED.cell)
    kept = Freedom.POSITIONS.restrict(RAW, wrapped)
    assert np.linalg.norm(kept.positions - RAW.positions, axis=1).max() < 0.5


def test_cell_takes_over_everything():
    assert Freedom.CELL.restrict(RAW, PREDICTED) is PREDICTED


def test_vasp_is_told_the_same():
    assert Freedom.POSITIONS.relax_flags() == {'positions': True, 'shape': False, 'volume': False}
    assert Freedom.CELL.relax_flags() == {'positions': True, 'shape': True, 'volume': True}
