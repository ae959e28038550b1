"""Crystals relaxed by a potential, alone and after the network: `e3relax predict` and Python. EMT stands in for it."""

import json
import signal
import sys

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read, write

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.structures import write_npz
from aiida_e3relax.gnn import PotentialSettings, Relaxer, relax
from aiida_e3relax.gnn.checkpoints.checkpoint import save_checkpoint
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.potentials.base import Potential
from aiida_e3relax.gnn.prediction import predictor, relaxer, streaming
from aiida_e3relax.gnn.prediction.report import Tally
from aiida_e3relax.gnn.prediction.settings import STARTS, PredictionSettings
from tests.gnn.crystals import batch_of

FACTS = {
    'potential': 'chgnet',
    'version': '3.29',
    'weights': 'of ASE',
    'content_hash': 'sha256:0',
    'licence': None,
    'training_data': None,
    'functional': None,
    'dtype': 'float32',
    'evaluation': 'one after the other',
}
OF_INPUT = {'energy_input_eV_per_atom', 'max_force_input_eV_per_A'}
OF_NETWORK = {'energy_network_eV_per_atom', 'max_force_network_eV_per_A'}
OF_END = {
    *('energy_prediction_eV_per_atom', 'max_force_prediction_eV_per_A', 'max_stress_prediction_kB'),
    *('improved', 'converged', 'steps', 'left_basin', 'basin', 'wall_time_s'),
}


class Emt(EMT):
    """EMT in the place of a potential; `fault` is called with each crystal."""

    fault = staticmethod(lambda atoms: None)

    def calculate(self, atoms=None, *arguments, **options):
        type(self).fault(atoms)
        super().calculate(atoms, *arguments, **options)


class Uphill(Emt):
    """Steps go up."""

    def calculate(self, *arguments, **options):
        super().calculate(*arguments, **options)
        self.results['forces'] = -self.results['forces']
        self.results['stress'] = -self.results['stress']


