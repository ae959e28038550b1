"""How far predicted distances can be trusted, crystal by crystal: DeepRelax's ensemble (eqs. 21-24)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from aiida_e3relax.gnn.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.distance_geometry import LOG_SCALE_IN_LOSS, DistancePrediction
from aiida_e3relax.gnn.models.distance_model import DistanceModel


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """What is expected of the errors of a crystal's distances, all of them ``(S,)`` in A.

    The paper adds squares; these are their roots.

    Attributes
    ----------
    aleatoric
        The mean scale of the distances, as the models state it: what the data leave open (eq. 21).
    epistemic
        The root mean square deviation of the models from their mean: what they disagree on (eq. 23).
    """

    aleatoric: Tensor
    epistemic: Tensor

    @property
    def total(self) -> Tensor:
        """Both together (eq. 24)."""
        return torch.hypot(self.aleatoric, self.epistemic)


def distance_uncertainty(distance: Tensor, scale: Tensor, structure_index: Tensor, n_structures: int) -> Uncertainty:
    """Return the uncertainty of an ensemble of T models that predict R distances of S crystals.

    Parameters
    ----------
    distance, scale
        ``(T, R)`` distances and their scales in A; the scales are zero for models that state none.
    structure_index
        ``(R,)`` the crystal of each distance.
    n_structures
        S.
    """
    ones = torch.ones_like(distance[0])
    count = distance.new_zeros(n_structures).index_add(0, structure_index, ones).clamp_min(1)

    def mean(values: Tensor) -> Tensor:
        return torch.zeros_like(count).index_add(0, structure_index, values) / count

    spread = distance.var(dim=0, correction=0)
    return Uncertainty(aleatoric=mean(scale.mean(dim=0)), epistemic=mean(spread).sqrt())


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
    distance = torch.stack([prediction.distance for prediction in predictions])
    scale = torch.stack([prediction.log_scale for prediction in predictions]).clamp(*LOG_SCALE_IN_LOSS).exp()
    crystal = predictions[0].kind(batch) // 2
    uncertainty = distance_uncertainty(distance, scale, crystal, len(batch.n_atoms))
    cell = torch.stack([prediction.cell for prediction in predictions]).mean(dim=0)
    together = DistancePrediction(predictions[0].displaced, distance.mean(dim=0), scale.mean(dim=0).log(), cell)
    return models[0].solve(together, batch), uncertainty
