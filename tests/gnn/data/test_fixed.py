"""What files say of fixed atoms and fixed cells, in training files made of them."""

import dataclasses

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.constraints import FixAtoms, FixBondLengths, FixScaled

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import read_data_card, read_pairs
from aiida_e3relax.crystals.duplicates import find_repeats
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.data.build import BuildOptions, BuiltData, build
from aiida_e3relax.gnn.data.card import data_card
from aiida_e3relax.gnn.data.sources.base import UnusableError, moves_by_isif
from aiida_e3relax.gnn.data.sources.registry import open_source
from tests.gnn.data.test_vasp_runs import FREE, vasprun
from tests.gnn.slabs import made_slab_frames, made_slabs


def built(spec, **options) -> BuiltData:
    return build([open_source(str(spec))], BuildOptions(find_repeats=False, **options))


def two_files(tmp_path, change=lambda before, after: None, count=3) -> str:
    before, after = made_slab_frames(count)
    change(before, after)
    for name, frames in (('before', before), ('after', after)):
        ase.io.write(tmp_path / f'{name}.extxyz', frames, columns=['symbols', 'positions', 'move_mask'])
    return f'{tmp_path}/before.extxyz::{tmp_path}/after.extxyz'


def test_move_masks_of_extended_xyz_make_masks(tmp_path, capsys):
    spec, output = two_files(tmp_path), tmp_path / 'slabs.npz'
    assert main(['data', spec, '--output', str(output), '--no-repeats']) == 0
    pairs = read_pairs(output)
    np.testing.assert_array_equal(pairs.fixed.reshape(3, 4, 3)[:, :, 0], [[True, True, False, False]] * 3)
    assert pairs.fixed_cell.all()
    moved = pairs.relaxed.positions - pairs.unrelaxed.positions
    assert (moved[pairs.fixed] == 0).all()
    assert np.abs(moved[~pairs.fixed.any(axis=1), 2]).min() > 0.09
    card = read_data_card(output)
    assert card['repairs']['drift'] == 0
    assert [card['summary'][f'{name}_fixed'] for name in ('atoms', 'cells')] == [6, 3]
    assert '6 atoms fixed, 0 atoms fixed in part, 3 cells fixed' in capsys.readouterr().out
    again = tmp_path / 'again.npz'
    assert main(['data', str(output), '--output', str(again), '--no-repeats']) == 0
    np.testing.assert_array_equal(read_pairs(again).fixed, pairs.fixed)
    assert read_pairs(again).fixed_cell.all()


def moved_site(before, after):
    after[1].positions[0] += 0.3


def stretched(before, after):
    for frame in (before[1], after[1]):
        frame.pbc = True
        frame.set_constraint()
    after[1].set_cell(1.05 * after[1].cell.array, scale_atoms=True)


def another_mask(before, after):
    after[1].set_constraint(FixAtoms([0]))