@pytest.fixture
def calculator(monkeypatch):
    """The calculator that any potential has here."""

    def load(name, device, dtype='float32', weights=None, in_batches=None, is_compiled=False):
        return Potential(Emt(), name, '3.29', 'of ASE', 'sha256:0', dtype=dtype)

    monkeypatch.setattr(predictor, 'load_potential', load)
    monkeypatch.setattr(relaxer, '_loaded', {})
    return Emt


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """A network that knows copper alone."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp('model') / 'small.pt'
    save_checkpoint(path, 'e3relax-h2', make_model('e3relax-h2', {'features': 8, 'layers': 1}), [29], {'step': 0})
    return path


@pytest.fixture
def run(calculator, tmp_path, capfd):
    """Run `e3relax predict --potential chgnet`; returns the exit status, the report, and what stderr says."""

    def predict(frames, *options, output='out.npz', name='in.npz'):
        if name.endswith('.npz'):
            write_npz(tmp_path / name, batch_of(*frames))
        else:
            write(tmp_path / name, frames)
        words = ['--output', str(tmp_path / output), '--report', str(tmp_path / 'report.json'), '--device', 'cpu']
        status = main(['predict', str(tmp_path / name), *words, '--threads', '1', '--potential', 'chgnet', *options])
        return status, json.loads((tmp_path / 'report.json').read_text()), capfd.readouterr().err

    return predict


FROM_INPUT = ('--start', 'input')


def copper(seed=1, scale=1.0):
    atoms = bulk('Cu', a=3.7 * scale, cubic=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def silver():
    return bulk('Ag', a=4.3)


def unknown():
    """EMT has no parameters for it."""
    return bulk('NaCl', 'rocksalt', a=5.64)


def test_from_the_input_no_network_is_loaded_and_its_elements_do_not_matter(run, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, 'load_checkpoint', None)
    status, report, told = run([copper(), silver()], *FROM_INPUT, '--steps', '50')
    assert status == 0
    assert report['model'] is report['second_opinion'] is report['error'] is None
    assert report['potential'] == FACTS | {
        'start': 'input',
        'steps': 50,
        'force_max_eV_per_A': 0.02,
        'stress_max_kB': 1.0,
    }
    own = [row['potential']['wall_time_s'] for row in report['structures']]
    assert min(own) > 0
    assert sum(own) <= report['timings_s']['potential']
    assert report['versions'].keys() >= {'ase', 'torch'}
    assert report['batches'] == [[0], [1]]
    assert [row['status'] for row in report['structures']] == ['ok', 'ok']
    for row in report['structures']:
        assert row['potential'].keys() == OF_INPUT | OF_END
        assert row['potential']['energy_prediction_eV_per_atom'] < row['potential']['energy_input_eV_per_atom']
        assert row['potential'] | {'improved': True, 'converged': True, 'left_basin': False} == row['potential']
        assert row['potential']['max_force_prediction_eV_per_A'] < 0.02
        assert row['potential']['max_stress_prediction_kB'] < 1
        assert 0 < row['potential']['steps'] < 50
    arrays = np.load(tmp_path / 'out.npz')
    assert 'uncertainty' not in arrays or np.isnan(arrays['uncertainty']).all()
    assert 'relaxing by chgnet  2/2' in told
    atoms = Atoms('Ag', cell=arrays['cell'][1], pbc=True, calculator=EMT())
    assert atoms.get_potential_energy() == pytest.approx(
        report['structures'][1]['potential']['energy_prediction_eV_per_atom'], abs=1e-9
    )


def test_from_the_network_the_prediction_is_relaxed(run, small):
    status, report, _ = run([copper(), silver()], '--model', str(small), '--force-max', '0.01', '--stress-max', '0.5')
    assert status == 0
    assert report['potential'] | {'start': 'network', 'steps': 200, 'force_max_eV_per_A': 0.01} == report['potential']
    assert report['model']['architecture'] == 'e3relax-h2'
    first, second = report['structures']
    assert (first['status'], second['status']) == ('ok', 'unknown_element')
    assert first['potential'].keys() == OF_INPUT | OF_NETWORK | OF_END
    assert first['potential']['converged']
    assert first['potential']['max_force_prediction_eV_per_A'] < 0.01
    assert first['potential']['max_stress_prediction_kB'] < 0.5
    assert 'potential' not in second


def test_what_has_not_converged_is_told_and_no_failure(run):
    _, report, told = run([copper()], *FROM_INPUT, '--steps', '1')
    row = report['structures'][0]
    assert row['status'] == 'ok'
    assert (row['potential']['converged'], row['potential']['steps'], row['potential']['improved']) == (False, 1, True)
    assert 'the potential: 1 not converged' in told
    _, report, _ = run([copper()], *FROM_INPUT, '--steps', '0')
    assert report['structures'][0]['potential']['steps'] == 0
    assert report['structures'][0]['max_displacement_A'] == 0


def test_one_that_the_potential_does_not_know_takes_no_other_down(run, tmp_path):
    status, report, _ = run([copper(), unknown(), silver()], *FROM_INPUT, output='out.extxyz')
    assert status == 0
    rows = report['structures']
    assert [row['status'] for row in rows] == ['ok', 'potential_failed', 'ok']
    assert rows[1]['message'].startswith('chgnet cannot relax it: ')
    assert list(rows[1]['potential']) == ['error', 'wall_time_s']
    assert 'volume_predicted_A3' not in rows[1]
    assert [len(atoms) for atoms in read(tmp_path / 'out.extxyz', ':')] == [4, 1]


@pytest.mark.parametrize('error', [MemoryError(), RuntimeError('CUDA out of memory')], ids=repr)
def test_memory_that_runs_out_for_one_is_its_own(run, calculator, monkeypatch, error):
    def fault(atoms):
        if len(atoms) == 4:
            raise error

    monkeypatch.setattr(calculator, 'fault', staticmethod(fault))
    status, report, _ = run([silver(), copper()], *FROM_INPUT)
    assert status == 0
    assert [row['status'] for row in report['structures']] == ['ok', 'out_of_memory']
    assert report['structures'][1]['potential']['error'].startswith('out of memory: ')
    status, report, _ = run([copper()], *FROM_INPUT)
    assert (status, report['error']['code']) == (6, 'out_of_memory')


def test_after_the_network_a_failure_leaves_its_prediction_and_says_so(run, small, calculator, monkeypatch):
    def fault(atoms):
        if len(atoms) == 4:
            raise RuntimeError('no')

    monkeypatch.setattr(calculator, 'fault', staticmethod(fault))
    status, report, told = run([copper()], '--model', str(small))
    (row,) = report['structures']
    assert (status, row['status']) == (0, 'ok')
    assert row['potential'] | {'wall_time_s': None} == {'error': 'RuntimeError: no', 'wall_time_s': None}
    assert row['message'] == 'the potential failed, the prediction of the network stands: RuntimeError: no'
    assert 'the potential: 1 failed' in told


def test_numbers_that_are_not_finite_are_a_failure(run, calculator, monkeypatch):
    whole = EMT.calculate

    def calculate(self, *arguments, **options):
        whole(self, *arguments, **options)
        if len(self.atoms) > most:
            self.results['forces'] = self.results['forces'] * np.nan

    monkeypatch.setattr(EMT, 'calculate', calculate)
    most = 3
    _, report, _ = run([copper()], *FROM_INPUT)
    assert report['structures'][0]['status'] == 'potential_failed'
    assert 'largest force nan eV/A' in report['structures'][0]['message']
    most = 0
    status, report, _ = run([copper()], *FROM_INPUT)
    assert (status, report['error']['code']) == (1, 'unexpected')
    assert report['error']['message'].endswith('nor MgO: its energy or forces are no finite numbers')


@pytest.mark.parametrize('start', STARTS)
def test_a_potential_that_fails_at_its_first_call_fails_as_a_whole(
    run, small, calculator, monkeypatch, start, tmp_path
):
    def fault(atoms):
        raise RuntimeError('no kernel image is available')

    monkeypatch.setattr(calculator, 'fault', staticmethod(fault))
    options = ('--model', str(small)) if start == 'network' else ()
    status, report, _ = run([copper(), silver()], '--start', start, *options)
    assert (status, report['error']['code'], report['structures']) == (1, 'unexpected', [])
    assert report['error']['message'] == (
        'chgnet computes none of the crystals, and neither Cu nor MgO: RuntimeError: no kernel image is available'
    )
    assert not (tmp_path / 'out.npz').exists()


@pytest.mark.parametrize('ending', [KeyboardInterrupt, 'SIGTERM'])
def test_a_run_that_is_ended_says_so_and_leaves_nothing(run, calculator, monkeypatch, tmp_path, ending):
    def fault(atoms):
        if ending == 'SIGTERM':
            signal.raise_signal(signal.SIGTERM)
        else:
            raise ending

    monkeypatch.setattr(calculator, 'fault', staticmethod(fault))
    status, report, _ = run([copper()], *FROM_INPUT)
    assert (status, report['error']['code']) == (130, 'interrupted')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in.npz', 'report.json']


def test_geometries_that_are_no_crystals_are_refused_without_a_network_too(run):
    close, flat, molecule = copper(), copper(), Atoms('Cu2', [[0, 0, 0], [2.2, 0, 0]], cell=[15] * 3, pbc=True)
    close.positions[1] = close.positions[0] + 0.05
    flat.set_cell(np.diag([4.0, 4.0, 0.0]))
    _, report, _ = run([close, flat, molecule, silver()], *FROM_INPUT)
    rows = report['structures']
    assert [row['status'] for row in rows] == ['overlapping_atoms', 'singular_cell', 'not_periodic', 'ok']
    assert rows[0]['message'].startswith('the sites 0 (Z=29) and 1 (Z=29) are 0.0866 A apart')
    assert report['batches'] == [[3]]


def slab():
    atoms = fcc111('Cu', (1, 1, 3), a=3.7, vacuum=6.0, periodic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def test_a_vacuum_and_held_sites_stay(run, tmp_path):
    held = slab()
    held.set_constraint(FixAtoms([0]))
    _, report, _ = run([held], *FROM_INPUT, name='in.extxyz', output='out.extxyz')
    (row,) = report['structures']
    assert 'a layer with' in row['message']
    assert row['potential']['max_stress_prediction_kB'] is None
    assert row['potential']['converged']
    end = read(tmp_path / 'out.extxyz')
    np.testing.assert_allclose(end.cell.array, slab().cell.array, atol=1e-7)
    np.testing.assert_allclose(end.positions[0], slab().positions[0], atol=1e-7)
    assert np.abs(end.positions[1:] - slab().positions[1:]).max() > 0.01
    assert end.constraints[0].get_indices().tolist() == [0]


@pytest.mark.parametrize('freedom', ['positions', 'shape', 'volume', '{moves: in-plane, vacuum: c}'])
def test_what_may_not_move_stays_after_network_and_potential(run, small, tmp_path, freedom):
    start = slab() if 'in-plane' in freedom else copper()
    for options in (FROM_INPUT, ('--model', str(small))):
        _, report, _ = run([start], *options, '--freedom', freedom)
        assert report['structures'][0]['potential']['improved']
        arrays = np.load(tmp_path / 'out.npz')
        cell, fractional = arrays['cell'][0], arrays['positions'] @ np.linalg.inv(arrays['cell'][0])
        if freedom == 'positions':
            np.testing.assert_allclose(cell, start.cell.array, atol=1e-8)
        elif freedom == 'shape':
            assert np.linalg.det(cell) == pytest.approx(start.get_volume(), rel=1e-10)
        elif freedom == 'volume':
            np.testing.assert_allclose(cell, cell[0, 0] / start.cell[0, 0] * start.cell.array, atol=1e-8)
            np.testing.assert_allclose(fractional, start.positions @ np.linalg.inv(start.cell.array), atol=1e-8)
        else:
            np.testing.assert_allclose(cell[2], start.cell.array[2], atol=1e-8)


def test_sites_are_held_in_formats_that_cannot_say_so(run, tmp_path, small):
    held = tmp_path / 'held.json'
    held.write_text(json.dumps({'0': {'abc': [0], 'c': [1]}, 'none': {'a': [0]}}))
    for options in (FROM_INPUT, ('--model', str(small))):
        _, report, told = run([copper(), copper()], *options, '--fixed-sites', str(held), '--freedom', 'positions')
        assert [row['status'] for row in report['structures']] == ['ok', 'ok', 'unreadable']
        moved = np.abs(np.load(tmp_path / 'out.npz')['positions'] - batch_of(copper(), copper()).positions)
        assert moved[[0, 0, 0, 1], [0, 1, 2, 2]].max() < 1e-8
        assert moved[1:3, :2].min() > 1e-5
        assert moved[4:].max() > 1e-3
        assert '--fixed-sites: no structure has the label none' in told
    held.write_text('{"0": {"x": [0]}}')
    status, report, _ = run([copper()], '--fixed-sites', str(held))
    assert status == 3
    assert "0: `fixed`: expected keys of the letters a, b and c, found 'x'" in report['error']['message']


def test_where_the_energy_does_not_fall_the_start_stands(run, small, monkeypatch, calculator):
    monkeypatch.setattr(predictor, 'load_potential', lambda name, *_: Potential(Uphill(), name, '3', 'of ASE'))
    _, report, _ = run([copper()], *FROM_INPUT, '--steps', '3')
    row = report['structures'][0]['potential']
    assert (row['improved'], row['converged'], row['left_basin'], row['steps']) == (False, False, False, 3)
    assert row['energy_prediction_eV_per_atom'] == row['energy_input_eV_per_atom']
    assert report['structures'][0]['max_displacement_A'] == 0
    assert report['structures'][0]['message'] == 'the potential found no lower energy in 3 steps: the input stands'
    _, report, _ = run([copper()], '--model', str(small), '--steps', '3')
    assert 'in 3 steps: the prediction of the network stands' in report['structures'][0]['message']
    kept = PotentialSettings('chgnet', 'input', 3, only_if_lower=False)
    only = relax(copper(), model=None, potential=kept, device='cpu')
    assert only.potential['left_basin']
    assert 'eV/atom above that of the input' in only.potential['basin'][-1]
    assert only.notes[0].startswith('another basin than where it started: ')


def test_a_crystal_that_collapses_into_another_structure_has_left_its_basin(run, tmp_path):
    """Simple cubic gold is no minimum of EMT: a rattled one falls into a close packing."""
    atoms = Atoms('Au', cell=[2.9] * 3, pbc=True) * 2
    atoms.rattle(0.3, seed=1)
    _, report, told = run([atoms], *FROM_INPUT)
    row = report['structures'][0]
    assert row['potential']['left_basin']
    assert any('around it, now' in reason for reason in row['potential']['basin'])
    assert row['message'].startswith('another basin than where it started: ')
    assert 'the potential: 1 in another basin' in told


def test_those_whose_batches_failed_are_counted():
    row = {'converged': True, 'left_basin': False, 'computed_alone': 'RuntimeError: no'}
    tally = Tally()
    tally.add([{'status': 'ok', 'potential': row}, {'status': 'ok'}])
    assert tally.describe_steps() == 'the potential: 1 computed alone, as their batches failed'


REFUSED = [
    (['--start', 'elsewhere'], None),
    (['--steps', '-1'], '`steps`: expected an integer from 0 to 100000, found -1'),
    (['--force-max', '0'], '`force_max_eV_per_A`: expected a number above 0, found 0.0'),
    (['--stress-max', 'nan'], '`stress_max_kB`: expected a number above 0, found nan'),
    (['--start', 'input', '--layers'], 'they are those of a network, and with --start input none is loaded'),
    (['--start', 'input', '--bonds'], 'they are those of a network, and with --start input none is loaded'),
    (['--start', 'input', '--model', 'other.pt'], 'with --start input no network is loaded'),
    (['--second-opinion', 'chgnet'], '--second-opinion is the older form of --potential'),
    (['--potential-weights', 'mine.pt'], 'so it takes no file'),
    (['--potential', 'mace'], 'mace: expected a file of its weights'),
]


@pytest.mark.parametrize(('options', 'message'), REFUSED)
def test_what_has_no_meaning_is_refused_before_anything_is_loaded(tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.setattr(streaming, 'prepare_device', None)
    write_npz(tmp_path / 'in.npz', batch_of(copper()))
    words = ['predict', str(tmp_path / 'in.npz'), '--output', str(tmp_path / 'out.npz'), '--potential', 'chgnet']
    if message is None:
        with pytest.raises(SystemExit):
            main([*words, *options])
        return
    assert main([*words, *options]) == 3
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('options', [['--steps', '5'], ['--start', 'input'], ['--potential-weights', 'mine.pt']])
def test_options_of_a_potential_need_one(tmp_path, capsys, options):
    write_npz(tmp_path / 'in.npz', batch_of(copper()))
    assert main(['predict', str(tmp_path / 'in.npz'), '--output', str(tmp_path / 'out.npz'), *options]) == 3
    assert f'{options[0]}: expected --potential beside it' in capsys.readouterr().err


def test_weights_would_not_be_lost(tmp_path, capsys):
    write_npz(tmp_path / 'in.npz', batch_of(copper()))
    (tmp_path / 'out.npz').write_text('weights')
    words = ['--output', str(tmp_path / 'out.npz'), '--potential-weights', str(tmp_path / 'out.npz')]
    assert main(['predict', str(tmp_path / 'in.npz'), *words, '--potential', 'mace', *FROM_INPUT]) == 3
    assert 'would be lost' in capsys.readouterr().err


class TestPython:
    def test_a_potential_takes_the_place_of_the_network(self, calculator, capfd):
        several = relax([copper(), unknown(), slab()], model=None, potential='chgnet', device='cpu')
        assert [one.status for one in several] == ['ok', 'potential_failed', 'ok']
        assert several[0].potential['converged']
        assert several[0].uncertainty is None
        assert several[1].potential['error']
        assert isinstance(several[0].structure, Atoms)
        assert 'the cell is kept' in several[2].notes[0]
        assert capfd.readouterr().err == ''

    def test_or_comes_after_it_silently(self, calculator, small, capfd):
        settings = PotentialSettings('chgnet', steps=5)
        relaxed = relax(copper(), small, 'cpu', potential=settings, layers=True)
        assert relaxed.potential.keys() == OF_INPUT | OF_NETWORK | OF_END
        by_network = relax(copper(), small, 'cpu')
        assert by_network.potential is None
        assert len(relaxed.layers) == 3
        np.testing.assert_allclose(relaxed.layers[1].positions, by_network.structure.positions, atol=1e-5)
        assert capfd.readouterr().err == ''

    def test_it_is_loaded_once(self, calculator, monkeypatch):
        relaxer_of = Relaxer(None, 'cpu', potential='chgnet')
        monkeypatch.setattr(predictor, 'load_potential', None)
        assert Relaxer(None, 'cpu', potential='chgnet')._predictor is relaxer_of._predictor
        assert relaxer_of.checkpoint is None

    @pytest.mark.parametrize('in_batches', [None, True, False])
    def test_batches_are_asked_for_in_the_settings(self, calculator, monkeypatch, in_batches):
        asked = []

        def load(name, device, dtype, weights, in_batches, is_compiled):
            asked.append(in_batches)
            return Potential(Emt(), name, '3', 'of ASE')

        monkeypatch.setattr(predictor, 'load_potential', load)
        Relaxer(None, 'cpu', potential=PotentialSettings('chgnet', 'input', in_batches=in_batches))
        assert asked == [in_batches]

    @pytest.mark.parametrize(('name', 'dtype'), [('mace', 'float64'), ('chgnet', 'float32')])
    def test_it_takes_the_precision_that_is_asked_for_or_its_own(self, calculator, name, dtype):
        settings = PotentialSettings(name, 'input', weights='its.model')
        relaxed = Relaxer(None, 'cpu', 'float64', potential=settings)._predictor._relaxation
        assert relaxed.potential.dtype == dtype

    @pytest.mark.parametrize(
        ('model', 'potential', 'message'),
        [
            (None, None, 'expected a potential in its place'),
            (None, PotentialSettings('chgnet'), "expected PotentialSettings with start='input', found 'network'"),
            ('other.pt', PotentialSettings('chgnet', 'input'), 'which loads no network'),
        ],
    )
    def test_contradictions_are_refused(self, model, potential, message):
        with pytest.raises(ValueError, match=message):
            Relaxer(model, 'cpu', potential=potential)

    def test_details_of_a_network_are_refused_without_one(self, calculator):
        with pytest.raises(InputError, match='layers and bonds are those of a network'):
            relax(copper(), model=None, potential='chgnet', device='cpu', layers=True)


def test_the_older_form_means_the_newer_one():
    settings = PredictionSettings(second_opinion='chgnet', second_opinion_steps=7)
    assert settings.pre_relaxation == PotentialSettings('chgnet', 'network', 7)
    assert settings.has_network
    with pytest.raises(ValueError, match='older form'):
        PredictionSettings(second_opinion='chgnet', potential=PotentialSettings('chgnet'))


def test_what_keeps_the_symmetry_is_asked_for_before_anything_is_relaxed(run, monkeypatch):
    monkeypatch.setitem(sys.modules, 'spglib', None)
    status, report, _ = run([copper()], *FROM_INPUT)
    assert (status, report['error']['code']) == (7, 'missing_package')
    assert 'needs the package spglib' in report['error']['message']


def test_symmetry_is_kept_where_that_is_asked_for(run, tmp_path):
    atoms = bulk('Cu', a=3.9, cubic=True)
    atoms.numbers[[0, 3]] = 79
    _, report, _ = run([atoms], *FROM_INPUT, '--freedom', '{moves: cell, keep_symmetry: true}')
    assert report['structures'][0]['potential']['converged']
    arrays = np.load(tmp_path / 'out.npz')
    lengths = np.linalg.norm(arrays['cell'][0], axis=1)
    assert lengths[0] == pytest.approx(lengths[1], abs=1e-10)
    assert abs(lengths[2] - lengths[0]) > 1e-2
    np.testing.assert_allclose(
        arrays['positions'] @ np.linalg.inv(arrays['cell'][0]), atoms.get_scaled_positions(), atol=1e-10
    )
