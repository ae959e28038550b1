"""What training minimises: the errors of the structure after every layer (E3Relax-H2, sections 4.6 and 4.7)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from aiida_e3relax.crystals.cells import reduction
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.layers import inverse
from aiida_e3relax.gnn.models.loss_settings import LossSettings

DEFAULT_LOSS = LossSettings()


@dataclasses.dataclass(frozen=True)
class Target(Geometry):
    """The relaxed crystals of a batch, as losses take them.

    Attributes
    ----------
    reduced
        ``(S, 3, 3)`` the shortest vectors that span the lattices of `cell`, as rows in A: for the nearest image.
    """

    reduced: Tensor = dataclasses.field(kw_only=True)

    @classmethod
    def of(cls, geometry: Geometry) -> Target:
        """Return `geometry` as a target. Its cells are reduced on the host: once, not in every step."""
        cell = geometry.cell.detach()
        transforms = torch.from_numpy(reduction(cell.double().cpu().numpy())).to(cell)
        return cls(geometry.fractional, geometry.cell, reduced=transforms @ cell)


def nearest_image_vectors(vectors: Tensor, reduced: Tensor, structure_index: Tensor) -> Tensor:
    """Return Cartesian `vectors` ``(A, T, 3)``, in A, each shifted by a lattice vector to the shortest there is.

    Piecewise differentiable: the choice of the image carries no gradient (eq. 38). The 27 images around the rounded one
    are tried in the `reduced` cells ``(S, 3, 3)``, where the nearest is among them (see
    `aiida_e3relax.crystals.cells.shifted_to_nearest_image`). Eq. 37 takes the 27 images of the vector as it is, in the
    cell as it is: in a skewed cell, or where atoms are written more than a cell apart, the nearest may not be among
    those, and the error is then that of a longer vector. Wherever it is among them, both give the same.
    """
    images = torch.tensor(list(itertools.product((-1, 0, 1), repeat=3)), dtype=reduced.dtype, device=reduced.device)
    with torch.no_grad():
        cells = reduced[structure_index]
        shift = -torch.round(torch.einsum('atx,axc->atc', vectors, inverse(reduced)[structure_index]))
        rounded = vectors + torch.einsum('atc,acx->atx', shift, cells)
        # |r + k|^2 - |r|^2 of the 27 images k, by the products of r with the three lattice vectors.
        growth = 2 * torch.einsum('atx,acx->atc', rounded, cells) @ images.T
        growth += (images @ reduced).square().sum(dim=2)[structure_index][:, None]
        shift += images[growth.argmin(dim=2)]
        lattice_vectors = torch.einsum('atc,acx->atx', shift, cells)
    return vectors + lattice_vectors


def structure_losses(
    geometries: Sequence[Geometry], target: Target, batch: CrystalBatch, coordinates: str = 'fractional'
) -> Tensor:
    """Return the mean absolute errors of coordinates and cell ``(S, T, 2)``, in A, of T structures of each crystal.

    `coordinates` is one of `COORDINATE_ERRORS`, see `LossSettings`. What is fixed does not count: the mean is over the
    coordinates that may move, or over the atoms that may for ``displacement``, and it is zero where there are none.
    """
    index = batch.structure_index
    fractional = torch.stack([geometry.fractional for geometry in geometries], dim=1)
    cell = torch.stack([geometry.cell for geometry in geometries], dim=1)
    if coordinates == 'fractional':
        difference = torch.einsum('atc,acx->atx', fractional - target.fractional[:, None], target.cell[index])
    else:
        positions = torch.einsum('atc,atcx->atx', fractional, cell[index])
        difference = positions - target.positions(batch)[:, None]
    if coordinates == 'displacement':
        of_atoms = torch.linalg.vector_norm(difference, dim=2)
    else:
        of_atoms = nearest_image_vectors(difference, target.reduced, index).abs().mean(dim=2)
    if batch.fixed is None:
        of_coordinates = batch.mean_over_atoms(of_atoms)
    else:
        movable = (~batch.fixed).to(of_atoms.dtype).mean(dim=1, keepdim=True)
        counted = (movable > 0).to(of_atoms.dtype) if coordinates == 'displacement' else movable
        of_coordinates = batch.mean_over_atoms(of_atoms * (movable > 0))
        of_coordinates = of_coordinates / batch.mean_over_atoms(counted).clamp_min(1e-9)
    of_cell = (cell - target.cell[:, None]).abs().mean(dim=(2, 3))
    if batch.fixed_cell is not None:
        of_cell = of_cell.masked_fill(batch.fixed_cell[:, None], 0.0)
    return torch.stack([of_coordinates, of_cell], dim=2)


def layerwise_loss(
    geometries: Sequence[Geometry], target: Target, batch: CrystalBatch, settings: LossSettings
) -> tuple[Tensor, Tensor]:
    """Return the loss per structure ``(S,)``, summed over layers (eq. 40), and the last layer's errors ``(S, 2)``.

    Raises ValueError unless there is a weight for each of the `geometries`, or none at all.
    """
    layer_weights = settings.layer_weights or (1.0,) * len(geometries)
    if len(layer_weights) != len(geometries):
        raise ValueError(f'{len(layer_weights)} layer weights, but the model gives {len(geometries)} structures')
    errors = structure_losses(geometries, target, batch, settings.coordinates)
    losses = errors @ errors.new_tensor([1.0, settings.cell_weight])
    return losses @ losses.new_tensor(layer_weights), errors[:, -1].detach()
