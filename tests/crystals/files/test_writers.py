"""What is written is complete and fits together, or there is no file and one line says why."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.io.formats import filetype
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.common.errors import InputError, OutputError
from aiida_e3relax.common.output_files import check_output, partial_folder
from aiida_e3relax.crystals.files.content import OPENERS
from aiida_e3relax.crystals.files.plain_text import plain_format
from aiida_e3relax.crystals.files.writers import _frames, open_writer
from aiida_e3relax.crystals.structures import Crystals, make_crystals


def crystals_of(*sizes: int, label: str = 'x') -> Crystals:
    return make_crystals(
        [[29] * n for n in sizes],
        [np.arange(3.0 * n).reshape(n, 3) for n in sizes],
        [(3.0 + n) * np.eye(3) for n in sizes],
        [f'{label}{i}' for i in range(len(sizes))],
    )


def written(path, pieces):
    with open_writer(path) as writer:
        for piece in pieces:
            writer.write(*piece)
        writer.close()
    return dict(np.load(path, allow_pickle=False))


PIECE = st.tuples(
    st.lists(st.integers(1, 3), max_size=3), st.booleans(), st.sampled_from('CF'), st.text('aé', max_size=9)
)


@settings(max_examples=40, deadline=None)
@given(pieces=st.lists(PIECE, min_size=1, max_size=4))
def test_rows_of_all_arrays_agree_whatever_the_pieces_are(tmp_path_factory, pieces):
    path = tmp_path_factory.mktemp('any') / 'out.npz'
    given_pieces, labels, uncertainties, positions = [], [], [], []
    for sizes, has_uncertainty, order, label in pieces:
        crystals = crystals_of(*sizes, label=label)
        crystals = crystals.replace(np.array(crystals.positions, order=order), np.array(crystals.cell, order=order))
        known = np.arange(len(sizes)) + 0.5 if has_uncertainty else None
        given_pieces.append((crystals, np.array(['ok'] * len(sizes), dtype=np.str_), known))
        labels += crystals.labels.tolist()
        uncertainties += [np.nan] * len(sizes) if known is None else known.tolist()
        positions.append(crystals.positions)
    arrays = written(path, given_pieces)
    assert arrays['labels'].tolist() == labels
    assert len(arrays['status']) == len(arrays['cell']) == len(arrays['pbc']) == len(labels)
    np.testing.assert_array_equal(arrays['positions'], np.concatenate(positions))
    if any(piece[1] for piece in pieces):
        np.testing.assert_array_equal(arrays['uncertainty'], uncertainties)
    else:
        assert 'uncertainty' not in arrays


def test_uncertainties_stay_with_their_structures(tmp_path):
    """A piece in which nothing was predicted has no uncertainties: those after it once moved up."""
    first, second, third = crystals_of(1, label='a'), crystals_of(2, 1, label='b'), crystals_of(1, label='c')
    ok = np.array(['ok'])
    pieces = [
        (first, ok, np.array([0.1])),
        (second, np.array(['empty', 'unknown_element'])),
        (third, ok, np.array([0.3])),
    ]
    arrays = written(tmp_path / 'out.npz', pieces)
    assert dict(zip(arrays['labels'], arrays['uncertainty'], strict=True)) == pytest.approx(
        {'a0': 0.1, 'b0': np.nan, 'b1': np.nan, 'c0': 0.3}, nan_ok=True
    )
    assert arrays['status'].tolist() == ['ok', 'empty', 'unknown_element', 'ok']


@pytest.mark.parametrize(
    'extra',
    [
        {'status': np.array(['ok'])},
        {'status': np.array(['ok'] * 3)},
        {'uncertainty': np.zeros(1)},
        {'uncertainty': np.zeros((2, 2))},
        {'uncertainty': np.array(['a', 'b'])},
    ],
)
def test_arrays_of_other_lengths_are_never_written(tmp_path, extra):
    with open_writer(tmp_path / 'out.npz') as writer:
        writer.write(crystals_of(1, 1), np.array(['ok'] * 2), np.zeros(2))
        with pytest.raises(ValueError, match='of 2 crystals: found'):
            writer.write(**{'crystals': crystals_of(1, 2), 'status': np.array(['ok'] * 2), **extra})
    assert not list(tmp_path.iterdir())


def test_an_uncertainty_that_is_none_is_not_written_for_people(tmp_path):
    with open_writer(tmp_path / 'out.extxyz') as writer:
        writer.write(crystals_of(1, 1), np.array(['ok', 'ok']), np.array([0.2, np.nan]))
        writer.close()
    lines = (tmp_path / 'out.extxyz').read_text().splitlines()
    assert ['uncertainty_A' in line for line in lines if 'Lattice' in line] == [True, False]


@pytest.mark.parametrize('name', ['out.extxyz', 'a@1.extxyz', 'out.cif', 'out.vasp', 'POSCAR.vasp'])
def test_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch, name):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ase.io, 'write', fail)
    monkeypatch.setattr(Path, 'write_text', fail)
    with pytest.raises(OutputError, match=rf'{name}: cannot be written \(No space left'):
        written(tmp_path / name, [(crystals_of(1), np.array(['ok']))])
    assert not list(tmp_path.iterdir())


def test_what_ase_cannot_write_is_told(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise AttributeError('no such thing')

    monkeypatch.setattr(ase.io, 'write', fail)
    with open_writer(tmp_path / 'out.xsf') as writer:
        writer.write(crystals_of(1), np.array(['ok']))
        with pytest.raises(
            OutputError, match=r'out\.xsf: ASE cannot write this as xsf \(AttributeError: no such thing'
        ):
            writer.close()


CRYSTAL = st.tuples(
    st.lists(st.sampled_from([1, 8, 29, 92]), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1e-8, 1.0, 1e4]),
    st.lists(st.booleans(), min_size=3, max_size=3),
)


def crystal_of(numbers, seed, scale, pbc):
    rng = np.random.default_rng(seed)
    cell = np.eye(3) * rng.uniform(2, 9) + rng.normal(size=(3, 3)) * 0.3
    positions = rng.normal(size=(len(numbers), 3)) * scale * (rng.random((len(numbers), 3)) < 0.8)
    return make_crystals([numbers], [positions], [cell], pbc=[pbc])


@settings(max_examples=60, deadline=None)
@given(st.lists(CRYSTAL, min_size=1, max_size=3))
def test_cif_and_poscar_are_as_ase_writes_them(tmp_path_factory, crystals):
    folder = tmp_path_factory.mktemp('text')
    batch = Crystals.concatenate(crystal_of(*crystal) for crystal in crystals)
    for name, part in (('out.cif', batch), ('out.vasp', batch.select([0])), ('CONTCAR', batch.select([0]))):
        with open_writer(folder / name) as writer:
            writer.write(part, np.array(['ok'] * len(part)))
            writer.close()
        frames = _frames(part)
        ase.io.write(folder / 'expected', frames, format='cif' if name == 'out.cif' else 'vasp')
        assert (folder / name).read_bytes() == (folder / 'expected').read_bytes()


@pytest.mark.parametrize('name', ['a.cif', 'A.CIF', 'x.y.vasp', 'POSCAR', 'CONTCAR', 'my-POSCAR', 'a.cif.gz', 'a.xsf'])
def test_the_format_is_the_one_that_ase_takes(tmp_path, name):
    assert plain_format(tmp_path / name) in {None, filetype(tmp_path / name, read=False)}


@pytest.mark.parametrize(
    ('name', 'format_'),
    [
        ('POSCAR_pred.cif', 'cif'),
        ('CONTCAR_pred.extxyz', 'extxyz'),
        ('CONFIG_1.cif', 'cif'),
        ('POSCAR.xsf', 'xsf'),
        ('POSCAR_x.traj', 'traj'),
        ('OUTCAR.vasp', 'vasp'),
        ('my-POSCAR', 'vasp'),
    ],
)
def test_a_known_suffix_says_more_than_a_word_in_the_name(tmp_path, name, format_):
    with open_writer(tmp_path / name) as writer:
        writer.write(crystals_of(2), np.array(['ok']))
        writer.close()
    assert ase.io.read(tmp_path / name, format=format_).get_chemical_formula() == 'Cu2'


@pytest.mark.parametrize('plain', ['a.cif', 'a.vasp', 'POSCAR', 'a.extxyz', 'a.traj', 'a.json', 'a.xsf'])
@pytest.mark.parametrize('suffix', ['.gz', '.bz2', '.xz', '.GZ'])
def test_what_the_name_says_is_compressed_is(tmp_path, plain, suffix):
    """ASE writes plain text under such names where it is given the text, and trajectories."""
    crystals = crystals_of(2)
    for name in (plain, f'{plain}{suffix}'):
        with open_writer(tmp_path / name) as writer:
            writer.write(crystals, np.array(['ok']))
            writer.close()
    packed = tmp_path / f'{plain}{suffix}'
    with OPENERS[suffix.lower()](packed, 'rb') as handle:
        (tmp_path / f'unpacked_{plain}').write_bytes(handle.read())
    found, expected = (ase.io.read(tmp_path / name) for name in (f'unpacked_{plain}', plain))
    assert found == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([plain, packed.name, f'unpacked_{plain}'])


def test_folders_of_killed_processes_go_away_and_no_others(tmp_path):
    path = tmp_path / 'out[1].npz'
    script = (
        'import os, sys, pathlib; from aiida_e3relax.common.output_files import partial_folder\n'
        'held = partial_folder(pathlib.Path(sys.argv[1])); os._exit(9)'
    )
    assert subprocess.run([sys.executable, '-c', script, path], check=False).returncode == 9
    (left,) = tmp_path.iterdir()
    (tmp_path / 'out[1].npz.mine.partial').mkdir()
    with partial_folder(path) as mine, partial_folder(path) as another:
        assert not left.exists()
        assert Path(mine).is_dir()
        assert Path(another).is_dir()
    assert [entry.name for entry in tmp_path.iterdir()] == ['out[1].npz.mine.partial']


def test_outputs_that_would_destroy_something(tmp_path):
    source = tmp_path / 'in.npz'
    source.write_bytes(b'')
    (tmp_path / 'link.npz').symlink_to(source)
    os.link(source, tmp_path / 'hard.npz')
    os.mkfifo(tmp_path / 'fifo')
    for name, message in (
        ('in.npz', 'would be lost'),
        ('link.npz', 'would be lost'),
        ('hard.npz', 'would be lost'),
        ('.', 'expected a file, found a folder'),
        ('fifo', 'expected a file, found something else'),
        ('none/out.npz', 'does not exist'),
    ):
        with pytest.raises(InputError, match=f'--output .*{message}'):
            check_output(tmp_path / name, '--output', [source])
    check_output(tmp_path / 'out.npz', '--output', [source])
