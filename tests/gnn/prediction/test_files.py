"""Files of any number of crystals are read, predicted and written in pieces."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.io import read, write
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.files import stream as structure_files
from aiida_e3relax.crystals.files.stream import read_crystal_files, stream_structures
from aiida_e3relax.crystals.structures import Crystals, make_crystals, write_npz
from aiida_e3relax.gnn.checkpoints.checkpoint import save_checkpoint
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.prediction import predictor, streaming
from tests.gnn.crystals import batch_of, rattled

POSCAR = 'ZnO\n4.3\n0 .5 .5\n.5 0 .5\n.5 .5 0\nZn O\n1 1\nDirect\n0 0 0\n.5 .5 .5\n'
ELEMENTS = [8, 22, 30, 31, 33]


@pytest.fixture
def options(tmp_path):
    torch.manual_seed(1)
    path = tmp_path / 'small.pt'
    save_checkpoint(path, 'e3relax-h2', make_model('e3relax-h2', {'features': 8, 'layers': 1}), ELEMENTS, {'step': 0})
    return ['--model', str(path), '--device', 'cpu', '--dtype', 'float64', '--report', str(tmp_path / 'report.json')]


@pytest.fixture
def many(tmp_path):
    frames = [atoms for seed in range(4) for atoms in reversed(rattled(seed))] + [bulk('Cu', a=3.6)]
    crystals = batch_of(*frames)
    write_npz(tmp_path / 'many.npz', crystals)
    write(tmp_path / 'many.extxyz', frames)
    return crystals


def in_pieces(monkeypatch, piece):
    monkeypatch.setattr(streaming, 'stream_structures', lambda paths: stream_structures(paths, piece))


@pytest.mark.parametrize('name', ['many.npz', 'many.extxyz'])
def test_pieces_give_what_the_whole_gives(options, many, tmp_path, monkeypatch, name):
    results = []
    for piece in (100, 5):
        in_pieces(monkeypatch, piece)
        output = tmp_path / f'out{piece}.npz'
        assert main(['predict', str(tmp_path / name), *options, '--output', str(output)]) == 0
        report = json.loads((tmp_path / 'report.json').read_text())
        assert sorted(index for batch in report['batches'] for index in batch) == list(range(12))
        results.append((read_crystal_files([output]), report['structures']))
    whole, parts = results
    assert [row['status'] for row in whole[1]] == ['ok'] * 12 + ['unknown_element']
    assert whole[0].labels.tolist() == parts[0].labels.tolist() == [row['label'] for row in parts[1]]
    np.testing.assert_array_equal(whole[0].numbers, many.numbers)
    np.testing.assert_allclose(whole[0].positions, parts[0].positions, atol=1e-9)
    np.testing.assert_allclose(whole[0].cell, parts[0].cell, atol=1e-9)


def test_frames_are_appended_in_the_order_of_the_input(options, many, tmp_path, monkeypatch):
    in_pieces(monkeypatch, 5)
    assert main(['predict', str(tmp_path / 'many.npz'), *options, '--output', str(tmp_path / 'out.extxyz')]) == 0
    frames = read(tmp_path / 'out.extxyz', ':')
    np.testing.assert_array_equal(np.concatenate([frame.numbers for frame in frames]), many.numbers[:-1])
    assert not list(tmp_path.glob('*.partial'))


def test_a_damaged_frame_is_named_and_lost_alone(options, many, tmp_path, monkeypatch, capsys):
    in_pieces(monkeypatch, 5)
    lines = (tmp_path / 'many.extxyz').read_text().splitlines()
    lines[-2] = lines[-2].replace('pbc="T T T"', 'pbc="T T T" Lattice="1 2 3"')
    (tmp_path / 'many.extxyz').write_text('\n'.join(lines) + '\n')
    arguments = ['predict', str(tmp_path / 'many.extxyz'), *options, '--output', str(tmp_path / 'out.npz')]
    assert main(arguments) == 8
    assert 'passed over: ' in (told := capsys.readouterr().err)
    assert 'many.extxyz, structure 12: ASE cannot read it (ValueError: Got info item Lattice' in told
    assert read_crystal_files([tmp_path / 'out.npz']).labels.tolist() == [f'many:{index}' for index in range(12)]
    report = json.loads((tmp_path / 'report.json').read_text())
    assert report['error'] is None
    assert [row['status'] for row in report['structures']] == ['ok'] * 12 + ['unreadable']
    assert report['structures'][-1]['label'] == 'many:12'


def test_what_cannot_be_read_is_told_and_passed_over(options, many, tmp_path, capsys):
    for folder, text in (('a', POSCAR), ('b', POSCAR.replace('Zn O\n', '')), ('c', POSCAR.replace('Zn', 'D'))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'POSCAR').write_text(text)
    (tmp_path / 'empty.cif').touch()
    files = [tmp_path / 'empty.cif', *(tmp_path / f / 'POSCAR' for f in 'abc'), tmp_path / 'none.cif']
    arguments = [*map(str, files), *options, '--output']
    assert main(['predict', *arguments, str(tmp_path / 'out.npz')]) == 8
    rows = json.loads((tmp_path / 'report.json').read_text())['structures']
    assert [(row['label'], row['status']) for row in rows] == [
        ('a', 'ok'),
        ('c', 'unknown_element'),
        ('empty', 'unreadable'),
        ('b', 'unreadable'),
        ('none', 'unreadable'),
    ]
    assert rows[1]['message'].endswith('D read as H')
    assert read_crystal_files([tmp_path / 'out.npz']).labels.tolist() == ['a', 'c']
    told = capsys.readouterr().err
    assert told.count('passed over: ') == 3
    assert 'b/POSCAR: cannot be read as crystals: the file has no line of elements' in told
    assert 'none.cif: cannot be read as crystals: no such file' in told


def test_nothing_that_can_be_read_is_an_error(options, tmp_path, capsys):
    (tmp_path / 'a.cif').touch()
    (tmp_path / 'b.npz').write_bytes(b'no archive')
    arguments = ['predict', str(tmp_path / 'a.cif'), str(tmp_path / 'b.npz'), *options]
    assert main([*arguments, '--output', str(tmp_path / 'out.npz')]) == 3
    assert re.search(r'a.cif: .*: the file is empty; .*b.npz: .*: expected an .npz', capsys.readouterr().err)
    assert json.loads((tmp_path / 'report.json').read_text())['error']['code'] == 'bad_input'


def test_no_two_structures_share_a_label(options, many, tmp_path):
    atoms = rattled(0)[0]
    crystals = dataclasses.replace(batch_of(atoms, atoms, atoms), labels=np.array(['x', '', 'x']))
    write_npz(tmp_path / 'a.npz', crystals)
    write(tmp_path / 'x.vasp', atoms, format='vasp')
    files = [str(tmp_path / name) for name in ('a.npz', 'x.vasp')]
    assert main(['predict', *files, *options, '--output', str(tmp_path / 'out.npz')]) == 0
    assert read_crystal_files([tmp_path / 'out.npz']).labels.tolist() == ['x', '1', 'x_2', 'x_3']
    rows = json.loads((tmp_path / 'report.json').read_text())['structures']
    assert [row['message'] for row in rows] == ['', '', 'another has the label x', 'another has the label x']


def test_moments_of_a_file_are_said_to_be_left_out(options, tmp_path):
    atoms = rattled(0)[0]
    atoms.set_initial_magnetic_moments([1.0] * len(atoms))
    write(tmp_path / 'x.traj', atoms)
    assert main(['predict', str(tmp_path / 'x.traj'), *options, '--output', str(tmp_path / 'out.npz')]) == 0
    (row,) = json.loads((tmp_path / 'report.json').read_text())['structures']
    assert (row['status'], row['message']) == ('ok', 'magnetic moments of the file are not used')


@pytest.mark.parametrize(
    ('changes', 'told'),
    [
        ({'n_atoms': [-1, 9]}, 'expected 1 to 1,000,000 atoms in a crystal, found -1 to 9'),
        ({'n_atoms': [2**62, 2**62]}, 'expected 1 to 1,000,000 atoms in a crystal'),
        ({'n_atoms': [4.0, 4.0]}, 'array `n_atoms`: expected whole numbers'),
        ({'n_atoms': [[4, 4]]}, 'array `n_atoms`: expected whole numbers'),
        ({'n_atoms': [4, 5]}, 'array `numbers`: expected whole numbers of shape (9,), found int64 of shape (8,)'),
        ({'numbers': [29.0] * 8}, 'array `numbers`: expected whole numbers'),
        ({'positions': np.zeros((8, 3), complex)}, 'array `positions`: expected numbers or text, found complex128'),
        ({'positions': np.array([None] * 8)}, 'array `positions`: expected numbers or text, found object'),
        ({'pbc': np.array([['T'] * 3] * 2)}, 'array `pbc`: expected true or false'),
        ({'labels': ['a']}, 'array `labels`: expected text of shape (2,)'),
        ({'cell': np.zeros((2, 3, 4))}, 'array `cell`: expected real numbers of shape (2, 3, 3)'),
    ],
)
def test_arrays_that_are_no_crystals(tmp_path, changes, told):
    copper = bulk('Cu', a=3.6, cubic=True)
    crystals = batch_of(copper, copper)
    arrays = {field.name: getattr(crystals, field.name) for field in dataclasses.fields(crystals)}
    np.savez(tmp_path / 'bad.npz', **(arrays | changes))
    with pytest.raises(InputError) as error:
        read_crystal_files([tmp_path / 'bad.npz'])
    assert told in str(error.value)


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(0, 4), max_size=9), piece=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_arrays_come_back_in_pieces_of_any_size(tmp_path_factory, sizes, piece, seed):
    random = np.random.default_rng(seed)
    crystals = make_crystals(
        [random.integers(1, 119, n) for n in sizes],
        [random.normal(size=(n, 3)) for n in sizes],
        [random.normal(size=(3, 3)) for _ in sizes],
        pbc=[random.integers(0, 2, 3) for _ in sizes],
    )
    path = tmp_path_factory.getbasetemp() / 'random.npz'
    write_npz(path, crystals)
    parts = list(stream_structures([path], piece))
    assert all(len(part) <= piece for part in parts)
    found = Crystals.concatenate(part.crystals for part in parts)
    for field in dataclasses.fields(crystals):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(crystals, field.name))


def test_a_file_that_ends_early_gives_what_comes_before(options, many, tmp_path, monkeypatch, capsys):
    in_pieces(monkeypatch, 5)
    text = (tmp_path / 'many.extxyz').read_text()
    (tmp_path / 'many.extxyz').write_text('\n'.join(text.splitlines()[:-1]) + '\n')
    assert main(['predict', str(tmp_path / 'many.extxyz'), *options, '--output', str(tmp_path / 'out.npz')]) == 8
    assert (
        'many.extxyz: cannot be read as crystals (after the first 12): the file ends early' in capsys.readouterr().err
    )
    assert len(read_crystal_files([tmp_path / 'out.npz'])) == 12


def test_an_interrupted_run_says_so_and_leaves_no_output(options, many, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(predictor, 'predict', interrupted)
    assert main(['predict', str(tmp_path / 'many.npz'), *options, '--output', str(tmp_path / 'out.npz')]) == 130
    assert not list(tmp_path.glob('out.npz*'))
    assert json.loads((tmp_path / 'report.json').read_text())['error']['code'] == 'interrupted'


def test_no_structure_is_an_error(options, tmp_path, capsys):
    write_npz(tmp_path / 'none.npz', make_crystals([], [], []))
    assert main(['predict', str(tmp_path / 'none.npz'), *options, '--output', str(tmp_path / 'out.npz')]) == 3
    assert 'no structure there' in capsys.readouterr().err


def test_arrays_of_other_lengths_are_named(many, tmp_path):
    arrays = {name: getattr(many, name) for name in ('n_atoms', 'numbers', 'positions', 'cell')}
    for name, changed in (('positions', many.positions[:-1]), ('cell', np.concatenate([many.cell, many.cell]))):
        np.savez(tmp_path / 'bad.npz', **(arrays | {name: changed}))
        with pytest.raises(ValueError, match=r'bad\.npz'):
            read_crystal_files([tmp_path / 'bad.npz'])
    np.savez_compressed(tmp_path / 'good.npz', **(arrays | {'positions': np.asfortranarray(many.positions)}))
    np.testing.assert_array_equal(read_crystal_files([tmp_path / 'good.npz']).positions, many.positions)
    assert structure_files.count_structures([tmp_path / 'good.npz']) == len(many)
