"""Starts of relaxations: like for like, of every kind, the same ones every time, none that leaks."""

import dataclasses

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, mx2
from ase.spacegroup import crystal
from scipy.spatial.transform import Rotation

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.freedom.vacuum import find_gap
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import pymatgen_structure
from aiida_e3relax.gnn.data.splits import chemical_systems
from aiida_e3relax.gnn.data.starts import draw, held_out
from aiida_e3relax.gnn.data.starts.classes import prototype_class_of
from aiida_e3relax.gnn.data.starts.draw import draw_starts
from aiida_e3relax.gnn.data.starts.elements import alike, family_of
from aiida_e3relax.gnn.data.starts.kinds import KINDS
from aiida_e3relax.gnn.data.starts.layers import VACUUM, cut_layer
from aiida_e3relax.gnn.data.starts.library import MOST_ATOMS, Library, as_crystals, has_free_coordinates
from aiida_e3relax.gnn.data.starts.screening import find_outliers, find_refusal
from benchmarks.families import family_crystals
from benchmarks.hypothetical import hypothetical_crystals
from tests.gnn.crystals import PROTOTYPES, batch_of


def layered(formula='MoS2'):
    """Return two layers of a transition-metal dichalcogenide in a cell without vacuum, one above the other."""
    one = mx2(formula, a=3.18, thickness=3.13, vacuum=None)
    one.cell[2] = [0, 0, 6.15]
    one.pbc = True
    return one * (1, 1, 2)


def alloys():
    copper = bulk('Cu', a=3.75, cubic=True)
    copper.numbers[0] = 79
    silver = bulk('Ag', 'hcp', a=2.9, c=4.7)
    silver.numbers[0] = 46
    return [copper, silver]


def real_pairs():
    """Pairs that end in the prototypes of the tests, a layered crystal and alloys; the last one is to test on."""
    frames = [make() for make in PROTOTYPES.values()] + [layered(), *alloys(), bulk('MgO', 'rocksalt', a=4.21)]
    split = np.array(['train'] * (len(frames) - 1) + ['test'])
    return Pairs(batch_of(*frames), batch_of(*frames), split, np.full(len(frames), 'made'))


FLUORIDES = {'fluorides': 'test_fluorides'}


@pytest.fixture(scope='module')
def pairs():
    return real_pairs()


@pytest.fixture(scope='module', autouse=True)
def prototypes():
    """Load pymatgen's prototypes without its check of their 288 references, which takes 20 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('pymatgen.util.provenance.is_valid_bibtex', lambda _: True)
        import pymatgen.analysis.prototypes
    return pymatgen.analysis.prototypes.AFLOW_PROTOTYPE_LIBRARY


@pytest.fixture(scope='module', autouse=True)
def few_tries():
    """Take it that there are no more layers after 500 tries: of these pairs there is one, and 5000 tries take 3 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw, 'MOST_TRIES', 500)
        yield


@pytest.fixture(scope='module')
def library(pairs):
    return Library.of(pairs)


@pytest.fixture(scope='module')
def refusals(pairs, library):
    judged = held_out.systems_to_judge_by(pairs) | held_out.read_never(['CaS'])
    return held_out.Refusals(judged, held_out.systems_to_train_on(pairs), library.known)


@pytest.fixture(scope='module')
def drawn(library, refusals):
    return draw_starts(library, refusals, 60, FLUORIDES, 0)


def test_elements_stand_for_those_that_are_alike():
    known = {'H', 'Li', 'Na', 'K', 'Ca', 'O', 'S', 'Te', 'F', 'Cl', 'Ar', 'Fe', 'Co', 'La', 'Lu'}
    assert alike('Na', known) == ['Na', 'K', 'Li']
    assert 'H' not in alike('Li', known)
    assert set(alike('H', known)) == {'H', 'F', 'Cl'}
    assert set(alike('O', known)) == {'O', 'S'}
    assert alike('Mn', known)[:1] == ['Fe']
    assert 'Lu' in alike('La', known)
    assert alike('U', {'Sc', 'Y', 'La', 'Th', 'U'}) == ['U']
    assert alike('Sc', {'Y', 'U', 'Ac'}) == ['Y', 'Ac']
    assert alike('Ar', known) == []


