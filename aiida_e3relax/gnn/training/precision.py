"""Mixed precision: half for products of linear maps, single for geometry and weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.engine.linear import FastLinear
from aiida_e3relax.gnn.models.base import RelaxationModel


class HalfLinear(nn.Linear):
    """A linear map whose product is taken in bfloat16; weights, inputs and outputs stay float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of `x` ``(..., inputs)``."""
        with torch.autocast(x.device.type, torch.bfloat16):
            return super().forward(x).to(x.dtype)


def with_precision(model: RelaxationModel, precision: str) -> RelaxationModel:
    """Return `model`, with the products of its hidden linear maps in half precision for ``bfloat16``.

    Coordinates and cells do not stand three digits of precision, so autocast is not laid over the whole model: sums
    over edges, exponentials of strains and the maps with one output, which make displacements and strains, stay as they
    are.
    """
    if precision == 'bfloat16':
        for module in model.modules():
            if type(module) in (nn.Linear, FastLinear) and module.out_features > 1:  # type: ignore[operator]
                module.__class__ = HalfLinear
    return model
