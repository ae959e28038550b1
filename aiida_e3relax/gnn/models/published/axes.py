"""The lattice vectors as three nodes, one a vector, and their exchange with the atoms."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.layers import ScaledSiLU, SelfInteraction, perceptron


@dataclasses.dataclass(frozen=True)
class AxisStates:
    """Features of the three lattice vectors: `scalar` ``(S, 3, F)`` and `vector` ``(S, 3, 3, F)``, the axis first."""

    scalar: Tensor
    vector: Tensor

    @staticmethod
    def stack(states: list[tuple[Tensor, Tensor]]) -> AxisStates:
        """Return the scalars ``(S, F)`` and vectors ``(S, 3, F)`` of each axis as one."""
        scalars, vectors = zip(*states, strict=True)
        return AxisStates(torch.stack(scalars, dim=1), torch.stack(vectors, dim=1))


class AxisExchange(nn.Module):
    """Exchange between the atoms and one lattice vector, with weights of its own."""

    def __init__(self, features: int, radial_functions: int):
        super().__init__()
        self.features = features
        self.source = perceptron(features, features, 3 * features)
        self.separation_filter = nn.Linear(radial_functions, 3 * features)
        self.scalar_to_atoms = nn.Sequential(*perceptron(2 * features, features, features), ScaledSiLU())
        self.vector_to_atoms = nn.Linear(features, features, bias=False)
        self.scalar_from_atoms = nn.Sequential(*perceptron(2 * features, features, features), ScaledSiLU())
        self.vector_from_atoms = nn.Linear(features, features, bias=False)
        self.self_interaction = _AxisSelfInteraction(features)
        self.change = nn.Linear(features, 1, bias=False)

    def to_atoms(
        self, x: Tensor, v: Tensor, scalar: Tensor, vector: Tensor, separation: Tensor, direction: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the atoms' scalars ``(A, F)`` and vectors ``(A, 3, F)``, informed of the axis.

        Parameters
        ----------
        x, v
            Features of the atoms.
        scalar, vector
            ``(A, F)`` and ``(A, 3, F)`` features of the axis, for every atom.
        separation
            ``(A, K)`` radial features of the way from the atom to the lattice vector's tip.
        direction
            ``(A, 3)`` unit vectors from the tip to the atom.
        """
        message = self.source(x) * self.separation_filter(separation) * 3**-0.5
        keep, along, shift = message.split(self.features, dim=-1)
        x = x + shift
        v = (keep[:, None] * v + along[:, None] * direction[:, :, None]) * self.features**-0.5
        x = x + self.scalar_to_atoms(torch.cat([x, scalar], dim=-1))
        return x, v + self.vector_to_atoms(v + vector)

    def from_atoms(self, scalar: Tensor, vector: Tensor, mean_x: Tensor, mean_v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the axis's scalars ``(S, F)`` and vectors ``(S, 3, F)``, informed of the means over atoms."""
        scalar = scalar + self.scalar_from_atoms(torch.cat([mean_x, scalar], dim=-1))
        return self.self_interaction(scalar, vector + self.vector_from_atoms(mean_v + vector))


class LatticeAxes(nn.ModuleList):
    """The three lattice vectors' exchanges."""

    def __init__(self, features: int, radial_functions: int):
        super().__init__(AxisExchange(features, radial_functions) for _ in range(3))

    def __iter__(self) -> Iterator[AxisExchange]:
        return super().__iter__()  # type: ignore[return-value]

    def to_atoms(
        self,
        x: Tensor,
        v: Tensor,
        states: AxisStates,
        separations: Tensor,
        directions: Tensor,
        structure_index: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the atoms' features, informed of the axes one after the other.

        `separations` ``(A, 3, K)`` and `directions` ``(A, 3, 3)`` are those of `AxisExchange.to_atoms`, for each axis.
        """
        scalar, vector = states.scalar[structure_index], states.vector[structure_index]
        for c, axis in enumerate(self):
            x, v = axis.to_atoms(x, v, scalar[:, c], vector[:, c], separations[:, c], directions[:, c])
        return x, v

    def from_atoms(self, states: AxisStates, x: Tensor, v: Tensor, batch: CrystalBatch) -> AxisStates:
        """Return the axes' features, informed of the atoms'."""
        mean_x, mean_v = batch.mean_over_atoms(x), batch.mean_over_atoms(v)
        return AxisStates.stack(
            [axis.from_atoms(states.scalar[:, c], states.vector[:, c], mean_x, mean_v) for c, axis in enumerate(self)]
        )

    def changes(self, states: AxisStates) -> Tensor:
        """Return the changes of the lattice vectors as rows ``(S, 3, 3)``, in A."""
        return torch.stack([axis.change(states.vector[:, c])[..., 0] for c, axis in enumerate(self)], dim=1)


class _AxisSelfInteraction(SelfInteraction):
    """The atoms' self-interaction, with other weights and scaled otherwise."""

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the new scalars ``(S, F)`` and vectors ``(S, 3, F)``."""
        kept, _, (rescale, shift, damp) = self.mixtures(x, v)
        return shift + x * torch.tanh(damp), rescale[:, None] * kept + v