@pytest.mark.parametrize(
    ('symbols', 'family'),
    [
        (['Na', 'O', 'F'], 'fluorides'),
        (['Ca', 'O', 'H'], 'oxides'),
        (['Li', 'N', 'H'], 'nitrides'),
        (['Pb', 'Cl', 'S'], 'halides'),
        (['Bi', 'Te'], 'chalcogenides'),
        (['K', 'Mg', 'H'], 'hydrides'),
        (['Au', 'Na'], 'intermetallics'),
        (['S'], 'elements'),
    ],
)
def test_the_most_electronegative_anion_names_the_family(symbols, family):
    assert family_of(symbols) == family


def test_starts_are_of_every_kind_and_the_same_ones_every_time(drawn, library, refusals):
    starts = drawn.starts
    assert len(starts) == 60
    assert set(starts.kinds) == set(KINDS)
    assert starts.unrelaxed.n_atoms.max() <= MOST_ATOMS
    assert len(set(starts.unrelaxed.labels.tolist())) == 60
    first = draw_starts(library, refusals, 20, FLUORIDES, 0).starts
    assert first.unrelaxed.labels.tolist() == starts.unrelaxed.labels[:20].tolist()
    np.testing.assert_array_equal(first.unrelaxed.positions, starts.unrelaxed.positions[: first.unrelaxed.offsets[-1]])
    other = draw_starts(library, refusals, 20, FLUORIDES, 1).starts
    assert other.about['recipe'].tolist() != first.about['recipe'].tolist()


def test_nothing_leaks(drawn, library, refusals):
    starts = drawn.starts
    systems = chemical_systems(starts)
    assert not {'Mg-O', 'Ca-S'} & set(systems)
    never = frozenset(systems[:20])
    other = draw_starts(library, dataclasses.replace(refusals, systems=refusals.systems | never), 20, {}, 0)
    assert not never & set(chemical_systems(other.starts))
    assert sum('judge' in reason for reasons in other.refused.values() for reason in reasons) > 2
    swapped = [' with ' in recipe for recipe in starts.about['recipe'].tolist()]
    for index in np.flatnonzero(swapped).tolist():
        formula = pymatgen_structure(starts.unrelaxed, index).composition.reduced_formula
        assert (formula, starts.about['prototype'][index]) not in refusals.known
    for system, split, family in zip(systems, starts.split, starts.about['family'], strict=True):
        assert (split == 'test_fluorides') == (family == 'fluorides')
        assert split in ('test_fluorides', held_out.split_of(system, 'oxides', '', {}, refusals.trained))


def test_nothing_is_judged_by_what_is_trained_on(library, refusals, monkeypatch):
    monkeypatch.setattr(held_out, 'VALIDATION_SHARE', 1)  # every chemical system that may be
    starts = draw_starts(library, refusals, 40, {'oxides': 'test_oxides'}, 0, ('vacancy', 'rattled', 'donor')).starts
    systems = np.array(chemical_systems(starts))
    assert {'train', 'val', 'test_oxides'} == set(starts.split)
    assert not refusals.trained & set(systems[starts.split == 'val'])
    assert refusals.trained >= set(systems[starts.split == 'train'])
    swapped = np.array([' with ' in recipe for recipe in starts.about['recipe'].tolist()])
    assert set(starts.split[~swapped]) == {'train'}


def test_prototypes_are_held_out_before_families():
    both = held_out.splits_of_held_out(('fluorides', 'perovskites'))
    assert held_out.split_of('Ca-F-K', 'fluorides', 'perovskites', both) == 'test_perovskites'
    assert held_out.split_of('Ca-F-K', 'fluorides', 'perovskites', FLUORIDES) == 'test_fluorides'
    assert held_out.split_of('Ca-F-K', 'fluorides', '', {'perovskites': 'test_perovskites'}) in ('train', 'val')
    systems = [f'A{n}' for n in range(2000)]
    share = np.mean([held_out.split_of(system, '', '', {}) == 'val' for system in systems])
    assert 0.03 < share < 0.07


def test_what_is_held_out_to_calibrate_on_has_a_split_to_validate_on(library, refusals):
    splits = held_out.splits_of_held_out(['perovskites'], ['fluorides', 'spinels'])
    assert splits['fluorides'] == 'val_ood_fluorides'
    assert held_out.split_of('Ca-F-K', 'fluorides', 'perovskites', splits) == 'test_perovskites'  # never seen by either
    splits = held_out.splits_of_held_out(['fluorides'], ['perovskites'])
    assert held_out.split_of('Ca-F-K', 'fluorides', 'perovskites', splits) == 'test_fluorides'
    starts = draw_starts(library, refusals, 60, {'fluorides': 'val_ood_fluorides'}, 0).starts
    of_family = starts.about['family'] == 'fluorides'
    assert of_family.any()
    assert set(starts.split[of_family]) == {'val_ood_fluorides'}
    assert not set(starts.split[~of_family]) - {'train', 'val'}
    with pytest.raises(InputError, match=r'--held-out-val: unknown .oxide.: did you mean'):
        held_out.splits_of_held_out([], ['oxide'])
    with pytest.raises(InputError, match='--held-out-val: oxides are held out to test on'):
        held_out.splits_of_held_out(['oxides'], ['oxides'])


