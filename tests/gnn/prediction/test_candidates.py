"""Candidates of a lower symmetry: `e3relax predict --candidates` and Python. EMT stands in for a potential."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read, write

from aiida_e3relax.crystals.structures import write_npz
from aiida_e3relax.gnn import PotentialSettings, relax
from aiida_e3relax.gnn.checkpoints.checkpoint import save_checkpoint
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.potentials.base import Potential
from aiida_e3relax.gnn.prediction import predictor, relaxer, streaming
from tests.gnn.crystals import batch_of

KEYS = {
    *('energy_eV_per_atom', 'unperturbed', 'perturbed_starts', 'space_group', 'volume_A3', 'max_force_eV_per_A'),
    *('max_stress_kB', 'converged', 'steps'),
}


class Emt(EMT):
    """EMT that does not compute crystals of sites that a symmetry does not hold where `refuses` is set."""

    refuses = False

    def calculate(self, atoms=None, *arguments, **options):
        super().calculate(atoms, *arguments, **options)
        if type(self).refuses and not np.allclose(atoms.cell.lengths(), atoms.cell.lengths()[0]):
            raise RuntimeError('too low a symmetry')


@pytest.fixture
def calculator(monkeypatch):
    def load(name, device, dtype='float32', weights=None, in_batches=None, is_compiled=False):
        return Potential(Emt(), name, '3.29', 'of ASE', 'sha256:0', dtype=dtype)

    monkeypatch.setattr(predictor, 'load_potential', load)
    monkeypatch.setattr(relaxer, '_loaded', {})
    return Emt


@pytest.fixture
def run(calculator, tmp_path, capfd):
    """Run `e3relax predict --potential chgnet`; returns the report and what stderr says."""

    def predict(frames, *options, output='out.npz', name='in.npz'):
        if name.endswith('.npz'):
            write_npz(tmp_path / name, batch_of(*frames))
        else:
            write(tmp_path / name, frames)
        words = ['--output', str(tmp_path / output), '--report', str(tmp_path / 'report.json'), '--device', 'cpu']
        words += [
            '--threads',
            '1',
            '--potential',
            'chgnet',
            '--start',
            'input',
            '--force-max',
            '.05',
            '--stress-max',
            '5',
        ]
        assert main(['predict', str(tmp_path / name), *words, *options]) == 0
        return json.loads((tmp_path / 'report.json').read_text()), capfd.readouterr().err

    return predict


def simple_cubic():
    """Gold that its symmetry alone keeps from a close packing."""
    return Atoms('Au', cell=[2.7] * 3, pbc=True)


def energy_of(atoms):
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, calculator=EMT())
    return atoms.get_potential_energy() / len(atoms)


def test_what_symmetry_alone_holds_up_falls_further(run, tmp_path):
    report, told = run([simple_cubic(), bulk('Cu', a=3.7)], '--candidates', '2', '--seed', '5')
    assert report['potential'] | {'candidates': 2, 'seed': 5} == report['potential']
    gold, copper = (row['potential'] for row in report['structures'])
    assert all(one.keys() == KEYS for one in gold['candidates'])
    lowest, *_, highest = gold['candidates']
    assert (lowest['unperturbed'], highest['unperturbed']) == (False, True)
    assert (lowest['space_group'], highest['space_group']) == ('Fm-3m', 'Pm-3m')
    assert sum(one['perturbed_starts'] for one in gold['candidates']) == 2
    assert lowest['energy_eV_per_atom'] < highest['energy_eV_per_atom'] - 0.1
    assert gold['energy_prediction_eV_per_atom'] == lowest['energy_eV_per_atom']
    assert (gold['converged'], gold['improved'], gold['left_basin']) == (True, True, True)
    assert gold['steps'] == lowest['steps']
    below = highest['energy_eV_per_atom'] - lowest['energy_eV_per_atom']
    assert f'a candidate of another symmetry, {below:.4f} eV/atom below' in report['structures'][0]['message']
    (only,) = copper['candidates']
    assert only | {'unperturbed': True, 'perturbed_starts': 2, 'space_group': 'Fm-3m'} == only
    assert copper['candidates_failed'] == 0
    assert report['structures'][1]['message'] == ''
    assert 'candidates by chgnet  4/4' in told

    whole, several = np.load(tmp_path / 'out.npz'), np.load(tmp_path / 'out.candidates.npz')
    count = len(gold['candidates'])
    assert several['labels'].tolist() == ['0'] * count + ['1']
    assert several['candidate'].tolist() == [*range(count), 0]
    assert several['unperturbed'].tolist() == [one['unperturbed'] for one in (*gold['candidates'], only)]
    np.testing.assert_allclose(whole['cell'], several['cell'][several['candidate'] == 0], atol=1e-9)
    best = Atoms('Au', cell=several['cell'][0], pbc=True)
    assert energy_of(best) == pytest.approx(lowest['energy_eV_per_atom'], abs=1e-9)


def test_the_same_seed_gives_the_same_candidates_whatever_else_is_there(run, tmp_path):
    def candidates(frames, *options):
        report, _ = run(frames, '--candidates', '1', '--steps', '20', *options)
        arrays = np.load(tmp_path / 'out.candidates.npz')
        return report['structures'][-1]['potential']['candidates'], arrays['cell'][-1 - arrays['candidate'][-1] :]

    rows, cells = candidates([simple_cubic()])
    again, same = candidates([bulk('Cu', a=3.7), simple_cubic()], '--seed', '0')
    assert rows == again
    np.testing.assert_array_equal(cells, same)
    _, others = candidates([simple_cubic()], '--seed', '1')
    assert np.abs(others - cells).max() > 1e-3


def test_held_sites_and_cells_stay_in_all_candidates(run, tmp_path):
    held = simple_cubic() * (1, 1, 2)
    held.set_constraint(FixAtoms([0]))
    run([held], '--candidates', '2', '--freedom', 'positions', name='in.extxyz', output='out.extxyz')
    found = read(tmp_path / 'out.candidates.extxyz', ':')
    assert len(found) > 1
    for number, atoms in enumerate(found):
        np.testing.assert_allclose(atoms.cell.array, held.cell.array, atol=1e-7)
        np.testing.assert_allclose(atoms.positions[0], held.positions[0], atol=1e-7)
        assert atoms.constraints[0].get_indices().tolist() == [0]
        assert atoms.info['candidate'] == number
        assert atoms.info['energy_eV_per_atom'] == pytest.approx(energy_of(atoms), abs=1e-6)
    energies = [atoms.info['energy_eV_per_atom'] for atoms in found]
    assert energies == sorted(energies)
    assert sum(atoms.info['unperturbed'] for atoms in found) == 1
    apart = read(tmp_path / 'out.extxyz').get_scaled_positions() - found[0].get_scaled_positions()
    np.testing.assert_allclose(apart, np.round(apart), atol=1e-7)


def test_what_has_no_symmetry_stands_alone_and_says_so(run):
    atoms = bulk('Cu', a=3.7, cubic=True)
    atoms.numbers[:3] = [47, 79, 46]
    atoms.rattle(0.3, seed=1)
    report, _ = run([atoms], '--candidates', '2', '--steps', '1')
    (row,) = report['structures']
    assert [one['unperturbed'] for one in row['potential']['candidates']] == [True]
    assert row['potential']['candidates_failed'] == 2
    assert '2 candidates failed: ' in row['message']
    assert 'nothing that may move breaks its symmetry' in row['message']


def test_candidates_that_fail_leave_the_unperturbed_one(run, calculator, monkeypatch):
    monkeypatch.setattr(calculator, 'refuses', True)
    report, told = run([simple_cubic()], '--candidates', '2')
    (row,) = report['structures']
    assert row['status'] == 'ok'
    assert [one['unperturbed'] for one in row['potential']['candidates']] == [True]
    assert '2 candidates failed: RuntimeError: too low a symmetry' in told


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--candidates', '3'], 'expected --potential beside it'),
        (['--seed', '3'], 'expected --potential beside it'),
        (['--potential', 'chgnet', '--candidates', '-1'], '`candidates`: expected an integer from 0 to 1000, found -1'),
        (['--potential', 'chgnet', '--candidates', '2', '--steps', '0'], 'expected `steps` above 0'),
        (['--potential', 'chgnet', '--candidates', '2', '--freedom', 'volume'], 'nothing moves that could break'),
        (
            ['--potential', 'chgnet', '--candidates', '2', '--freedom', '{moves: cell, keep_symmetry: true}'],
            'leave one of the two out',
        ),
    ],
)
def test_what_leaves_no_candidates_is_refused_before_anything_is_loaded(
    tmp_path, capsys, monkeypatch, options, message
):
    monkeypatch.setattr(streaming, 'prepare_device', None)
    write_npz(tmp_path / 'in.npz', batch_of(simple_cubic()))
    assert main(['predict', str(tmp_path / 'in.npz'), '--output', str(tmp_path / 'out.npz'), *options]) == 3
    assert message in capsys.readouterr().err


def test_they_come_after_the_network_too(calculator, tmp_path):
    torch.manual_seed(1)
    model = make_model('e3relax-h2', {'features': 8, 'layers': 1})
    save_checkpoint(tmp_path / 'small.pt', 'e3relax-h2', model, [79], {'step': 0})
    settings = PotentialSettings('chgnet', steps=20, candidates=1)
    relaxed = relax(simple_cubic(), tmp_path / 'small.pt', 'cpu', potential=settings, layers=True)
    assert len(relaxed.candidates) == 2
    assert relaxed.potential['energy_prediction_eV_per_atom'] < relaxed.potential['energy_network_eV_per_atom'] - 0.1
    assert [len(set(np.round(atoms.cell.lengths(), 4))) for atoms in relaxed.layers[:2]] == [1, 1]
    assert relaxed.layers[-1] is relaxed.structure


def test_in_python_they_come_as_structures_of_the_same_kind(calculator, capfd):
    settings = PotentialSettings('chgnet', 'input', 20, candidates=1)
    relaxed = relax(simple_cubic(), potential=settings, device='cpu')
    rows = relaxed.potential['candidates']
    assert len(relaxed.candidates) == len(rows) > 1
    for atoms, row in zip(relaxed.candidates, rows, strict=True):
        assert energy_of(atoms) == pytest.approx(row['energy_eV_per_atom'], abs=1e-9)
    np.testing.assert_array_equal(relaxed.candidates[0].cell.array, relaxed.structure.cell.array)
    assert 'a candidate of another symmetry' in relaxed.notes[0]
    assert capfd.readouterr().err == ''
    assert relax(simple_cubic(), potential=PotentialSettings('chgnet', 'input', 1), device='cpu').candidates is None
    with pytest.raises(ValueError, match='leave one of the two out'):
        relax(simple_cubic(), potential=settings, device='cpu', freedom={'keep_symmetry': True})


class Hole(Emt):
    """EMT with a hole where atoms are 1.3 A apart, once the symmetry is broken."""

    def calculate(self, atoms=None, *arguments, **options):
        super().calculate(atoms, *arguments, **options)
        if not np.allclose(atoms.cell.lengths(), atoms.cell.lengths()[0]):
            self.results['stress'] = np.array([0.1 * (atoms.cell.lengths()[0] - 1.3), 0, 0, 0, 0, 0])


def test_ends_with_atoms_on_top_of_each_other_are_none(run, monkeypatch):
    monkeypatch.setattr(
        predictor, 'load_potential', lambda name, *_: Potential(Hole(), name, '3', 'of ASE', 'sha256:0')
    )
    report, _ = run([simple_cubic()], '--candidates', '1', '--steps', '30')
    (row,) = report['structures']
    assert [one['unperturbed'] for one in row['potential']['candidates']] == [True]
    error = row['potential']['candidates_error']  # by their radii, or already on the way there
    assert 'of the sum of their covalent radii, expected at least 0.6' in error or 'expected at least 0.7 A' in error
