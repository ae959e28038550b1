"""Environments that a network learnt from, as it sees them itself, and how far others are from these.

The distance is one in the network's own features, to the nearest example of its training (Janet et al., Chem. Sci. 10,
7913 (2019), take it for molecules, and let the error to expect grow with it).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

ORDER = 4
"""Of the power mean over sites, between the mean, in which a foreign site drowns, and the largest, which is noisy."""

MOST_NUMBERS = {'cpu': 1 << 18, 'cuda': 1 << 24}
"""Distances computed at a time: what stays in a processor's cache, and what keeps a GPU busy."""


@dataclasses.dataclass(frozen=True)
class Growth:
    """By how much the error of bond lengths grows with the distance: ``coefficient * distance ** power``, in A.

    From the distance `limit` on it stays: what was calibrated lies within.
    """

    coefficient: float
    power: float
    limit: float

    def of(self, distance: Tensor) -> Tensor:
        """Return the error in A at distances ``(S,)``."""
        return self.coefficient * distance.clamp_max(self.limit) ** self.power


@dataclasses.dataclass(frozen=True)
class ReferenceSet:
    """R environments out of the crystals that a network was trained on, in K combinations of its D features.

    Attributes
    ----------
    centre, axes
        ``(D,)`` and ``(D, K)``: features minus the centre, times the axes, are coordinates: the principal components of
        the training crystals' sites.
    environments
        ``(R, K)`` coordinates of the environments.
    example
        ``(R,)`` the crystal of each, an index of `labels`.
    labels, formulas
        Of the N crystals that they come from.
    unit
        The distance, in these coordinates, that is stated as 1: 95 % of the training crystals are as near or nearer to
        those of other chemical systems.
    growth
        How uncertainties grow with the distance; None until they are calibrated.
    """

    centre: Tensor
    axes: Tensor
    environments: Tensor
    example: Tensor
    labels: list[str]
    formulas: list[str]
    unit: float
    growth: Growth | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> ReferenceSet:
        """Return it on `device` with coordinates of `dtype`."""
        centre, axes, environments = (t.to(device, dtype) for t in (self.centre, self.axes, self.environments))
        example = self.example.to(device)
        return dataclasses.replace(self, centre=centre, axes=axes, environments=environments, example=example)

    def find_nearest(self, features: Sequence[Tensor], structure_index: Tensor, n_atoms: Tensor) -> Nearness:
        """Return how far S crystals are from the environments.

        Parameters
        ----------
        features
            Those of `Geometry.features`, ``(A, ...)`` each, D in all.
        structure_index, n_atoms
            ``(A,)`` the crystal of each site, and ``(S,)`` the sites of each crystal.
        """
        sites = self.coordinates(features)
        distance, nearest = nearest_environments(sites, self.environments)
        whole, furthest = over_sites(distance / self.unit, structure_index, n_atoms)
        first = n_atoms.cumsum(0) - n_atoms
        return Nearness(whole, self.example[nearest[furthest]], furthest - first)

    def widened(self, uncertainty: Tensor, distance: Tensor) -> Tensor:
        """Return uncertainties ``(S,)`` in A with what the distance adds to them, once that is known."""
        return uncertainty if self.growth is None else torch.hypot(uncertainty, self.growth.of(distance))

    def coordinates(self, features: Sequence[Tensor]) -> Tensor:
        """Return the ``(A, K)`` coordinates of sites with these features."""
        return (torch.cat(list(features), dim=1) - self.centre) @ self.axes


@dataclasses.dataclass(frozen=True)
class Nearness:
    """How near S crystals are to a reference set.

    Attributes
    ----------
    distance
        ``(S,)`` in its unit: 0 for a crystal of the training, 1 where one in twenty of other chemistry is.
    example
        ``(S,)`` the crystal in the set that is nearest to the most distant site.
    site
        ``(S,)`` which of the crystal's sites that is, from 0.
    """

    distance: Tensor
    example: Tensor
    site: Tensor


def nearest_environments(
    sites: Tensor, environments: Tensor, barred: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Return the ``(A,)`` distances of sites ``(A, K)`` to the nearest of environments ``(R, K)``, and which these are.

    `barred` are two arrays of numbers, ``(A,)`` and ``(R,)``: environments with the number of a site do not count for
    it. The distance is infinite where none is left.
    """
    nearest = sites.new_zeros(len(sites), dtype=torch.long)
    left = torch.ones_like(nearest, dtype=torch.bool)
    half_square, columns = 0.5 * environments.square().sum(dim=1), environments.T.contiguous()
    step = max(1, MOST_NUMBERS[sites.device.type] // len(environments))
    for start in range(0, len(sites), step):
        piece = slice(start, start + step)
        closeness = torch.addmm(half_square, sites[piece], columns, beta=-1)
        if barred is not None:
            closeness[barred[0][piece, None] == barred[1]] = -torch.inf
            left[piece] = closeness.amax(dim=1) > -torch.inf
        nearest[piece] = _argmax(closeness)
    distance = (sites - environments[nearest]).norm(dim=1)  # anew: the squares above have lost digits
    return torch.where(left, distance, torch.inf), nearest


def _argmax(values: Tensor) -> Tensor:
    """Return where each row of `values` is largest; on the CPU by NumPy, which takes half of PyTorch's time."""
    if values.device.type != 'cpu':
        return values.argmax(dim=1)
    return torch.from_numpy(values.detach().numpy().argmax(axis=1))


def over_sites(distance: Tensor, structure_index: Tensor, n_atoms: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ``(S,)`` power means of the distances of sites ``(A,)``, and the most distant site of each crystal."""
    largest = torch.zeros_like(n_atoms, dtype=distance.dtype).scatter_reduce(0, structure_index, distance, 'amax')
    share = torch.where(distance > 0, distance / largest[structure_index], 0.0) ** ORDER
    total = torch.zeros_like(largest).index_add(0, structure_index, share)
    sites = torch.arange(len(distance), device=distance.device)
    first = torch.where(distance == largest[structure_index], sites, len(distance))
    furthest = torch.full_like(n_atoms, len(distance)).scatter_reduce(0, structure_index, first, 'amin')
    return largest * (total / n_atoms) ** (1 / ORDER), furthest
