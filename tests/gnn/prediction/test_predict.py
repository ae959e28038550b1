import json
import os

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

from aiida_e3relax.common.messages import print_result
from aiida_e3relax.common.progress import NoProgress
from aiida_e3relax.crystals.files.stream import read_crystal_files
from aiida_e3relax.crystals.structures import Crystals, make_crystals, write_npz
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.prediction import predict as predict_module
from aiida_e3relax.gnn.prediction import predictor
from aiida_e3relax.gnn.prediction.predict import predict
from tests.gnn.crystals import batch_of, rattled

ELEMENTS = [8, 14, 22, 30, 31, 33]


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp('model') / 'small.pt'
    save_checkpoint(path, 'e3relax-h2', make_model('e3relax-h2', {'features': 8, 'layers': 1}), ELEMENTS, {'step': 0})
    return path


def faulty() -> Crystals:
    """One good crystal among one of every fault."""
    si, nan = bulk('Si', 'diamond', a=5.43), bulk('Si', 'diamond', a=5.43)
    nan.positions[0, 0] = np.nan
    flat, molecule, close = si.copy(), si.copy(), si.copy()
    thin, far = (
        Atoms('Si', cell=[0.012, 10, 10], pbc=True),
        Atoms('Si', positions=[[1e19, 0, 0]], cell=[3] * 3, pbc=True),
    )
    wide = Atoms('Si', cell=[5, 6000, 6000], pbc=True)
    skewed = si.copy()
    skewed.set_cell(np.array([[1, 0, 0], [900, 1, 0], [0, 0, 1]]) @ si.cell.array)
    flat.set_cell(np.diag([5.0, 5.0, 0.0]))
    molecule.pbc = False
    close.positions[1] = close.positions[0] + 0.05
    lonely = Atoms('Si', cell=np.eye(3) * 20, pbc=True)
    frames = [nan, flat, molecule, close, lonely, bulk('Cu', a=3.6), Atoms(cell=np.eye(3), pbc=True), si]
    frames += [thin, far, wide, skewed]
    return batch_of(*frames)


STATUS = [
    'not_finite',
    'singular_cell',
    'not_periodic',
    'overlapping_atoms',
    'no_neighbours',
    'unknown_element',
    'empty',
    'ok',
    'overlapping_atoms',
    'out_of_range',
    'too_large',
    'ok',
]


def test_every_fault_is_named_and_the_rest_goes_on(checkpoint, tmp_path):
    write_npz(tmp_path / 'in.npz', faulty())
    arguments = ['predict', str(tmp_path / 'in.npz'), '--model', str(checkpoint), '--output', str(tmp_path / 'out.npz')]
    assert main([*arguments, '--report', str(tmp_path / 'report.json')]) == 0
    report = json.loads((tmp_path / 'report.json').read_text())
    assert [row['status'] for row in report['structures']] == STATUS
    assert all(row['message'] for row in report['structures'] if row['status'] != 'ok')
    assert report['batches'] == [[7, 11]]
    before, after = faulty(), read_crystal_files([tmp_path / 'out.npz'])
    np.testing.assert_array_equal(before.cell[:7], after.cell[:7])
    failed = before.structure_index < 7
    np.testing.assert_array_equal(before.positions[failed], after.positions[failed])
    assert not np.allclose(before.cell[7], after.cell[7])
    with np.load(tmp_path / 'out.npz') as arrays:
        assert arrays['status'].tolist() == STATUS


def test_prediction_keeps_the_mean_fractional_position_and_the_site_order(checkpoint, tmp_path):
    atoms = rattled()[2]
    write(tmp_path / 'TiO2.vasp', atoms)
    arguments = ['predict', str(tmp_path / 'TiO2.vasp'), '--model', str(checkpoint), '--dtype', 'float64']
    assert main([*arguments, '--output', str(tmp_path / 'out.vasp')]) == 0
    predicted = read(tmp_path / 'out.vasp')
    assert predicted.get_chemical_symbols() == atoms.get_chemical_symbols()
    moved = predicted.get_scaled_positions(wrap=False) - atoms.get_scaled_positions(wrap=False)
    np.testing.assert_allclose(moved.mean(axis=0), 0, atol=1e-9)


