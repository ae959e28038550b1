import json

import ase.build
import ase.io
import click
import pytest
from ase.constraints import FixAtoms, FixBondLength, FixScaled
from pymatgen.io.ase import AseAtomsAdaptor

from aiida_e3relax.cli.crystal_file import fixed_components, label_crystals, read_crystal

DISORDERED = """data_x
_cell_length_a 3.8
_cell_length_b 3.8
_cell_length_c 3.8
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Cu 0 0 0 0.7
Au 0 0 0 0.3
"""


def test_constraints_are_told_by_component():
    slab = ase.build.fcc100('Cu', (1, 1, 4), vacuum=6.0)
    slab.set_constraint([FixAtoms([0, 1]), FixScaled(2, [True, True, False])])
    assert fixed_components(slab) == {'abc': [0, 1], 'ab': [2]}


def test_a_crystal_without_constraints_has_none():
    assert fixed_components(ase.build.bulk('Cu')) == {}


def test_constraints_that_vasp_does_not_know_are_refused():
    slab = ase.build.fcc100('Cu', (1, 1, 2), vacuum=6.0)
    slab.set_constraint(FixBondLength(0, 1))
    with pytest.raises(click.ClickException, match='FixBondLength'):
        fixed_components(slab)


def test_partial_occupancies_never_reach_a_chain(tmp_path):
    (tmp_path / 'x.cif').write_text(DISORDERED)
    with pytest.raises(click.ClickException) as told:
        read_crystal(tmp_path / 'x.cif')
    assert f'{tmp_path}/x.cif: x: expected one whole atom on each site' in told.value.message
    assert 'Cu (Cu 0.7), Au (Au 0.3); order it first' in told.value.message


def test_of_a_run_the_last_crystal_is_taken_and_said_to_be(tmp_path, capsys):
    first, last = ase.build.bulk('Cu', a=3.6), ase.build.bulk('Cu', a=3.7)
    last.set_initial_magnetic_moments([1.0])
    ase.io.write(tmp_path / 'run.traj', [first, last])
    assert read_crystal(tmp_path / 'run.traj').cell.volume == pytest.approx(last.cell.volume)
    told = capsys.readouterr().err
    assert 'run.traj: of its 2 crystals the last is taken: structure 1' in told
    assert 'run.traj: magnetic moments of the file are not used' in told


def test_crystals_of_different_atoms_are_not_chosen_from(tmp_path):
    ase.io.write(tmp_path / 'x.cif', [ase.build.bulk('Cu'), ase.build.bulk('Au')])
    with pytest.raises(click.ClickException, match='expected one crystal, found 2: image0, image1'):
        read_crystal(tmp_path / 'x.cif')


def test_labels_are_those_of_folders_and_unreadable_files_are_passed_over(tmp_path, capsys):
    files = [tmp_path / folder / 'POSCAR' for folder in ('a', 'b', '1-c')]
    for file in files:
        file.parent.mkdir()
        ase.io.write(file, ase.build.bulk('Cu'), format='vasp')
    files[1].write_text('nonsense')
    ase.io.write(tmp_path / 'a.extxyz', [ase.build.bulk('Cu'), ase.build.bulk('Au')])
    crystals = label_crystals([*files, tmp_path / 'a.extxyz'])
    assert [(label, str(atoms.symbols)) for label, atoms in crystals.items()] == [
        ('a_POSCAR', 'Cu'),
        ('s_1_c', 'Cu'),
        ('a_extxyz_0', 'Cu'),
        ('a_extxyz_1', 'Au'),
    ]
    assert 'passed over: ' in (told := capsys.readouterr().err)
    assert 'b/POSCAR: cannot be read as crystals: line 2' in told
    with pytest.raises(click.ClickException, match='none of the files'):
        label_crystals([files[1]])


def test_labels_that_a_file_gives_are_those_of_its_crystals(tmp_path):
    copper = AseAtomsAdaptor.get_structure(ase.build.bulk('Cu')).as_dict()
    (tmp_path / 'x.json').write_text(json.dumps({'mp-30': copper, 'mp 30': copper, 'a' * 300: copper}))
    assert list(label_crystals([tmp_path / 'x.json'])) == ['mp_30', 'mp_30_2', 'a' * 200]
