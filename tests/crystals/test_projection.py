"""What is kept of a prediction under each freedom."""

import ase.build
import numpy as np
import pytest
from ase.spacegroup import crystal
from scipy.spatial.transform import Rotation

from aiida_e3relax.crystals.freedom.freedom import Freedom, Moves
from aiida_e3relax.crystals.freedom.projection import restrict
from aiida_e3relax.crystals.freedom.vacuum import contiguous_layer
from aiida_e3relax.crystals.geometry import principal_strains
from aiida_e3relax.crystals.symmetry import SpaceGroup
from tests.workflows.crystals import copper_gold, rattled_copper_gold, strained, to_crystals

RAW = to_crystals(copper_gold())
KINDS = ['Au', 'Cu', 'Cu', 'Cu']
PREDICTED = to_crystals(strained(rattled_copper_gold(), np.diag([0.1, 0.0, -0.05])))


def kept_of(prediction, moves, **fields):
    return restrict(RAW, prediction, Freedom(moves, **fields), KINDS)


def shifts(crystal, start=RAW):
    """Fractional shifts of the sites from the raw ones, against their mean."""
    difference = crystal.fractional() - start.fractional()
    return difference - difference.mean(axis=0)


def angles_and_ratios(cell):
    metric = cell[0] @ cell[0].T
    return metric / np.cbrt(np.linalg.det(metric))


def test_positions_keep_the_cell_bit_by_bit_and_take_over_the_fractional_displacements():
    kept = kept_of(PREDICTED, 'positions')
    assert (kept.cell == RAW.cell).all()
    assert shifts(kept) == pytest.approx(shifts(PREDICTED), abs=1e-12)


def test_cell_takes_over_everything():
    kept = kept_of(PREDICTED, 'cell')
    assert (kept.cell == PREDICTED.cell).all()
    assert shifts(kept) == pytest.approx(shifts(PREDICTED), abs=1e-12)


def test_shape_keeps_the_volume():
    kept = kept_of(PREDICTED, 'shape')
    assert kept.volumes == pytest.approx(RAW.volumes, rel=1e-12)
    assert angles_and_ratios(kept.cell) == pytest.approx(angles_and_ratios(PREDICTED.cell), abs=1e-12)
    assert shifts(kept) == pytest.approx(shifts(PREDICTED), abs=1e-12)


def test_volume_keeps_the_shape_and_the_fractional_coordinates():
    kept = kept_of(PREDICTED, 'volume')
    assert kept.volumes == pytest.approx(PREDICTED.volumes, rel=1e-12)
    assert angles_and_ratios(kept.cell) == pytest.approx(angles_and_ratios(RAW.cell), abs=1e-12)
    assert kept.fractional() == pytest.approx(RAW.fractional(), abs=1e-12)


def test_no_atom_is_carried_across_the_cell():
    wrapped = PREDICTED.replace(PREDICTED.positions - PREDICTED.cell[0, 2], PREDICTED.cell)
    kept = kept_of(wrapped, 'positions')
    assert np.linalg.norm(kept.positions - RAW.positions, axis=1).max() < 0.5


@pytest.mark.parametrize('moves', ['positions', 'cell', 'shape', 'volume'])
def test_a_shift_of_all_atoms_does_not_take_them_off_their_special_positions(moves):
    shifted = RAW.replace(RAW.positions + [0.11, -0.07, 0.05], RAW.cell)
    assert kept_of(shifted, moves).positions == pytest.approx(RAW.positions, abs=1e-12)


def test_fixed_sites_and_components_stay_and_the_others_move_against_them():
    kept = kept_of(PREDICTED, 'cell', fixed={'abc': [1], 'c': [2]})
    moved = kept.fractional() - RAW.fractional()
    assert moved[1] == pytest.approx(np.zeros(3), abs=1e-12)
    assert moved[2, 2] == pytest.approx(0.0, abs=1e-12)
    predicted = shifts(PREDICTED)
    assert (moved[3] - moved[1])[:2] == pytest.approx((predicted[3] - predicted[1])[:2], abs=1e-12)
    heights = predicted[:, 2] - predicted[[1, 2], 2].mean()
    assert moved[[0, 3], 2] == pytest.approx(heights[[0, 3]], abs=1e-12)


