"""Uncertainties of predicted distances, by crystal: DeepRelax's ensemble (eqs. 21-24)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from aiida_e3relax.gnn.graph.shells import Graph


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """Expected errors of a crystal's distances, each ``(S,)`` in A.

    The paper adds squares; these are their roots.

    Attributes
    ----------
    aleatoric
        The mean scale of the distances, as the models state it: what the data leave open (eq. 21).
    epistemic
        The root mean square deviation of the models from their mean: what they disagree on (eq. 23).
    """

    aleatoric: Tensor
    epistemic: Tensor

    @property
    def total(self) -> Tensor:
        """Both together (eq. 24)."""
        return torch.hypot(self.aleatoric, self.epistemic)


@dataclasses.dataclass(frozen=True)
class BondLengths:
    """Lengths of bonds in the relaxed crystals of a batch, as a model states them.

    Attributes
    ----------
    bonds
        Which atoms they join: E bonds.
    length, uncertainty
        ``(E,)`` in A: the expected length, and its expected error.
    """

    bonds: Graph
    length: Tensor
    uncertainty: Tensor

    @staticmethod
    def of(bonds: Graph, lengths: Tensor, scales: Tensor) -> BondLengths:
        """Return what T models state together of the lengths ``(T, E)`` with the scales ``(T, E)``, in A.

        Their mean, and what each bond adds to the uncertainty of its crystal: the mean scale and the root mean square
        deviation of the models (DeepRelax, eqs. 21, 23 and 24 of a single distance).
        """
        mean = lengths.mean(dim=0)
        spread = (lengths - mean).square().mean(dim=0).sqrt()
        return BondLengths(bonds, mean, torch.hypot(scales.mean(dim=0), spread))

    def scaled(self, factor: Tensor, structure_index: Tensor) -> BondLengths:
        """Return it with uncertainties times the `factor` ``(S,)`` of their crystal; those that are 0 stay so.

        `structure_index` is ``(A,)``, the crystal of each atom.
        """
        of_bonds = factor[structure_index[self.bonds.centre]]
        uncertainty = torch.where(self.uncertainty > 0, self.uncertainty * of_bonds, 0.0)
        return dataclasses.replace(self, uncertainty=uncertainty)


def distance_uncertainty(distance: Tensor, scale: Tensor, structure_index: Tensor, n_structures: int) -> Uncertainty:
    """Return the uncertainty of an ensemble of T models that predict R distances of S crystals.

    Parameters
    ----------
    distance, scale
        ``(T, R)`` distances and their scales in A; the scales are zero for models that state none.
    structure_index
        ``(R,)`` the crystal of each distance.
    n_structures
        S.
    """
    ones = torch.ones_like(distance[0])
    count = distance.new_zeros(n_structures).index_add(0, structure_index, ones).clamp_min(1)

    def mean(values: Tensor) -> Tensor:
        return torch.zeros_like(count).index_add(0, structure_index, values) / count

    spread = (distance - distance.mean(dim=0)).square().mean(dim=0)
    return Uncertainty(aleatoric=mean(scale.mean(dim=0)), epistemic=mean(spread).sqrt())
