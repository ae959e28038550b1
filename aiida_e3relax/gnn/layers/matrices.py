"""The exponential of small matrices."""

import torch
from torch import Tensor

TERMS = 12
SQUARINGS = 2


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