def test_with_all_sites_fixed_only_the_cell_is_taken_over():
    kept = kept_of(PREDICTED, 'cell', fixed={'abc': range(4)})
    assert kept.fractional() == pytest.approx(RAW.fractional(), abs=1e-12)
    assert (kept.cell == PREDICTED.cell).all()


def disulphide(vacuum=12.0, height=0.0):
    """1T MoS2, its plane of metal at a fractional height."""
    layer = ase.build.mx2('MoS2', kind='1T', a=3.19, thickness=3.13, vacuum=vacuum / 2)
    layer.positions[:, 2] += (height - 0.5) * layer.cell[2, 2]
    layer.wrap(pbc=True)
    layer.pbc = (True, True, False)
    return layer


LAYER_KINDS = ['Mo', 'S', 'S']


def predicted_layer(start, strain, squeeze, thicken, turn=None):
    """A network's view of a layer: another vacuum, strained, thicker, turned as a whole, wrapped into the cell."""
    atoms = strained(start, np.array([[strain, 0.02, 0], [0.0, -strain, 0], [0, 0, 0]]))
    layer = contiguous_layer(atoms.get_scaled_positions(wrap=False), 2)
    heights = (layer[:, 2] - layer[:, 2].mean()) * start.cell[2, 2] * thicken
    cell = atoms.cell.array.copy()
    cell[2] *= squeeze
    in_plane = layer[:, :2] @ cell[:2]
    in_plane[:, 2] = heights
    atoms.set_cell(cell)
    atoms.positions = in_plane
    atoms.wrap(pbc=True)
    if turn is not None:
        atoms.set_cell(atoms.cell.array @ turn.T, scale_atoms=True)
    return to_crystals(atoms)


@pytest.mark.parametrize('height', [0.5, 0.0])  # 0.0: the cell's border cuts the layer
@pytest.mark.parametrize('turn', [None, Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix()])
@pytest.mark.parametrize('moves', [Moves.IN_PLANE, Moves.POSITIONS])
def test_the_vacuum_vector_stays_and_the_thickness_is_the_predicted_one(moves, turn, height):
    start = disulphide(height=height)
    raw = to_crystals(start)
    prediction = predicted_layer(start, 0.04, squeeze=0.7, thicken=1.1, turn=turn)
    kept = restrict(raw, prediction, Freedom(moves), LAYER_KINDS)
    assert np.abs(kept.cell[0, 2] - raw.cell[0, 2]).max() < 1e-12
    assert np.abs(kept.cell[0, :2, 2]).max() < 1e-12
    layer = contiguous_layer(kept.fractional(), 2)
    assert np.ptp(layer[:, 2]) * kept.cell[0, 2, 2] == pytest.approx(1.1 * 3.13, abs=1e-9)
    metric = prediction.cell[0, :2] @ prediction.cell[0, :2].T
    if moves == Moves.IN_PLANE:
        assert kept.cell[0, :2] @ kept.cell[0, :2].T == pytest.approx(metric, abs=1e-9)
    else:
        assert (kept.cell == raw.cell).all()


def test_a_leaning_vacuum_vector_shears_nothing():
    """In `positions` the vacuum vector may lean: heights are measured along the normal of the layer."""
    start = disulphide(height=0.5)
    start.cell[2] += 0.5 * start.cell[0]
    raw = to_crystals(start)
    squeezed = start.copy()
    squeezed.cell[2] *= 0.8  # the atoms stay where they are
    kept = restrict(raw, to_crystals(squeezed), Freedom(Moves.POSITIONS), LAYER_KINDS)
    assert kept.positions == pytest.approx(raw.positions, abs=1e-9)


