"""Every entrance reads files by one reader: it refuses what would be filled up in silence, and ends in bounded time."""

import bz2
import gzip
import itertools
import json
import lzma
import re
import sqlite3
import time

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from aiida_e3relax.common.messages import printable
from aiida_e3relax.crystals.files import CrystalFileError, content, iterate_crystals, read_crystals
from aiida_e3relax.crystals.files.stream import stream_structures
from aiida_e3relax.crystals.freedom.constraints import movable_coordinates


@pytest.fixture
def copper():
    return bulk('Cu', a=3.6, cubic=True)


def refusal(path):
    with pytest.raises(CrystalFileError) as told:
        read_crystals(path)
    assert str(told.value).startswith(printable(path))
    assert '\n' not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize('name', ['x.traj', 'x.extxyz', 'x.xyz', 'x.json', 'x.db', 'x.xsf', 'XDATCAR', 'a@1.extxyz'])
def test_formats_of_ase(tmp_path, copper, name):
    ase.io.write(tmp_path / name, [copper, copper], **({'format': 'vasp-xdatcar'} if name == 'XDATCAR' else {}))
    first, second = read_crystals(tmp_path / name)
    np.testing.assert_allclose(first.positions, copper.positions, atol=1e-6)
    np.testing.assert_allclose(second.cell.array, copper.cell.array, atol=1e-6)


@pytest.mark.parametrize(('suffix', 'pack'), [('.gz', gzip.compress), ('.bz2', bz2.compress), ('.xz', lzma.compress)])
def test_compressed_files(tmp_path, copper, suffix, pack):
    for name in ('x.cif', 'x.extxyz'):
        ase.io.write(tmp_path / name, copper)
        packed = tmp_path / f'{name}{suffix}'
        packed.write_bytes(pack((tmp_path / name).read_bytes()))
        assert read_crystals(packed)[0].get_chemical_formula() == 'Cu4'


@pytest.mark.parametrize('name', ['POSCAR.gz', 'x.extxyz.gz', 'x.cif.xz'])
def test_a_small_file_does_not_grow_without_bound(tmp_path, monkeypatch, name):
    monkeypatch.setattr(content, 'FREE_INFLATION', 2**20)
    pack = lzma.compress if name.endswith('xz') else gzip.compress
    (tmp_path / name).write_bytes(pack(b'1' * 2**24))
    assert re.search('inflate to|in a text of at most', refusal(tmp_path / name))


def test_a_damaged_archive_is_told(tmp_path):
    (tmp_path / 'POSCAR.gz').write_bytes(gzip.compress(b'x' * 1000)[:-20])
    assert 'EOFError' in refusal(tmp_path / 'POSCAR.gz')


def test_a_frame_at_fault_is_lost_alone(tmp_path, copper):
    ase.io.write(tmp_path / 'x.extxyz', [copper] * 4)
    lines = (tmp_path / 'x.extxyz').read_text().split('\n')
    lines[8] = lines[8].replace('Cu', 'Xx')
    lines[14] = lines[14].replace('Cu', 'D')
    (tmp_path / 'x.extxyz').write_text('\n'.join(lines))
    good, unknown, isotope, last = iterate_crystals(tmp_path / 'x.extxyz')
    assert unknown.fault == "site 0: expected an element's symbol, found 'Xx'"
    assert (isotope.atoms.get_chemical_formula(), isotope.notes) == ('HCu3', ('D read as H',))
    np.testing.assert_allclose(isotope.atoms.positions, copper.positions, atol=1e-6)
    assert good.atoms == last.atoms


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        ('99999999999\nc\nCu 0 0 0\n', "1 to 1,000,000 atoms, found '99999999999'"),
        ('900000\nc\nCu 0 0 0\n', 'the file ends early'),
        ('-3\nc\n', "found '-3'"),
        ('1\nLattice="1 0 0 0 1 0 0 0 1"\nX 0 0 0\n', "site 0: expected an element's symbol, found 'X'"),
        ('1\nLattice="3 0 0 0 3 0 0 0 3"\nCu nan 0 0\n', 'NaN or infinite'),
        ('1\nLattice="3 0 0 0 3 0 0 0 3"\nCu 1e9 0 0\n', 'expected positions and cell within'),
        (
            '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3:occupancy:R:1\nCu 0 0 0 0.5\n',
            'site 0 (Cu 0.5)',
        ),
        ('1\nLattice="3 0 0 0 3 0 0 0 3"\nTi4+ 0 0 0\n', "site 0: expected an element's symbol, found 'Ti4+'"),
        ('1\nLattice="3 0 0 0 3 0 0 0 3"\n22 0 0 0\n', "site 0: expected an element's symbol, found '22'"),
        ('1\nProperties=species:I:1:pos:R:3\n22 0 0 0\n', "site 0: expected an element's symbol, found '22'"),
        ('1\nProperties=species:S:1:pos_frac:R:3\nCu 0 0 0\n', 'and pos:R:3, Cartesian in A, found species:S:1:pos_'),
        ('1\nProperties=type:I:1:pos:R:3\n1 0 0 0\n', 'expected species:S:1 or Z:I:1'),
        ('1\nLattice="3 0 0 0 3 0 0 0 3"\nCu 0 0\n', 'site 0: expected 4 columns, found 3'),
        ('1\nLattice="3 0 0"\nCu 0 0 0\n', 'expected extended XYZ, with `Lattice`, nine numbers'),
    ],
)
def test_frames_of_xyz_that_are_refused(tmp_path, text, told):
    (tmp_path / 'x.xyz').write_text(text)
    start = time.process_time()
    assert told in refusal(tmp_path / 'x.xyz')
    assert time.process_time() - start < 5


