"""Second opinions of interatomic potentials; EMT where it does not matter which potential it is."""

import json
import sys

import numpy as np
import pytest
import spglib
import torch
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.io import write

from aiida_e3relax.common.progress import NoProgress
from aiida_e3relax.crystals.structures import make_crystals
from aiida_e3relax.gnn.checkpoints.checkpoint import save_checkpoint
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.potentials.base import Potential
from aiida_e3relax.gnn.potentials.registry import load_potential
from aiida_e3relax.gnn.prediction.freedom import PredictionFreedom
from aiida_e3relax.gnn.prediction.pre_relaxation import PreRelaxation
from aiida_e3relax.gnn.prediction.settings import PotentialSettings
from tests.gnn.crystals import batch_of, rattled


class Uphill(EMT):
    """EMT with the wrong sign of forces and stress."""

    def calculate(self, *arguments, **options):
        super().calculate(*arguments, **options)
        self.results['forces'] = -self.results['forces']
        self.results['stress'] = -self.results['stress']


def consult(calculator, given, predicted, indices, steps=0):
    """Return what the potential makes of predictions, and its opinion on them, in the older form of the report."""
    potential = Potential(calculator, 'emt', '3', 'of ASE') if isinstance(calculator, EMT) else calculator
    opinion = PreRelaxation(potential, PotentialSettings(potential.name, steps=steps), is_opinion=True)
    free = PredictionFreedom(None, given, [None] * len(given))
    free.find_faults(range(len(given)))
    return opinion.relax(given, predicted, indices, free, NoProgress())[:2]


