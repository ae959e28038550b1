"""Volume, inverse and exponential of small matrices, without the library routines that make the host wait for a GPU."""

import torch
from torch import Tensor

TERMS = 12
SQUARINGS = 2
"""Of `matrix_exponential`."""


def volume(cell: Tensor) -> Tensor:
    """Return the volumes ``(S,)`` of `cell` ``(S, 3, 3)``, rows in A; negative for left-handed cells."""
    a, b, c = cell.unbind(dim=1)
    return (a * torch.linalg.cross(b, c)).sum(dim=1)


def inverse(cell: Tensor) -> Tensor:
    """Return the inverses ``(S, 3, 3)`` of `cell` ``(S, 3, 3)``; their columns are the reciprocal vectors, in 1/A."""
    a, b, c = cell.unbind(dim=1)
    normals = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], dim=2)
    return normals / (a * normals[..., 0]).sum(dim=1)[:, None, None]


def matrix_exponential(matrices: Tensor) -> Tensor:
    """Return the exponentials of ``(S, n, n)`` matrices: a Taylor series of a fraction of each, squared repeatedly.

    Good to rounding for norms up to 1.5. Unlike `torch.linalg.matrix_exp`, which chooses its series by the norms in the
    batch and is 2e-10 off in one of them, the result for a matrix does not depend on its companions, and nothing waits
    for the device.
    """
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device).expand_as(matrices)
    result, fraction = identity, matrices / 2**SQUARINGS
    for divisor in range(TERMS, 0, -1):
        result = torch.baddbmm(identity, fraction, result, alpha=1 / divisor)
    for _ in range(SQUARINGS):
        result = result @ result
    return result
