"""The layer-wise loss (E3Relax-H2, sections 4.6 and 4.7)."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry


def nearest_image_vectors(difference: Tensor, cells: Tensor) -> Tensor:
    """Return the Cartesian vectors ``(A, 3)``, in A, of fractional differences ``(A, 3)``, each by its nearest image.

    `cells` ``(A, 3, 3)`` is each atom's cell with rows in A (eq. 37). Piecewise differentiable: the choice of the image
    carries no gradient. The 27 images around the rounded difference are tried in the cell as it is, so that in a skewed
    one an error of more than half the shortest lattice vector may count by a longer image; what is reported is measured
    by `aiida_e3relax.crystals.cells.shifted_to_nearest_image`, which reduces the cell.
    """
    images = torch.tensor(list(itertools.product((-1, 0, 1), repeat=3)), dtype=cells.dtype, device=cells.device)
    with torch.no_grad():
        rounded = torch.round(difference)
        vectors = torch.einsum('aic,acx->aix', (difference - rounded)[:, None] + images, cells)
        shift = images[vectors.square().sum(dim=2).argmin(dim=1)] - rounded
    return torch.einsum('ac,acx->ax', difference + shift, cells)


def structure_losses(geometry: Geometry, target: Geometry, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
    """Return per structure ``(S,)`` the mean absolute coordinate and cell errors of one layer, in A.

    The coordinate error is that of the fractional coordinates, measured in the target's cell: unlike the error of
    Cartesian coordinates it does not count the error of the cell a second time, and it is the same for every way of
    wrapping atoms into the cell.
    """
    error = nearest_image_vectors(geometry.fractional - target.fractional, target.cell[batch.structure_index])
    coordinates = batch.mean_over_atoms(error.abs().mean(dim=1))
    return coordinates, (geometry.cell - target.cell).abs().mean(dim=(1, 2))


def layerwise_loss(
    geometries: list[Geometry], target: Geometry, batch: CrystalBatch, cell_weight: float
) -> tuple[Tensor, Tensor]:
    """Return the loss per structure ``(S,)``, summed over layers (eq. 40), and the last layer's errors ``(S, 2)``."""
    errors = [torch.stack(structure_losses(geometry, target, batch), dim=1) for geometry in geometries]
    weights = errors[0].new_tensor([1.0, cell_weight])
    return sum(layer @ weights for layer in errors), errors[-1].detach()  # type: ignore[return-value]
