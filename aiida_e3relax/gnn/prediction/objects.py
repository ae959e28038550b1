"""Crystals as ASE and pymatgen hold them in memory: taken for a prediction, and given back with its geometry."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.messages import short
from aiida_e3relax.crystals.files.elements import isotope_note, read_atomic_number
from aiida_e3relax.crystals.files.occupancies import refuse_partial
from aiida_e3relax.crystals.files.pymatgen_json import FLAGS, hold_sites
from aiida_e3relax.crystals.files.reader import check_atoms
from aiida_e3relax.crystals.freedom.constraints import make_constraints

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import IStructure

EXPECTED = "expected ASE's `Atoms` or pymatgen's `Structure`"

UNCERTAINTY = 'uncertainty_A'
"""The name of a prediction's uncertainty in what ASE and pymatgen keep beside a structure, as in files."""

OF_A_GEOMETRY = {
    *('energy', 'energies', 'free_energy', 'forces', 'stress', 'stresses', 'virial', 'virials', 'dipole', 'charges'),
    *('magmom', 'magmoms', 'born_effective_charges', 'dielectric_tensor', 'polarization', 'momenta', 'velocities'),
}
"""What was computed for a geometry, or belongs to its motion, by the names that ASE and pymatgen give it."""


class HeldStructure(ABC):
    """A structure of one library, and what that library keeps beside the geometry."""

    STARTS: ClassVar[Mapping[str, str]]
    """What a calculation starts from, by its name beside the sites: kept, although the network does not see it."""

    of_sites: Mapping[str, Any]
    of_whole: Mapping[str, Any]

    @abstractmethod
    def as_atoms(self) -> tuple[Atoms, tuple[str, ...]]:
        """Return it as readers of files do, with its constraints, and notes on how; raises CrystalFileError."""

    @abstractmethod
    def moved(
        self,
        positions: NDArray[np.float64],
        cell: NDArray[np.float64],
        movable: NDArray[np.bool_] | None,
        uncertainty: float | None,
    ) -> Any:
        """Return a new structure of the same kind with a predicted geometry.

        Parameters
        ----------
        positions
            ``(N, 3)`` Cartesian positions in A.
        cell
            ``(3, 3)`` lattice vectors as rows, in A.
        movable
            ``(N, 3)`` which fractional coordinates could change; None where all could.
        uncertainty
            Of the prediction, in A; None where it states none.
        """

    def take(self) -> tuple[Atoms, tuple[str, ...]]:
        """Return it as ASE's, and what a person should know of it.

        Raises CrystalFileError for what is no crystal of whole atoms, as readers of files do.
        """
        atoms, notes = self.as_atoms()
        check_atoms(atoms)
        if starts := self._starts():
            notes = (*notes, f'{" and ".join(starts)} are kept as they are: the network does not see them')
        if left_out := self._left_out():
            notes = (*notes, f'{", ".join(left_out)} left out: of the crystal before it is relaxed')
        return atoms, notes

    def _starts(self) -> list[str]:
        """Return what is kept and not seen, in words."""
        there = {name: values for name, values in self.of_sites.items() if name in self.STARTS}
        return [self.STARTS[name] for name, values in there.items() if any(np.any(v) for v in values if v is not None)]

    def _left_out(self) -> list[str]:
        """Return the names of what is not true of another geometry."""
        return sorted(OF_A_GEOMETRY & (self.of_sites.keys() - self.STARTS.keys() | self.of_whole.keys()))

    def _whole(self, uncertainty: float | None) -> dict[str, Any]:
        """Return what is kept beside the whole structure, with the uncertainty of its geometry."""
        kept = {name: value for name, value in self.of_whole.items() if name not in OF_A_GEOMETRY | {UNCERTAINTY}}
        return kept if uncertainty is None else {**kept, UNCERTAINTY: uncertainty}


class AseStructure(HeldStructure):
    """An `Atoms`."""

    STARTS: ClassVar = {'initial_magmoms': 'magnetic moments', 'initial_charges': 'charges'}

    def __init__(self, atoms: Atoms):
        self._atoms = atoms
        self.of_sites, self.of_whole = atoms.arrays, atoms.info

    def as_atoms(self) -> tuple[Atoms, tuple[str, ...]]:
        """Return it as it is."""
        return self._atoms, ()

    def moved(
        self,
        positions: NDArray[np.float64],
        cell: NDArray[np.float64],
        movable: NDArray[np.bool_] | None,
        uncertainty: float | None,
    ) -> Atoms:
        """Return a copy with another geometry; without the calculator, whose results are of the old one."""
        atoms = self._atoms.copy()
        for name in OF_A_GEOMETRY & atoms.arrays.keys():
            del atoms.arrays[name]
        atoms.info = self._whole(uncertainty)
        atoms.set_constraint([] if movable is None else make_constraints(movable, cell, cartesian=False))
        atoms.set_cell(cell, scale_atoms=False)
        atoms.set_positions(positions, apply_constraint=False)
        return atoms


