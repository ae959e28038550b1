"""What is far from the training data: features whose products feed one another must not grow layer by layer."""

import pytest
import torch

from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry, make_batch
from aiida_e3relax.gnn.models.base import Target
from aiida_e3relax.gnn.models.gotennet import _shares
from aiida_e3relax.gnn.models.losses import LossSettings
from tests.gnn.crystals import batch_of, rattled
from tests.gnn.networks import random_network


@pytest.mark.parametrize(
    'architecture', ['painn', 'egnn', 'hegnn', 'gotennet', 'equiformer-v2', 'deeprelax', 'e3relax', 'e3relax-h2']
)
def test_loss_and_gradients_of_a_dense_crystal_are_finite(architecture):
    """A fifth of the volume and twice the weights: features that grew as their products left single precision."""
    model = random_network(architecture, features=8, layers=4, max_neighbours=24).float()
    with torch.no_grad():
        torch._foreach_mul_(list(model.parameters()), 2.0)
    batch = make_batch(batch_of(*rattled()), model.graph, dtype=torch.float32)
    dense = CrystalBatch(**vars(batch) | {'cell': batch.cell * 0.6})
    losses, _ = model.loss(dense, Target.of(Geometry(dense.fractional, dense.cell * 1.5)), LossSettings())
    assert torch.isfinite(losses).all()
    losses.sum().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize('score', [5.0, 200.0, 1e6])
def test_gotennets_attention_leaves_out_an_edge_at_the_cutoff_whatever_its_score(score):
    scores = torch.tensor([[score], [0.0], [1.0]], requires_grad=True)
    envelope = torch.tensor([[0.0], [0.5], [0.5]])
    shares = _shares(scores, envelope, torch.zeros(3, dtype=torch.long), 1)
    weights = torch.tensor([0.0, 0.5, 0.5 * torch.e])
    torch.testing.assert_close(shares[:, 0], weights / (1e-3 + weights.sum()), rtol=1e-5, atol=1e-7)
    assert torch.isfinite(torch.autograd.grad(shares.square().sum(), scores)[0]).all()
