"""EquiformerV2 beside what the suite of all models asks: its parts against e3nn, and its exact form."""

import dataclasses
import sys

import numpy as np
import pytest
import torch
from e3nn import o3

from aiida_e3relax.common.errors import MissingPackageError
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.graph.batch import make_batch
from aiida_e3relax.gnn.models.base import Transformation
from aiida_e3relax.gnn.models.equiformer_v2.activation import GateActivation, SeparableS2Activation
from aiida_e3relax.gnn.models.equiformer_v2.edge_frames import EdgeFrames, Orders, frames_along
from aiida_e3relax.gnn.models.equiformer_v2.linear import SeparableLayerNorm, SO2Linear
from aiida_e3relax.gnn.models.equivariance import deviations, predicted_change
from aiida_e3relax.gnn.models.raw_cell import RawCellRelaxation
from aiida_e3relax.gnn.models.registry import MODELS, Models, make_model
from aiida_e3relax.gnn.training.run import train
from aiida_e3relax.gnn.training.settings import TrainingSettings
from tests.gnn.crystals import PROTOTYPES, batch_of, rattled
from tests.gnn.networks import random_network
from tests.gnn.pairs import made_pairs

ORDERS = Orders(l_max=4, m_max=2)
ALL = [(degree, m) for degree in range(5) for m in range(-degree, degree + 1)]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def wigner(rotation: torch.Tensor) -> torch.Tensor:
    """Matrices of degrees 0 to 4 from e3nn's Euler angles; they are good to 1e-6, as its constants are."""
    return torch.block_diag(*(o3.wigner_D(degree, *o3.matrix_to_angles(rotation)) for degree in range(5)))


@pytest.fixture(scope='module')
def rotation() -> torch.Tensor:
    torch.manual_seed(4)
    return o3.rand_matrix(dtype=torch.float64)


AXES = torch.cat([torch.eye(3), -torch.eye(3)]).double()


@pytest.mark.parametrize('directions', [torch.nn.functional.normalize(random(20, 3)), AXES], ids=['any', 'axes'])
def test_frames_turn_features_as_the_wigner_matrices_of_e3nn_do(directions):
    frames = frames_along(directions)
    torch.testing.assert_close(frames @ frames.mT, torch.eye(3).double().expand_as(frames), atol=1e-14, rtol=0)
    torch.testing.assert_close(torch.linalg.det(frames), torch.ones(len(frames)).double())
    matrices = EdgeFrames(ORDERS)(directions)
    expected = torch.stack([wigner(frame)[ORDERS.numbers] for frame in frames])
    torch.testing.assert_close(matrices, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(19).double().expand(len(frames), 19, 19))


def test_an_edge_has_no_orders_above_zero_in_its_own_frame():
    """Spherical harmonics of the edge itself are those of the pole."""
    directions = torch.nn.functional.normalize(random(20, 3))
    harmonics = o3.spherical_harmonics(list(range(5)), directions, normalize=False, normalization='norm')
    local = (EdgeFrames(ORDERS)(directions) @ harmonics[:, :, None])[:, :, 0]
    expected = torch.tensor([float(m == 0) for _, m in ORDERS.coefficients]).double()
    torch.testing.assert_close(local, expected.expand_as(local), atol=1e-6, rtol=0)


def about_the_edge(angle: float) -> torch.Tensor:
    """The turn about an edge, of features in its frame."""
    angles = [torch.tensor(value).double() for value in (angle, 0.0, 0.0)]
    turn = torch.block_diag(*(o3.wigner_D(degree, *angles) for degree in range(5)))
    return turn[ORDERS.numbers][:, ORDERS.numbers]


MIRROR = torch.tensor([-1.0 if m < 0 else 1.0 for _, m in ORDERS.coefficients]).double().diag()
"""A mirror plane that holds the edge, for features of natural parity."""


def test_convolution_turns_about_the_edge_and_tells_left_from_right_if_it_may():
    torch.manual_seed(2)
    x, turn = random(6, 19, 4), about_the_edge(0.7)
    assert (turn - torch.eye(19)).abs().max() > 0.1
    for chiral in (True, False):
        linear = SO2Linear(4, 5, ORDERS, chiral, scalars=3).double()
        features, scalars = linear(x)
        assert features.shape == (6, 19, 5)
        for matrix, follows in ((turn, True), (MIRROR, not chiral)):
            turned, same = linear(matrix @ x)
            torch.testing.assert_close(same, scalars)
            assert ((turned - matrix @ features).abs().max() < 1e-6) == follows


def test_layer_norm_follows_rotations_and_gives_features_of_size_one(rotation):
    norm, x = SeparableLayerNorm(8, 4).double(), 500 * random(6, 25, 8)
    turn = wigner(rotation)
    torch.testing.assert_close(norm(turn @ x), turn @ norm(x), atol=1e-5, rtol=0)
    by_degree = [norm(x)[:, degree**2 : (degree + 1) ** 2].square().mean(dim=1) for degree in range(1, 5)]
    torch.testing.assert_close(torch.stack(by_degree).mean(dim=(0, 2)), torch.ones(6).double(), atol=1e-4, rtol=0)


