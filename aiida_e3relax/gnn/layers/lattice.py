"""The lattice as a node: exchange between atoms and the cell, and the strain that it predicts.

The papers give each of the three lattice vectors a node with scalar and vector features. Which three vectors span a
lattice is a choice of the person who wrote the file, and a prediction must not depend on it: a hexagonal crystal would
lose its symmetry, because its threefold axis turns a into b and b into -a-b. Here one node stands for the lattice. It
keeps scalar features and, instead of three vectors, symmetric traceless tensors; from these it predicts a symmetric
strain that acts on whichever vectors span the cell. Everything that the node sees is an average over atoms, so a
supercell gives the same strain as its primitive cell. The papers' exchange stays: lattice to atoms before the message
passing, atoms to lattice after it, geometry refined in every layer.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.layers.activation import bounded, perceptron
from aiida_e3relax.gnn.layers.edge_geometry import EdgeGeometry

LARGEST_STRAIN = 1.0
"""Bound of the Frobenius norm of one layer's logarithmic strain: lengths change by less than a factor of e."""


@dataclasses.dataclass(frozen=True)
class LatticeState:
    """Features of the lattice node: `scalar` ``(S, F)`` and symmetric traceless `tensor` ``(S, 3, 3, F)``."""

    scalar: Tensor
    tensor: Tensor


class LatticeToAtoms(nn.Module):
    """Broadcast of the lattice node to its atoms (the place of E3Relax-H2, eqs. 23-24)."""

    def __init__(self, features: int):
        super().__init__()
        self.features = features
        self.mix = perceptron(2 * features, features, 3 * features)

    def forward(self, x: Tensor, v: Tensor, lattice: LatticeState, structure_index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the atoms' scalars ``(A, F)`` and vectors ``(A, 3, F)``, informed of the lattice."""
        joined = torch.cat([x, lattice.scalar[structure_index]], dim=-1)
        shift, keep, turn = self.mix(joined).split(self.features, dim=-1)
        return x + shift, self.turned(lattice.tensor, v, keep, turn, structure_index)

    def turned(self, tensor: Tensor, v: Tensor, keep: Tensor, turn: Tensor, structure_index: Tensor) -> Tensor:
        """Return the atoms' vectors `v`, with `keep` of them and `turn`, ``(A, F)``, of their product with `tensor`."""
        return v + keep[:, None] * v + turn[:, None] * (tensor[structure_index] * v[:, None]).sum(dim=2)


class AtomsToLattice(nn.Module):
    """Aggregation of atoms and bonds into the lattice node, and its strain (the place of eqs. 25-28, 34 and 36)."""

    def __init__(self, features: int, radial_functions: int, strain_channels: int):
        super().__init__()
        self.features = features
        self.strain_channels = strain_channels
        self.bond_filter = nn.Linear(radial_functions, strain_channels, bias=False)
        self.bond_ends = nn.Linear(features, 2 * strain_channels)
        self.bond_mix = nn.Linear(strain_channels, features, bias=False)
        self.vector_mix = nn.Linear(features, 2 * features, bias=False)
        self.tensor_mix = nn.Linear(features, 2 * features, bias=False)
        self.scalar_mix = perceptron(3 * features, features, 2 * features)
        self.dilation = perceptron(features, features // 2, 1)
        self.distortion = nn.Linear(features, 1, bias=False)

    def forward(
        self, x: Tensor, v: Tensor, edges: EdgeGeometry, lattice: LatticeState, batch: CrystalBatch
    ) -> tuple[LatticeState, Tensor]:
        """Return the new lattice state and the symmetric logarithmic strain ``(S, 3, 3)`` of this layer."""
        as_centre, as_neighbour = self.bond_ends(x).split(self.strain_channels, dim=-1)
        stretch = batch.mean_over_atoms(self.bond_dyads(as_neighbour, edges) * as_centre[:, None])
        stretch = stretch.view(-1, 3, 3, self.strain_channels)
        polar = self.mean_dyads(self.vector_mix(v), batch)
        tensor = lattice.tensor + _traceless_symmetric(self.bond_mix(stretch) + polar)
        kept, measured = self.tensor_mix(tensor).split(self.features, dim=-1)
        length = torch.sqrt((measured * measured).sum(dim=(1, 2)) + 1e-8)
        mean = batch.mean_over_atoms(x)
        shift, rescale = self.scalar_mix(torch.cat([lattice.scalar, mean, length], dim=-1)).split(self.features, dim=-1)
        scalar = lattice.scalar + shift
        tensor = tensor + torch.tanh(rescale)[:, None, None] * kept
        identity = torch.eye(3, dtype=x.dtype, device=x.device)
        strain = self.distortion(tensor)[..., 0] + self.dilation(scalar)[:, :, None] * identity
        return LatticeState(scalar, tensor), bounded(strain, LARGEST_STRAIN, dim=(1, 2))

    def bond_dyads(self, as_neighbour: Tensor, edges: EdgeGeometry) -> Tensor:
        """Return the sums ``(A, 9, C)`` over each atom's edges of u u^T w(d) times `as_neighbour` ``(A, C)``."""
        bonds = self.bond_filter(edges.radial) * as_neighbour.index_select(0, edges.neighbour)
        dyads = (edges.direction[:, :, None] * edges.direction[:, None, :]).flatten(1)
        total = bonds.new_zeros(edges.n_atoms_total, 9, self.strain_channels)
        return total.index_add(0, edges.centre, dyads[:, :, None] * bonds[:, None, :])

    def mean_dyads(self, vectors: Tensor, batch: CrystalBatch) -> Tensor:
        """Return the means ``(S, 3, 3, F)`` over atoms of left times right of `vectors` ``(A, 3, 2F)``, shortened."""
        left, right = bounded(vectors, 1.0, dim=1).split(self.features, dim=-1)
        return batch.mean_over_atoms((left[:, :, None] * right[:, None]).flatten(1, 2)).view(-1, 3, 3, self.features)


def _traceless_symmetric(tensor: Tensor) -> Tensor:
    """Return the symmetric traceless part of ``(S, 3, 3, F)`` over its two Cartesian axes."""
    symmetric = (tensor + tensor.transpose(1, 2)) / 2
    trace = symmetric.diagonal(dim1=1, dim2=2).sum(dim=2)
    identity = torch.eye(3, dtype=tensor.dtype, device=tensor.device)
    return symmetric - trace[:, None, None] * identity[..., None] / 3