class PymatgenStructure(HeldStructure):
    """A `Structure` or an `IStructure`; their special kinds, such as slabs, come back as plain ones."""

    STARTS: ClassVar = {'magmom': 'magnetic moments'}

    def __init__(self, structure: IStructure):
        self._structure = structure
        self.of_sites, self.of_whole = structure.site_properties, structure.properties

    def as_atoms(self) -> tuple[Atoms, tuple[str, ...]]:
        """Return it with the constraints that ``selective_dynamics`` say."""
        from ase import Atoms

        sites = [_shares(site) for site in self._structure]
        refuse_partial({f'site {k}': shares for k, shares in enumerate(sites)})
        symbols = [next(iter(shares)) for shares in sites]
        atoms = Atoms(
            numbers=[read_atomic_number(symbol, f'site {k}') for k, symbol in enumerate(symbols)],
            cell=self._structure.lattice.matrix,
            scaled_positions=self._structure.frac_coords,
            pbc=self._structure.lattice.pbc,
        )
        hold_sites(atoms, self.of_sites.get(FLAGS))
        return atoms, isotope_note(symbols)

    def moved(
        self,
        positions: NDArray[np.float64],
        cell: NDArray[np.float64],
        movable: NDArray[np.bool_] | None,
        uncertainty: float | None,
    ) -> IStructure:
        """Return a new structure with the ``selective_dynamics`` of what was held, and all else of the sites."""
        from pymatgen.core import IStructure, Lattice, Structure

        old = self._structure
        kind = Structure if isinstance(old, Structure) else IStructure
        of_sites = {k: v for k, v in self.of_sites.items() if k in self.STARTS or k not in OF_A_GEOMETRY}
        if movable is not None:
            of_sites[FLAGS] = movable.tolist()
        return kind(
            Lattice(cell, pbc=old.lattice.pbc),
            [site.species for site in old],
            list(positions),
            coords_are_cartesian=True,
            charge=old._charge,  # what was set; `charge` is the sum of the oxidation states where nothing was
            site_properties=of_sites,
            labels=old.labels,
            properties=self._whole(uncertainty),
        )

    def _starts(self) -> list[str]:
        charged = any(getattr(species, 'oxi_state', None) for site in self._structure for species in site.species)
        return [*super()._starts(), *(['oxidation states'] if charged else [])]


def hold(value: Any) -> HeldStructure | None:
    """Return what holds the structure `value`, None where it is none. Imports no library: who made it has."""
    ase, pymatgen = sys.modules.get('ase'), sys.modules.get('pymatgen.core.structure')
    if ase is not None and isinstance(value, ase.Atoms):
        return AseStructure(value)
    if pymatgen is not None and isinstance(value, pymatgen.IStructure):
        return PymatgenStructure(value)
    return None


def describe_wrong(value: Any) -> str:
    """Return what `value`, which is no structure, is, and how to make one of it."""
    kind = type(value).__name__
    if isinstance(value, str) or hasattr(value, '__fspath__'):
        return (
            f'a path, {short(repr(str(value)))}: read it first, with `ase.io.read`, `Structure.from_file`, or '
            '`aiida_e3relax.crystals.files.reader.read_crystals`, or give the file to `e3relax predict`'
        )
    if hasattr(value, 'get_ase'):
        return f'a {kind} of AiiDA: give what its `get_ase()` returns'
    if isinstance(value, Mapping):
        return f'a {kind}: give its structures, as `list(d.values())`, or make one of it, as `Structure.from_dict(d)`'
    if kind in {'Molecule', 'IMolecule'}:
        return f'a {kind}: crystals alone are predicted'
    return f'{short(repr(value))} of type {kind}'


def _shares(site: Any) -> dict[str, float]:
    """Return the occupancies of one site of pymatgen by element, its ions taken together."""
    shares: dict[str, float] = {}
    for species, share in site.species.items():
        symbol = str(getattr(species, 'symbol', species))
        shares[symbol] = shares.get(symbol, 0.0) + float(share)
    return shares
