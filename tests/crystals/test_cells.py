"""Reduced cells and nearest images, against all combinations in reach."""

import itertools

import numpy as np
import pytest
from ase.geometry.minkowski_reduction import minkowski_reduce
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.crystals.cells import images_within, inverse_of, reduction, shifted_to_nearest_image, widths

COEFFICIENTS = np.array(list(itertools.product(range(-3, 4), repeat=3)))
NO_STEP = np.eye(3, dtype=np.int64)

# Multiples of 1/4 make cells with ties: hexagonal, face-centred, orthogonal.
components = st.one_of(st.integers(-24, 24).map(lambda n: n / 4), st.floats(-6, 6))
steps = st.lists(st.tuples(st.sampled_from(list(itertools.permutations(range(3), 2))), st.integers(-9, 9)), max_size=4)
differences = st.lists(st.floats(-4, 4), min_size=3, max_size=3)


@st.composite
def cells(draw) -> np.ndarray:
    """A cell of either handedness with a volume, and often with much longer vectors than its lattice has."""
    cell = np.array(draw(st.lists(components, min_size=9, max_size=9))).reshape(3, 3)
    while abs(np.linalg.det(cell)) < 2:
        cell = cell + 3 * np.eye(3)
    return skewed(cell, draw(steps))


def skewed(cell: np.ndarray, sums: list) -> np.ndarray:
    """Another cell of the same lattice."""
    for (to, of), times in sums:
        step = NO_STEP.copy()
        step[to, of] = times
        cell = step @ cell
    return cell


@settings(max_examples=60, deadline=None)
@given(cells())
def test_reduced_cells_span_the_same_lattice_with_its_shortest_vectors(cell):
    transform = reduction(cell[None])[0]
    assert abs(round(np.linalg.det(transform))) == 1
    np.testing.assert_array_equal(inverse_of(transform[None])[0] @ transform, NO_STEP)
    reduced = transform @ cell
    lengths, expected = (np.sort(np.linalg.norm(np.array(c), axis=1)) for c in (reduced, minkowski_reduce(cell)[0]))
    np.testing.assert_allclose(lengths, expected, rtol=1e-6)
    np.testing.assert_array_equal(reduction(reduced[None])[0], NO_STEP)


@settings(max_examples=60, deadline=None)
@given(cells(), differences)
def test_the_nearest_image_is_the_nearest_of_all(cell, difference):
    difference = np.array(difference)
    found = shifted_to_nearest_image(difference[None], cell[None], np.zeros(1, dtype=np.int64))[0]
    np.testing.assert_allclose(found - difference, np.round(found - difference), atol=1e-9)
    reduced = reduction(cell[None])[0] @ cell
    start = np.linalg.solve(reduced.T, difference @ cell)
    around = (start - np.round(start) + COEFFICIENTS) @ reduced
    shortest = np.linalg.norm(around, axis=1).min()
    assert np.linalg.norm(found @ cell) == pytest.approx(shortest, abs=1e-8)


def test_the_nearest_image_in_one_skewed_cell():
    """Rounding in this cell of a cubic lattice, and the 27 images around, miss it for a tenth of all vectors."""
    cell = np.array([[3.0, 0, 0], [3.0 * 4, 3.0, 0], [0, 3.0 * 3, 3.0]])
    vectors = np.random.default_rng(0).uniform(-1.5, 1.5, size=(400, 3))
    images = vectors + np.random.default_rng(1).integers(-5, 6, size=(400, 3)) @ cell
    found = shifted_to_nearest_image(images @ np.linalg.inv(cell), cell[None], np.zeros(400, dtype=np.int64))
    np.testing.assert_allclose(found @ cell, vectors, atol=1e-9)


def test_many_cells_at_once_give_what_each_gives_alone():
    rng = np.random.default_rng(0)
    many = np.stack([4 * np.eye(3), [[3, 0, 0], [90, 3, 0], [1, 70, 3]], *rng.uniform(-5, 5, size=(6, 3, 3))])
    index, difference = np.repeat(np.arange(8), 5), rng.uniform(-3, 3, size=(40, 3))
    together = shifted_to_nearest_image(difference, many, index)
    alone = [shifted_to_nearest_image(difference[index == i], many[[i]], np.zeros(5, dtype=np.int64)) for i in range(8)]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-12)


@pytest.mark.parametrize(
    'cell',
    [np.zeros((3, 3)), np.full((3, 3), np.nan), np.diag([np.inf, 1, 1]), np.diag([1e200, 1, 1]), np.diag([5e-324] * 3)],
    ids=['no volume', 'nan', 'infinite', 'huge', 'denormal'],
)
@pytest.mark.filterwarnings('error')
def test_what_cannot_be_reduced_stays_as_it_is(cell):
    np.testing.assert_array_equal(reduction(np.stack([cell, np.eye(3)])), [NO_STEP, NO_STEP])


def test_cells_of_equal_vectors_are_not_turned_into_others():
    """Rounding decides nothing in hexagonal and face-centred cells, which are reduced as they are."""
    hexagonal = np.array([[3.2, 0, 0], [-1.6, 1.6 * np.sqrt(3), 0], [0, 0, 5.2]])
    face_centred = 1.8 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    tilted = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    for cell in (hexagonal, face_centred):
        np.testing.assert_array_equal(reduction((cell @ tilted)[None])[0], NO_STEP)


def test_widths_and_images():
    cell = np.array([[2.0, 0, 0], [7.0, 3.0, 0], [0, 0, 20.0]])[None]
    assert widths(cell)[0] == pytest.approx([2 / np.sqrt(1 + 49 / 9), 3, 20])
    assert images_within(np.diag([2.0, 3.0, 20.0])[None], 5.0)[0] == 7 * 5 * 1
