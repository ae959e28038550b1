"""Base of the two forms of DeepRelax: distances are predicted, and atoms solved from them."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.graph.shells import Graph
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.distance_geometry import LOG_SCALE_IN_LOSS, DistancePrediction
from aiida_e3relax.gnn.models.losses import LossSettings, Target, structure_losses
from aiida_e3relax.gnn.models.uncertainty import BondLengths, Uncertainty, distance_uncertainty


class DistanceModel(RelaxationModel):
    """A network that predicts distances of the relaxed crystal, each with a Laplace scale, and its cell."""

    capturable = False  # the structure is solved until it converges, which the host has to know

    @abstractmethod
    def distances(self, batch: CrystalBatch) -> DistancePrediction:
        """Return the predicted distances over the batch's edges, and the cell."""

    @abstractmethod
    def solve(self, prediction: DistancePrediction, batch: CrystalBatch) -> Geometry:
        """Return the crystals that `prediction` describes."""

    @abstractmethod
    def true_distances(self, target: Target, prediction: DistancePrediction, batch: CrystalBatch) -> Tensor:
        """Return what the ``(D + E,)`` distances of `prediction` should have been, in A."""

    def forward(self, batch: CrystalBatch) -> list[Geometry]:
        """Return the predicted structure, alone in a list, with the mean scale of its distances as its uncertainty.

        It has none where distances have no scale. No gradient flows through its coordinates.
        """
        return [self._solved(self.distances(batch), batch)]

    @property
    def states_bonds(self) -> bool:
        """Whether distances have scales, which some rows of the paper's ablation leave out."""
        return bool(getattr(self.hyperparameters, 'local_uncertainty', True))

    @torch.no_grad()
    def with_bonds(self, batch: CrystalBatch, find_bonds: Callable[[], Graph]) -> tuple[list[Geometry], BondLengths]:
        """Return the predicted structure, and the relaxed lengths of the graph's edges with their scales."""
        prediction = self.distances(batch)
        return [self._solved(prediction, batch)], _bond_lengths([prediction], batch)

    def _solved(self, prediction: DistancePrediction, batch: CrystalBatch) -> Geometry:
        uncertainty = None if prediction.log_scale is None else _uncertainty([prediction], batch).aleatoric
        return dataclasses.replace(self.solve(prediction, batch), uncertainty=uncertainty)

    @classmethod
    def supervised_layers(cls, hyperparameters: Any) -> int:
        """Return 0: the loss is one of distances."""
        return 0

    def loss(self, batch: CrystalBatch, target: Target, settings: LossSettings) -> tuple[Tensor, Tensor]:
        """Return the loss per structure ``(S,)`` and the solved structure's errors ``(S, 2)``, as `RelaxationModel`.

        The loss (eqs. 11-14) is the mean over each kind of distance of ``log(2 b) + |d - d*| / b``, b the scale, or of
        ``|d - d*|`` where distances have none, plus the mean absolute error of the cell, times its weight. The
        structure is not solved for it: of `settings` the errors of coordinates concern the solved structure's errors
        alone, and there are no layers to weigh.
        """
        prediction = self.distances(batch)
        unlikeliness = (prediction.distance - self.true_distances(target, prediction, batch)).abs()
        if prediction.log_scale is not None:
            log_scale = prediction.log_scale.clamp(*LOG_SCALE_IN_LOSS)
            unlikeliness = log_scale + unlikeliness * torch.exp(-log_scale) + torch.log(log_scale.new_tensor(2.0))
        kind = prediction.kind(batch)
        if batch.fixed is not None:  # distances that nothing can change are left out
            counted = prediction.changeable(batch)
            kind, unlikeliness = kind[counted], unlikeliness[counted]
        count = torch.bincount(kind, minlength=2 * len(batch.n_atoms)).to(unlikeliness.dtype)
        total = torch.zeros_like(count).index_add(0, kind, unlikeliness)
        distances = (total / count.clamp_min(1)).view(-1, 2).sum(dim=1)
        cell = (prediction.cell - target.cell).abs().mean(dim=(1, 2))
        with torch.no_grad():
            errors = structure_losses([self.solve(prediction, batch)], target, batch, settings.coordinates)
        return distances + settings.cell_weight * cell, errors[:, 0]


@torch.no_grad()
def ensemble_prediction(models: Sequence[DistanceModel], batch: CrystalBatch) -> tuple[Geometry, Uncertainty]:
    """Return the crystals solved from the mean distances and cells of `models`, and how far to trust them.

    Parameters
    ----------
    models
        One or more of the same architecture and graph; of one alone the epistemic uncertainty is zero.
    batch
        The unrelaxed crystals, with the graph of the models.
    """
    predictions = [model.distances(batch) for model in models]
    return _solve_mean(models[0], predictions, batch), _uncertainty(predictions, batch)


@torch.no_grad()
def ensemble_bonds(models: Sequence[DistanceModel], batch: CrystalBatch) -> tuple[Geometry, Uncertainty, BondLengths]:
    """Return what `ensemble_prediction` returns, and the relaxed lengths of the graph's edges (eq. 24 of each)."""
    predictions = [model.distances(batch) for model in models]
    geometry, uncertainty = _solve_mean(models[0], predictions, batch), _uncertainty(predictions, batch)
    return geometry, uncertainty, _bond_lengths(predictions, batch)


def _solve_mean(model: DistanceModel, predictions: Sequence[DistancePrediction], batch: CrystalBatch) -> Geometry:
    """Return the crystals that `model` solves from the mean of `predictions`."""
    distance = torch.stack([prediction.distance for prediction in predictions]).mean(dim=0)
    scale = torch.stack([_scale(prediction) for prediction in predictions]).mean(dim=0)
    cell = torch.stack([prediction.cell for prediction in predictions]).mean(dim=0)
    log_scale = None if predictions[0].log_scale is None else scale.log()
    together = DistancePrediction(predictions[0].displaced, distance, log_scale, cell)
    return model.solve(together, batch)


def _bond_lengths(predictions: Sequence[DistancePrediction], batch: CrystalBatch) -> BondLengths:
    edges = len(batch.graph.centre)
    lengths = torch.stack([prediction.distance[-edges:] for prediction in predictions])
    return BondLengths.of(
        batch.graph, lengths, torch.stack([_scale(prediction)[-edges:] for prediction in predictions])
    )


def _uncertainty(predictions: Sequence[DistancePrediction], batch: CrystalBatch) -> Uncertainty:
    distance = torch.stack([prediction.distance for prediction in predictions])
    scale = torch.stack([_scale(prediction) for prediction in predictions])
    return distance_uncertainty(distance, scale, predictions[0].kind(batch) // 2, len(batch.n_atoms))


def _scale(prediction: DistancePrediction) -> Tensor:
    """Return the scales of distances in A, within the range that the loss takes them in; zero where none are stated."""
    if prediction.log_scale is None:
        return torch.zeros_like(prediction.distance)
    return prediction.log_scale.clamp(*LOG_SCALE_IN_LOSS).exp()


def both_kinds(heads: Iterable[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]:
    """Return the distances, and the logarithms of their scales if stated, of the heads for both kinds as one."""
    pairs = list(heads)
    log_scales = [log_scale for _, log_scale in pairs if log_scale is not None]
    return torch.cat([distance for distance, _ in pairs]), torch.cat(log_scales) if log_scales else None
