"""Radial filters as tables of the distance."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from aiida_e3relax.gnn.layers import RadialBasis

ROWS_PER_WIDTH = {torch.float32: 16, torch.float64: 64}
"""Rows for each width of the basis's Gaussians: cubic interpolation of one is then off by 1e-6 and 4e-9 at most."""


@dataclasses.dataclass(frozen=True)
class FilterTable:
    """C linear filters of a radial basis on an even grid, for cubic interpolation between four rows.

    Attributes
    ----------
    values
        ``(R, C)``; row r stands for the distance (r - 1) / `inverse_spacing`, and the last but two for the cutoff.
    inverse_spacing
        Rows per A.
    """

    values: Tensor
    inverse_spacing: float

    def interpolated(self, distance: Tensor) -> Tensor:
        """Return the filters ``(E, C)`` at `distance` ``(E,)`` in A; zero from the cutoff on."""
        place = distance * self.inverse_spacing
        inside = place < len(self.values) - 3
        row = torch.where(inside, place, 0).floor()
        t = torch.where(inside, place, 0) - row
        weights = [-t * (t - 1) * (t - 2) / 6, (t + 1) * (t - 1) * (t - 2) / 2]
        weights += [-(t + 1) * t * (t - 2) / 2, (t + 1) * t * (t - 1) / 6]
        first = row.long()
        terms = (self.values[first + m] * (weight * inside)[:, None] for m, weight in enumerate(weights))
        return sum(terms, start=torch.zeros((), dtype=distance.dtype, device=distance.device))


def filter_table(basis: RadialBasis, weight: Tensor) -> FilterTable:
    """Return the table of the filters ``basis(distance) @ weight.T``, differentiable in `weight` ``(C, K)``."""
    grid, inverse_spacing = _grid(basis, weight)
    return FilterTable(grid @ weight.T, inverse_spacing)


def _grid(basis: RadialBasis, like: Tensor) -> tuple[Tensor, float]:
    """Return the basis ``(R, K)`` at the table's distances, made once, and the rows per A."""
    kept = basis.__dict__.get('_table_grid')
    if kept is None or kept[0].dtype != like.dtype or kept[0].device != like.device:
        steps = (len(basis.centres) - 1) * ROWS_PER_WIDTH[like.dtype]
        inverse_spacing = steps / basis.cutoff
        distance = (torch.arange(steps + 3, dtype=torch.float64, device=like.device) - 1) / inverse_spacing
        kept = basis(distance).to(like.dtype), inverse_spacing
        basis.__dict__['_table_grid'] = kept
    return kept
