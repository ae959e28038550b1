"""All pairs of atoms within a distance, periodic images included, for a whole batch of crystals.

Two searches with one result. On the CPU `vesin` (a cell list in C++, linear in the number of atoms) takes one crystal
at a time. On a GPU, and where vesin is not installed, torch looks at every pair of atoms and every image in reach, a
bounded number of them at a time. What a search would cost is known before it: one that costs too much is refused.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aiida_e3relax.crystals.cells import images_within, widths

try:
    import vesin
except ImportError:  # a GPU node may hold PyTorch alone
    vesin = None

PairTensors = tuple[Tensor, Tensor, Tensor, Tensor]
"""Centre, neighbour ``(P,)``, offset ``(P, 3)`` of the neighbour's cell, and distance ``(P,)`` in A; by centre."""

_NOTHING = (np.zeros((0, 2), np.uint64), np.zeros((0, 3), np.int32), np.zeros(0))
"""What vesin finds where there is nothing."""

MAX_CANDIDATES = {'cpu': 200_000, 'cuda': 20_000_000}
"""Candidates that torch holds at a time, about 100 bytes each. A processor is fastest where they fit into its cache; a
GPU wants all of a batch at once, as every round costs tens of kernel launches."""

MOST_PAIRS = 10**8
"""Pairs within the cutoff in one crystal, some 100 bytes each, by its density."""

MOST_BOXES = 10**5
"""Boxes as wide as the cutoff in one cell: with more, vesin may divide a thin cell into none along it, and by zero."""

MOST_CANDIDATES = {'cpu': 4 * 10**9, 'cuda': 10**11}
"""Pairs of atoms and images in one crystal that torch looks at: minutes of its time."""


def find_excess(
    cell: NDArray[np.float64], n_atoms: NDArray[np.int64], cutoff: float, device: torch.device
) -> dict[int, str]:
    """Return the crystals, by index, in which a search would take too long or too much memory, and why.

    Parameters
    ----------
    cell
        ``(S, 3, 3)`` reduced cells that have a volume.
    n_atoms
        ``(S,)`` atoms of each crystal.
    cutoff
        Distance in A.
    device
        Where the search would run.
    """
    count, width = n_atoms.astype(np.float64), widths(cell)
    pairs = count**2 * (4 / 3 * np.pi * cutoff**3) / np.abs(np.linalg.det(cell))
    message = 'a cutoff of {:g} A gives about {:.2g} {}, expected at most {:.2g}'
    excess: dict[int, str] = {}
    if _by_torch(device):
        looked_at, most = count**2 * images_within(cell, cutoff), MOST_CANDIDATES[device.type]
        words = 'pairs to look at' if vesin is not None else 'pairs to look at without the package vesin'
    else:
        looked_at, most, words = np.floor(width / cutoff).clip(1).prod(axis=1), MOST_BOXES, 'boxes in the cell'
    for amount, limit, name in ((looked_at, most, words), (pairs, MOST_PAIRS, 'pairs')):
        for index in np.flatnonzero(amount > limit).tolist():
            excess[index] = message.format(cutoff, amount[index], name, limit)
    return excess


def _by_torch(device: torch.device) -> bool:
    return vesin is None or device.type == 'cuda'


def check_search(cell: Tensor, n_atoms: Tensor, cutoff: float) -> None:
    """Raise ValueError where `find_excess` finds a crystal among those that `search_pairs` would get."""
    excess = find_excess(cell.cpu().numpy(), n_atoms.cpu().numpy(), cutoff, cell.device)
    for index, message in excess.items():
        raise ValueError(f'no neighbours are searched in crystal {index} of the batch: {message}')


def search_pairs(wrapped: Tensor, cell: Tensor, n_atoms: Tensor, cutoff: float) -> PairTensors:
    """Return all pairs closer than `cutoff`, sorted by centre; an atom is no neighbour of itself, its images are.

    Parameters
    ----------
    wrapped
        ``(A, 3)`` fractional coordinates in [0, 1], float64.
    cell
        ``(S, 3, 3)`` lattice vectors as rows, in A; right- or left-handed, periodic in all three directions.
    n_atoms
        ``(S,)`` atoms of each crystal.
    cutoff
        Distance in A.

    A crystal in which `find_excess` finds too much is to be refused before, by `check_search`.
    """
    if _by_torch(wrapped.device):
        return pairs_by_torch(wrapped, cell, n_atoms, cutoff)
    return pairs_by_vesin(wrapped, cell, n_atoms, cutoff)


