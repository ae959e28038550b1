"""The arrays of an ``.npz`` are as long as its headers and the archive say, and no more is held than was asked for."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.crystals.files import CrystalFileError, content
from aiida_e3relax.crystals.files.npz import NpzFile, as_text

NUMBERS = np.arange(12.0).reshape(4, 3)


def refusal(path, name='x'):
    with pytest.raises(CrystalFileError) as told, NpzFile(path, [name]):
        pass
    assert '\n' not in str(told.value)
    return str(told.value)


def written(path, member, **options):
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('x.npy', member, **options)
    return path


def npy(array, **header):
    handle = io.BytesIO()
    values = {'descr': array.dtype.str, 'fortran_order': False, 'shape': array.shape} | header
    np.lib.format.write_array_header_1_0(handle, values)
    return handle.getvalue() + array.tobytes()


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
@pytest.mark.parametrize('order', ['C', 'F'])
def test_rows_in_turn(tmp_path, save, order):
    save(tmp_path / 'a.npz', x=np.array(NUMBERS, order=order), y=np.array(['a', 'bc']))
    with NpzFile(tmp_path / 'a.npz', ['x', 'y', 'z']) as file:
        assert set(file.arrays) == {'x', 'y'}
        rows = file.arrays['x']
        np.testing.assert_array_equal(rows.take(3), NUMBERS[:3])
        np.testing.assert_array_equal(rows.take(1), NUMBERS[3:])
        assert rows.left == 0
        assert file.arrays['y'].take(2).tolist() == ['a', 'bc']


@pytest.mark.parametrize(
    ('member', 'told'),
    [
        (npy(NUMBERS, shape=(10**12, 3)), 'expected 24,000,000,000,000 bytes by its header, found 96'),
        (npy(NUMBERS, shape=(3, 3)), 'expected 72 bytes by its header, found 96'),
        (npy(NUMBERS, shape=(-4, -3)), 'found the shape (-4, -3)'),
        (npy(NUMBERS, shape=(True, 12)), 'found the shape (True, 12)'),
        (npy(NUMBERS, shape=()), 'found the shape ()'),
        (npy(NUMBERS.astype(complex)), 'expected numbers or text, found complex128'),
        (npy(NUMBERS, descr='|O'), 'expected numbers or text, found object'),
        (npy(NUMBERS, descr='<M8[s]'), 'expected numbers or text, found datetime64'),
        (npy(NUMBERS, descr='<U1001', shape=(1,)), 'expected numbers or text, found <U1001'),
        (npy(NUMBERS, descr=[('a', '<f8')]), 'expected numbers or text'),
        (b'hello', 'array `x` is damaged'),
        (b'', 'array `x` is damaged'),
    ],
)
def test_arrays_that_are_refused_before_they_are_read(tmp_path, member, told):
    assert told in refusal(written(tmp_path / 'a.npz', member))


def test_a_flipped_bit_and_no_archive(tmp_path):
    np.savez(tmp_path / 'a.npz', x=NUMBERS)
    data = bytearray((tmp_path / 'a.npz').read_bytes())
    data[data.index(NUMBERS.tobytes()) + 3] ^= 1
    (tmp_path / 'a.npz').write_bytes(data)
    assert 'array `x` is damaged: BadZipFile: Bad CRC-32' in refusal(tmp_path / 'a.npz')
    (tmp_path / 'a.npz').write_bytes(b'hello')
    assert 'expected an .npz' in refusal(tmp_path / 'a.npz')


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_a_member_twice_and_one_of_another_compression(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.npz', 'w') as archive:
        for _ in range(2):
            archive.writestr('x.npy', npy(NUMBERS))
    assert 'array `x` is 2 times in the archive' in refusal(tmp_path / 'a.npz')
    assert 'stored or deflated' in refusal(written(tmp_path / 'b.npz', npy(NUMBERS), compress_type=zipfile.ZIP_LZMA))


def test_a_small_archive_does_not_grow_without_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(content, 'FREE_INFLATION', 2**20)
    np.savez_compressed(tmp_path / 'a.npz', x=np.zeros(2**22))
    tracemalloc.start()
    assert 'inflate to 33,554,560 or more' in refusal(tmp_path / 'a.npz')
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_rows_of_a_large_array_are_not_held(tmp_path):
    np.savez(tmp_path / 'a.npz', x=np.zeros((2**20, 3)))
    tracemalloc.start()
    with NpzFile(tmp_path / 'a.npz', ['x']) as file:
        file.arrays['x'].take(10)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_text_is_text():
    odd = np.array(['ab', 'cd'])
    odd.view(np.uint32)[[0, 2]] = [0xD800, 0xFFFFFFFF]
    assert as_text(odd).tolist() == ['\ufffdb', '\ufffdd']
    assert as_text(np.array([b'a', b'\xff'])).tolist() == ['a', '\ufffd']
    assert as_text(np.array([3, 10])).tolist() == ['3', '10']
    assert as_text(np.array(['ä'], dtype='>U1')).tolist() == ['ä']
    assert as_text(np.array([''], dtype='U0')).tolist() == ['']


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_change_of_bytes_ends_in_another_error_or_other_numbers(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / 'damaged.npz'
    handle = io.BytesIO()
    np.savez(handle, x=NUMBERS)
    changed = bytearray(handle.getvalue())
    places = st.tuples(st.integers(0, len(changed) - 1), st.integers(0, 255))
    for place, byte in data.draw(st.lists(places, max_size=4)):
        changed[place] = byte
    path.write_bytes(changed[: data.draw(st.integers(1, len(changed)))])
    try:
        with NpzFile(path, ['x']) as file:
            if 'x' in file.arrays:
                np.testing.assert_array_equal(file.arrays['x'].take(4), NUMBERS)
    except CrystalFileError:
        pass
