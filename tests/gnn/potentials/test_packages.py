"""The potentials whose weights come with their packages, loaded and checked."""

import dataclasses
import hashlib
import sys

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from aiida_e3relax.common.progress import NoProgress
from aiida_e3relax.gnn.potentials.check import check_batches, check_calculator, make_check_crystal
from aiida_e3relax.gnn.potentials.registry import POTENTIALS, load_potential
from aiida_e3relax.gnn.prediction.freedom import PredictionFreedom
from aiida_e3relax.gnn.prediction.pre_relaxation import PreRelaxation
from aiida_e3relax.gnn.prediction.settings import PotentialSettings
from tests.gnn.crystals import batch_of

CPU = torch.device('cpu')
HASHES = {
    'chgnet': 'd14ab7c0f093efe64b60a7bcd540bca10e74fb7f46c86108a079af60524659d1',
    'sevennet-0': '7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36',
    'sevennet-mf-0': '81791329b37d445f46b531578c182c41792d98c7814222c9e5dde276402225fd',
    'sevennet-l3i5': 'a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d',
}
"""Of the weights in the packages' wheels."""

SMALL = make_check_crystal(
    Atoms('MgO', [[0, 0, 0], [2.0, 2.2, 1.9]], cell=[[2.9, 0, 0], [0, 3.0, 0], [0, 0, 4.1]], pbc=True)
)


@pytest.mark.filterwarnings('ignore')  # of CHGNet at its first call
@pytest.mark.parametrize('name', ['chgnet', pytest.param('sevennet-mf-0', marks=pytest.mark.slow)])
def test_potentials_pass_their_check(name):
    known = POTENTIALS[name]
    pytest.importorskip(known.package)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        potential = load_potential(name, CPU)
        findings = check_calculator(potential.calculator, 'float32', SMALL)
    finally:
        torch.set_num_threads(threads)
    assert not [finding for finding in findings if not finding.passed]
    assert potential.facts()['content_hash'] == f'sha256:{HASHES[name]}'
    assert potential.facts()['weights'] == known.weights
    assert torch.get_default_dtype() is torch.float32


def test_weights_in_the_wheel_are_those_that_are_known():
    """They are read, not loaded: seconds each."""
    pytest.importorskip('sevenn')
    from aiida_e3relax.gnn.potentials.sevennet import find_weights

    for name, digest in HASHES.items():
        if POTENTIALS[name].package == 'sevenn':
            assert hashlib.sha256(find_weights(POTENTIALS[name]).read_bytes()).hexdigest() == digest


def relaxed(potential, frames):
    """Return the crystals relaxed, and their rows."""
    relaxation = PreRelaxation(potential, PotentialSettings(potential.name, 'input', 10, 0.05, 5.0))
    crystals = batch_of(*frames)
    free = PredictionFreedom(None, crystals, frames)
    end, rows, failures = relaxation.relax(crystals, crystals, range(len(frames)), free, NoProgress())
    assert not failures
    return [(end.select([index]), rows[index]) for index in range(len(frames))]


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(
    ('name', 'package'), [('chgnet', 'chgnet'), ('sevennet-mf-0', 'sevenn'), ('sevennet-mf-0', 'torch_sim')]
)
def test_crystals_in_a_batch_are_relaxed_as_they_are_alone(name, package, monkeypatch):
    pytest.importorskip(package)
    pytest.importorskip(POTENTIALS[name].package)
    if package == 'sevenn':
        monkeypatch.setitem(sys.modules, 'torch_sim', None)
        monkeypatch.delitem(sys.modules, 'sevenn.torchsim', raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        potential = load_potential(name, CPU, in_batches=True)
        assert potential.batches.by.startswith(package.replace('_', '-'))
        assert check_batches(potential.calculator, potential.batches, 'float32', SMALL).passed
        frames = [bulk('MgO', 'rocksalt', a=4.3), bulk('NaCl', 'rocksalt', a=5.4), bulk('SiC', 'zincblende', a=4.5)]
        frames[0].rattle(0.05, seed=1)
        if name == 'sevennet-mf-0':
            with pytest.raises(ValueError, match='atomic number: 84'):  # in batches the package does not look
                potential.batches.evaluate([*frames, Atoms('Po', cell=[3.3] * 3, pbc=True)])
        alone = relaxed(dataclasses.replace(potential, batches=None), frames)
        together = relaxed(potential, frames)
    finally:
        torch.set_num_threads(threads)
    for (end, row), (other, expected) in zip(together, alone, strict=True):
        assert 'computed_alone' not in row
        assert row['steps'] == expected['steps'] > 1
        for where in ('input', 'prediction'):
            energy = f'energy_{where}_eV_per_atom'
            assert row[energy] == pytest.approx(expected[energy], abs=1e-5)
        np.testing.assert_allclose(end.cell, other.cell, atol=1e-3)
        np.testing.assert_allclose(end.positions, other.positions, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['sevennet-0', 'sevennet-l3i5'])
def test_the_other_potentials_pass_their_check(name):
    pytest.importorskip('sevenn')
    potential = load_potential(name, CPU)
    assert all(finding.passed for finding in check_calculator(potential.calculator, 'float32', SMALL))
    assert potential.facts()['content_hash'] == f'sha256:{HASHES[name]}'


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
def test_a_compiled_potential_computes_the_same_numbers():
    """What compiles them takes minutes when it first does so on a machine."""
    pytest.importorskip('sevenn')
    frames = [bulk('MgO', 'rocksalt', a=4.3), bulk('NaCl', 'rocksalt', a=5.4), bulk('SiC', 'zincblende', a=4.5)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=seed)
    plain, compiled = (load_potential('sevennet-mf-0', CPU, in_batches=True, is_compiled=way) for way in (False, True))
    assert compiled.batches.by.startswith('sevenn ')
    for one, other in zip(*(potential.batches.evaluate(frames) for potential in (plain, compiled)), strict=True):
        assert one.energy == pytest.approx(other.energy, abs=1e-4)
        np.testing.assert_allclose(one.forces, other.forces, atol=1e-4)
        np.testing.assert_allclose(one.stress, other.stress, atol=1e-6)
