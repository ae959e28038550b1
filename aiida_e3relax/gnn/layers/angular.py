"""High-degree angular invariants of an edge against its centre's reference direction."""

import torch
from torch import Tensor


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
