"""Filters and gates as the kernels take them: tables of the distance or the angle, and polynomials."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import torch
from torch import Tensor

from aiida_e3relax.gnn.layers import RadialBasis, solid_invariants
from aiida_e3relax.gnn.models.published.angular_gate import AngularGate

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
    return FilterTable(gate.factors(cosine, solid_invariants(along, axis, gate.l_max)), per_radian)


def gate_polynomials(reference: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the argument of an atom's angular gate as polynomials in an edge's projection p on its reference vector.

    Parameters
    ----------
    reference
        ``(A, 3)`` reference vectors n.
    weight, bias
        ``(F, l_max + 1)`` and ``(F,)``: the gate's argument is ``sum_l weight_l z_l + bias``.

    Returns
    -------
    Tensor
        ``(A, l_max + 1, F)`` coefficients of the powers of p = u.n: the invariants z_l of `solid_invariants` are
        polynomials in p and n.n.
    """
    l_max = weight.shape[1] - 1
    legendre, exponents = _legendre(l_max, reference.dtype, reference.device)
    squared = (reference * reference).sum(dim=1)[:, None, None]
    with_bias = weight + torch.nn.functional.pad(bias[:, None], (0, l_max))  # z_0 is one
    return (legendre * squared**exponents) @ with_bias.T


@functools.cache
def _legendre(l_max: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return coefficients c and exponents q ``(l_max + 1, l_max + 1)``: ``z_l = sum_k c_kl p^k (n.n)^q_kl``."""
    coefficients = np.zeros((l_max + 1, l_max + 1))
    for degree in range(l_max + 1):
        coefficients[: degree + 1, degree] = np.polynomial.legendre.leg2poly([0] * degree + [1])
    powers, degrees = np.indices(coefficients.shape)
    exponents = np.where(coefficients != 0, (degrees - powers) / 2, 0)
    return torch.as_tensor(coefficients).to(device, dtype), torch.as_tensor(exponents).to(device, dtype)


def _places(steps: int, inverse_spacing: float, like: Tensor) -> Tensor:
    """Return where the rows of a table of `steps` steps stand, in double precision."""
    return (torch.arange(steps + 3, dtype=torch.float64, device=like.device) - 1) / inverse_spacing
