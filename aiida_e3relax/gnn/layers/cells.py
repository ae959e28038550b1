"""Volume and inverse of cells, in closed form: routines for matrices of any size make the host wait for a GPU."""

import torch
from torch import Tensor


def volume(cell: Tensor) -> Tensor:
    """Return the volumes ``(S,)`` of `cell` ``(S, 3, 3)``, rows in A; negative for left-handed cells."""
    a, b, c = cell.unbind(dim=1)
    return (a * torch.linalg.cross(b, c)).sum(dim=1)


def inverse(cell: Tensor) -> Tensor:
    """Return the inverses ``(S, 3, 3)`` of `cell` ``(S, 3, 3)``; their columns are the reciprocal vectors, in 1/A."""
    a, b, c = cell.unbind(dim=1)
    normals = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], dim=2)
    return normals / (a * normals[..., 0]).sum(dim=1)[:, None, None]