def test_columns_of_xyz_that_are_not_used_are_told(tmp_path):
    columns = 'species:S:1:pos:R:3:{}:move_mask:L:1'
    for column, words, note in (
        ('fixed:I:1', '1', 'the column fixed of the file is not used: move_mask is the one that holds sites'),
        ('selective_dynamics:L:3', 'F F T', 'the column selective_dynamics of the file is not used: move_mask is'),
        ('magmoms:R:1', '2.0', 'magnetic moments of the file are not used'),
        ('tags:I:1', '1', None),
    ):
        comment = f'Lattice="3 0 0 0 3 0 0 0 3" Properties={columns.format(column)}'
        (tmp_path / 'x.extxyz').write_text(f'2\n{comment}\nCu 0 0 0 {words} F\nCu 0 0 1.5 {words} T\n')
        (entry,) = iterate_crystals(tmp_path / 'x.extxyz')
        assert [told.startswith(note) for told in entry.notes] == [True] if note else entry.notes == ()
        assert entry.atoms.constraints[0].index.tolist() == [0]


@pytest.mark.parametrize('name', ['x.extxyz', 'x.traj', 'x.json'])
def test_partial_occupancies_behind_ase(tmp_path, copper, name):
    copper.info['occupancy'] = {'0': {'Cu': 0.7, 'Au': 0.3}}
    if name == 'x.json':
        ase.db.connect(tmp_path / name).write(copper, data={'occupancy': copper.info['occupancy']})
    else:
        ase.io.write(tmp_path / name, copper)
    assert 'kind 0 (Cu 0.7 + Au 0.3)' in refusal(tmp_path / name)


def test_structures_of_pymatgen(tmp_path):
    lattice = Lattice.cubic(4.2)
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    ordered = Structure(lattice, ['Mg2+', 'O2-'], sites, site_properties={'magmom': [1.0, 0.0]})
    partial = Structure(lattice, [{'Mg': 0.5, 'Ni': 0.5}, 'O'], sites)
    (tmp_path / 'x.json').write_text(json.dumps([ordered.as_dict(), partial.as_dict()]))
    good, bad = iterate_crystals(tmp_path / 'x.json')
    assert good.atoms.get_chemical_formula() == 'MgO'
    assert good.notes == ('magnetic moments and oxidation states of the file are not used',)
    assert 'site 0 (Mg 0.5 + Ni 0.5)' in bad.fault
    (tmp_path / 'y.json').write_text(ordered.to_json())
    np.testing.assert_allclose(read_crystals(tmp_path / 'y.json')[0].cell.array, lattice.matrix)