def test_a_perovskite_is_one_however_distorted():
    cubic = PROTOTYPES['perovskite']()
    polar, tilted, turned = cubic.copy(), cubic * (2, 2, 2), cubic.copy()
    polar.set_cell(np.diag([3.9, 3.9, 4.15]), scale_atoms=True)
    polar.positions[polar.numbers == 22, 2] += 0.3  # as in PbTiO3, P4mm
    tilted.rattle(0.15, seed=1)  # P1
    turned.numbers = turned.numbers.max() + turned.numbers.min() - turned.numbers  # its inverse
    for atoms in (cubic, polar, tilted, turned):
        assert prototype_class_of(batch_of(atoms), '') == 'perovskites'
    chains = crystal(  # 2H BaNiO3: octahedra that share faces
        ['Ba', 'Ni', 'O'],
        [(1 / 3, 2 / 3, 0.75), (0, 0, 0), (0.1462, 0.2924, 0.25)],
        spacegroup=194,
        cellpar=[5.629, 5.629, 4.811, 90, 90, 120],
    )
    ilmenite = crystal(
        ['Fe', 'Ti', 'O'],
        [(0, 0, 0.3554), (0, 0, 0.1465), (0.3174, 0.0233, 0.2452)],
        spacegroup=148,
        cellpar=[5.088, 5.088, 14.08, 90, 90, 120],
    )
    for atoms in (chains, ilmenite, PROTOTYPES['rutile']()):
        assert prototype_class_of(batch_of(atoms), '') == ''
    assert prototype_class_of(batch_of(PROTOTYPES['rock salt']()), '227:1-2-4:ade') == 'spinels'


def test_what_dft_relaxed_to_a_lower_symmetry_is_not_taught_to_stay():
    distorted = PROTOTYPES['rutile']()
    before = distorted.copy()
    distorted.rattle(0.1, seed=0)
    pairs = Pairs(batch_of(before), batch_of(distorted), np.full(1, 'train'), np.full(1, 'x'))
    known = Library.of(pairs).known
    assert {name.partition(':')[0] for _, name in known} == {'136', '1'}
    assert {formula for formula, _ in known} == {'TiO2'}


def test_what_is_asked_for_must_be_known():
    with pytest.raises(InputError, match=r'did you mean .*fluorides'):
        held_out.splits_of_held_out(['fluoride'])
    with pytest.raises(InputError, match="expected a formula such as MoS2, or a file of such, found 'Xy2'"):
        held_out.read_never(['Xy2'])


def test_what_moves_follows_the_kind(drawn):
    starts = drawn.starts
    moves = starts.about['moves']
    assert set(moves[starts.kinds == 'layer']) == {'in-plane'}
    assert set(moves[starts.kinds == 'prototype']) == {'cell'}
    np.testing.assert_array_equal(starts.fixed_cell, moves == 'positions')
    for index in np.flatnonzero(starts.kinds == 'layer').tolist():
        gap = find_gap(starts.unrelaxed.select([index]))
        assert gap.open_axes == [2]
        assert gap.width == pytest.approx(VACUUM, abs=0.01)


def test_prototypes_leave_something_free(library):
    assert library.by_prototype
    for bases in library.by_prototype.values():
        assert has_free_coordinates(bases[0].structure)
    crystals = {name: pymatgen_structure(batch_of(make()), 0) for name, make in PROTOTYPES.items()}
    assert [name for name, one in crystals.items() if has_free_coordinates(one)] == [
        'rutile',
        'wurtzite',
        'baddeleyite',
    ]


