"""Radial filters as tables of the distance."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from aiida_e3relax.gnn.layers import RadialBasis, solid_invariants
from aiida_e3relax.gnn.models.published.angular_gate import L_MAX, AngularGate

ROWS_PER_WIDTH = {torch.float32: 16, torch.float64: 64}
"""Rows for each width of the basis's Gaussians: cubic interpolation of one is then off by 1e-6 and 4e-9 at most."""

ROWS_PER_RADIAN = {torch.float32: 512, torch.float64: 4096}
"""Rows of a table of an angular gate; its layer normalisation changes within 0.04 rad of a zero angle."""


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
        """Return the filters ``(E, C)`` at `distance` ``(E,)`` in A; zero from the cutoff on, NaN at NaN."""
        place = distance * self.inverse_spacing
        inside = place < len(self.values) - 3
        share = torch.where(place.isnan(), place, inside)
        row = torch.where(inside, place, 0).floor()
        t = torch.where(inside, place, 0) - row
        weights = [-t * (t - 1) * (t - 2) / 6, (t + 1) * (t - 1) * (t - 2) / 2]
        weights += [-(t + 1) * t * (t - 2) / 2, (t + 1) * t * (t - 1) / 6]
        first = row.long()
        terms = (self.values[first + m] * (weight * share)[:, None] for m, weight in enumerate(weights))
        return sum(terms, start=torch.zeros((), dtype=distance.dtype, device=distance.device))


def filter_table(basis: RadialBasis, weight: Tensor) -> FilterTable:
    """Return the table of the filters ``basis(distance) @ weight.T``, differentiable in `weight` ``(C, K)``."""
    steps = (len(basis.centres) - 1) * ROWS_PER_WIDTH[weight.dtype]
    inverse_spacing = steps / basis.cutoff
    grid = basis.__dict__.get('_table_grid')
    if grid is None or grid.dtype != weight.dtype or grid.device != weight.device:
        grid = basis(_places(steps, inverse_spacing, weight)).to(weight.dtype)
        basis.__dict__['_table_grid'] = grid
    return FilterTable(grid @ weight.T, inverse_spacing)


def gate_table(gate: AngularGate) -> FilterTable:
    """Return the table of the factors of `gate`, with the angle, 0 to pi, in the place of the distance."""
    like = gate.linear.weight
    per_radian = ROWS_PER_RADIAN[like.dtype]
    cosine = torch.cos(_places(math.ceil(math.pi * per_radian), per_radian, like)).to(like.dtype)
    along = torch.nn.functional.pad(cosine[:, None], (0, 2))
    axis = torch.eye(3, dtype=like.dtype, device=like.device)[:1].expand(len(cosine), 3)
    return FilterTable(gate.factors(cosine, solid_invariants(along, axis, L_MAX)), per_radian)


def _places(steps: int, inverse_spacing: float, like: Tensor) -> Tensor:
    """Return where the rows of a table of `steps` steps stand, in double precision."""
    return (torch.arange(steps + 3, dtype=torch.float64, device=like.device) - 1) / inverse_spacing