def test_text_formats_hold_what_was_predicted(checkpoint, tmp_path, capsys):
    write(tmp_path / 'Cu.vasp', bulk('Cu', a=3.6))
    write(tmp_path / 'Si.vasp', bulk('Si', 'diamond', a=5.43))
    options = ['--model', str(checkpoint), '--device', 'cpu', '--output']
    inputs = [str(tmp_path / 'Cu.vasp'), str(tmp_path / 'Si.vasp')]
    assert main(['predict', *inputs, *options, str(tmp_path / 'out.extxyz')]) == 0
    assert [frame.get_chemical_formula() for frame in read(tmp_path / 'out.extxyz', ':')] == ['Si2']
    told = capsys.readouterr()
    assert 'Cu: unknown_element: the model was not trained on Z=29' in told.err
    assert told.out == f'predicted 1 of 2 structures; wrote {tmp_path / "out.extxyz"}\n'
    assert main(['predict', inputs[0], *options, str(tmp_path / 'out.vasp')]) == 3
    told = capsys.readouterr()
    assert 'no structure could be predicted' in told.err
    assert told.out == ''
    assert not (tmp_path / 'out.vasp').exists()


def test_result_is_printed_once_all_is_written_whatever_the_name(checkpoint, tmp_path, capsys, monkeypatch):
    write(tmp_path / 'Si.vasp', bulk('Si', 'diamond', a=5.43))
    output, report = tmp_path / os.fsdecode(b'out\xff\n.npz'), tmp_path / 'report.json'
    written = []

    def show(text):
        written.append((output.is_file(), json.loads(report.read_text())['error']))
        print_result(text)

    monkeypatch.setattr('aiida_e3relax.gnn.prediction.files.print_result', show)
    arguments = ['--model', str(checkpoint), '--device', 'cpu', '--output', str(output), '--report', str(report)]
    assert main(['predict', str(tmp_path / 'Si.vasp'), *arguments]) == 0
    assert written == [(True, None)]
    assert capsys.readouterr().out.endswith('out\\udcff\\n.npz\n')


@pytest.mark.parametrize(
    ('output', 'words'),
    [
        ('out.nonsense', 'ASE knows no format of this name'),
        ('out', 'ASE knows no format of this name'),
        ('out.vasp', 'cannot hold 3 structures'),
        ('absent/out.npz', 'does not exist'),
    ],
)
def test_output_that_cannot_be_written_is_refused_before_the_prediction(
    checkpoint, tmp_path, capsys, monkeypatch, output, words
):
    monkeypatch.setattr(predictor, 'predict', None)
    write_npz(tmp_path / 'in.npz', batch_of(*rattled()))
    arguments = ['predict', str(tmp_path / 'in.npz'), '--model', str(checkpoint), '--device', 'cpu']
    assert main([*arguments, '--output', str(tmp_path / output)]) == 3
    assert words in capsys.readouterr().err


def test_small_batches_give_the_same_prediction(network):
    crystals = batch_of(*rattled())
    whole = predict(network, crystals, ELEMENTS, torch.device('cpu'), torch.float64)
    parts = predict(network, crystals, ELEMENTS, torch.device('cpu'), torch.float64, max_edges=1)
    assert (whole.batches, parts.batches) == ([[0, 1, 2]], [[0], [1], [2]])
    np.testing.assert_allclose(whole.crystals.positions, parts.crystals.positions, atol=1e-9)


def test_out_of_memory_halves_the_batch(network, monkeypatch):
    crystals = batch_of(*rattled())
    forward = predict_module._predict_batch

    def small_memory(model, chosen, *rest):
        if chosen.n_atoms.sum() > 4:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return forward(model, chosen, *rest)

    monkeypatch.setattr(predict_module, '_predict_batch', small_memory)
    result = predict(network, crystals, ELEMENTS, torch.device('cpu'), torch.float64)
    assert result.batches == [[0], [1]]
    assert result.faults[2][0] == 'out_of_memory'


def test_batches_after_one_that_did_not_fit_are_no_larger(network, monkeypatch):
    """Memory for five atoms, and one batch of 32: it runs out at 32, 16 and 8, and never again."""
    crystals = batch_of(*[bulk('GaAs', 'zincblende', a=5.6 + place / 50) for place in range(16)])
    forward, tried = predict_module._predict_batch, []

    def small_memory(model, chosen, *rest):
        tried.append(int(chosen.n_atoms.sum()))
        if tried[-1] > 5:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return forward(model, chosen, *rest)

    whole = predict(network, crystals, ELEMENTS, torch.device('cpu'), torch.float64)
    assert whole.max_edges_fitted is None
    monkeypatch.setattr(predict_module, '_predict_batch', small_memory)
    result = predict(network, crystals, ELEMENTS, torch.device('cpu'), torch.float64)
    assert tried == [32, 16, 8, *[4] * 8]
    assert result.max_edges_fitted == 4 * network.max_neighbours
    assert sorted(index for batch in result.batches for index in batch) == list(range(16))
    np.testing.assert_allclose(result.crystals.positions, whole.crystals.positions, atol=1e-9)