def test_a_layer_is_the_same_however_the_crystal_is_written():
    skewed = layered()
    skewed.set_cell(np.array([[1, 0, 0], [1, 1, 0], [2, -1, 1]]) @ skewed.cell.array)
    turned = Atoms(
        layered().numbers,
        cell=layered().cell.array[[2, 0, 1]] @ Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix(),
        scaled_positions=layered().get_scaled_positions()[:, [2, 0, 1]],
        pbc=True,
    )
    for atoms in (layered(), turned, skewed):
        layer = cut_layer(pymatgen_structure(batch_of(atoms), 0))
        assert sorted(site.specie.symbol for site in layer) == ['Mo', 'S', 'S']
        np.testing.assert_allclose(sorted(layer.lattice.abc)[:2], 3.18)
        np.testing.assert_allclose(layer.lattice.matrix[2] @ layer.lattice.matrix[:2].T, 0, atol=1e-9)
        assert layer.lattice.c == pytest.approx(3.13 + VACUUM)
        own = layer.distance_matrix
        assert np.sort(own[own > 0])[0] == pytest.approx(np.hypot(3.18 / np.sqrt(3), 3.13 / 2))
    for other in ('rock salt', 'hcp', 'rutile'):
        assert cut_layer(pymatgen_structure(batch_of(PROTOTYPES[other]()), 0)) is None


def test_layers_that_face_each_other_are_one_kind_of_plane():
    one = layered()[:3]
    other = one.copy()
    other.positions = one.positions @ np.diag([-1, -1, 1]) + [0, 0, 6.15]  # the 2H polytype, a turn by 180 degrees
    polytype = one + other
    polytype.cell = np.diag([1, 1, 2]) @ one.cell.array
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(6)
        shifted = polytype[order]
        shifted.positions += np.random.default_rng(seed).uniform(0, 12, 3)
        shifted.wrap()
        layer = cut_layer(pymatgen_structure(batch_of(shifted), 0))
        assert sorted(site.specie.symbol for site in layer) == ['Mo', 'S', 'S']


def test_relaxations_are_kept_that_end_at_crystals():
    start = batch_of(bulk('Cu', a=3.6, cubic=True))
    told = {'converged': True, 'energy_input_eV_per_atom': 0.1, 'energy_prediction_eV_per_atom': 0.0}

    def refusal(end=start, status='ok', **changes):
        return find_refusal(start, end, {'status': status, 'potential': told | changes})

    def scaled(factor):
        return start.replace(start.positions * factor, start.cell * factor)

    assert refusal() is None
    assert refusal(scaled(1.2)) is None
    assert refusal(status='unknown_element') == 'not relaxed: unknown_element'
    assert (
        find_refusal(start, start, {'status': 'ok', 'potential': {'error': '-'}}) == 'not relaxed: the potential failed'
    )
    assert refusal(converged=False) == 'not converged'
    assert refusal(energy_prediction_eV_per_atom=0.2) == 'the energy rose'
    assert refusal(energy_prediction_eV_per_atom=0.2, energy_input_eV_per_atom=None) is None
    assert 'volume' in refusal(scaled(1.5))
    assert 'volume' in refusal(scaled(0.65))
    moves = np.array([[0, 0, 1.2], [0, 0, -1.2], [1.2, 0, 0], [-1.2, 0, 0]])
    assert 'moved by more' in refusal(start.replace(start.positions + moves, start.cell))
    close = start.positions.copy()
    close[0] += (close[1] - close[0]) * 0.5
    assert 'closer' in refusal(start.replace(close, start.cell))


def test_an_energy_far_from_what_the_elements_make_is_told():
    frames = [bulk('Cu', a=3.6, cubic=True) for _ in range(30)]
    for number, atoms in enumerate(frames):
        atoms.numbers[: number % 4] = 79
    crystals = batch_of(*frames)
    energies = np.array([-3.5 - 0.3 * (number % 4) for number in range(30)])
    assert not find_outliers(crystals, energies).any()
    energies[7] += 10.0
    energies[8] -= 2.0
    assert np.flatnonzero(find_outliers(crystals, energies)).tolist() == [7, 8]


def test_the_compounds_of_the_campaigns_are_never_drawn():
    crystals = [structure for _, _, structure in family_crystals()] + list(hypothetical_crystals().values())
    systems = held_out.read_never(['benchmarks/judged.txt'])
    judged = {'-'.join(sorted(e.symbol for e in structure.composition.elements)) for structure in crystals}
    assert systems == judged | {'Mo-S', 'Ni-O'}  # and those of real_pbe.py


def test_crystals_of_pymatgen_come_back():
    crystals = batch_of(PROTOTYPES['rutile']())
    back = as_crystals([pymatgen_structure(crystals, 0)], ['TiO2'])
    np.testing.assert_allclose(back.positions, crystals.positions)
    assert back.labels.tolist() == ['TiO2']
