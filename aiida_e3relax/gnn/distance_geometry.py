"""Atoms from distances: the Euclidean distance geometry of DeepRelax, for a whole batch as one problem.

Unknown are the displacements u of the atoms. A restraint is a distance |d + u_head - u_tail| with an expected value
and a Laplace scale. Two kinds exist of an edge from centre i to neighbour j: the displacement distance from i,
unrelaxed, to j, relaxed, whose tail does not move, and the distance in the relaxed crystal, whose two ends move.
Gradients are written out, crystals are never looped over.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from aiida_e3relax.gnn.batch import CrystalBatch

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
    displacement_distance, displacement_log_scale
        ``(D,)`` how far neighbour j, relaxed, is from centre i, unrelaxed, in A; the logarithm of its Laplace scale.
    relaxed_distance, relaxed_log_scale
        ``(E,)`` the length of the edge in the relaxed crystal, in A; the logarithm of its Laplace scale.
    cell
        ``(S, 3, 3)`` the relaxed cell, rows in A.
    """

    displaced: Tensor
    displacement_distance: Tensor
    displacement_log_scale: Tensor
    relaxed_distance: Tensor
    relaxed_log_scale: Tensor
    cell: Tensor

    @property
    def distance(self) -> Tensor:
        """``(D + E,)`` all distances in A, those of displacements first."""
        return torch.cat([self.displacement_distance, self.relaxed_distance])

    @property
    def log_scale(self) -> Tensor:
        """``(D + E,)`` the logarithms of all Laplace scales."""
        return torch.cat([self.displacement_log_scale, self.relaxed_log_scale])

    def kind(self, batch: CrystalBatch) -> Tensor:
        """Return for each distance ``(D + E,)`` twice the index of its crystal, plus one if it is a relaxed distance."""
        crystal = batch.structure_index[batch.graph.centre]
        return torch.cat([2 * crystal[self.displaced], 2 * crystal + 1])


@dataclasses.dataclass(frozen=True)
class Restraints:
    """R = D + E distances that atoms are to keep, those of displacements first.

    Attributes
    ----------
    vector
        ``(R, 3)`` from tail to head while no atom is displaced, in A.
    head, tail
        ``(R,)`` atom indices; a tail that does not move has the index A.
    n_atoms_total
        A.
    """

    vector: Tensor
    head: Tensor
    tail: Tensor
    n_atoms_total: int

    @staticmethod
    def of(prediction: DistancePrediction, vectors: Tensor, batch: CrystalBatch) -> Restraints:
        """Return the restraints of a batch whose undisplaced edges are `vectors` ``(E, 3)``, in A."""
        graph, displaced, n = batch.graph, prediction.displaced, len(batch.numbers)
        head = torch.cat([graph.neighbour[displaced], graph.neighbour])
        tail = torch.cat([torch.full_like(graph.centre[displaced], n), graph.centre])
        return Restraints(torch.cat([vectors[displaced], vectors]), head, tail, n)

    def stretched(self, displacement: Tensor) -> tuple[Tensor, Tensor]:
        """Return directions ``(R, 3)`` and lengths ``(R,)`` in A at `displacement` ``(A + 1, 3)``, the last row zero."""
        vectors = self.vector + displacement.index_select(0, self.head) - displacement.index_select(0, self.tail)
        length = vectors.norm(dim=1)
        return vectors / length.clamp_min(1e-6)[:, None], length

    def gradient(self, direction: Tensor, slope: Tensor) -> Tensor:
        """Return the derivative ``(A + 1, 3)`` by displacements, from that by distances ``(R,)``; the last row zero."""
        pull = direction * slope[:, None]
        gradient = pull.new_zeros(self.n_atoms_total + 1, 3).index_add_(0, self.head, pull)
        gradient.index_add_(0, self.tail, pull, alpha=-1)
        gradient[-1] = 0
        return gradient


def displacements_within_bounds(prediction: DistancePrediction, vectors: Tensor, batch: CrystalBatch) -> Tensor:
    """Return the displacements ``(A, 3)``, in A, that the published solver finds (eqs. 18-20).

    Adam (Kingma and Ba, ICLR 2015) minimises, per crystal, the sum of four means: by how much displacement and relaxed
    distances exceed their upper bounds, distance + scale, and fall below their lower ones, distance - scale. Adam takes
    the second moment of each Cartesian component by itself, so the result depends on the orientation.

    Parameters
    ----------
    prediction
        The distances.
    vectors
        ``(E, 3)`` the edges from unrelaxed centre to unrelaxed neighbour, periodic in the predicted cell, in A.
    batch
        The unrelaxed crystals.
    """
    restraints = Restraints.of(prediction, vectors, batch)
    scale = prediction.log_scale.clamp(*LOG_SCALE_IN_BOUNDS).exp()
    upper = prediction.distance + scale
    lower = (prediction.distance - scale).clamp_min(0.0)
    kind = prediction.kind(batch)
    share = torch.bincount(kind).to(scale.dtype).reciprocal()[kind]
    u = vectors.new_zeros(restraints.n_atoms_total + 1, 3)
    mean, square = torch.zeros_like(u), torch.zeros_like(u)
    for step in range(1, STEPS + 1):
        direction, length = restraints.stretched(u)
        outside = (length > upper).to(share.dtype) - (length < lower).to(share.dtype)
        gradient = restraints.gradient(direction, outside * share * (length < LARGEST_DISTANCE))
        mean.lerp_(gradient, 0.1)
        square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        spread = square.sqrt().div_((1 - 0.999**step) ** 0.5).add_(1e-8)
        u.addcdiv_(mean, spread, value=-LEARNING_RATE / (1 - 0.9**step))
    return u[:-1]


def most_likely_displacements(prediction: DistancePrediction, vectors: Tensor, batch: CrystalBatch) -> Tensor:
    """Return the displacements ``(A, 3)``, in A, under which the predicted distances are most likely.

    Minimises the sum of ``sqrt(1 + t^2)`` over all distances, t their deviation over their Laplace scale: the negative
    logarithm of the Laplace likelihood that the network is trained with, rounded where t is small. Each step goes to
    the minimum, atom by atom, of a paraboloid that lies above the objective and touches it, so it needs no learning
    rate; how far an atom goes depends on one number, not on its axes, which keeps the result independent of the
    orientation, and where forces cancel it stays.

    Parameters are those of `displacements_within_bounds`.
    """
    restraints = Restraints.of(prediction, vectors, batch)
    precision = prediction.log_scale.clamp(*LOG_SCALE_IN_LOSS).mul(-2).exp()
    # A spring between two moving ends counts twice for each: then a step of all atoms at once cannot overshoot.
    ends = torch.where(restraints.tail < restraints.n_atoms_total, 2.0, 1.0)
    u = vectors.new_zeros(restraints.n_atoms_total + 1, 3)
    step = torch.zeros_like(u)
    for _ in range(STEPS):
        ahead = u + MOMENTUM * step
        direction, length = restraints.stretched(ahead)
        deviation = length - prediction.distance
        spring = precision * torch.rsqrt(1 + precision * deviation * deviation)
        gradient = restraints.gradient(direction, spring * deviation)
        stiffness = spring.new_zeros(len(u)).index_add_(0, restraints.head, spring * ends)
        stiffness.index_add_(0, restraints.tail, spring * ends)
        following = ahead - gradient / stiffness.clamp_min(torch.finfo(spring.dtype).tiny)[:, None]
        step, u = following - u, following
    return u[:-1]
