"""What a prediction in Python gives back for one structure."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aiida_e3relax.common.figures import check_figure
from aiida_e3relax.crystals.bonds import StatedBonds
from aiida_e3relax.crystals.structures import Crystals, make_crystals
from aiida_e3relax.gnn.prediction.objects import EXPECTED, describe_wrong, hold

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import IStructure

S = TypeVar('S', bound='Atoms | IStructure')


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Relaxation(Generic[S]):
    """What was predicted for one structure.

    Attributes
    ----------
    structure
        The relaxed structure, of the kind that was given; None where none could be predicted.
    uncertainty
        Expected error of its bond lengths in A; None of a model that states none.
    distance_to_training
        How far it is from the crystals that the network was trained on, in the network's features: above 1 it is unlike
        them. None of a model that holds none of them.
    nearest_training
        The ``site`` that is most distant, from 0, and the ``label`` and ``formula`` of what is nearest to it; None
        likewise.
    status
        ``ok``, or the word of `e3relax predict`'s report for why there is no prediction, such as ``unknown_element``.
    message
        The reason in a sentence; empty where there is a prediction.
    notes
        What a person should know of the prediction, such as that the cell of a layer was kept.
    layers
        The structure as it was given, then after every layer of the network; the last is `structure`. None if not asked
        for. A list of them is a trajectory for ASE: ``ase.io.write('relaxed.traj', relaxed.layers)``.
    bonds
        Every bond with its length and uncertainty, in the images of the input; None if not asked for.
    potential
        What the potential says of it, by the keys of the report of `e3relax predict`: energies, forces, whether it has
        converged and in how many steps; None where none was asked.
    candidates
        Structures of this and of other symmetries, the lowest energy first: that is `structure`. What the potential
        says of each is in ``potential['candidates']``. None if not asked for (`PotentialSettings.candidates`).
    """

    structure: S | None
    uncertainty: float | None = None
    status: str = 'ok'
    message: str = ''
    notes: tuple[str, ...] = ()
    layers: tuple[S, ...] | None = None
    bonds: StatedBonds | None = None
    potential: Mapping[str, Any] | None = None
    distance_to_training: float | None = None
    nearest_training: Mapping[str, Any] | None = None
    candidates: tuple[S, ...] | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a prediction."""
        return self.status == 'ok'

    def plot_bonds(self, path: str | os.PathLike[str], relaxed: Atoms | IStructure | None = None) -> None:
        """Draw the bonds' uncertainties in the crystal and against their lengths, as a .png, .pdf or .svg.

        And against the errors of the stated lengths, where `relaxed` is the same structure as it is known to relax, its
        sites in the same order. Raises ValueError where no bonds were asked for, or for another structure.
        """
        from aiida_e3relax.gnn.prediction.plot import plot_bonds

        if self.bonds is None or self.structure is None:
            raise ValueError('no bonds to draw: relax with `bonds=True`')
        check_figure(Path(path))
        crystal, known = _crystal(self.structure), None if relaxed is None else _crystal(relaxed)
        if known is not None and known.numbers.tolist() != crystal.numbers.tolist():
            raise ValueError('`relaxed`: expected the same elements in the same order as in the predicted structure')
        plot_bonds(self.bonds, crystal, Path(path), known)

    def __repr__(self) -> str:
        if self.structure is None:
            return f'<Relaxation {self.status}: {self.message}>'
        structure: Any = self.structure
        formula = structure.formula if hasattr(structure, 'formula') else structure.get_chemical_formula()
        spread = '' if self.uncertainty is None else f', uncertainty {self.uncertainty:.3f} A'
        notes = f'; {"; ".join(self.notes)}' if self.notes else ''
        return f'<Relaxation {self.status}: {formula}{spread}{notes}>'


class RelaxationError(ValueError):
    """One structure was given, and nothing could be predicted for it.

    Attributes
    ----------
    relaxation
        Its `status` and `message`.
    """

    def __init__(self, relaxation: Relaxation):
        super().__init__(f'no prediction ({relaxation.status}): {relaxation.message}')
        self.relaxation = relaxation


def _crystal(structure: Any) -> Crystals:
    """Return one structure of ASE or pymatgen as `Crystals`, with its formula for a label."""
    held = hold(structure)
    if held is None:
        raise TypeError(f'{EXPECTED}, found {describe_wrong(structure)}')
    atoms, _ = held.as_atoms()
    return make_crystals([atoms.numbers], [atoms.positions], [atoms.cell.array], [atoms.get_chemical_formula()])