def pairs_by_vesin(wrapped: Tensor, cell: Tensor, n_atoms: Tensor, cutoff: float) -> PairTensors:
    """Return what `search_pairs` does, one crystal after the other on the CPU."""
    search = vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=True, n_threads=1)
    positions = torch.einsum('ac,acx->ax', wrapped, cell.repeat_interleave(n_atoms, dim=0)).split(n_atoms.tolist())
    crystals = zip(positions, cell, strict=True)
    found = [search.compute(p.numpy(), c.numpy(), True, 'PSd') for p, c in crystals] or [_NOTHING]
    pair, offset, distance = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*found, strict=True))
    first = (torch.cumsum(n_atoms, 0) - n_atoms).repeat_interleave(torch.tensor([len(d) for *_, d in found]))
    centre, neighbour = pair.long().T + first
    return centre, neighbour, offset.long(), distance


def pairs_by_torch(wrapped: Tensor, cell: Tensor, n_atoms: Tensor, cutoff: float) -> PairTensors:
    """Return what `search_pairs` does, from every pair of atoms and every image in reach, on any device."""
    device = wrapped.device
    # Differences are taken to the nearest image along each vector, so at most half a cell is added to the reach.
    reach = torch.floor(cutoff * torch.linalg.inv(cell).norm(dim=1) + 0.5).long()
    image, n_images = _images(reach)
    first_image = torch.cumsum(n_images, 0) - n_images
    crystal = torch.repeat_interleave(torch.arange(len(n_atoms), device=device), n_atoms)
    first_atom = (torch.cumsum(n_atoms, 0) - n_atoms)[crystal]
    shift = torch.einsum('ic,icx->ix', image.to(cell), cell.repeat_interleave(n_images, dim=0))
    pieces = []
    for start, end in _pieces((n_atoms * n_images)[crystal], MAX_CANDIDATES[device.type]):
        centre = torch.arange(start, end, device=device).repeat_interleave(n_atoms[crystal[start:end]])
        neighbour = rank_in_run(n_atoms[crystal[start:end]]) + first_atom[centre]
        difference = wrapped[neighbour] - wrapped[centre]
        nearest = torch.round(difference)
        vector = torch.einsum('pc,pcx->px', difference - nearest, cell[crystal[centre]])
        images = n_images[crystal[centre]]
        pair = torch.arange(len(centre), device=device).repeat_interleave(images)
        which = rank_in_run(images) + first_image[crystal[centre]][pair]
        distance = (vector[pair] + shift[which]).norm(dim=1)
        near = torch.nonzero(distance < cutoff)[:, 0]
        pair, which, distance = pair[near], which[near], distance[near]
        offset = image[which] - nearest[pair].long()
        centre, neighbour = centre[pair], neighbour[pair]
        other = (centre != neighbour) | (offset != 0).any(dim=1)
        pieces.append((centre[other], neighbour[other], offset[other], distance[other]))
    centre, neighbour, offset, distance = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    return centre, neighbour, offset, distance


def rank_in_run(lengths: Tensor) -> Tensor:
    """Return 0, 1, ... n - 1 for each n of `lengths` in turn."""
    first = torch.cumsum(lengths, 0) - lengths
    return torch.arange(int(lengths.sum()), device=lengths.device) - first.repeat_interleave(lengths)


def _images(reach: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cells ``(I, 3)`` within `reach` ``(S, 3)`` of each crystal's own, and their numbers ``(S,)``."""
    sizes = 2 * reach + 1
    number = sizes.prod(dim=1)
    rank = rank_in_run(number)
    sizes, reach = sizes.repeat_interleave(number, dim=0), reach.repeat_interleave(number, dim=0)
    first, rest = rank // (sizes[:, 1] * sizes[:, 2]), rank % (sizes[:, 1] * sizes[:, 2])
    return torch.stack([first, rest // sizes[:, 2], rest % sizes[:, 2]], dim=1) - reach, number


def _pieces(candidates: Tensor, at_most: int) -> list[tuple[int, int]]:
    """Split atoms with `candidates` ``(A,)`` each into runs that hold `at_most` of them and those of one atom more."""
    total = torch.cumsum(candidates, 0)
    piece = torch.div(total, at_most, rounding_mode='floor')
    bounds = torch.nonzero(piece[1:] != piece[:-1])[:, 0] + 1
    return list(itertools.pairwise([0, *bounds.tolist(), len(candidates)]))