def test_activations_follow_rotations_to_their_accuracy(rotation):
    x, turn = random(6, 25, 8), wigner(rotation)
    for kind, tolerance in ((SeparableS2Activation, 0.03), (GateActivation, 1e-5)):
        activation, scalars = kind(ALL), random(6, kind.gates(4, 8))
        found = activation(x, scalars)
        error = (activation(turn @ x, scalars) - turn @ found).abs().max()
        assert error < tolerance * found.abs().max()
    grid = SeparableS2Activation(ALL)
    torch.testing.assert_close(grid.from_grid @ grid.to_grid, torch.eye(25).double(), atol=1e-6, rtol=0)


SMALL = {'features': 8, 'layers': 2, 'heads': 2, 'l_max': 3}


def measured(rotation, **changes):
    model = random_network('equiformer-v2', **SMALL, **changes)
    crystals = batch_of(*(PROTOTYPES[name]() for name in ('perovskite', 'rutile', 'baddeleyite')))
    return model, deviations(model, batch_of(*rattled()), crystals, rotation.numpy())


def test_atoms_follow_every_transformation_in_the_exact_form(rotation):
    model, found = measured(rotation, activation='gate', chiral=False)
    assert model.breaks == RawCellRelaxation.breaks < MODELS['equiformer-v2'].breaks
    assert predicted_change(model, batch_of(*rattled())).positions > 1e-2
    assert max(deviation.positions for deviation in found.values()) < 1e-12
    kept = [deviation.cell for transformation, deviation in found.items() if transformation not in model.breaks]
    assert max(kept) < 1e-12


def test_each_published_part_breaks_what_the_docs_say(rotation):
    """Largest displacement 0.1 A: the grid of the activation costs some of its percent, convolutions all of it."""
    model, found = measured(rotation, chiral=False)
    moved = predicted_change(model, batch_of(*rattled())).positions
    broken = {Transformation.ROTATION, Transformation.REFLECTION, Transformation.SITE_SYMMETRY}
    for transformation in Transformation:
        error = found[transformation].positions / moved
        assert (1e-6 < error < 0.05) if transformation in broken else error < 1e-9
    _, found = measured(rotation, activation='gate')
    assert found[Transformation.ROTATION].positions < 1e-12
    assert found[Transformation.REFLECTION].positions > 1e-2


def test_prediction_is_smooth_where_an_edge_comes_and_goes(rotation):
    model = random_network('equiformer-v2', **SMALL, max_neighbours=1000)
    crystals = batch_of(*rattled()[:1])
    with torch.no_grad():
        batch = make_batch(crystals, model.graph, dtype=torch.float64)
        length = batch.edge_vectors(batch.fractional, batch.cell).norm(dim=1)
        ends = []
        for shift in (-1e-6, 1e-6):  # the cutoff just below and just above the longest edge
            model.radial_basis.cutoff = float(length.max()) + shift
            edges = length < model.radial_basis.cutoff
            graph = batch.graph.select(edges)
            ends.append((len(graph.centre), model(dataclasses.replace(batch, graph=graph))[-1]))
    assert ends[0][0] < ends[1][0]
    torch.testing.assert_close(ends[0][1].fractional, ends[1][1].fractional, atol=1e-6, rtol=0)


def test_trains_and_comes_back_from_its_checkpoint(tmp_path):
    settings = TrainingSettings('equiformer-v2', {**SMALL, 'l_max': 2}, steps=12, batch_size=4, validate_every=12)
    pairs = made_pairs(3)
    train(pairs, settings, tmp_path, torch.device('cpu'))
    trained = load_checkpoint(tmp_path / 'best.pt').model
    assert trained.hyperparameters.activation == 's2'
    assert (predicted_change(trained.double(), pairs.unrelaxed.select(np.arange(3)))).cell > 1e-4


def test_sizes_that_cannot_be_are_told():
    with pytest.raises(ValueError, match='multiple of the 8 heads, found 12'):
        make_model('equiformer-v2', {'features': 12})
    with pytest.raises(ValueError, match='m_max: expected an order from 1 to l_max, 2, found 3'):
        make_model('equiformer-v2', {'features': 8, 'l_max': 2, 'm_max': 3})


def test_without_e3nn_the_line_that_installs_it_is_told(monkeypatch):
    for name in [name for name in sys.modules if name.startswith('aiida_e3relax.gnn.models.equiformer_v2')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'e3nn', None)
    models = Models({'equiformer-v2': 'aiida_e3relax.gnn.models.equiformer_v2.model:EquiformerV2'})
    with pytest.raises(
        MissingPackageError, match=r"equiformer-v2 needs the package e3nn.*pip install '.*\[baselines\]'"
    ):
        models['equiformer-v2']
