import dataclasses
import sys

import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.crystals.symmetry import SpaceGroup
from aiida_e3relax.gnn.training.run import TrainingRun
from aiida_e3relax.gnn.training.settings import TrainingSettings
from aiida_e3relax.gnn.training.targets import symmetrised_targets
from tests.gnn.crystals import batch_of


def perovskite(lattice_constant: float) -> Atoms:
    sites = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return Atoms('BaTiO3', scaled_positions=sites, cell=[lattice_constant] * 3, pbc=True)


def pair(before: Atoms, after: Atoms) -> Pairs:
    return Pairs(batch_of(before), batch_of(after), np.array(['train']), np.array(['made']))


def polar(stretch: float) -> Atoms:
    """Return barium titanate that became tetragonal, with titanium out of the middle of its octahedron."""
    atoms = perovskite(4.01)
    atoms.positions[1, 2] += 0.15
    atoms.set_cell(atoms.cell.array @ np.diag([1, 1, stretch]), scale_atoms=True)
    return atoms


def test_what_breaks_the_symmetry_is_left_out():
    target = symmetrised_targets(pair(perovskite(3.9), polar(1.03))).relaxed
    assert SpaceGroup.of(target, target.numbers).name == 'Pm-3m'
    assert target.volumes == pytest.approx(4.01**3 * 1.03, rel=1e-9)


def test_what_keeps_the_symmetry_stays():
    before = ase.build.bulk('ZnO', 'wurtzite', a=3.4, c=5.0, u=0.37)
    after = ase.build.bulk('ZnO', 'wurtzite', a=3.25, c=5.2, u=0.382)
    pairs = pair(before, after)
    found, expected = symmetrised_targets(pairs).relaxed, aligned(pairs).relaxed
    np.testing.assert_allclose(found.cell, expected.cell, atol=1e-9)
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-9)


def test_crystals_without_symmetry_keep_their_targets():
    before = perovskite(3.9)
    before.rattle(0.2, seed=1)
    pairs = pair(before, polar(1.03))
    assert SpaceGroup.of(pairs.unrelaxed, pairs.unrelaxed.numbers).name == 'P1'
    np.testing.assert_allclose(symmetrised_targets(pairs).relaxed.positions, aligned(pairs).relaxed.positions)


def test_a_computer_without_spglib_is_told_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'spglib', None)
    monkeypatch.delitem(sys.modules, 'aiida_e3relax.crystals.symmetry')
    with pytest.raises(InputError, match='pip install spglib'):
        symmetrised_targets(pair(perovskite(3.9), polar(1.03)))


def test_training_learns_the_symmetric_part_and_validates_on_all_of_it(tmp_path):
    one = pair(perovskite(3.9), polar(1.03))
    pairs = Pairs.concatenate([one, dataclasses.replace(one, split=np.array(['val']))])
    settings = TrainingSettings(
        architecture='egnn', hyperparameters={'features': 8, 'layers': 1}, batch_size=1, symmetric_targets=True
    )
    run = TrainingRun(pairs, settings, tmp_path, torch.device('cpu'))
    edges = run.training.target.cell[0].diagonal()
    assert torch.allclose(edges, edges.mean().expand(3))
    edges = run.validation.target.cell[0].diagonal()
    assert edges[2] / edges[0] == pytest.approx(1.03)
