"""E3Relax, symmetric form (Yang et al., arXiv 2511.12243)."""

from __future__ import annotations

import torch
from torch import Tensor

from aiida_e3relax.gnn.layers import perceptron
from aiida_e3relax.gnn.models.symmetric import RefinementHyperparameters, SymmetricLayer, SymmetricRelaxation


class E3Relax(SymmetricRelaxation):
    """`SymmetricRelaxation` with PaiNN's messages, which know distances and directions but no angles."""

    def layer(self) -> SymmetricLayer:
        """Return a new layer."""
        return _Layer(self.hyperparameters)


class _Layer(SymmetricLayer):
    def __init__(self, p: RefinementHyperparameters):
        super().__init__(p, l_max=0)
        self.attention = perceptron(p.features, p.features, p.features)

    def displacements(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the mean of a linear map of the vectors and of their average as weighted by the scalars (eqs. 5-7)."""
        attended = (torch.softmax(self.attention(x), dim=-1)[:, None] * v).sum(dim=-1)
        return (self.displacement(v)[..., 0] + attended) / 2
