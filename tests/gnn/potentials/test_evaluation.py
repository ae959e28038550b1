"""Crystals computed at once: which way a potential takes, and that each has its own results, as it has alone."""

import sys
import types

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.calculators.emt import EMT

from aiida_e3relax.common.errors import MissingPackageError
from aiida_e3relax.gnn.potentials import evaluation
from aiida_e3relax.gnn.potentials.check import SUPERCELL, check_batches, make_check_crystal
from aiida_e3relax.gnn.potentials.evaluation import Batches, Results, batches_of_torch_sim, evaluate_alone
from aiida_e3relax.gnn.potentials.handedness import evaluate_right_handed
from aiida_e3relax.gnn.potentials.registry import load_potential
from tests.gnn.potentials.conftest import ADAPTERS

CPU, GPU = torch.device('cpu'), torch.device('cuda')
CRYSTAL = make_check_crystal(
    Atoms('CuAu', [[0, 0, 0], [1.4, 2, 1.6]], cell=[[2.7, 0.3, 0], [0, 3.8, 0.5], [0.3, 0, 3.8]], pbc=True)
)
CRYSTALS = [CRYSTAL, make_supercell(CRYSTAL, SUPERCELL), bulk('Ag', a=4.2)]


def by_emt(crystals):
    return [evaluate_alone(EMT(), atoms) for atoms in crystals]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.energy == pytest.approx(other.energy, abs=1e-6)
        np.testing.assert_allclose(one.forces, other.forces, atol=1e-6)
        np.testing.assert_allclose(one.stress, other.stress, atol=1e-8)


def test_one_is_computed_as_ase_computes_it():
    results, atoms = evaluate_alone(EMT(), CRYSTAL.copy()), CRYSTAL.copy()
    atoms.calc = EMT()
    assert results.energy == atoms.get_potential_energy()
    np.testing.assert_array_equal(results.forces, atoms.get_forces())
    np.testing.assert_array_equal(results.stress, atoms.get_stress(voigt=False))


def test_a_stress_that_a_calculator_has_not_is_no_number():
    class Stressless(EMT):
        implemented_properties = ('energy', 'forces')

    results = evaluate_alone(Stressless(), CRYSTAL.copy())
    assert np.isnan(results.stress).all()
    assert np.isfinite(results.forces).all()


class FakeModel:
    """EMT as a model of torch-sim, which notes what it is given."""

    device, dtype = CPU, torch.float64

    def __call__(self, state):
        frames, *asked = state
        assert asked == [CPU, torch.float64]
        self.seen = frames
        results = by_emt(frames)
        return {
            'energy': torch.tensor([each.energy for each in results]),
            'forces': torch.tensor(np.concatenate([each.forces for each in results])).requires_grad_(),
            'stress': torch.tensor(np.stack([each.stress for each in results])),
        }


def test_models_of_torch_sim_give_each_crystal_its_own_results(monkeypatch):
    fake = types.SimpleNamespace(io=types.SimpleNamespace(atoms_to_state=lambda *arguments: arguments))
    monkeypatch.setitem(sys.modules, 'torch_sim', fake)
    monkeypatch.setattr(evaluation, 'version', lambda name: f'of {name}')
    model = FakeModel()
    batches = batches_of_torch_sim(model)
    assert batches.by == 'torch-sim of torch-sim-atomistic'
    far = CRYSTAL.copy()
    far.positions += 30 * far.cell.array[0]
    frames = [*CRYSTALS, far]
    assert_same(batches.evaluate(frames), by_emt([*CRYSTALS, CRYSTAL]))
    assert max(np.abs(atoms.get_scaled_positions(wrap=False) - 0.5).max() for atoms in model.seen) <= 0.5
    np.testing.assert_array_equal(far.positions, CRYSTAL.positions + 30 * CRYSTAL.cell.array[0])


