"""The freedom of predictions: fixed sites do not move, and the vacuum around a layer or a wire is preserved."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from aiida_e3relax.crystals.freedom.connectivity import find_networks
from aiida_e3relax.crystals.freedom.constraints import movable_coordinates
from aiida_e3relax.crystals.freedom.freedom import NO_VACUUM, Freedom, Moves
from aiida_e3relax.crystals.freedom.vacuum import FIRST_LINK, find_gap
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.crystals.validation import CrystalFault
from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.graph.shells import neighbour_graph
from aiida_e3relax.gnn.prediction.fixed_sites import FixedSites

if TYPE_CHECKING:
    from ase import Atoms

KEPT = (
    'the cell is kept, as by `--freedom positions`; `--freedom in-plane` relaxes the lattice of a layer too, '
    '`--vacuum none` is for bulk crystals'
)
NO_CRYSTAL = 'crystals alone are predicted; `--vacuum none` is for bulk crystals'


Masks = tuple[NDArray[np.bool_] | None, NDArray[np.bool_] | None]
"""Fractional coordinates ``(A, 3)`` that do not move, and crystals ``(S,)`` whose cell does not; None where none do."""


class PredictionFreedom:
    """What may move in the predictions of a batch of crystals.

    Where no freedom is given, atoms and cell move, but for sites that are held by constraints and for a cell with a
    vacuum.

    Attributes
    ----------
    faults
        Status word and message, by index, of crystals with constraints that cannot be held.
    movable
        For each crystal, ``(N, 3)`` which fractional coordinates its file, `fixed` and the `fixed` of the freedom let
        change; None where that is all.
    notes
        By index, what a person should know of how a vacuum or the symmetry was kept.
    """

    def __init__(
        self,
        freedom: Freedom | None,
        crystals: Crystals,
        atoms: Sequence[Atoms | None],
        fixed: FixedSites | None = None,
    ):
        self._given = freedom
        self._crystals = crystals
        self.faults: dict[int, CrystalFault] = {}
        self.movable: list[NDArray[np.bool_] | None] = [None] * len(crystals)
        self.notes: dict[int, str] = {}
        self._of: dict[int, Freedom] = {}
        for index, one in enumerate(atoms):
            if one is not None and one.constraints:
                self._hold(index, partial(movable_coordinates, one))
            for sites in (freedom and freedom.fixed, (fixed or {}).get(str(crystals.labels[index]))):
                if sites:
                    self._hold(index, partial(self._without, index, sites))

    def find_faults(self, indices: Sequence[int], batch: CrystalBatch | None = None) -> dict[int, CrystalFault]:
        """Return the faults, by place in `indices`, of crystals that cannot be predicted with what may move.

        The crystals at `indices` are those of `batch`. Those that its graph does not show to hang together are looked
        at one by one; without a batch all are.
        """
        given, faults = self._given, {}
        if given is not None and given.moves == Moves.CELL and given.vacuum == NO_VACUUM and not self._restricts(given):
            return {}
        together = np.zeros(len(indices), dtype=bool) if batch is None else _hang_together(batch)
        for place, index in enumerate(indices):
            has_no_gap = bool(together[place]) and self._needs_none(index)
            if has_no_gap and (given is None or (self.movable[index] is None and not self._restricts(given))):
                continue
            if has_no_gap and given is not None:
                self._of[index] = dataclasses.replace(given, vacuum=NO_VACUUM)  # nobody has to look once more
            crystal = self._crystals.select([index])
            fault = self._default(index, crystal) if given is None else self._check(index, crystal, has_no_gap)
            if fault:
                faults[place] = fault
        return faults

    def masks(self, indices: Sequence[int]) -> Masks:
        """Return what the model itself is to hold in the crystals at `indices`, in which `find_faults` found none.

        Of a cell that changes in part, nothing; `restrict` sees to it afterwards.
        """
        freedoms = [self.of(index) for index in indices]
        counts = self._crystals.n_atoms[list(indices)].tolist()
        fixed = np.concatenate(
            [
                np.broadcast_to(f.moves == Moves.VOLUME, (n, 3)) | ~f.movable(n)
                for f, n in zip(freedoms, counts, strict=True)
            ]
        )
        cells = np.array([f.moves == Moves.POSITIONS for f in freedoms])
        return fixed if fixed.any() else None, cells if cells.any() else None

    def of(self, index: int) -> Freedom:
        """Return what may move in the crystal at `index`, in which `find_faults` found no fault."""
        return self._of.get(index, self._given or Freedom()).holding(self.movable[index])

    def restrict(self, predicted: Crystals, faults: dict[int, CrystalFault]) -> Crystals:
        """Return `predicted` without what may not move, but for crystals with `faults`; may add to these."""
        from aiida_e3relax.crystals.freedom.projection import restrict

        positions, cell, offsets = predicted.positions.copy(), predicted.cell.copy(), predicted.offsets
        for index in range(len(predicted)):
            if index in faults:
                continue
            freedom = self.of(index)
            if not self._restricts(freedom):
                continue
            start = self._crystals.select([index])
            try:
                kept = restrict(start, predicted.select([index]), freedom, kinds_of(start), find_pairs)
            except (ValueError, np.linalg.LinAlgError) as error:
                faults[index] = 'freedom', f'the prediction cannot be held to what may move: {error}'
                kept = start
            positions[offsets[index] : offsets[index + 1]], cell[index] = kept.positions, kept.cell[0]
        return predicted.replace(positions, cell)

    def _hold(self, index: int, find_movable: Callable[[], NDArray[np.bool_] | None]) -> None:
        try:
            movable = find_movable()
        except ValueError as error:
            self.faults[index] = 'freedom', str(error)
            return
        self.movable[index] = None if movable is None or movable.all() else movable

    def _without(self, index: int, fixed: Mapping[str, Sequence[int]]) -> NDArray[np.bool_]:
        """Return what may move in a crystal beside what is held already, without the sites `fixed`."""
        count = int(self._crystals.n_atoms[index])
        return Freedom().holding(self.movable[index]).movable(count) & Freedom(fixed=fixed).movable(count)

    def _default(self, index: int, crystal: Crystals) -> CrystalFault | None:
        """Keep the cell of one crystal that has a vacuum, declared or not, and return the fault of a molecule."""
        gap = find_gap(crystal, find_pairs)
        if gap is None:
            return None
        if not gap.dimension:
            return 'not_periodic', f'{gap}: {NO_CRYSTAL}'
        self._of[index] = Freedom(Moves.POSITIONS)
        self.notes[index] = f'{gap}: {KEPT}'
        return None

    def _needs_none(self, index: int) -> bool:
        """Return whether one crystal suits the freedom that a person gives, where it has no vacuum."""
        given = self._given
        return given is None or (
            given.moves != Moves.IN_PLANE
            and given.vacuum in (None, NO_VACUUM)
            and bool(self._crystals.pbc[index].all())
        )

    def _check(self, index: int, crystal: Crystals, has_no_gap: bool) -> CrystalFault | None:
        """Return why one crystal cannot be predicted with the freedom that a person gives."""
        from aiida_e3relax.crystals.freedom.checks import find_fixed_fault, find_vacuum_fault

        freedom = self._given or Freedom()
        if not has_no_gap:
            if freedom.vacuum != NO_VACUUM and crystal.pbc.all():
                gap = find_gap(crystal, find_pairs)
                if gap is not None and not gap.dimension:
                    return 'not_periodic', f'{gap}: {NO_CRYSTAL}'
            if fault := find_vacuum_fault(freedom, crystal, find_pairs):
                return 'vacuum', fault
        fault = find_fixed_fault(freedom, len(crystal.numbers))
        if fault is None:
            held = freedom.holding(self.movable[index])
            fault = find_fixed_fault(held, len(crystal.numbers)) or self._check_symmetry(index, held, crystal)
        return ('freedom', fault) if fault else None

    def _check_symmetry(self, index: int, freedom: Freedom, crystal: Crystals) -> str | None:
        """Return why the symmetry of one crystal cannot be kept, and note where fixed sites leave a part of it.

        That is no fault: who gives the crystal may tell its sites apart by more than their elements, as by moments.
        """
        if not freedom.keep_symmetry:
            return None
        from aiida_e3relax.crystals.symmetry import SpaceGroup

        try:
            group = SpaceGroup.of(crystal, kinds_of(crystal))
        except ValueError as error:
            return f'`keep_symmetry`: {error}'
        kept = group.keeping(freedom.movable(len(crystal.numbers)))
        if len(kept.rotations) < len(group.rotations):
            self.notes[index] = (
                f'of {group.name} {len(kept.rotations)} of {len(group.rotations)} operations are kept, those that map '
                'fixed coordinates on fixed ones'
            )
        return None

    @staticmethod
    def _restricts(freedom: Freedom) -> bool:
        return freedom.moves != Moves.CELL or bool(freedom.fixed) or freedom.keep_symmetry


def kinds_of(crystal: Crystals) -> list[str]:
    """Return the ``(N,)`` kinds of the sites of one crystal: its elements."""
    return crystal.numbers.astype(np.str_).tolist()


def _hang_together(batch: CrystalBatch) -> NDArray[np.bool_]:
    """Return ``(S,)`` which crystals the edges up to `FIRST_LINK` join to images of themselves in three directions."""
    graph = batch.graph
    near = torch.nonzero(batch.edge_vectors(batch.fractional, batch.cell).norm(dim=1) < FIRST_LINK)[:, 0]
    edges: Any = (graph.centre[near], graph.neighbour[near], graph.offset[near])
    networks = find_networks(len(batch.numbers), *(edge.cpu().numpy() for edge in edges))
    together = np.zeros(len(batch.n_atoms), dtype=bool)
    together[batch.structure_index.cpu().numpy()[networks.dimension == 3]] = True
    return together


def find_pairs(crystal: Crystals, reach: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of atoms of one crystal within `reach` A with torch alone, as `find_gap` asks for them."""
    fractional, cell = torch.from_numpy(crystal.fractional()), torch.from_numpy(crystal.cell)
    graph = neighbour_graph(fractional, cell, torch.from_numpy(crystal.n_atoms), reach, None)
    return graph.centre.numpy(), graph.neighbour.numpy(), graph.offset.numpy()
