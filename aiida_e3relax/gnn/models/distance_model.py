"""What the two forms of DeepRelax have in common: distances first, atoms from distances afterwards."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from aiida_e3relax.gnn.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.distance_geometry import LOG_SCALE_IN_LOSS, DistancePrediction
from aiida_e3relax.gnn.losses import structure_losses
from aiida_e3relax.gnn.models.base import RelaxationModel


class DistanceModel(RelaxationModel):
    """A network that predicts distances of the relaxed crystal, each with a Laplace scale, and its cell."""

    @abstractmethod
    def distances(self, batch: CrystalBatch) -> DistancePrediction:
        """Return the predicted distances over the batch's edges, and the cell."""

    @abstractmethod
    def solve(self, prediction: DistancePrediction, batch: CrystalBatch) -> Geometry:
        """Return the crystals that `prediction` describes."""

    @abstractmethod
    def true_distances(self, target: Geometry, prediction: DistancePrediction, batch: CrystalBatch) -> Tensor:
        """Return what the ``(D + E,)`` distances of `prediction` should have been, in A."""

    def forward(self, batch: CrystalBatch) -> list[Geometry]:
        """Return the predicted structure, alone in a list. No gradient flows through its coordinates."""
        return [self.solve(self.distances(batch), batch)]

    def loss(self, batch: CrystalBatch, target: Geometry, cell_weight: float) -> tuple[Tensor, Tensor]:
        """Return the loss per structure ``(S,)`` and the solved structure's errors ``(S, 2)``, as `RelaxationModel`.

        The loss (eqs. 11-14) is the mean over each kind of distance of ``log(2 b) + |d - d*| / b``, b the scale, plus
        the mean absolute error of the cell. The structure is not solved for it.
        """
        prediction = self.distances(batch)
        log_scale = prediction.log_scale.clamp(*LOG_SCALE_IN_LOSS)
        deviation = (prediction.distance - self.true_distances(target, prediction, batch)).abs()
        unlikeliness = log_scale + deviation * torch.exp(-log_scale) + torch.log(log_scale.new_tensor(2.0))
        kind = prediction.kind(batch)
        count = torch.bincount(kind, minlength=2 * len(batch.n_atoms)).to(unlikeliness.dtype)
        total = torch.zeros_like(count).index_add(0, kind, unlikeliness)
        distances = (total / count.clamp_min(1)).view(-1, 2).sum(dim=1)
        cell = (prediction.cell - target.cell).abs().mean(dim=(1, 2))
        with torch.no_grad():
            errors = structure_losses(self.solve(prediction, batch), target, batch)
        return distances + cell_weight * cell, torch.stack(errors, dim=1)
