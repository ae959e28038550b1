"""What every model of the registry must do; a new one is covered by being registered."""

import copy

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from e3nn import o3

from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry, make_batch
from aiida_e3relax.gnn.models.base import RelaxationModel, Transformation
from aiida_e3relax.gnn.models.distance_model import DistanceModel
from aiida_e3relax.gnn.models.equivariance import Deviation, deviations, predicted_change
from aiida_e3relax.gnn.models.losses import LossSettings, Target
from aiida_e3relax.gnn.models.published.baseline import PublishedBaseline
from aiida_e3relax.gnn.models.raw_cell import RawCellRelaxation
from aiida_e3relax.gnn.models.registry import MODELS
from tests.gnn.crystals import PROTOTYPES, batch_of, rattled
from tests.gnn.networks import random_network

TOLERANCE = 1e-9  # A
SHOWS = 1e-6  # A


@pytest.fixture(scope='module', params=MODELS)
def architecture(request) -> str:
    return request.param


@pytest.fixture(scope='module')
def model(architecture) -> RelaxationModel:
    return random_network(architecture)


def measured(model: RelaxationModel) -> dict[Transformation, Deviation]:
    torch.manual_seed(3)
    rotation = o3.rand_matrix(dtype=torch.float64).numpy()
    return deviations(model, batch_of(*rattled()), batch_of(*(make() for make in PROTOTYPES.values())), rotation)


@pytest.fixture(scope='module')
def found(model) -> dict[Transformation, Deviation]:
    return measured(model)


def batch_for(model: RelaxationModel, *frames: Atoms, **options) -> CrystalBatch:
    return make_batch(batch_of(*frames), model.graph, **{'dtype': torch.float64, **options})


@torch.no_grad()
def predict(model: RelaxationModel, batch: CrystalBatch) -> tuple[np.ndarray, np.ndarray]:
    """Return the predicted fractional coordinates, and the cells in A."""
    geometry = model(batch)[-1]
    return geometry.fractional.cpu().numpy(), geometry.cell.cpu().numpy()


def test_random_weights_move_atoms_and_cell(model):
    """Else the tests of symmetry would mean nothing."""
    change, moves = predicted_change(model, batch_of(*rattled())), bool(list(model.parameters()))
    assert (change.positions > 1e-3) == moves
    assert (change.cell > 1e-2) == moves


@pytest.mark.parametrize('transformation', Transformation)
def test_prediction_follows_the_transformation_where_the_model_does_not_say_otherwise(model, found, transformation):
    deviation = found[transformation]
    if transformation not in model.breaks:
        assert max(deviation.positions, deviation.cell) < TOLERANCE
    else:
        assert max(deviation.positions, deviation.cell) > SHOWS, f'{transformation} is declared as broken, and is not'
        if isinstance(model, RawCellRelaxation) and Transformation.SITE_SYMMETRY not in model.breaks:
            assert deviation.positions < TOLERANCE, 'the head on the raw cell does not concern the atoms'


def test_input_is_turned_where_the_model_follows_no_rotation(model):
    assert model.standard_orientation == (Transformation.ROTATION in model.breaks)


@pytest.mark.parametrize('published', ['e3relax-h2-published', 'e3relax-published'])
def test_lattice_update_by_rows_follows_rotations(published):
    model = random_network(published, lattice_update='rows')
    assert not model.standard_orientation
    found = measured(model)
    for transformation in (Transformation.ROTATION, Transformation.REFLECTION):
        assert max(found[transformation].positions, found[transformation].cell) < TOLERANCE


@pytest.mark.parametrize('symmetric', [name for name, model in MODELS.items() if not model.breaks])
def test_crystal_neither_drifts_nor_turns(symmetric):
    model = random_network(symmetric)
    batch = batch_for(model, *rattled())
    fractional, cell = predict(model, batch)
    drift = batch.mean_over_atoms(torch.tensor(fractional) - batch.fractional)
    np.testing.assert_allclose(drift, 0, atol=TOLERANCE)
    strain = np.linalg.solve(batch.cell.numpy(), cell)
    np.testing.assert_allclose(strain, strain.swapaxes(1, 2), atol=TOLERANCE)


