"""Where the atoms leave a vacuum, whatever the cell and its periodic directions say."""

import ase.build
import numpy as np
import pytest
from ase import Atoms
from ase.spacegroup import crystal
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.crystals.freedom.vacuum import find_gap, gap_of
from tests.workflows.crystals import to_crystals


def copper_slab() -> Atoms:
    return ase.build.fcc111('Cu', (1, 1, 4), vacuum=7.0)


def slab_with_adsorbate() -> Atoms:
    slab = ase.build.fcc111('Pt', (2, 2, 3), vacuum=8.0)
    ase.build.add_adsorbate(slab, Atoms('CO', [[0, 0, 0], [0, 0, 1.15]]), 1.9, 'ontop')
    return slab


def graphene() -> Atoms:
    return ase.build.graphene(vacuum=8.0)


def bilayer() -> Atoms:
    first, second = graphene(), graphene()
    second.positions[:, 2] += 3.35
    return first + second


def nanotube() -> Atoms:
    tube = ase.build.nanotube(3, 3)
    tube.center(vacuum=6.0, axis=(0, 1))
    return tube


def water() -> Atoms:
    return ase.build.molecule('H2O', vacuum=6.0)


def graphite() -> Atoms:
    sites = [(0, 0, 0.25), (1 / 3, 2 / 3, 0.25)]
    return crystal(['C', 'C'], sites, spacegroup=194, cellpar=[2.46, 2.46, 6.71, 90, 90, 120])


def molybdenum_sulphide() -> Atoms:
    sites = [(1 / 3, 2 / 3, 0.25), (1 / 3, 2 / 3, 0.621)]
    return crystal(['Mo', 'S'], sites, spacegroup=194, cellpar=[3.16, 3.16, 12.3, 90, 90, 120])


def bismuth_telluride() -> Atoms:
    sites = [(0, 0, 0.4), (0, 0, 0), (0, 0, 0.21)]
    return crystal(['Bi', 'Te', 'Te'], sites, spacegroup=166, cellpar=[4.386, 4.386, 30.5, 90, 90, 120])


def dry_ice() -> Atoms:
    return crystal(['C', 'O'], [(0, 0, 0), (0.119, 0.119, 0.119)], spacegroup=205, cellpar=[5.62] * 3 + [90] * 3)


def nitrogen() -> Atoms:
    return crystal('N', [(0.054, 0.054, 0.054)], spacegroup=205, cellpar=[5.66] * 3 + [90] * 3)


def sodalite() -> Atoms:
    sites = [(0.25, 0.5, 0), (0.148, 0.148, 0.5)]
    return crystal(['Si', 'O'], sites, spacegroup=229, cellpar=[8.83] * 3 + [90] * 3)


def caesium_iodide() -> Atoms:
    return ase.build.bulk('CsI', 'cesiumchloride', a=4.567)


WITH_VACUUM = {
    copper_slab: (2, [2], 14.0),
    slab_with_adsorbate: (2, [2], 16.0 - 1.9 - 1.15),
    graphene: (2, [2], 16.0),
    bilayer: (2, [2], 16.0 - 3.35),
    nanotube: (1, [0, 1], None),
    water: (0, [0, 1, 2], None),
}
CRYSTALS = [
    graphite,
    molybdenum_sulphide,
    bismuth_telluride,
    dry_ice,
    nitrogen,
    sodalite,
    caesium_iodide,
    *(lambda name=name: ase.build.bulk(name) for name in ('Cs', 'Xe', 'Ar', 'Rb', 'Si', 'Fe', 'Mg')),
]


@pytest.mark.parametrize('make', WITH_VACUUM, ids=lambda make: make.__name__)
def test_a_vacuum_is_found_and_measured(make):
    dimension, open_axes, width = WITH_VACUUM[make]
    gap = find_gap(to_crystals(make()))
    assert (gap.dimension, gap.open_axes) == (dimension, open_axes)
    assert width is None or gap.width == pytest.approx(width, abs=0.01)


@pytest.mark.parametrize('make', CRYSTALS)
def test_bulk_crystals_have_none(make):
    assert find_gap(to_crystals(make())) is None
    assert find_gap(to_crystals(make() * (2, 2, 2))) is None


def test_a_narrow_gap_is_none():
    assert find_gap(to_crystals(ase.build.fcc111('Cu', (1, 1, 3), vacuum=2.4))) is None
    assert find_gap(to_crystals(ase.build.fcc111('Cu', (1, 1, 3), vacuum=2.8))).width == pytest.approx(5.6)


def test_a_vacuum_across_no_lattice_vector_is_found_too():
    oblique = ase.build.make_supercell(copper_slab(), [[1, 0, 1], [0, 1, 0], [1, 0, 2]])
    gap = find_gap(to_crystals(oblique))
    assert (gap.dimension, gap.open_axes) == (2, [])
    assert gap.width == pytest.approx(14.0)


def test_what_is_said_goes_over_what_is_seen():
    crystal = to_crystals(graphene())
    assert gap_of(Freedom(vacuum='none'), crystal) is None
    assert gap_of(Freedom(vacuum='c'), crystal).open_axes == [2]
    assert gap_of(Freedom(vacuum='a'), crystal).open_axes == [0]


@st.composite
def bases(draw):
    """Integer matrices of determinant 1 or -1: other lattice vectors of the same lattice."""
    shears = [draw(st.integers(-2, 2)) for _ in range(6)]
    lower, upper = np.eye(3), np.eye(3)
    lower[np.tril_indices(3, -1)], upper[np.triu_indices(3, 1)] = shears[:3], shears[3:]
    return (lower @ upper)[draw(st.permutations(range(3)))]


@settings(max_examples=40, deadline=None)
@given(
    make=st.sampled_from([copper_slab, bilayer, nanotube, water, graphite, caesium_iodide, dry_ice]),
    shift=arrays(np.float64, 3, elements=st.floats(-3, 3)),
    basis=bases(),
    repeats=st.tuples(*[st.integers(1, 2)] * 3),
    seed=st.integers(0, 99),
)
def test_the_answer_does_not_depend_on_how_the_structure_is_written(make, shift, basis, repeats, seed):
    """Shifted, wrapped, in another order, in other lattice vectors, as a supercell, and turned."""
    whole = make()
    expected = find_gap(to_crystals(whole))
    atoms = whole.copy()
    atoms.pbc = True
    atoms.set_cell(basis @ whole.cell.array)
    atoms.positions += shift @ whole.cell.array
    atoms.wrap()
    atoms = (atoms * repeats)[np.random.default_rng(seed).permutation(len(atoms) * np.prod(repeats))]
    atoms.rotate(37.0, (1, 2, 3), rotate_cell=True)
    gap = find_gap(to_crystals(atoms))
    if expected is None or gap is None:
        assert gap is expected
    else:
        assert gap.dimension == expected.dimension
        assert gap.width == pytest.approx(expected.width, abs=1e-6)