def test_selective_dynamics_and_open_directions_of_pymatgen_are_kept(tmp_path):
    """They once moved all: of the properties of sites only the moments were read."""
    flags = [[False] * 3, [True, True, False], None]
    structure = Structure(
        Lattice([[3, 0, 0], [1, 4, 0], [0, 0, 5]], pbc=(True, True, False)), ['Cu'] * 3, [[0.3] * 3] * 3
    )
    structure.add_site_property('selective_dynamics', flags)
    (tmp_path / 'x.json').write_text(structure.to_json())
    (atoms,) = read_crystals(tmp_path / 'x.json')
    assert movable_coordinates(atoms).tolist() == [*flags[:2], [True] * 3]
    assert atoms.pbc.tolist() == [True, True, False]
    structure.add_site_property('selective_dynamics', [[False] * 3, ['F', 'T', 'T'], None])
    (tmp_path / 'x.json').write_text(structure.to_json())
    assert "site 1, `selective_dynamics`: expected three of true and false, found ['F', 'T', 'T']" in refusal(
        tmp_path / 'x.json'
    )


def of_shape(structure, shape):
    from pymatgen.entries.computed_entries import ComputedStructureEntry  # its tables take seconds to read

    entry = ComputedStructureEntry(structure, -1.0, entry_id='mp-1-GGA').as_dict()
    document = {'material_id': 'mp-1', 'nsites': 1, 'structure': structure.as_dict()}
    return {
        'entry': entry,
        'entries': [entry, {**entry, 'entry_id': None}],
        'document': document,
        'documents': [document, {**document, 'structure': None}],
        'mapping': {'a b': structure.as_dict(), 'b': document},
        'slab': {**structure.as_dict(), '@class': 'Slab'},
    }[shape]


@pytest.mark.parametrize(
    ('shape', 'labels'),
    [
        ('entry', ['mp-1-GGA']),
        ('entries', ['mp-1-GGA', 'x:1']),
        ('document', ['mp-1']),
        ('documents', ['mp-1']),
        ('mapping', ['a b', 'b']),
        ('slab', ['x']),
    ],
)
def test_structures_within_entries_documents_and_mappings(tmp_path, shape, labels):
    structure = Structure(Lattice.cubic(3.6), ['Cu'], [[0, 0, 0]])
    (tmp_path / 'x.json').write_text(json.dumps(of_shape(structure, shape)))
    (piece,) = stream_structures([tmp_path / 'x.json'])
    assert piece.crystals.labels.tolist() == labels
    assert (piece.crystals.numbers == 29).all()
    expected = ['expected a Structure of pymatgen, found a mapping of material_id, nsites, structure']
    assert [fault.message.partition(': ')[2] for fault in piece.unreadable] == expected * (shape == 'documents')


@pytest.mark.parametrize(
    ('content_', 'found'),
    [
        ({'@module': 'pymatgen.core.structure', '@class': 'Molecule', 'sites': []}, 'Molecule'),
        ([], '[]'),
        ({}, 'an empty mapping'),
        ([1, 2], '1'),
        ({'a': {'b': 1, 'c': 2}}, 'a mapping of b, c'),
    ],
)
def test_json_of_something_else(tmp_path, content_, found):
    (tmp_path / 'x.json').write_text(json.dumps(content_))
    told = refusal(tmp_path / 'x.json')
    assert 'expected a Structure of pymatgen, an entry or a document with one' in told
    assert told.endswith(f'or a database of ASE, found {found}')


def test_a_label_of_json_that_comes_twice_is_no_choice_of_the_reader(tmp_path):
    structure = Structure(Lattice.cubic(5.64), ['Na'], [[0, 0, 0]]).to_json()
    (tmp_path / 'x.json').write_text(f'{{"a": {structure}, "b": {structure}, "a": {structure}}}')
    assert "expected each key of an object once, found 'a' twice" in refusal(tmp_path / 'x.json')


@pytest.mark.parametrize('name', ['x.db', 'x.json', 'x.traj'])
def test_what_cannot_be_read_compressed_is_told(tmp_path, copper, name):
    ase.io.write(tmp_path / name, copper)
    (tmp_path / f'{name}.gz').write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    assert 'uncompressed; decompress it first' in refusal(tmp_path / f'{name}.gz')


@pytest.mark.parametrize(
    'name', ['POSCAR_a.xyz', 'CONTCAR.xsf', 'XDATCAR_1.cif', 'CONFIG.extxyz', 'my-POSCAR', 'a.POSCAR']
)
def test_a_known_suffix_says_more_than_a_word_in_the_name(tmp_path, copper, name):
    format_ = {'.xyz': 'extxyz', '.POSCAR': 'vasp', '': 'vasp'}.get((tmp_path / name).suffix, name.rpartition('.')[2])
    ase.io.write(tmp_path / name, copper, format=format_)
    assert read_crystals(tmp_path / name)[0].get_chemical_formula() == 'Cu4'


