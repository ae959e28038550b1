"""Lengths and directions of the edges of a graph."""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch import Tensor

from aiida_e3relax.gnn.layers.basis import RadialBasis


@dataclasses.dataclass(frozen=True)
class EdgeGeometry:
    """What the layers need to know of the E edges, recomputed from the coordinates in every layer.

    Attributes
    ----------
    centre, neighbour
        ``(E,)`` atom indices; sorted by centre.
    distance
        ``(E,)`` lengths in A.
    direction
        ``(E, 3)`` unit vectors from neighbour to centre.
    n_atoms_total
        A.
    radial_basis
        What describes the distance.
    """

    centre: Tensor
    neighbour: Tensor
    distance: Tensor
    direction: Tensor
    n_atoms_total: int
    radial_basis: RadialBasis

    @staticmethod
    def of(
        vectors: Tensor, centre: Tensor, neighbour: Tensor, radial_basis: RadialBasis, n_atoms_total: int
    ) -> EdgeGeometry:
        """Return the geometry of edges whose `vectors` ``(E, 3)`` point from centre to neighbour, in A."""
        distance = vectors.norm(dim=1)
        direction = -vectors / distance.clamp_min(1e-6)[:, None]
        return EdgeGeometry(centre, neighbour, distance, direction, n_atoms_total, radial_basis)

    @functools.cached_property
    def radial(self) -> Tensor:
        """Radial basis ``(E, K)`` of the distance."""
        return self.radial_basis(self.distance)

    @functools.cached_property
    def reference(self) -> Tensor:
        """Reference vectors ``(A, 3)``: the mean of an atom's edges' directions (eq. 10).

        Weighted by the radial envelope so that edges come and go smoothly, and not normalised: see `solid_invariants`.
        """
        envelope = self.radial_basis.envelope(self.distance)[:, None]
        total = self.direction.new_zeros(self.n_atoms_total, 4).index_add(
            0, self.centre, torch.cat([self.direction * envelope, envelope], dim=1)
        )
        return total[:, :3] / (total[:, 3:] + 1e-3)

    @functools.cached_property
    def first_edge(self) -> Tensor:
        """Where each atom's edges start ``(A + 1,)``; E at the end."""
        # Searched, not counted: counting would make the host wait for a GPU.
        return torch.searchsorted(self.centre, torch.arange(self.n_atoms_total + 1, device=self.centre.device))
