"""DeepRelax, both forms: distances to structures and back, the loss, and training on it."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.graph.batch import Geometry, make_batch
from aiida_e3relax.gnn.models.distance_model import DistanceModel
from aiida_e3relax.gnn.models.losses import LossSettings, Target, nearest_image_vectors, structure_losses
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.training.batches import PreparedPairs
from aiida_e3relax.gnn.training.run import train
from aiida_e3relax.gnn.training.settings import TrainingSettings
from tests.gnn.crystals import batch_of, rattled
from tests.gnn.networks import random_network
from tests.gnn.pairs import made_pairs

CPU = torch.device('cpu')


@pytest.fixture(params=['deeprelax', 'deeprelax-published'])
def model(request) -> DistanceModel:
    return random_network(request.param)


def relaxed(batch, seed: int = 5) -> Target:
    """Return crystals whose atoms moved by about 0.1 A, without drift, in cells strained by some percent."""
    rng = np.random.default_rng(seed)
    strain = rng.normal(scale=0.02, size=(len(batch.cell), 3, 3))
    cell = batch.cell @ torch.as_tensor(np.eye(3) + strain + strain.transpose(0, 2, 1))
    moved = torch.as_tensor(rng.normal(scale=0.1, size=(len(batch.numbers), 3)))
    moved = moved - batch.mean_over_atoms(moved)[batch.structure_index]
    inverse = torch.linalg.inv(cell)[batch.structure_index]
    return Target.of(Geometry(batch.fractional + torch.einsum('ax,axc->ac', moved, inverse), cell))


# The published solver's last steps are still of the size of its learning rate.
@pytest.mark.parametrize(('architecture', 'tolerance'), [('deeprelax', 1e-3), ('deeprelax-published', 5e-2)])
def test_true_distances_give_the_true_structure(architecture, tolerance):
    model = random_network(architecture)
    batch = make_batch(batch_of(*rattled()), model.graph, dtype=torch.float64)
    target = relaxed(batch)
    blank = dataclasses.replace(model.distances(batch), cell=target.cell)
    distance = model.true_distances(target, blank, batch)
    exact = dataclasses.replace(blank, distance=distance, log_scale=torch.full_like(distance, -5.0))
    with torch.no_grad():
        found = model.solve(exact, batch)
    difference = Geometry(found.fractional - target.fractional, target.cell).positions(batch)
    error = nearest_image_vectors(difference[:, None], target.reduced, batch.structure_index)[:, 0]
    drift = batch.mean_over_atoms(error)[batch.structure_index]  # two atoms' published distances leave it open
    assert (error - drift).norm(dim=1).amax() < tolerance
    torch.testing.assert_close(found.cell, target.cell)


def test_loss_by_hand(model):
    batch = make_batch(batch_of(*rattled()), model.graph, dtype=torch.float64)
    target = relaxed(batch)
    with torch.no_grad():
        losses, errors = model.loss(batch, target, LossSettings('pacd', 0.5))
        prediction, geometry = model.distances(batch), model(batch)[-1]
        true = model.true_distances(target, prediction, batch)
    count = int(prediction.displaced.sum())
    crystal = batch.structure_index[batch.graph.centre]
    owner = [*crystal[prediction.displaced].tolist(), *crystal.tolist()]
    for index in range(len(batch.n_atoms)):
        kinds: tuple[list[float], list[float]] = ([], [])
        for k, (found, log_scale, expected) in enumerate(
            zip(prediction.distance.tolist(), prediction.log_scale.tolist(), true.tolist(), strict=True)
        ):
            if owner[k] == index:
                scale = math.exp(min(3.0, max(-3.0, log_scale)))
                kinds[k >= count].append(math.log(2 * scale) + abs(found - expected) / scale)
        cell = float((prediction.cell[index] - target.cell[index]).abs().mean())
        by_hand = np.mean(kinds[0]) + np.mean(kinds[1]) + 0.5 * cell
        assert float(losses[index]) == pytest.approx(by_hand, rel=1e-10)
    torch.testing.assert_close(errors, structure_losses([geometry], target, batch, 'pacd')[:, 0])


def test_true_distances_of_the_published_form_are_those_between_unrelaxed_and_relaxed_atoms():
    model = random_network('deeprelax-published')
    crystals = batch_of(rattled()[2])
    batch = make_batch(crystals, model.graph, dtype=torch.float64)
    target = relaxed(batch)
    prediction = model.distances(batch)
    before, after = crystals.positions, target.positions(batch).numpy()
    graph, cell = batch.graph, target.cell[0].numpy()
    edges = list(zip(graph.centre.tolist(), graph.neighbour.tolist(), graph.offset.tolist(), strict=True))
    to_relaxed = [np.linalg.norm(after[j] - before[i]) for i, j, offset in edges if not any(offset)]
    between = [np.linalg.norm(after[j] + np.array(offset) @ cell - after[i]) for i, j, offset in edges]
    np.testing.assert_allclose(model.true_distances(target, prediction, batch), [*to_relaxed, *between], atol=1e-12)


def test_published_form_trains_on_crystals_of_one_atom():
    model = random_network('deeprelax-published')
    pairs = made_pairs()
    alone = pairs.select(np.flatnonzero(pairs.unrelaxed.n_atoms == pairs.unrelaxed.n_atoms.min())[:2])
    atoms = [slice(o, o + 1) for o in alone.unrelaxed.offsets[:-1]]
    crystals = dataclasses.replace(
        alone.unrelaxed,
        n_atoms=np.ones(2, dtype=np.int64),
        numbers=np.concatenate([alone.unrelaxed.numbers[a] for a in atoms]),
        positions=np.concatenate([alone.unrelaxed.positions[a] for a in atoms]),
    )
    batch = make_batch(crystals, model.graph, dtype=torch.float64)
    target = Target.of(Geometry(batch.fractional, batch.cell * 1.02))
    losses, _ = model.loss(batch, target, LossSettings())
    assert torch.isfinite(losses).all()


@pytest.mark.slow
def test_training_lowers_the_loss(tmp_path):
    pairs = made_pairs()
    sizes = {'features': 16, 'layers': 2}
    settings = TrainingSettings('deeprelax', sizes, steps=150, batch_size=8, validate_every=75, learning_rate=5e-3)
    train(pairs, settings, tmp_path, CPU)
    trained = load_checkpoint(tmp_path / 'best.pt').model
    torch.manual_seed(0)
    untrained = make_model('deeprelax', sizes)
    prepared = PreparedPairs(pairs.of_split('train'), trained, CPU)
    batch, target = prepared.select(np.arange(len(prepared)))
    with torch.no_grad():
        (after, errors), (before, _) = (model.loss(batch, target, LossSettings()) for model in (trained, untrained))
        nothing = structure_losses([Geometry(batch.fractional, batch.cell)], target, batch)[:, 0]
    assert after.mean() < before.mean() - 2
    assert errors[:, 1].mean() < 0.6 * nothing[:, 1].mean()