REFUSED = {
    'a fixed site that moved': (moved_site, {}, 'fixed sites moved: site '),
    'a cell that is said to be fixed': (stretched, {'fixed_cell': True}, 'the cell changed although it is fixed: by'),
    'files that fix different sites': (another_mask, {}, 'fixed sites differ: of 1 sites, such as 1,'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_pairs_that_contradict_what_is_fixed_are_rejected(case, tmp_path):
    change, options, reason = REFUSED[case]
    data = built(two_files(tmp_path, change), **options)
    assert len(data.pairs) == 2
    (rejection,) = data.rejections
    assert rejection.reason.startswith(reason)
    assert rejection.label == 'before:1'


def test_where_nothing_is_left_the_reason_is_told(tmp_path):
    with pytest.raises(InputError, match='the cell changed although it is fixed'):
        built(two_files(tmp_path, stretch_all), fixed_cell=True)


def stretch_all(before, after):
    for start, end in zip(before, after, strict=True):
        start.set_constraint()
        end.set_constraint()
        end.set_cell(1.05 * end.cell.array, scale_atoms=True)


def test_a_cell_that_changes_is_not_fixed_although_atoms_are(tmp_path):
    data = built(two_files(tmp_path, lambda b, a: [x.set_cell(1.05 * x.cell.array, scale_atoms=True) for x in a]))
    assert data.pairs.fixed_cell is None
    assert data.pairs.fixed.any()


def test_bulk_crystals_with_one_cell_are_not_said_to_have_it_fixed(tmp_path):
    atoms = bulk('MgO', 'rocksalt', a=4.2)
    rattled = atoms.copy()
    rattled.rattle(0.1, seed=1)
    ase.io.write(tmp_path / 'a.traj', [rattled, atoms])
    assert built(tmp_path / 'a.traj').pairs.fixed_cell is None
    assert built(tmp_path / 'a.traj', fixed_cell=True).pairs.fixed_cell.all()


def test_trajectories_with_constraints(tmp_path):
    before, after = made_slab_frames(1)
    ase.io.write(tmp_path / 'one.traj', [*before, *after])
    data = built(tmp_path / 'one.traj')
    assert data.pairs.fixed[:, 2].tolist() == [True, True, False, False]
    assert data.pairs.fixed_cell.all()
    before[0].set_constraint(FixBondLengths([[0, 1]]))
    ase.io.write(tmp_path / 'two.traj', [*before, *after])
    with pytest.raises(
        InputError, match='constraints: expected sites held along lattice vectors, found the constraint'
    ):
        built(tmp_path / 'two.traj')


@pytest.mark.parametrize(('isif', 'cell'), [(None, True), (2, True), (3, False), (4, False)])
def test_selective_dynamics_and_isif_of_poscar_runs(isif, cell, tmp_path):
    atoms = bulk('MgO', 'rocksalt', a=4.2)
    atoms.set_constraint(FixScaled([0], mask=[True, False, True]))
    relaxed = atoms.copy()
    relaxed.set_constraint()
    relaxed.positions[1] += [0.05, 0.0, 0.0]
    relaxed.set_constraint(atoms.constraints)
    ase.io.write(tmp_path / 'POSCAR', atoms, format='vasp')
    ase.io.write(tmp_path / 'CONTCAR', relaxed, format='vasp')
    (tmp_path / 'INCAR').write_text('IBRION = 2\nNSW = 60\n' + (f'ISIF = {isif}\n' if isif else ''))
    pairs = built(tmp_path).pairs
    assert pairs.fixed.tolist() == [[True, False, True], [False] * 3]
    assert (pairs.fixed_cell is not None) == cell
    word = {None: 'positions', 2: 'positions', 3: 'cell', 4: 'shape'}[isif]
    assert pairs.about['moves'].tolist() == [word]
    assert data_card(built(tmp_path), [], BuildOptions(), None, None)['moves'] == {word: 1}
    with (tmp_path / 'INCAR').open('a') as handle:
        handle.write('LATTICE_CONSTRAINTS = .TRUE. .TRUE. .FALSE. ! a layer\n')
    held = {3: 'in-plane', 4: 'shape, c held'}.get(isif, word)
    assert built(tmp_path).pairs.about['moves'].tolist() == [held]


@pytest.mark.parametrize(
    ('isif', 'constraints', 'moves'),
    [
        ('3', '.F. .TRUE. .TRUE.', 'cell, a held'),
        ('3', [True, True, False], 'in-plane'),
        ('2', '.FALSE. .FALSE. .FALSE.', 'positions'),
        ('3', '.TRUE. .TRUE. .TRUE.', 'cell'),
        ('7', None, 'volume'),
        ('8', None, 'positions and volume'),
    ],
)
def test_what_vasp_moves_in_words(isif, constraints, moves):
    assert moves_by_isif(isif, constraints) == moves


@pytest.mark.parametrize(('isif', 'constraints'), [('9', None), ('three', None), ('3', 'no no yes')])
def test_tags_that_say_nothing_of_what_moves_are_refused(isif, constraints):
    with pytest.raises(UnusableError, match=r'(ISIF|LATTICE_CONSTRAINTS): expected'):
        moves_by_isif(isif, constraints)


def test_pairs_that_fix_other_sites_are_no_repeats():
    pairs = made_slabs(4).select(np.array([0, 0, 0, 1]))
    fixed = pairs.fixed.copy()
    fixed[0] = False
    cells = np.array([True, True, True, True])
    found = find_repeats(dataclasses.replace(pairs, fixed=fixed, fixed_cell=cells))
    assert found.whole[1] == found.whole[2] != found.whole[0]
    assert found.relaxed[0] == found.relaxed[1]


RUNS = {
    'selective dynamics': ([{'ISIF': 3, 'selective': FREE}], [True, False], False),
    'the cell': ([{'ISIF': 2}], [False, False], True),
    'the cell, by default': ([{'ISIF': ''}], [False, False], True),
    'atoms that no ISIF moves': ([{'ISIF': 6}], [True, True], False),
    'what every part fixes': ([{'ISIF': 2, 'selective': FREE}, {'ISIF': 3, 'selective': FREE}], [True, False], False),
    'what one part frees': ([{'ISIF': 2, 'selective': FREE}, {'ISIF': 2}], [False, False], True),
}


@pytest.mark.parametrize('case', RUNS)
def test_selective_dynamics_and_isif_of_vasprun(case, tmp_path):
    parts, fixed, cell = RUNS[case]
    for number, part in enumerate(parts, 1):
        text = vasprun(**part, stress=0.0) if part['ISIF'] else vasprun(stress=0.0).replace('<i name="ISIF"> 3</i>', '')
        steps = ((5.75, 0.01, -10.2), (5.75, 0.0, -10.2))
        if number > 1:
            text = vasprun(steps=steps, **part, stress=0.0)
        (tmp_path / (f'vasprun.{number}.xml' if len(parts) > 1 else 'vasprun.xml')).write_text(text)
    (candidate,) = open_source(str(tmp_path)).candidates
    before = candidate.load().before
    found = np.zeros((2, 3), dtype=bool) if before.fixed is None else before.fixed
    assert found.all(axis=1).tolist() == fixed
    assert before.fixed_cell == cell