def test_moments_and_charges_are_told(tmp_path, copper):
    copper.set_initial_magnetic_moments([1, 0, 0, 0])
    copper.set_initial_charges([0, 0, 0, 1])
    ase.io.write(tmp_path / 'x.traj', copper)
    (entry,) = iterate_crystals(tmp_path / 'x.traj')
    assert entry.notes == ('magnetic moments and charges of the file are not used',)
    assert entry.atoms.get_initial_magnetic_moments().tolist() == [1, 0, 0, 0]


def test_constraints_stay(tmp_path, copper):
    copper.set_constraint(FixAtoms([1]))
    for name in ('x.traj', 'x.extxyz', 'x.vasp'):
        ase.io.write(tmp_path / name, copper)
        assert read_crystals(tmp_path / name)[0].constraints[0].index.tolist() == [1]


RES = 'TITL x\nCELL 1.0 4 4 4 90 90 90\nLATT {latt}\n{symm}SFAC Cu\nCu 1 0 0 0 {occupancy}\nEND\n'


def test_res_files_with_all_atoms_alone(tmp_path):
    path = tmp_path / 'x.res'
    for latt, symm, occupancy, told in (
        ('-1', '', '1.0', None),
        ('-1', '', '11.0', None),
        ('-1', '', '0.5', 'Cu 0 (Cu 0.5)'),
        ('1', '', '1.0', 'found symmetry'),
        ('-1', 'SYMM -X,-Y,-Z\n', '1.0', 'found symmetry'),
    ):
        path.write_text(RES.format(latt=latt, symm=symm, occupancy=occupancy))
        if told is None:
            assert read_crystals(path)[0].get_chemical_formula() == 'Cu'
        else:
            assert told in refusal(path)


def test_what_is_no_file_of_crystals(tmp_path):
    assert 'no such file' in refusal(tmp_path / 'missing.cif')
    (tmp_path / 'POSCAR').mkdir()
    assert 'is a folder' in refusal(tmp_path / 'POSCAR')
    for name, content_ in (
        ('empty.cif', b''),
        ('x.unknown', b'hello\n'),
        ('x.cif', b'\xff\xfe\x00data'),
        ('x.json', b'[' * 100_000),
        ('x.json', b'{"a": 1}'),
        ('x.traj', b'\x80\x04nonsense'),
        ('x.db', b'nonsense'),
        ('x.pdb', b'CRYST1   10.000   10.000   10.000  90.00  90.00  90.00 P 21\nATOM      1 CU\n'),
        ('x\x1b[31m.cif', b'nonsense'),
    ):
        (tmp_path / name).write_bytes(content_)
        refusal(tmp_path / name)
    with sqlite3.connect(tmp_path / 'other.db') as connection:
        connection.execute('create table systems (id integer)')
    refusal(tmp_path / 'other.db')


def test_entities_of_xml_do_not_multiply(tmp_path):
    names = 'abcdefghij'
    steps = ''.join(f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in itertools.pairwise(names))
    text = f'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "xxxxxxxxxx">{steps}]><modeling>&j;</modeling>'
    (tmp_path / 'vasprun.xml').write_text(text)
    start = time.process_time()
    refusal(tmp_path / 'vasprun.xml')
    assert time.process_time() - start < 5


@pytest.fixture(scope='module')
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp('samples')
    atoms = Atoms('NaCl', scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[4, 4, 4], pbc=True)
    for name in ('x.cif', 'x.extxyz', 'x.json', 'x.traj', 'x.xsf'):
        ase.io.write(folder / name, atoms)
    return folder


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(['x.cif', 'x.extxyz', 'x.json', 'x.traj', 'x.xsf']), data=st.data())
def test_no_change_of_bytes_ends_in_another_error(samples, name, data):
    content_ = bytearray((samples / name).read_bytes())
    places = st.tuples(st.integers(0, len(content_) - 1), st.integers(0, 255))
    for place, byte in data.draw(st.lists(places, max_size=6)):
        content_[place] = byte
    (samples / f'damaged_{name}').write_bytes(content_[: data.draw(st.integers(1, len(content_)))])
    try:
        for atoms in read_crystals(samples / f'damaged_{name}'):
            assert np.isfinite(atoms.positions).all()
    except CrystalFileError:
        pass