def test_a_predictor_begins_with_the_batch_that_fitted_before(checkpoint, monkeypatch):
    crystals = batch_of(*[bulk('GaAs', 'zincblende', a=5.6 + place / 50) for place in range(4)])
    forward, tried = predict_module._predict_batch, []

    def small_memory(model, chosen, *rest):
        tried.append(int(chosen.n_atoms.sum()))
        if tried[-1] > 4:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return forward(model, chosen, *rest)

    monkeypatch.setattr(predict_module, '_predict_batch', small_memory)
    runner = predictor.Predictor(load_checkpoint(checkpoint), torch.device('cpu'), torch.float64, 'fast')
    for _ in range(2):
        runner.predict(crystals, [None] * 4, None, 50_000, NoProgress())
    assert tried == [8, 4, 4, 4, 4]
    assert runner.max_edges_fitted == 4 * runner.checkpoint.model.max_neighbours


def test_float32_is_close_to_float64(network):
    crystals = batch_of(*rattled())
    double = predict(network, crystals, ELEMENTS, torch.device('cpu'), torch.float64).crystals
    single = predict(network, crystals, ELEMENTS, torch.device('cpu'), torch.float32).crystals
    network.double()
    np.testing.assert_allclose(single.positions, double.positions, atol=1e-4)
    np.testing.assert_allclose(single.cell, double.cell, atol=1e-4)


@pytest.mark.parametrize(
    ('change', 'status', 'code', 'words'),
    [
        ({'structures': 'absent.cif'}, 3, 'bad_input', 'no such file'),
        ({'structures': 'garbage.cif'}, 3, 'bad_input', 'cannot be read'),
        ({'--model': 'absent.pt'}, 4, 'bad_checkpoint', 'no such checkpoint'),
        ({'--model': 'garbage.cif'}, 4, 'bad_checkpoint', 'damaged or not a checkpoint'),
        ({'--device': 'cuda:99'}, 5, 'no_device', '--device cpu'),
        ({'--device': 'tpu'}, 5, 'no_device', 'auto, cpu, cuda'),
    ],
)
def test_errors_end_in_a_code_and_a_report(checkpoint, tmp_path, capsys, change, status, code, words):
    (tmp_path / 'garbage.cif').write_bytes(b'not a crystal')
    write(tmp_path / 'Si.cif', bulk('Si', 'diamond', a=5.43))
    options = {'structures': 'Si.cif', '--model': str(checkpoint), '--device': 'cpu'} | change
    structures = str(tmp_path / options.pop('structures'))
    options['--model'] = str(tmp_path / options['--model'])
    options |= {'--output': str(tmp_path / 'out.npz'), '--report': str(tmp_path / 'report.json')}
    arguments = [word for pair in options.items() for word in pair]
    assert main(['predict', structures, *arguments]) == status
    error = json.loads((tmp_path / 'report.json').read_text())['error']
    assert error['code'] == code
    assert words in error['message']
    assert words in capsys.readouterr().err
    assert not (tmp_path / 'out.npz').exists()


def test_needle_slab_and_large_cell(network):
    needle = bulk('Si', 'diamond', a=5.43, cubic=True) * (1, 1, 8)
    slab = bulk('Si', 'diamond', a=5.43, cubic=True)
    slab.center(vacuum=10, axis=2)
    large = bulk('Si', 'diamond', a=5.43, cubic=True) * (3, 3, 3)
    crystals = batch_of(needle, slab, large)
    result = predict(network, crystals, ELEMENTS, torch.device('cpu'), torch.float64)
    assert not result.faults
    assert np.isfinite(result.crystals.positions).all()


def test_no_structures_are_an_empty_result(network):
    result = predict(network, make_crystals([], [], []), ELEMENTS, torch.device('cpu'))
    assert len(result.crystals) == 0
    network.double()