@pytest.mark.parametrize('lean', [(1, 0), (-1, 2), (3, 0)])
@pytest.mark.parametrize('keeps_symmetry', [False, True])
def test_a_layer_strains_alike_however_the_vacuum_vector_is_chosen(lean, keeps_symmetry):
    """The same crystal with c, and with c and lattice vectors of the layer added: sulphur stays above sulphur."""
    start = disulphide(height=0.5)
    predicted = predicted_layer(start, 0.04, squeeze=0.7, thicken=1.1)
    freedom = Freedom(Moves.IN_PLANE, keep_symmetry=keeps_symmetry)
    expected = restrict(to_crystals(start), predicted, freedom, LAYER_KINDS)
    leaning = start.copy()
    leaning.cell[2] += lean @ start.cell[:2]
    cell = predicted.cell[0] + np.outer([0, 0, 1], lean @ predicted.cell[0, :2])
    kept = restrict(to_crystals(leaning), predicted.replace(predicted.positions, cell[None]), freedom, LAYER_KINDS)
    same = expected.cell[0] + np.outer([0, 0, 1], lean @ expected.cell[0, :2])
    np.testing.assert_allclose(kept.cell[0], same, atol=1e-9)
    between = kept.positions - kept.positions[0], expected.positions - expected.positions[0]
    difference = np.linalg.solve(expected.cell[0].T, (between[0] - between[1]).T).T  # of whole cells of the layer
    np.testing.assert_allclose(difference - np.round(difference), 0, atol=1e-9)
    assert SpaceGroup.of(kept, LAYER_KINDS).name == SpaceGroup.of(expected, LAYER_KINDS).name


def test_fixed_heights_of_a_layer_stay():
    start = disulphide(height=0.5)
    raw = to_crystals(start)
    prediction = predicted_layer(start, 0.04, squeeze=0.7, thicken=1.1)
    kept = restrict(raw, prediction, Freedom(Moves.IN_PLANE, {'c': [0, 1]}), LAYER_KINDS)
    moved = kept.fractional() - raw.fractional()
    assert moved[:2, 2] == pytest.approx(np.zeros(2), abs=1e-12)
    assert abs(moved[2, 2]) > 1e-3


def rutile(parameter=0.305):
    sites = [(0, 0, 0), (parameter, parameter, 0)]
    return crystal(['Ti', 'O'], sites, spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90])


@pytest.mark.parametrize('moves', ['cell', 'shape', 'positions', 'volume'])
def test_a_prediction_that_breaks_the_symmetry_is_symmetrised(moves):
    start = rutile()
    raw, kinds = to_crystals(start), start.get_chemical_symbols()
    broken = strained(start, np.array([[0.05, 0.03, 0.01], [0.0, -0.02, 0.0], [0.0, 0.02, 0.04]]))
    broken.rattle(0.1, seed=2)
    prediction = to_crystals(broken)
    assert SpaceGroup.of(prediction, kinds).name == 'P1'
    kept = restrict(raw, prediction, Freedom(moves, keep_symmetry=True), kinds)
    assert SpaceGroup.of(kept, kinds).name == 'P4_2/mnm'
    if moves == 'cell':  # what the symmetry allows is taken over
        assert principal_strains(raw, kept)[-1] > 0.01
        assert np.abs(shifts(kept, raw)).max() > 1e-3


def test_a_symmetric_prediction_is_left_as_it_is():
    start, relaxed = rutile(), strained(rutile(0.31), np.diag([0.02, 0.02, -0.03]))
    raw, prediction, kinds = to_crystals(start), to_crystals(relaxed), start.get_chemical_symbols()
    kept = restrict(raw, prediction, Freedom(keep_symmetry=True), kinds)
    assert kept.cell == pytest.approx(prediction.cell, abs=1e-9)
    assert shifts(kept, raw) == pytest.approx(shifts(prediction, raw), abs=1e-9)


def test_kinds_tell_sites_apart_where_elements_do_not():
    iron = to_crystals(ase.build.bulk('Fe', 'bcc', a=2.866, cubic=True))
    assert SpaceGroup.of(iron, ['Fe', 'Fe']).name == 'Im-3m'
    assert SpaceGroup.of(iron, ['Fe1', 'Fe2']).name == 'Pm-3m'


def test_a_layer_keeps_vacuum_and_symmetry_together():
    start = disulphide(height=0.5)
    raw = to_crystals(start)
    prediction = predicted_layer(start, 0.04, squeeze=0.7, thicken=1.1)
    freedom = Freedom(Moves.IN_PLANE, keep_symmetry=True)
    kept = restrict(raw, prediction, freedom, LAYER_KINDS)
    assert SpaceGroup.of(kept, LAYER_KINDS).name == SpaceGroup.of(raw, LAYER_KINDS).name == 'P-3m1'
    assert np.abs(kept.cell[0, 2] - raw.cell[0, 2]).max() < 1e-9
