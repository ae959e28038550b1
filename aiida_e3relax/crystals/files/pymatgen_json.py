"""Structures that pymatgen wrote as JSON, read without making any other object that the file names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_e3relax.crystals.files.content import read_text
from aiida_e3relax.crystals.files.elements import isotope_note, read_atomic_number
from aiida_e3relax.crystals.files.errors import CrystalFileError, explain
from aiida_e3relax.crystals.files.occupancies import refuse_partial

if TYPE_CHECKING:
    from ase import Atoms

_CLASSES = ('Structure', 'IStructure')

Read = Callable[[], tuple['Atoms', tuple[str, ...]]]


def read_pymatgen_json(path: Path) -> list[Read] | None:
    """Return a reader of each structure in a JSON file, or None where it holds none of pymatgen's.

    The file holds a structure or a list of them. Raises CrystalFileError for text that is no JSON.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise CrystalFileError(f'expected JSON, found {explain(error)}') from error
    structures = content if isinstance(content, list) else [content]
    if not structures or not all(isinstance(s, dict) and s.get('@class') in _CLASSES for s in structures):
        return None
    return [partial(_read_structure, structure) for structure in structures]


def _read_structure(content: Mapping[str, Any]) -> tuple[Atoms, tuple[str, ...]]:
    """Return the crystal of pymatgen's dictionary of a structure; raises CrystalFileError."""
    from ase import Atoms

    try:
        cell = np.array(content['lattice']['matrix'], dtype=np.float64).reshape(3, 3)
        species = [[(s['element'], float(s['occu'])) for s in site['species']] for site in content['sites']]
        fractional = np.array([site['abc'] for site in content['sites']], dtype=np.float64).reshape(-1, 3)
        charged = any(s.get('oxidation_state') for site in content['sites'] for s in site['species'])
        properties = [*(s.get('properties') or {} for site in content['sites'] for s in site['species'])]
        moments = any(p.get('spin') for p in properties) or any(
            (site.get('properties') or {}).get('magmom') for site in content['sites']
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CrystalFileError(f"expected pymatgen's dictionary of a structure: {explain(error)}") from error
    refuse_partial({f'site {k}': _shares(site) for k, site in enumerate(species)})
    symbols = [site[0][0] for site in species]
    numbers = [read_atomic_number(symbol, f'site {k}') for k, symbol in enumerate(symbols)]
    left_out = [what for what, there in (('magnetic moments', moments), ('oxidation states', charged)) if there]
    notes = (f'{" and ".join(left_out)} of the file are not used',) if left_out else ()
    return Atoms(numbers=numbers, cell=cell, scaled_positions=fractional, pbc=True), (*isotope_note(symbols), *notes)


def _shares(site: list[tuple[str, float]]) -> dict[str, float]:
    """Return the share of each element on a site, its ions taken together."""
    shares: dict[str, float] = {}
    for element, share in site:
        shares[element] = shares.get(element, 0.0) + share
    return shares