NEEDLE = Atoms('CO', scaled_positions=[(0, 0, 0), (0.4, 0.5, 0.1)], cell=np.diag([2.5, 2.6, 40.0]), pbc=True)
SLAB = Atoms(
    'MoS2',
    positions=[(0, 0, 20), (1.58, 0.912, 21.56), (1.58, 0.912, 18.44)],
    cell=[[3.16, 0, 0], [-1.58, 2.737, 0], [0, 0, 40]],
    pbc=True,
)
ISOLATED = Atoms('He', cell=np.eye(3) * 20, pbc=True)
ONE_ATOM = bulk('Cu', a=3.615)


def large_cell() -> Atoms:
    atoms = bulk('NaCl', 'rocksalt', a=5.640, cubic=True).repeat((5, 5, 1))
    atoms.rattle(0.1, seed=1)
    return atoms


@pytest.mark.parametrize(
    'atoms',
    [ISOLATED, ONE_ATOM, NEEDLE, SLAB, large_cell()],
    ids=['no neighbours', 'one atom', 'needle', 'slab', '200 atoms'],
)
def test_unusual_crystal_gets_a_prediction(model, atoms):
    batch = batch_for(model, atoms)
    with torch.no_grad():
        geometries = model(batch)
    for geometry in geometries:
        assert torch.isfinite(geometry.fractional).all()
        bounded = not isinstance(model, PublishedBaseline)  # of those, fresh weights turn some cells inside out
        assert not bounded or (torch.linalg.det(geometry.cell) > 0).all()


def test_loss_counts_as_many_structures_as_the_model_says(model):
    layers = model.supervised_layers(model.hyperparameters)
    assert len(model(batch_for(model, *rattled()))) == max(1, layers)
    assert (layers == 0) == isinstance(model, DistanceModel)


def test_gradients_are_those_of_finite_differences(architecture):
    """The slope of the training loss along one random direction through all weights, coordinates and cells."""
    model, step = random_network(architecture), 1e-6
    batch = batch_for(model, *rattled())
    target = Target.of(Geometry(batch.fractional + 0.01, batch.cell * 1.02))
    torch.manual_seed(0)
    variables = [*model.parameters(), batch.fractional.requires_grad_(), batch.cell.requires_grad_()]
    direction = [torch.randn_like(variable) for variable in variables]

    def loss_after(length: float) -> torch.Tensor:
        with torch.no_grad():
            torch._foreach_add_(variables, direction, alpha=length)
        return model.loss(batch, target, LossSettings())[0].sum()

    slopes = torch.autograd.grad(loss_after(0.0), variables)
    slope = sum((one * way).sum() for one, way in zip(slopes, direction, strict=True))
    with torch.no_grad():
        difference = (loss_after(step) - loss_after(-2 * step)) / (2 * step)
    torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-7)


def test_model_survives_the_file(architecture, model, tmp_path):
    model = copy.deepcopy(model).float()
    save_checkpoint(tmp_path / 'model.pt', architecture, model, [8], {})
    batch = batch_for(model, *rattled(), dtype=torch.float32)
    for found, expected in zip(
        predict(load_checkpoint(tmp_path / 'model.pt').model, batch), predict(model, batch), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_single_precision_is_close_to_double(model):
    single = predict(copy.deepcopy(model).float(), batch_for(model, *rattled(), dtype=torch.float32))
    for found, expected in zip(single, predict(model, batch_for(model, *rattled())), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda_predicts_as_the_processor_does(model):
    cuda = predict(copy.deepcopy(model).cuda(), batch_for(model, *rattled(), device='cuda'))
    for found, expected in zip(cuda, predict(model, batch_for(model, *rattled())), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-9)
