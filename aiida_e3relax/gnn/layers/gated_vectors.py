"""The head of PaiNN's force branch (Schütt, Unke and Gastegger, ICML 2021): one vector from an atom's features."""

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.layers.activation import ScaledSiLU, perceptron


class GatedVectorHead(nn.ModuleList):
    """Two gated equivariant blocks in turn, from F vectors to F/2 to one."""

    def __init__(self, features: int):
        super().__init__([_GatedBlock(features, features // 2), _GatedBlock(features // 2, 1)])

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        """Return one vector of each atom ``(A, 3)``, from scalars ``(A, F)`` and vectors ``(A, 3, F)``."""
        for block in self:
            x, v = block(x, v)
        return v[..., 0]


class _GatedBlock(nn.Module):
    """Fewer vectors, each rescaled by a function of scalars and vector lengths."""

    def __init__(self, features: int, outputs: int):
        super().__init__()
        self.measured = nn.Linear(features, features, bias=False)
        self.kept = nn.Linear(features, outputs, bias=False)
        self.mix = perceptron(2 * features, features, 2 * outputs)
        self.activation = ScaledSiLU()

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return scalars ``(A, outputs)`` and vectors ``(A, 3, outputs)``."""
        length = torch.sqrt(self.measured(v).square().sum(dim=1) + 1e-8)
        shift, gate = self.mix(torch.cat([x, length], dim=-1)).chunk(2, dim=-1)
        return self.activation(shift), gate[:, None] * self.kept(v)