def test_mace_gets_the_file_and_the_precision_in_batches_too(install, weights, calls, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch_sim', types.ModuleType('torch_sim'))
    monkeypatch.setattr(evaluation, 'version', lambda name: '0.6.2')
    install(
        'mace',
        {'mace.calculators': {'MACECalculator': EMT}, 'mace.calculators.mace_torchsim': {'MaceTorchSimModel': None}},
    )
    path = weights()
    potential = load_potential('mace', CPU, 'float64', path, in_batches=True)
    assert potential.evaluation == 'in batches, by torch-sim 0.6.2'
    assert calls[1] == ('MaceTorchSimModel', (path,), {'device': CPU, 'dtype': torch.float64})


def take_signed_volume(crystals):
    """Turn the stress round in left-handed cells, as CHGNet and SevenNet do."""
    return [
        Results(each.energy, each.forces, each.stress * np.sign(np.linalg.det(atoms.cell.array)))
        for atoms, each in zip(crystals, by_emt(crystals), strict=True)
    ]


def mix(crystals):
    results = by_emt(crystals)
    return [Results(each.energy, each.forces, results[0].stress) for each in results]


@pytest.mark.parametrize(
    ('evaluate', 'words'),
    [
        (by_emt, None),
        (take_signed_volume, 'eV/A^3'),
        (evaluate_right_handed(take_signed_volume), None),
        (mix, 'eV/A^3'),
        (lambda crystals: crystals[9], 'IndexError'),
    ],
)
def test_the_check_finds_batches_that_differ(evaluate, words):
    finding = check_batches(EMT(), Batches(evaluate, 'EMT'), 'float64', CRYSTAL)
    assert finding.check == '4 crystals in a batch'
    assert finding.passed is (words is None)
    assert (words or '') in finding.found


@pytest.fixture
def mace(install, weights, monkeypatch):
    """Load a potential of EMT whose adapter makes batches with `make`, if it is given."""

    def load(device, in_batches, make=None):
        install('mace', {'mace.calculators': {'MACECalculator': EMT}})
        load_potential('mace', CPU, weights=weights())
        monkeypatch.setattr(sys.modules[f'{ADAPTERS}.mace'], 'make_batches', make, raising=False)
        if make is None:
            monkeypatch.delattr(sys.modules[f'{ADAPTERS}.mace'], 'make_batches')
        return load_potential('mace', device, weights=weights(), in_batches=in_batches)

    return load


def test_which_way_it_takes_is_told(mace):
    def make(*arguments):
        return Batches(by_emt, 'EMT 3')

    def cannot(*arguments):
        raise ImportError('no torch_sim')

    told = {
        (CPU, None, make): 'one after the other, as on a CPU unless batches are asked for',
        (CPU, True, make): 'in batches, by EMT 3',
        (GPU, None, make): 'in batches, by EMT 3',
        (GPU, False, make): 'one after the other, as was asked for',
        (GPU, None, cannot): 'one after the other: ImportError: no torch_sim',
        (GPU, None, None): 'one after the other: no batches of mace-torch are known here',
    }
    for asked, words in told.items():
        potential = mace(*asked)
        assert potential.facts()['evaluation'] == words
        assert (potential.batches is None) is words.startswith('one after')
    for make in (cannot, None):
        with pytest.raises(MissingPackageError, match='mace: expected to compute crystals in batches, found '):
            mace(CPU, True, make)


def test_memory_that_runs_out_is_no_reason_for_one_after_the_other(mace):
    def make(*arguments):
        raise RuntimeError('CUDA out of memory')

    with pytest.raises(RuntimeError, match='out of memory'):
        mace(GPU, None, make)


def test_batches_see_right_handed_cells_and_torch_as_they_left_it(mace):
    seen = []

    def evaluate(crystals):
        seen.append((torch.get_default_dtype(), [bool(np.linalg.det(atoms.cell.array) > 0) for atoms in crystals]))
        torch.set_default_dtype(torch.float64)
        return take_signed_volume(crystals)

    left = CRYSTAL.copy()
    left.set_cell(-left.cell.array)
    together = mace(CPU, True, lambda *arguments: Batches(evaluate, 'EMT')).batches.evaluate
    before = torch.get_default_dtype()
    for _ in range(2):
        assert_same(together([CRYSTAL, left]), by_emt([CRYSTAL, CRYSTAL]))
        assert torch.get_default_dtype() is before
    assert seen == [(torch.float32, [True, True]), (torch.float64, [True, True])]
    np.testing.assert_array_equal(left.cell.array, -CRYSTAL.cell.array)
