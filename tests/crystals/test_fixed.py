"""Pairs with fixed atoms and fixed cells: their frame, their files, and what their files may not say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash, read_pairs, write_pairs
from aiida_e3relax.crystals.pairs import Pairs, aligned, find_moved
from tests.gnn.pairs import made_pairs
from tests.gnn.slabs import made_slabs


@pytest.fixture(scope='module')
def slabs() -> Pairs:
    """Slabs as a file has them: the relaxed ones shifted, turned, and wrapped."""
    pairs = made_slabs()
    turn = Rotation.from_euler('xyz', [10, 20, 30], degrees=True).as_matrix()
    fractional = pairs.relaxed.fractional() + [0.3, 0.2, 0.05]
    fractional[:, :2] %= 1.0
    cell = pairs.relaxed.cell @ turn
    positions = np.einsum('ac,acx->ax', fractional, cell[pairs.relaxed.structure_index])
    return dataclasses.replace(pairs, relaxed=pairs.relaxed.replace(positions, cell))


@pytest.mark.parametrize('drift', [True, False])
def test_fixed_atoms_and_cells_say_where_the_crystal_is(slabs, drift):
    found = aligned(slabs, drift=drift, rotation=drift)
    moved = found.relaxed.positions - slabs.unrelaxed.positions
    assert (moved[slabs.fixed] == 0).all()
    assert (found.relaxed.cell == slabs.unrelaxed.cell).all()
    true = made_slabs()
    np.testing.assert_allclose(found.relaxed.positions, true.relaxed.positions, atol=1e-9)
    np.testing.assert_array_equal(aligned(found).relaxed.positions, found.relaxed.positions)


def test_without_the_masks_fixed_atoms_get_targets(slabs):
    free = dataclasses.replace(slabs, fixed=None, fixed_cell=None)
    assert np.abs(aligned(free).relaxed.positions - slabs.unrelaxed.positions)[slabs.fixed].max() > 0.02


def test_a_slab_that_is_fixed_along_one_vector_may_still_drift_along_the_others(slabs):
    fixed = slabs.fixed & [False, False, True]
    found = aligned(dataclasses.replace(slabs, fixed=fixed, fixed_cell=None))
    moved = found.relaxed.fractional() - slabs.unrelaxed.fractional()
    np.testing.assert_allclose(moved[fixed], 0, atol=1e-12)
    np.testing.assert_allclose(slabs.unrelaxed.mean_over_atoms(moved)[:, :2], 0, atol=1e-12)
    np.testing.assert_allclose(moved[~slabs.fixed.any(axis=1), 2], made_moves()[:, 2], atol=1e-9)


def made_moves() -> np.ndarray:
    """Return the fractional moves of the free atoms of the made slabs."""
    pairs = made_slabs()
    return (pairs.relaxed.fractional() - pairs.unrelaxed.fractional())[~pairs.fixed.any(axis=1)]


def test_masks_that_hold_nothing_are_none_and_leave_the_hash_as_it_is():
    pairs = made_pairs(3)
    empty = dataclasses.replace(
        pairs, fixed=np.zeros_like(pairs.unrelaxed.positions, dtype=bool), fixed_cell=np.zeros(len(pairs), dtype=bool)
    )
    assert empty.fixed is None
    assert empty.fixed_cell is None
    assert pairs_hash(empty) == pairs_hash(pairs)


def test_masks_go_with_their_pairs(slabs, tmp_path):
    pairs = Pairs.concatenate([made_pairs(3), slabs, made_pairs(3)])
    start = len(made_pairs(3))
    assert not pairs.fixed_cell[:start].any()
    chosen = pairs.select(np.array([start + 2, 0, start]))
    np.testing.assert_array_equal(chosen.fixed_cell, [True, False, True])
    np.testing.assert_array_equal(chosen.fixed[:4], slabs.fixed[:4])
    assert pairs.select(np.arange(start)).fixed is None
    write_pairs(tmp_path / 'pairs.npz', pairs)
    again = read_pairs(tmp_path / 'pairs.npz')
    np.testing.assert_array_equal(again.fixed, pairs.fixed)
    np.testing.assert_array_equal(again.fixed_cell, pairs.fixed_cell)
    assert pairs_hash(again) == pairs_hash(pairs)


def test_what_moved_although_it_is_fixed_is_named(slabs, tmp_path):
    assert find_moved(slabs) == {}
    positions, cell = slabs.relaxed.positions.copy(), slabs.relaxed.cell.copy()
    positions[4] += 0.3
    cell[3] *= 1.01
    wrong = dataclasses.replace(slabs, relaxed=slabs.relaxed.replace(positions, cell))
    faults = find_moved(wrong)
    assert faults[1].startswith('fixed sites moved: site 0 by')
    assert faults[3].startswith('the cell changed although it is fixed: by 0.')
    assert set(faults) == {1, 3}
    write_pairs(tmp_path / 'pairs.npz', wrong)
    with pytest.raises(InputError, match=r'pair 3 .* the cell changed although it is fixed'):
        read_pairs(tmp_path / 'pairs.npz')


def test_a_mask_of_another_shape_is_refused(slabs, tmp_path):
    with pytest.raises(ValueError, match='`fixed` has shape'):
        dataclasses.replace(slabs, fixed=slabs.fixed[:-1])


def test_crystals_are_centred_along_free_directions_alone(slabs):
    shifted = slabs.unrelaxed.replace(slabs.unrelaxed.positions + 1.0, slabs.unrelaxed.cell)
    np.testing.assert_allclose(slabs.centred(shifted).positions, shifted.positions, atol=1e-12)
    free = dataclasses.replace(slabs, fixed=None)
    np.testing.assert_allclose(free.centred(shifted).positions, slabs.unrelaxed.positions, atol=1e-12)
