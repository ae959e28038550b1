import math

import pytest
import torch

from aiida_e3relax.gnn.graph.batch import CrystalBatch, make_batch
from aiida_e3relax.gnn.models.distance_model import DistanceModel, ensemble_prediction
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.models.uncertainty import distance_uncertainty
from tests.gnn.crystals import batch_of, rattled


@pytest.fixture(params=['deeprelax', 'deeprelax-published'])
def ensemble(request) -> list[DistanceModel]:
    models = []
    for seed in range(3):
        torch.manual_seed(seed)
        models.append(make_model(request.param, {'features': 8, 'layers': 1}).double())
    return models


def batch_for(model: DistanceModel) -> CrystalBatch:
    return make_batch(batch_of(*rattled()), model.graph, dtype=torch.float64)


@torch.no_grad()
def by_hand(models: list[DistanceModel], batch: CrystalBatch, index: int) -> tuple[float, float]:
    """Return the square roots of eqs. 21 and 23 of one crystal, distance by distance."""
    predictions = [model.distances(batch) for model in models]
    crystal = batch.structure_index[batch.graph.centre]
    owner = [*crystal[predictions[0].displaced].tolist(), *crystal.tolist()]
    own = [k for k, structure in enumerate(owner) if structure == index]
    aleatoric = epistemic = 0.0
    for k in own:
        distances = [float(prediction.distance[k]) for prediction in predictions]
        mean = sum(distances) / len(models)
        aleatoric += sum(math.exp(prediction.log_scale[k]) for prediction in predictions) / len(models)
        epistemic += sum((distance - mean) ** 2 for distance in distances) / len(models)
    return aleatoric / len(own), math.sqrt(epistemic / len(own))


def test_uncertainty_by_hand(ensemble):
    batch = batch_for(ensemble[0])
    _, uncertainty = ensemble_prediction(ensemble, batch)
    for index in range(len(batch.n_atoms)):
        aleatoric, epistemic = by_hand(ensemble, batch, index)
        assert aleatoric > 0.1
        assert epistemic > 0.01
        assert float(uncertainty.aleatoric[index]) == pytest.approx(aleatoric, rel=1e-10)
        assert float(uncertainty.epistemic[index]) == pytest.approx(epistemic, rel=1e-10)
        assert float(uncertainty.total[index]) == pytest.approx(math.hypot(aleatoric, epistemic), rel=1e-10)


def test_one_model_has_no_epistemic_uncertainty_and_its_own_prediction(ensemble):
    model = ensemble[0]
    batch = batch_for(model)
    geometry, uncertainty = ensemble_prediction([model], batch)
    assert (uncertainty.epistemic == 0).all()
    assert (uncertainty.aleatoric > 0).all()
    torch.testing.assert_close(geometry.cell, model(batch)[-1].cell)
    torch.testing.assert_close(geometry.fractional, model(batch)[-1].fractional)
    torch.testing.assert_close(model(batch)[-1].uncertainty, uncertainty.aleatoric)


def test_architecture_ensemble_averages_distances_and_adds_both_uncertainties(ensemble, request):
    architecture = request.node.callspec.params['ensemble']
    sizes = {'member': architecture, 'member_hyperparameters': {'features': 8, 'layers': 1}, 'members': 3}
    together = make_model('ensemble', sizes).double()
    for member, model in zip(together.members, ensemble, strict=True):
        member.load_state_dict(model.state_dict())
    batch = batch_for(together)
    geometry, uncertainty = ensemble_prediction(ensemble, batch)
    (found,) = together(batch)
    torch.testing.assert_close(found.fractional, geometry.fractional)
    torch.testing.assert_close(found.uncertainty, uncertainty.total)


def test_ensemble_predicts_the_mean_cell_and_atoms_of_its_own(ensemble):
    batch = batch_for(ensemble[0])
    together, _ = ensemble_prediction(ensemble, batch)
    alone = [model(batch)[-1] for model in ensemble]
    torch.testing.assert_close(together.cell, sum(geometry.cell for geometry in alone) / len(alone))
    reversed_order, _ = ensemble_prediction(ensemble[::-1], batch)
    torch.testing.assert_close(together.fractional, reversed_order.fractional)
    for geometry in alone:
        assert (together.fractional - geometry.fractional).abs().max() > 1e-4


def test_models_without_scales_have_epistemic_uncertainty_alone():
    distance = torch.tensor([[2.0, 3.0, 5.0], [2.2, 3.0, 5.0]])
    uncertainty = distance_uncertainty(distance, torch.zeros_like(distance), torch.tensor([0, 0, 1]), 3)
    torch.testing.assert_close(uncertainty.epistemic, torch.tensor([math.sqrt(0.01 / 2), 0.0, 0.0]))
    assert (uncertainty.aleatoric == 0).all()
