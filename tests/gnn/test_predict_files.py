"""Files of any number of crystals are read, predicted and written in pieces."""

import json

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.io import read, write

from aiida_e3relax.gnn import predict_files, structure_files
from aiida_e3relax.gnn.checkpoint import save_checkpoint
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.models import make_model
from aiida_e3relax.gnn.structure_files import read_structures, stream_structures
from aiida_e3relax.gnn.structures import make_crystals, write_npz
from tests.gnn.crystals import batch_of, rattled

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
    monkeypatch.setattr(predict_files, 'stream_structures', lambda paths: stream_structures(paths, piece))


@pytest.mark.parametrize('name', ['many.npz', 'many.extxyz'])
def test_pieces_give_what_the_whole_gives(options, many, tmp_path, monkeypatch, name):
    results = []
    for piece in (100, 5):
        in_pieces(monkeypatch, piece)
        output = tmp_path / f'out{piece}.npz'
        assert main(['predict', str(tmp_path / name), *options, '--output', str(output)]) == 0
        report = json.loads((tmp_path / 'report.json').read_text())
        assert sorted(index for batch in report['batches'] for index in batch) == list(range(12))
        results.append((read_structures([output]), report['structures']))
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
    assert 'many.extxyz, structure 12: ValueError: Got info item Lattice' in told
    assert read_structures([tmp_path / 'out.npz']).labels.tolist() == [f'many:{index}' for index in range(12)]
    report = json.loads((tmp_path / 'report.json').read_text())
    assert report['error'] is None
    assert [row['status'] for row in report['structures']] == ['ok'] * 12 + ['unreadable']
    assert report['structures'][-1]['label'] == 'many:12'


def test_a_file_that_ends_early_gives_what_comes_before(options, many, tmp_path, monkeypatch, capsys):
    in_pieces(monkeypatch, 5)
    text = (tmp_path / 'many.extxyz').read_text()
    (tmp_path / 'many.extxyz').write_text('\n'.join(text.splitlines()[:-1]) + '\n')
    assert main(['predict', str(tmp_path / 'many.extxyz'), *options, '--output', str(tmp_path / 'out.npz')]) == 8
    assert (
        'many.extxyz: cannot be read as crystals (after the first 12): the file ends early' in capsys.readouterr().err
    )
    assert len(read_structures([tmp_path / 'out.npz'])) == 12


def test_an_interrupted_run_says_so_and_leaves_no_output(options, many, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict_files, 'predict', interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(['predict', str(tmp_path / 'many.npz'), *options, '--output', str(tmp_path / 'out.npz')])
    assert not list(tmp_path.glob('out.npz*'))
    assert 'KeyboardInterrupt' in json.loads((tmp_path / 'report.json').read_text())['error']['message']


def test_no_structure_is_an_error(options, tmp_path, capsys):
    write_npz(tmp_path / 'none.npz', make_crystals([], [], []))
    assert main(['predict', str(tmp_path / 'none.npz'), *options, '--output', str(tmp_path / 'out.npz')]) == 3
    assert 'no structure there' in capsys.readouterr().err


def test_arrays_of_other_lengths_are_named(many, tmp_path):
    arrays = {name: getattr(many, name) for name in ('n_atoms', 'numbers', 'positions', 'cell')}
    for name, changed in (('positions', many.positions[:-1]), ('cell', np.concatenate([many.cell, many.cell]))):
        np.savez(tmp_path / 'bad.npz', **(arrays | {name: changed}))
        with pytest.raises(ValueError, match=r'bad\.npz'):
            read_structures([tmp_path / 'bad.npz'])
    np.savez_compressed(tmp_path / 'good.npz', **(arrays | {'positions': np.asfortranarray(many.positions)}))
    np.testing.assert_array_equal(read_structures([tmp_path / 'good.npz']).positions, many.positions)
    assert structure_files.count_structures([tmp_path / 'good.npz']) == len(many)
