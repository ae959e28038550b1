"""KPOINTS: meshes against ASE's, lists, and what is refused."""

import contextlib

import numpy as np
import pytest
from ase.build import bulk
from ase.dft.kpoints import monkhorst_pack
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.standin.errors import StandInError
from aiida_e3relax.standin.geometry import FractionalGeometry
from aiida_e3relax.standin.incar import Incar
from aiida_e3relax.standin.kpoints import KPoints, parse_kpoints, spacing_mesh

ALUMINIUM = FractionalGeometry(bulk('Al', a=4.05).cell.array, np.zeros((1, 3)))


def as_set(points):
    return {tuple(np.round(point % 1, 6) % 1) for point in points}


@pytest.mark.parametrize('divisions', [(2, 3, 4), (1, 1, 1), (4, 4, 4)])
def test_monkhorst_pack_mesh_is_that_of_ase(divisions):
    mesh = parse_kpoints(f'x\n0\nMonkhorst\n{" ".join(map(str, divisions))}\n', ALUMINIUM)
    assert as_set(mesh.points) == as_set(monkhorst_pack(divisions))


def test_gamma_mesh_contains_gamma_and_the_shift_moves_it():
    assert (0.0, 0.0, 0.0) in as_set(parse_kpoints('x\n0\nG\n4 4 4\n', ALUMINIUM).points)
    assert (0.125, 0.0, 0.0) in as_set(parse_kpoints('x\n0\nG\n4 4 4\n0.5 0 0\n', ALUMINIUM).points)


def test_irreducible_part_keeps_the_weights():
    irreducible = KPoints.mesh((4, 4, 4), gamma=True).irreducible
    assert len(irreducible.points) == len(irreducible.weights) == 36
    assert irreducible.weights.sum() == pytest.approx(1)


def test_spacing_follows_vasp():
    lengths = 2 * np.pi * np.linalg.norm(ALUMINIUM.reciprocal, axis=1)
    mesh = spacing_mesh(Incar('KSPACING = 0.4\nKGAMMA = F'), ALUMINIUM)
    assert mesh.divisions == tuple(np.ceil(lengths / 0.4).astype(int))
    assert mesh.gamma is False


def test_length_and_list():
    assert parse_kpoints('x\n0\nAuto\n20\n', ALUMINIUM).divisions == (9, 9, 9)
    points = parse_kpoints('x\n2\nReciprocal\n0 0 0 1\n0.5 0 0 3\n', ALUMINIUM)
    np.testing.assert_allclose(points.weights, [0.25, 0.75])


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('x\n20\nLine-mode\nrec\n0 0 0\n', 'line mode is not supported'),
        ('x\n0\nGamma\n4 4\n', 'expected a mesh'),
        ('x\n0\nGamma\n4 4 0\n', 'three positive subdivisions'),
        ('x\n0\nHexagonal\n4 4 4\n', 'expected Gamma, Monkhorst-Pack or Automatic'),
        ('x\n2\nReciprocal\n0 0 0 1\n', 'announces 2 points'),
        ('x\n1\nCartesian\n0 0 0 1\n', 'Cartesian lists'),
        ('x\n', 'expected a mesh'),
    ],
)
def test_refusals(text, message):
    with pytest.raises(StandInError, match=message):
        parse_kpoints(text, ALUMINIUM)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('x\n0\nGamma\n2000 2000 2000\n', 'expected 100,000 at most, found 2000 x 2000 x 2000'),
        ('x\n0\nAuto\n1e6\n', 'expected 100,000 at most'),
        ('x\n0\nAuto\ninf\n', 'expected a mesh'),
        ('x\n0\nAuto\n-20\n', 'expected a positive length'),
        ('x\n0\nGamma\n2 2 2\nnan 0 0\n', 'expected a mesh'),
        ('x\n0\nGamma\n2.5 2 2\n', 'expected a mesh'),
        ('x\n-1\nGamma\n2 2 2\n', 'expected 0 or how many points are listed'),
        ('x\n1\nReciprocal\nnan 0 0 1\n', 'expected a mesh or a list'),
        ('x\n1\nReciprocal\n0 0 0\n', 'expected a mesh or a list'),
        ('x\n1\nReciprocal\n0 0 0 0\n', 'expected weights'),
        ('x\n2\nReciprocal\n0 0 0 -1\n0 0 0.5 2\n', 'expected weights'),
        ('x\n999999999\nReciprocal\n0 0 0 1\n', 'announces 999999999 points'),
    ],
)
def test_points_without_number_or_end_are_refused(text, message):
    with pytest.raises(StandInError, match=message):
        parse_kpoints(text, ALUMINIUM)


@pytest.mark.parametrize(('spacing', 'message'), [('0', 'must be positive'), ('-1', 'positive'), ('1e-9', 'at most')])
def test_spacings_without_a_mesh_are_refused(spacing, message):
    with pytest.raises(StandInError, match=message):
        spacing_mesh(Incar(f'KSPACING = {spacing}'), ALUMINIUM)


@settings(max_examples=200, deadline=None)
@given(st.text('xGMAR0123456789.-e \n', max_size=40))
def test_any_text_is_a_sampling_or_refused(text):
    with contextlib.suppress(StandInError):
        kpoints = parse_kpoints(text, ALUMINIUM)
        assert np.isfinite(kpoints.points).all()
        assert kpoints.weights.sum() == pytest.approx(1)
