"""Uncertainties of predicted distances, by crystal: DeepRelax's ensemble (eqs. 21-24)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """Expected errors of a crystal's distances, each ``(S,)`` in A.

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

    spread = (distance - distance.mean(dim=0)).square().mean(dim=0)
    return Uncertainty(aleatoric=mean(scale.mean(dim=0)), epistemic=mean(spread).sqrt())
