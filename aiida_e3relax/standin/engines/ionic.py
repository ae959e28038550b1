"""A charged Born-Mayer potential for ionic crystals."""

from collections.abc import Iterator

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from ase.neighborlist import primitive_neighbor_list
from scipy.special import erfc

from aiida_e3relax.standin.engines.base import Energies, Response, refuse_elements
from aiida_e3relax.standin.errors import StandInError
from aiida_e3relax.standin.geometry import FractionalGeometry
from aiida_e3relax.standin.inputs import Inputs

ANION_CHARGES = {
    **{'N': -3.0, 'P': -3.0, 'As': -3.0, 'O': -2.0, 'S': -2.0, 'Se': -2.0, 'Te': -2.0},
    **{'F': -1.0, 'Cl': -1.0, 'Br': -1.0, 'I': -1.0},
}
"""Elements taken as anions; everything else but the noble gases is a cation."""

_FIXED_CATION_CHARGES = {
    **dict.fromkeys(('H', 'Li', 'Na', 'K', 'Rb', 'Cs', 'Ag'), 1.0),
    **dict.fromkeys(('Be', 'Mg', 'Ca', 'Sr', 'Ba', 'Zn', 'Cd'), 2.0),
}
_NOBLE_GASES = frozenset(['He', 'Ne', 'Ar', 'Kr', 'Xe', 'Rn'])

_IONIC_RADII = {
    **{'N': 1.46, 'O': 1.38, 'F': 1.31, 'S': 1.84, 'Cl': 1.81, 'Se': 1.98, 'Br': 1.96, 'I': 2.20},
    **{'Li': 0.74, 'Na': 1.02, 'K': 1.40, 'Mg': 0.72, 'Ca': 1.00, 'Sr': 1.30, 'Ba': 1.47, 'Zn': 0.74},
    **{'Al': 0.535, 'Ti': 0.605, 'Zr': 0.72},
}
"""A; other elements have 0.6 of the covalent radius."""

_COULOMB = 14.399645  # e^2/(4 pi epsilon_0), eV A
_CUTOFF = 9.0  # A
_DAMPING = 0.25  # 1/A
_HARDNESS = 0.32  # A
_REPULSION = 0.29  # balances the attraction of six nearest neighbours at the sum of the radii


def check_elements(symbols: list[str]) -> None:
    """Raise StandInError for a noble gas, and for atoms that are not both anions and cations."""
    refuse_elements('ionic', set(symbols) & _NOBLE_GASES, 'it needs ions: use gpaw')
    formal_charges(symbols)


class IonicEngine:
    """Born-Mayer pairs with a Coulomb interaction that is damped and shifted to vanish with its slope at 9 A.

    Charges are formal: anions as in `ANION_CHARGES`, alkali and alkaline-earth metals their group, and what is
    missing for a neutral cell is shared by the remaining cations. Any crystal with both kinds of ions relaxes to some
    sensible geometry; energies mean nothing beyond this potential.

    Raises
    ------
    StandInError
        If the crystal has no anion, no cation, a noble gas, or cannot be made neutral.
    """

    name = 'ionic'
    description = 'Born-Mayer and damped Coulomb pair potential, no electrons'
    electronic = False
    n_bands = 1

    def __init__(self, inputs: Inputs):
        symbols = inputs.poscar.symbols
        check_elements(symbols)
        self.kpoints = inputs.kpoints.irreducible
        self._charges = formal_charges(symbols)
        self._radii = np.array([_IONIC_RADII.get(s, 0.6 * covalent_radii[atomic_numbers[s]]) for s in symbols])
        self._response: Response

    def iterate(self, geometry: FractionalGeometry) -> Iterator[Energies]:
        """Yield the energies once: there is no self-consistency."""
        energy, self._response = self._evaluate(geometry)
        yield Energies(energy, energy, energy)

    def response(self) -> Response:
        """Return forces and stress."""
        return self._response

    def bands(self) -> None:
        """Return None: there are no electrons."""

    def _evaluate(self, geometry: FractionalGeometry) -> tuple[float, Response]:
        """Sum pairs within the cutoff: U(r) = qq (g(r) - g(R) - (r - R) g'(R)) + A exp(-(r - r0) / rho)."""
        i, j, distance, vector = primitive_neighbor_list('ijdD', [True] * 3, geometry.cell, geometry.positions, _CUTOFF)
        charge_product = _COULOMB * self._charges[i] * self._charges[j]
        contact = self._radii[i] + self._radii[j]
        edge, edge_slope = _damped_coulomb(np.array(_CUTOFF))
        coulomb, coulomb_slope = _damped_coulomb(distance)
        attracted = _REPULSION * np.abs(charge_product) * _HARDNESS / contact**2
        amplitude = np.where(charge_product < 0, attracted, 0.3 * _HARDNESS)
        repulsion = amplitude * np.exp(-(distance - contact) / _HARDNESS)
        pair = charge_product * (coulomb - edge - edge_slope * (distance - _CUTOFF)) + repulsion
        slope = charge_product * (coulomb_slope - edge_slope) - repulsion / _HARDNESS
        self_energy = _COULOMB * (edge / 2 + _DAMPING / np.sqrt(np.pi)) * float((self._charges**2).sum())

        gradient = (slope / distance)[:, None] * vector
        forces = np.zeros_like(geometry.scaled)
        np.add.at(forces, i, gradient)
        stress = gradient.T @ vector / (2 * geometry.volume)
        drift = forces.sum(axis=0)
        return float(pair.sum() / 2 - self_energy), Response(forces - drift / len(forces), stress, drift)


def formal_charges(symbols: list[str]) -> np.ndarray:
    """Return the charge of each atom in units of e, of zero sum.

    Raises
    ------
    StandInError
        If there are not both anions and cations.
    """
    charges = np.array([ANION_CHARGES.get(s, _FIXED_CATION_CHARGES.get(s, 0.0)) for s in symbols])
    anion = charges < 0
    if anion.all() or not anion.any():
        anions, found = ', '.join(ANION_CHARGES), ', '.join(sorted(set(symbols)))
        raise StandInError(f'engine ionic needs anions ({anions}) and cations, found {found}; use emt or gpaw')
    open_valence = charges == 0
    missing = -float(charges.sum())
    if open_valence.any() and missing > 0:
        charges[open_valence] = missing / open_valence.sum()
    else:  # scale the cations
        charges[open_valence] = 1.0
        charges[~anion] *= -charges[anion].sum() / charges[~anion].sum()
    return charges


def _damped_coulomb(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return erfc(alpha r) / r and its derivative."""
    value = erfc(_DAMPING * distance) / distance
    gaussian = 2 * _DAMPING / np.sqrt(np.pi) * np.exp(-((_DAMPING * distance) ** 2))
    return value, -(value + gaussian) / distance
