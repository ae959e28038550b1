"""Mixing of an atom's scalar and vector features."""

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.layers.activation import perceptron


class SelfInteraction(nn.Module):
    """Scalars learn from the vectors' lengths; vectors are rescaled and mixed by them (E3Relax-H2, eqs. 17-18)."""

    def __init__(self, features: int):
        super().__init__()
        self.features = features
        self.vector_mix = nn.Linear(features, 2 * features, bias=False)
        self.scalar_mix = perceptron(2 * features, features, 3 * features)

    def mixtures(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Return two mixtures ``(A, 3, F)`` of the vectors, and three ``(A, F)`` of scalars and vector lengths."""
        kept, measured = self.vector_mix(v).split(self.features, dim=-1)
        length = torch.sqrt((measured * measured).sum(dim=1) + 1e-8)
        return kept, measured, self.scalar_mix(torch.cat([x, length], dim=-1)).split(self.features, dim=-1)

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the increments of scalars ``(A, F)`` and vectors ``(A, 3, F)``."""
        kept, _, (rescale, shift, damp) = self.mixtures(x, v)
        return shift * 2**-0.5 + x * torch.tanh(damp), rescale[:, None] * kept


class DotSelfInteraction(SelfInteraction):
    """PaiNN's: scalars learn from the vectors' scalar products (Schütt, Unke and Gastegger, ICML 2021)."""

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the increments of scalars ``(A, F)`` and vectors ``(A, 3, F)``."""
        kept, measured, (shift, weight, rescale) = self.mixtures(x, v)
        product = (kept * measured).sum(dim=1) * self.features**-0.5
        return (shift + weight * product) * 2**-0.5, rescale[:, None] * kept
