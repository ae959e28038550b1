import numpy as np
import pytest
from ase.build import bulk
from scipy.spatial.transform import Rotation

from aiida_e3relax.gnn.datasets import read_pairs, write_pairs
from aiida_e3relax.gnn.metrics import cell_shape_deviation, coordinate_mae, matches, volume_error
from aiida_e3relax.gnn.pairs import Pairs, aligned
from tests.gnn.crystals import batch_of, rattled


def pairs_of(before, after) -> Pairs:
    return Pairs(
        batch_of(*before), batch_of(*after), np.array(['train'] * len(before)), np.array(['made'] * len(before))
    )


def relaxed(atoms):
    """Return a crystal with a symmetric strain of the cell and small displacements."""
    rng = np.random.default_rng(5)
    strain = rng.normal(scale=0.05, size=(3, 3))
    result = atoms.copy()
    result.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    moves = rng.normal(scale=0.1, size=(len(atoms), 3))
    result.positions += moves - (moves @ np.linalg.inv(result.cell.array)).mean(axis=0) @ result.cell.array
    return result


def test_alignment_takes_out_rotation_drift_and_wrapping():
    before = rattled()
    after = [relaxed(atoms) for atoms in before]
    plain = aligned(pairs_of(before, after))
    rotation = Rotation.from_rotvec([0.1, -0.3, 0.2]).as_matrix()
    filed = []
    for atoms in after:
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ rotation)
        turned.positions = (atoms.positions + [0.7, 1.9, -0.4]) @ rotation
        turned.wrap()
        filed.append(turned)
    result = aligned(pairs_of(before, filed))
    np.testing.assert_allclose(result.relaxed.cell, plain.relaxed.cell, atol=1e-10)
    np.testing.assert_allclose(result.relaxed.positions, plain.relaxed.positions, atol=1e-10)
    moved = plain.relaxed.fractional() - plain.unrelaxed.fractional()
    np.testing.assert_allclose(plain.unrelaxed.mean_over_atoms(moved), 0, atol=1e-12)
    assert np.abs(moved).max() > 0.01
    for atoms, cell in zip(after, plain.relaxed.cell, strict=True):
        np.testing.assert_allclose(cell, atoms.cell.array, atol=1e-10)


def test_alignment_refuses_mirrored_cells():
    before, after = rattled()[:1], rattled()[:1]
    after[0].set_cell(after[0].cell.array * [[-1], [1], [1]])
    with pytest.raises(ValueError, match='opposite handedness'):
        aligned(pairs_of(before, after))


def test_pairs_survive_the_file(tmp_path):
    pairs = pairs_of(rattled(), [relaxed(a) for a in rattled()])
    write_pairs(tmp_path / 'pairs.npz', pairs)
    again = read_pairs(tmp_path / 'pairs.npz')
    np.testing.assert_allclose(again.relaxed.positions, pairs.relaxed.positions, atol=1e-12)
    assert again.split.tolist() == pairs.split.tolist()
    assert again.source.tolist() == ['made'] * 3


def test_measures_by_hand():
    before, after = bulk('Si', 'diamond', a=5.0, cubic=True), bulk('Si', 'diamond', a=5.1, cubic=True)
    a, b = batch_of(before), batch_of(after)
    assert volume_error(a, b)[0] == pytest.approx(5.1**3 - 5.0**3)
    assert cell_shape_deviation(a, b)[0] == pytest.approx(np.sqrt(3) * (5.1**2 - 5.0**2))
    assert coordinate_mae(a, b)[0] == pytest.approx(0.1 * before.get_scaled_positions().mean())
    assert matches(a, b).tolist() == [True]
    assert matches(a, batch_of(bulk('Si', 'sc', a=2.5) * (2, 2, 2))).tolist() == [False]


def test_coordinate_error_takes_the_nearest_image():
    atoms = bulk('Si', 'diamond', a=5.43)
    moved = atoms.copy()
    moved.positions[0] += [1, -1, 0] @ atoms.cell.array + [0.3, 0, 0]
    assert coordinate_mae(batch_of(moved), batch_of(atoms))[0] == pytest.approx(0.3 / 6)
