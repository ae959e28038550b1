"""Atoms from distances: the Euclidean distance geometry of DeepRelax, for a whole batch as one problem.

Unknown are the displacements u of the atoms. An edge d from centre i to neighbour j has two distances with an expected
value and a Laplace scale: the displacement distance |d + u_j| from i, unrelaxed, to j, relaxed, and the distance
|d + u_j - u_i| in the relaxed crystal. Gradients are written out, crystals are never looped over.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from aiida_e3relax.gnn.graph.batch import CrystalBatch

STEPS = 100
"""Steps of both solvers."""

LEARNING_RATE = 0.1
"""Of the published solver, in A."""

LOG_SCALE_IN_BOUNDS = (-5.0, 2.0)
"""Range that the published solver clips the logarithms of scales in A to."""

LOG_SCALE_IN_LOSS = (-3.0, 3.0)
"""Range that the loss clips them to, beyond which a scale has learnt nothing."""

LARGEST_DISTANCE = 150.0
"""Longer distances (A) do not pull in the published solver."""

MOMENTUM = 0.85
"""Share of its last step that an atom carries on with in `most_likely_displacements`."""


@dataclasses.dataclass(frozen=True)
class DistancePrediction:
    """Distances of the relaxed crystal and their uncertainties: what a structure is to be solved from.

    Attributes
    ----------
    displaced
        ``(E,)`` mask of the edges, D in number, that carry a displacement distance.
    distance
        ``(D + E,)`` in A: how far neighbour j, relaxed, is from centre i, unrelaxed, on the edges of `displaced`; then
        the lengths of all edges in the relaxed crystal.
    log_scale
        ``(D + E,)`` the logarithms of their Laplace scales in A; None where no scale is stated.
    cell
        ``(S, 3, 3)`` the relaxed cell, rows in A.
    """

    displaced: Tensor
    distance: Tensor
    log_scale: Tensor | None
    cell: Tensor

    def kind(self, batch: CrystalBatch) -> Tensor:
        """Return for each distance ``(D + E,)`` twice the index of its crystal, plus one for relaxed distances."""
        crystal = batch.structure_index[batch.graph.centre]
        return torch.cat([2 * crystal[self.displaced], 2 * crystal + 1])

    def changeable(self, batch: CrystalBatch) -> Tensor:
        """Return the mask ``(D + E,)`` of distances that the relaxation can change: not those of fixed atoms alone.

        Those between images of fixed atoms change with the cell, unless that is fixed, too.
        """
        graph = batch.graph
        every = torch.ones_like(self.displaced)
        if batch.fixed is None or batch.fixed_cell is None:
            return torch.cat([every[self.displaced], every])
        moves, cell_changes = ~batch.fixed.all(dim=1), ~batch.fixed_cell[batch.structure_index[graph.centre]]
        displaced = moves[graph.neighbour] | cell_changes
        return torch.cat([displaced[self.displaced], displaced | moves[graph.centre]])

    def on_edges(self, values: Tensor) -> Tensor:
        """Return `values` ``(D + E,)`` of the distances as ``(2, E)``: displacement, zero without one; relaxed."""
        of_displacements, of_lengths = values.split([len(values) - len(self.displaced), len(self.displaced)])
        filled = torch.zeros_like(of_lengths).masked_scatter(self.displaced, of_displacements)
        return torch.stack([filled, of_lengths])


def displacements_within_bounds(prediction: DistancePrediction, vectors: Tensor, batch: CrystalBatch) -> Tensor:
    """Return the displacements ``(A, 3)``, in A, that the published solver finds (eqs. 18-20).

    Adam (Kingma and Ba, ICLR 2015) minimises, per crystal, the sum of four means: by how much displacement and relaxed
    distances exceed their upper bounds, distance + scale, and fall below their lower ones, distance - scale. Adam takes
    the second moment of each Cartesian component by itself, so the result depends on the orientation. Bounds of
    distances without a scale are the distances themselves (eq. 17).

    Parameters
    ----------
    prediction
        The distances.
    vectors
        ``(E, 3)`` the edges from unrelaxed centre to unrelaxed neighbour, periodic in the predicted cell, in A.
    batch
        The unrelaxed crystals.
    """
    springs, free = _Springs.of(vectors, batch), free_directions(prediction.cell, batch)
    scale = torch.zeros_like(prediction.distance)
    if prediction.log_scale is not None:
        scale = prediction.log_scale.clamp(*LOG_SCALE_IN_BOUNDS).exp()
    upper = prediction.on_edges(prediction.distance + scale)
    lower = prediction.on_edges((prediction.distance - scale).clamp_min(0.0))
    kind = prediction.kind(batch)
    share = prediction.on_edges(torch.bincount(kind).to(scale.dtype).reciprocal()[kind])
    u = vectors.new_zeros(3, len(batch.numbers))
    mean, square = torch.zeros_like(u), torch.zeros_like(u)
    for step in range(1, STEPS + 1):
        stretched, length = springs.stretched(u)
        outside = (length > upper).to(share.dtype) - (length < lower).to(share.dtype)
        gradient = springs.gradient(stretched, length, outside * share * (length < LARGEST_DISTANCE))
        mean.lerp_(gradient, 0.1)
        square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        spread = square.sqrt().div_((1 - 0.999**step) ** 0.5).add_(1e-8)
        u.addcdiv_(mean, spread, value=-LEARNING_RATE / (1 - 0.9**step))
        u = _along(free, u)
    return u.t()


def free_directions(cell: Tensor, batch: CrystalBatch) -> Tensor | None:
    """Return for each atom the projector ``(A, 3, 3)`` on the directions in which it can move; None where all can.

    A fixed fractional coordinate fixes the position along one reciprocal vector of the `cell` ``(S, 3, 3)``.
    """
    if batch.fixed is None:
        return None
    reciprocal = torch.linalg.inv(cell)[batch.structure_index] * batch.fixed[:, None].to(cell.dtype)
    return torch.eye(3, dtype=cell.dtype, device=cell.device) - reciprocal @ torch.linalg.pinv(reciprocal)


def _along(free: Tensor | None, displacement: Tensor) -> Tensor:
    """Return displacements ``(3, A)`` along the directions of `free_directions`."""
    return displacement if free is None else torch.einsum('axy,ya->xa', free, displacement)


def most_likely_displacements(prediction: DistancePrediction, vectors: Tensor, batch: CrystalBatch) -> Tensor:
    """Return the displacements ``(A, 3)``, in A, under which the predicted distances are most likely.

    Minimises the sum of ``sqrt(1 + t^2)`` over all distances, t their deviation over their Laplace scale: the negative
    logarithm of the Laplace likelihood that the network is trained with, rounded where t is small. Each step goes to
    the minimum, atom by atom, of a paraboloid that lies above the objective and touches it, so it needs no learning
    rate; how far an atom goes depends on one number, not on its axes, which keeps the result independent of the
    orientation, and where forces cancel it stays. Distances without a scale get 1 A: a sharper one lets rounding grow
    where they contradict each other.

    Parameters are those of `displacements_within_bounds`.
    """
    springs, free = _Springs.of(vectors, batch), free_directions(prediction.cell, batch)
    distance = prediction.on_edges(prediction.distance)
    log_scale = torch.zeros_like(prediction.distance) if prediction.log_scale is None else prediction.log_scale
    precision = prediction.on_edges(log_scale.clamp(*LOG_SCALE_IN_LOSS).mul(-2).exp())
    u = vectors.new_zeros(3, len(batch.numbers))
    step = torch.zeros_like(u)
    for _ in range(STEPS):
        ahead = u + MOMENTUM * step
        stretched, length = springs.stretched(ahead)
        deviation = length - distance
        constant = precision * torch.rsqrt(1 + precision * deviation * deviation)
        gradient = springs.gradient(stretched, length, constant * deviation)
        stiffness = springs.stiffness(constant).clamp_min(torch.finfo(u.dtype).tiny)
        following = _along(free, ahead - gradient / stiffness)
        step, u = following - u, following
    return u.t()


@dataclasses.dataclass(frozen=True)
class _Springs:
    """Two springs an edge, to the neighbour: from where the centre was before relaxation, and from where it is.

    Values of springs have the shape ``(2, E)``, in this order. Cartesian axes come before atoms and edges, which makes
    sums over edges several times faster.

    Attributes
    ----------
    vectors
        ``(3, E)`` from centre to neighbour while no atom is displaced, in A.
    centre, neighbour
        ``(E,)`` atom indices.
    n_atoms_total
        A.
    """

    vectors: Tensor
    centre: Tensor
    neighbour: Tensor
    n_atoms_total: int

    @staticmethod
    def of(vectors: Tensor, batch: CrystalBatch) -> _Springs:
        """Return the springs of a batch's edges ``(E, 3)``, in A."""
        return _Springs(vectors.t().contiguous(), batch.graph.centre, batch.graph.neighbour, len(batch.numbers))

    def stretched(self, displacement: Tensor) -> tuple[Tensor, Tensor]:
        """Return the springs' vectors ``(2, 3, E)`` and lengths ``(2, E)``, in A, at a displacement ``(3, A)``."""
        to_relaxed = self.vectors + displacement.index_select(1, self.neighbour)
        vectors = torch.stack([to_relaxed, to_relaxed - displacement.index_select(1, self.centre)])
        return vectors, (vectors * vectors).sum(dim=1).sqrt_()

    def gradient(self, vectors: Tensor, length: Tensor, slope: Tensor) -> Tensor:
        """Return the derivative ``(3, A)`` by displacements, from the `slope` ``(2, E)`` by lengths."""
        pull = vectors * (slope / length.clamp_min(1e-6))[:, None]
        return self._at_ends(pull[0] + pull[1], -pull[1])

    def stiffness(self, constant: Tensor) -> Tensor:
        """Return for each atom ``(A,)`` a bound of the second derivative, for springs of a `constant` ``(2, E)``.

        A spring with two ends that move counts twice for each: then a step of all atoms at once cannot overshoot.
        """
        return self._at_ends(constant[0] + 2 * constant[1], 2 * constant[1])

    def _at_ends(self, of_neighbour: Tensor, of_centre: Tensor) -> Tensor:
        """Return the sums ``(..., A)`` over the edges of each atom, of values ``(..., E)``."""
        total = of_centre.new_zeros(*of_centre.shape[:-1], self.n_atoms_total)
        return total.index_add_(-1, self.neighbour, of_neighbour).index_add_(-1, self.centre, of_centre)
