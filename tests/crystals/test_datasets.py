import zipfile

import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash, read_data_card, read_pairs, write_pairs
from aiida_e3relax.crystals.files import content
from aiida_e3relax.crystals.metrics import cell_shape_deviation, coordinate_mae, matches, volume_error
from aiida_e3relax.crystals.pairs import Pairs, aligned
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


@pytest.fixture(scope='module')
def filed(tmp_path_factory):
    """A training file with a data card."""
    pairs = pairs_of(rattled(), [relaxed(a) for a in rattled()])
    path = tmp_path_factory.mktemp('filed') / 'pairs.npz'
    write_pairs(path, pairs, {'content_hash': pairs_hash(pairs), 'licence': 'MIT'})
    return path


@settings(max_examples=150, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_flipped_bits_are_noticed_or_change_nothing(filed, share, bit):
    damaged_bytes = bytearray(filed.read_bytes())
    damaged_bytes[int(share * len(damaged_bytes))] ^= 1 << bit
    damaged = filed.with_name('damaged.npz')
    damaged.write_bytes(damaged_bytes)
    try:
        found = read_pairs(damaged)
    except InputError as error:
        message = str(error)
    else:
        message = f'{damaged}'
        assert pairs_hash(found) == pairs_hash(read_pairs(filed))
    assert message.startswith(str(damaged))
    assert '\n' not in message


def test_every_cut_is_noticed(filed):
    whole = filed.read_bytes()
    cut = filed.with_name('cut.npz')
    for length in range(0, len(whole), 97):
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError, match='damaged'):
            read_pairs(cut)


def test_arrays_that_are_not_those_of_the_card_are_noticed(filed, tmp_path):
    """Rewritten with right checksums, by somebody who left the card."""
    pairs = read_pairs(filed)
    write_pairs(tmp_path / 'other.npz', pairs.select(np.array([1, 0, 2])), read_data_card(filed))
    with pytest.raises(InputError, match=r'other\.npz: the arrays have the hash sha256:.*data card says'):
        read_pairs(tmp_path / 'other.npz')


def changed(values, place, value):
    values = np.array(values)
    values[place] = value
    return values


WRONG = {
    'element 0': ('numbers', lambda v: changed(v, 1, 0), 'whole numbers from 1 to 118, found 0 at 1'),
    'element 119': ('numbers', lambda v: changed(v, 0, 119), 'from 1 to 118, found 119'),
    'negative count': ('n_atoms', lambda v: changed(v, 1, -4), 'whole numbers from 1, found -4 at 1'),
    'counts as floats': ('n_atoms', lambda v: v.astype(float), 'expected whole numbers .*found float64'),
    'one number': ('n_atoms', lambda v: v[0], r'found int64 of shape \(\)'),
    'counts of other crystals': ('n_atoms', lambda v: v + 1, 'array `numbers`: expected whole numbers'),
    'NaN': ('positions_relaxed', lambda v: changed(v, 2, np.nan), 'positions or cell hold NaN'),
    'far away': (
        'positions_unrelaxed',
        lambda v: changed(v, 2, 1e18),
        'a position has a coordinate of .*at most 10000',
    ),
    'complex': ('positions_relaxed', lambda v: v + 0j, 'expected real numbers .*found complex128'),
    'four columns': ('positions_relaxed', lambda v: np.repeat(v, 2, 1), r'\(A, 3\) = \(12, 3\), found'),
    'flat cell': (
        'cell_relaxed',
        lambda v: changed(v, (1, 2), 0),
        'relaxed crystal 1 .*the cell volume of 0 A',
    ),
    'thin cell': ('cell_unrelaxed', lambda v: v * [[1e-4], [400], [400]], 'unrelaxed crystal 0 .*periodic image are'),
    'mirrored cell': ('cell_relaxed', lambda v: v * [[1], [1], [-1]], 'the cells of pair 0 .* differ in handedness'),
    'labels as numbers': ('labels', lambda v: np.arange(len(v)), 'expected text .*found int64'),
    'too few labels': ('labels', lambda v: v[:1], r'found <U1 of shape \(1,\)'),
    'unknown split': (
        'split',
        lambda v: changed(v, 1, 'tests'),
        "train, val or test, or a named one .*, found 'tests' at 1",
    ),
    'split as numbers': ('split', lambda v: np.arange(len(v)), 'array `split`: expected text'),
    'pbc as numbers': ('pbc', lambda v: v.astype(int), 'expected true and false'),
    'no positions': ('positions_relaxed', None, 'the array `positions_relaxed`, real numbers .* is missing'),
    'no source': ('source', None, 'the array `source`, text .* is missing'),
}


