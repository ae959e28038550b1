"""What describes an edge: a radial basis of its length, and invariants of its angle to a reference direction."""

import torch
from torch import Tensor, nn

MAX_DEGREE = 10
"""Highest degree of `solid_invariants`: in single precision higher ones lose digits as sums of powers."""


class RadialBasis(nn.Module):
    """Gaussians of the scaled distance times a polynomial envelope that ends smoothly at the cutoff.

    With x = d / cutoff: ``exp(-(x - mu_k)^2 / (2 (mu_1 - mu_0)^2))`` for `functions` centres evenly on [0, 1], times
    ``1 - 21 x^5 + 35 x^6 - 15 x^7`` (Gasteiger et al., ICLR 2020, eq. 8, with p = 5), zero from the cutoff on.
    """

    centres: Tensor

    def __init__(self, functions: int, cutoff: float):
        super().__init__()
        self.cutoff = cutoff
        centres = torch.linspace(0.0, 1.0, functions, dtype=torch.float64, device='cpu')  # though weights be elsewhere
        self.coefficient = -0.5 / float(centres[1] - centres[0]) ** 2
        self.register_buffer('centres', centres.to(torch.get_default_dtype()), persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """Return the basis ``(E, K)`` at `distance` ``(E,)`` in A."""
        x = (distance / self.cutoff)[:, None]
        gaussians = torch.exp(self.coefficient * (x - self.centres.to(x.dtype)) ** 2)
        return gaussians * self.envelope(distance)[:, None]

    def envelope(self, distance: Tensor) -> Tensor:
        """Return the envelope ``(E,)`` at `distance` ``(E,)`` in A."""
        # As a product: the sum would end in rounding noise at the cutoff, below zero, too, which a softmax divides by.
        x = distance / self.cutoff
        return (1 - x).clamp_min(0) ** 3 * (1 + x * (3 + x * (6 + x * (10 + 15 * x))))


def solid_invariants(direction: Tensor, reference: Tensor, l_max: int) -> Tensor:
    """Return the ``(E, l_max + 1)`` invariants z_l = |n|^l P_l(u.n/|n|) of directions u and reference vectors n.

    By the addition theorem, sum_m Y_lm(u) Y_lm(n) = (2l+1)/(4 pi) P_l(u.n) for unit n (E3Relax-H2, eq. 11), so no
    spherical harmonics are needed. Here n is not normalised: each degree carries |n|^l, the solid harmonic of n. The
    invariants are polynomials in n, so they fade out smoothly at a site whose symmetry leaves no direction, where a
    normalised reference would be rounding noise.

    Parameters
    ----------
    direction
        ``(E, 3)`` unit vectors.
    reference
        ``(E, 3)`` reference vectors, |n| <= 1.
    l_max
        Highest degree.
    """
    projection = (direction * reference).sum(dim=1)
    squared = (reference * reference).sum(dim=1)
    invariants = [torch.ones_like(projection), projection]
    for degree in range(1, l_max):  # Bonnet's recursion, each term times its power of |n|
        following = (2 * degree + 1) * projection * invariants[-1] - degree * squared * invariants[-2]
        invariants.append(following / (degree + 1))
    return torch.stack(invariants[: l_max + 1], dim=1)