def copper(scale=1.0):
    atoms = bulk('Cu', a=3.61 * scale, cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def energy_of(crystals):
    atoms = Atoms(crystals.numbers, crystals.positions, cell=crystals.cell[0], pbc=True, calculator=EMT())
    return atoms.get_potential_energy() / len(atoms)


def test_energies_and_forces_are_those_of_the_potential_and_nothing_moves_without_steps():
    given, predicted = batch_of(copper(1.1)), batch_of(copper())
    after, opinions = consult(EMT(), given, predicted, [0])
    np.testing.assert_array_equal(after.positions, predicted.positions)
    np.testing.assert_array_equal(after.cell, predicted.cell)
    opinion = opinions[0]
    assert opinion['energy_input_eV_per_atom'] == pytest.approx(energy_of(given))
    assert opinion['energy_network_eV_per_atom'] == pytest.approx(energy_of(predicted))
    assert opinion['energy_prediction_eV_per_atom'] == opinion['energy_network_eV_per_atom']
    assert opinion['max_force_network_eV_per_A'] > 0.5
    assert opinion['improved'] is False


def test_steps_lower_the_energy_of_what_they_are_asked_about():
    given = batch_of(copper(1.1), copper(1.1))
    predicted = batch_of(copper(1.02), copper(1.02))
    after, opinions = consult(EMT(), given, predicted, [1], 8)
    np.testing.assert_array_equal(after.select([0]).positions, predicted.select([0]).positions)
    assert list(opinions) == [1]
    opinion = opinions[1]
    assert opinion['improved'] is True
    assert opinion['energy_prediction_eV_per_atom'] < opinion['energy_network_eV_per_atom'] - 0.01
    assert opinion['energy_prediction_eV_per_atom'] == pytest.approx(energy_of(after.select([1])))
    assert opinion['max_force_prediction_eV_per_A'] < opinion['max_force_network_eV_per_A']
    assert not np.allclose(after.cell[1], predicted.cell[1])


def test_steps_that_raise_the_energy_are_not_kept():
    predicted = batch_of(copper(1.02))
    after, opinions = consult(Uphill(), predicted, predicted, [0], 5)
    np.testing.assert_array_equal(after.positions, predicted.positions)
    np.testing.assert_array_equal(after.cell, predicted.cell)
    assert opinions[0]['improved'] is False
    assert opinions[0]['energy_prediction_eV_per_atom'] == pytest.approx(energy_of(predicted))


def test_the_vacuum_of_a_slab_stays():
    slab = fcc111('Cu', (1, 1, 3), a=3.7, vacuum=6.0, periodic=True)
    slab.pbc = (True, True, False)
    slab.rattle(0.05, seed=1)
    predicted = make_crystals([slab.numbers], [slab.positions], [slab.cell.array], pbc=[slab.pbc])
    after, opinions = consult(EMT(), predicted, predicted, [0], 10)
    assert opinions[0]['improved'] is True
    np.testing.assert_array_equal(after.cell[0], predicted.cell[0])
    assert not np.allclose(after.positions, predicted.positions)


def test_a_crystal_that_the_potential_does_not_know_stays_and_says_why():
    predicted = batch_of(bulk('NaCl', 'rocksalt', a=5.64), copper())
    after, opinions = consult(EMT(), predicted, predicted, [0, 1], 2)
    assert list(opinions[0]) == ['error', 'wall_time_s']
    assert 'NotImplementedError' in opinions[0]['error']
    np.testing.assert_array_equal(after.select([0]).positions, predicted.select([0]).positions)
    assert opinions[1]['improved'] is True


@pytest.fixture
def prediction(tmp_path):
    """The arguments of a prediction for three crystals, one of them with an element that the network does not know."""
    torch.manual_seed(1)
    network = make_model('e3relax-h2', {'features': 8, 'layers': 1})
    save_checkpoint(tmp_path / 'small.pt', 'e3relax-h2', network, [8, 22, 31, 33], {'step': 0})
    frames = rattled()  # GaAs, ZnO, TiO2
    write(tmp_path / 'in.extxyz', frames)
    files = {'--model': 'small.pt', '--output': 'out.npz', '--report': 'report.json'}
    words = [word for option, name in files.items() for word in (option, str(tmp_path / name))]
    return ['predict', str(tmp_path / 'in.extxyz'), *words, '--device', 'cpu', '--threads', '1']


def test_chgnet_says_what_it_thinks_of_what_the_network_could_predict(prediction, tmp_path, capsys):
    pytest.importorskip('chgnet')
    assert main([*prediction, '--second-opinion', 'chgnet', '--second-opinion-steps', '3']) == 0
    assert 'UserWarning' not in capsys.readouterr().err
    report = json.loads((tmp_path / 'report.json').read_text())
    assert report['second_opinion'] == {'potential': 'chgnet', 'version': '0.4.2', 'weights': '0.3.0', 'steps': 3}
    assert report['timings_s']['second_opinion'] > 0
    assert [row['status'] for row in report['structures']] == ['ok', 'unknown_element', 'ok']
    assert 'second_opinion' not in report['structures'][1]
    for row in (report['structures'][0], report['structures'][2]):
        opinion = row['second_opinion']
        assert opinion['improved'] is True
        assert -10 < opinion['energy_prediction_eV_per_atom'] < opinion['energy_network_eV_per_atom'] < 0


def test_steps_of_chgnet_keep_the_symmetry_as_vasp_sees_it():
    pytest.importorskip('chgnet')
    wurtzite = bulk('ZnO', 'wurtzite', a=3.4, c=5.3)
    predicted = batch_of(wurtzite)
    after, opinions = consult(load_potential('chgnet', torch.device('cpu')), predicted, predicted, [0], 10)
    assert opinions[0]['improved'] is True
    found = spglib.get_symmetry_dataset((after.cell[0], after.fractional(), after.numbers), symprec=1e-5)
    assert found.international == 'P6_3mc'


def test_chgnet_refuses_atoms_without_neighbours():
    pytest.importorskip('chgnet')
    lonely = batch_of(Atoms('Cu', cell=12 * np.eye(3), pbc=True))
    _, opinions = consult(load_potential('chgnet', torch.device('cpu')), lonely, lonely, [0])
    assert 'isolated' in opinions[0]['error']


def test_a_missing_package_is_refused_before_the_network_runs(prediction, tmp_path, capsys, monkeypatch):
    for module in ('chgnet', 'chgnet.model'):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, 'aiida_e3relax.gnn.potentials.chgnet', raising=False)
    (tmp_path / 'small.pt').write_text('no checkpoint')  # it is read later
    assert main([*prediction, '--second-opinion', 'chgnet']) == 7
    error = json.loads((tmp_path / 'report.json').read_text())['error']
    assert error['code'] == 'missing_package'
    assert 'needs the package chgnet' in error['message']
    assert '`pip install chgnet`' in capsys.readouterr().err


@pytest.mark.parametrize('words', [['5'], ['-1', '--second-opinion', 'chgnet']])
def test_steps_without_a_potential_or_below_zero_are_refused(prediction, capsys, words):
    assert main([*prediction, '--second-opinion-steps', *words]) == 3
    assert 'expected a number from 0 on, above 0 only with --second-opinion chgnet' in capsys.readouterr().err
