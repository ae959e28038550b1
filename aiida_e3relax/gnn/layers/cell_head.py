"""DeepRelax's prediction of the cell, from the lattice vectors as nine plain numbers."""

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.layers.activation import ScaledSiLU, perceptron


class CellHead(nn.Module):
    """Pools the atoms' scalars and adds a function of them and of the raw cell to the cell (DeepRelax, eq. 10).

    The nine components of the lattice vectors are scalars to it, so what it predicts depends on the orientation of the
    crystal, on the choice of the lattice vectors and, as it sums over atoms, on the size of the cell.
    """

    def __init__(self, features: int):
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(features, features), ScaledSiLU())
        self.cell = nn.Sequential(*perceptron(9, features, features), ScaledSiLU())
        self.output = perceptron(2 * features, features, features, 9)

    def forward(self, x: Tensor, batch: CrystalBatch) -> Tensor:
        """Return the relaxed cells ``(S, 3, 3)``, rows in A, from the atoms' scalars ``(A, F)``."""
        atoms = x.new_zeros(len(batch.cell), x.shape[1]).index_add(0, batch.structure_index, self.branch(x))
        joined = torch.cat([atoms, self.cell(batch.cell.flatten(1))], dim=1)
        return self.output(joined).view(-1, 3, 3) + batch.cell