@pytest.mark.parametrize('fault', WRONG)
def test_wrong_arrays_are_named_in_one_line(fault, filed, tmp_path):
    name, change, message = WRONG[fault]
    with np.load(filed) as archive:
        arrays = {key: archive[key] for key in archive if key != 'card.json'}
    arrays['split'] = arrays['split'].astype('U9')
    value = arrays.pop(name)
    if change:
        arrays[name] = change(value)
    np.savez(tmp_path / 'wrong.npz', **arrays)
    with pytest.raises(InputError, match=message) as error:
        read_pairs(tmp_path / 'wrong.npz')
    assert str(error.value).startswith(str(tmp_path / 'wrong.npz'))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('shape', 'message'), [((10**10, 3), 'expected float64 of shape'), ((-13, 3), 'expected float64 of shape')]
)
def test_shapes_beyond_the_member_are_refused(shape, message, filed, tmp_path):
    """A header that lies would map what stands behind the array, too."""
    with zipfile.ZipFile(filed) as source, zipfile.ZipFile(tmp_path / 'lying.npz', 'w') as archive:
        for member in source.namelist():
            array = source.read(member)
            if member == 'positions_relaxed.npy':
                header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n".encode()
                array = b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header + array[128:]
            archive.writestr(member, array)
    with pytest.raises(InputError, match=message):
        read_pairs(tmp_path / 'lying.npz')


def test_an_archive_that_inflates_out_of_proportion_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(content, 'FREE_INFLATION', 2**16)
    with zipfile.ZipFile(tmp_path / 'bomb.npz', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('labels.npy', bytes(2**22))
    with pytest.raises(InputError, match='inflate'):
        read_pairs(tmp_path / 'bomb.npz')


@pytest.mark.parametrize('card', ['{"licence": ', '[1, 2]', '[' * 100_000])
def test_a_broken_data_card_is_named(card, filed, tmp_path):
    with zipfile.ZipFile(filed) as source, zipfile.ZipFile(tmp_path / 'pairs.npz', 'w') as archive:
        for member in source.namelist():
            archive.writestr(member, card if member == 'card.json' else source.read(member))
    with pytest.raises(InputError, match=r'pairs\.npz: card\.json'):
        read_pairs(tmp_path / 'pairs.npz')


TURNS = st.integers(0, 2**32 - 1).map(lambda seed: Rotation.random(rng=seed).as_matrix())


@settings(max_examples=25, deadline=None)
@given(turn=TURNS, seed=st.integers(0, 2**16))
def test_measures_do_not_depend_on_how_a_crystal_is_written(turn, seed):
    """Both crystals turned, their sites in another order, and each predicted atom written in any cell."""
    rng = np.random.default_rng(seed)
    predicted, target = rattled(seed=1)[2], rattled(seed=2)[2]
    plain = batch_of(predicted), batch_of(target)
    order = rng.permutation(len(target))
    images = rng.integers(-3, 4, size=(len(target), 3))
    again = []
    for atoms, shift in ((predicted, images @ target.cell.array), (target, 0 * images)):
        copy = atoms.copy()
        copy.set_cell(atoms.cell.array @ turn)
        copy.positions = (atoms.positions + shift) @ turn
        again.append(batch_of(copy[order]))
    for measure in (cell_shape_deviation, volume_error):
        np.testing.assert_allclose(measure(*again), measure(*plain), rtol=1e-9)
    lengths = []
    for crystals, turned in ((plain, np.eye(3)), (again, turn)):
        before, after = (c.replace(c.positions @ turned.T, c.cell @ turned.T) for c in crystals)
        lengths.append(coordinate_mae(before, after))
    np.testing.assert_allclose(lengths[0], lengths[1], rtol=1e-9)
