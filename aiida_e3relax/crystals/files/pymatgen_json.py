"""Structures that pymatgen wrote as JSON, read without making any other object that the file names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_e3relax.common.messages import short
from aiida_e3relax.common.strict_json import unique_keys
from aiida_e3relax.crystals.files.content import read_text
from aiida_e3relax.crystals.files.elements import isotope_note, read_atomic_number
from aiida_e3relax.crystals.files.errors import CrystalFileError, explain
from aiida_e3relax.crystals.files.occupancies import refuse_partial
from aiida_e3relax.crystals.freedom.constraints import make_constraints

if TYPE_CHECKING:
    from ase import Atoms

FLAGS = 'selective_dynamics'
"""What pymatgen calls the three flags of a site, whether its fractional coordinates may change."""

_LABELS = ('material_id', 'entry_id', 'task_id')
"""What entries and documents are called, the first that is there."""

Read = Callable[[], tuple['Atoms', tuple[str, ...]]]


def read_pymatgen_json(path: Path) -> list[tuple[str, Read]] | None:
    """Return the label, maybe empty, and the reader of each structure in a JSON file; None for a database of ASE.

    The file holds one of pymatgen's structures, or an entry or a document with one as its ``structure``; or a list of
    them, or a mapping of labels to them. Raises CrystalFileError where there is none of all these.
    """
    try:
        content = json.loads(read_text(path), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise CrystalFileError(f'expected JSON, found {explain(error)}') from error
    if isinstance(content, dict) and ('ids' in content or '1' in content) and not _is_found(content.get('1')):
        return None
    found = list(_find(content))
    if not any(_is_found(value) for _, value in found):
        raise CrystalFileError(
            'expected a Structure of pymatgen, an entry or a document with one as its `structure`, a list or a mapping '
            f'of them, or a database of ASE, found {_describe(found[0][1] if found else content)}'
        )
    return [(label, partial(_read_structure, value)) for label, value in found]


def hold_sites(atoms: Atoms, flags: Sequence[Any] | None) -> None:
    """Give `atoms` the constraints that pymatgen's ``selective_dynamics`` stand for: True moves, as does a site's None.

    Raises CrystalFileError where they are not three of true and false for each site.
    """
    if flags is None or all(flag is None for flag in flags):
        return
    movable = np.ones((len(flags), 3), dtype=bool)
    for site, flag in enumerate(flags):
        if flag is not None:
            row = np.asarray(flag)
            if row.shape != (3,) or row.dtype.kind not in 'biu' or not np.isin(row, (0, 1)).all():
                raise CrystalFileError(
                    f'site {site}, `{FLAGS}`: expected three of true and false, found {short(repr(flag))}'
                )
            movable[site] = row
    atoms.set_constraint(make_constraints(movable, atoms.cell.array, cartesian=False))


def _find(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield the label and the value of each that should be a structure, or hold one."""
    if isinstance(content, list):
        for value in content:
            yield _label(value), value
    elif isinstance(content, dict) and not _is_found(content) and '@class' not in content:
        yield from content.items()
    else:
        yield _label(content), content


def _structure(value: Any) -> Any:
    """Return the structure of an entry or a document, or `value` itself."""
    return value['structure'] if isinstance(value, dict) and 'structure' in value else value


def _is_found(value: Any) -> bool:
    """Return whether `value` is the dictionary of a structure, of whatever class, or holds one."""
    structure = _structure(value)
    return isinstance(structure, dict) and {'lattice', 'sites'} <= structure.keys()


def _label(value: Any) -> str:
    labels = (value.get(name) for name in _LABELS) if isinstance(value, dict) else ()
    return next((str(label) for label in labels if isinstance(label, str | int)), '')


def _describe(value: Any) -> str:
    if not isinstance(value, dict):
        return short(json.dumps(value))
    if '@class' in value:
        return short(f'{value["@class"]}')
    return short(f'a mapping of {", ".join(value)}') if value else 'an empty mapping'


def _read_structure(value: Any) -> tuple[Atoms, tuple[str, ...]]:
    """Return the crystal of pymatgen's dictionary of a structure, or of what holds one; raises CrystalFileError."""
    from ase import Atoms

    if not _is_found(value):
        raise CrystalFileError(f'expected a Structure of pymatgen, found {_describe(value)}')
    content = _structure(value)
    try:
        cell = np.array(content['lattice']['matrix'], dtype=np.float64).reshape(3, 3)
        pbc = np.array(content['lattice'].get('pbc', [True] * 3), dtype=bool).reshape(3)
        species = [[(s['element'], float(s['occu'])) for s in site['species']] for site in content['sites']]
        fractional = np.array([site['abc'] for site in content['sites']], dtype=np.float64).reshape(-1, 3)
        charged = any(s.get('oxidation_state') for site in content['sites'] for s in site['species'])
        of_sites = [site.get('properties') or {} for site in content['sites']]
        spins = any((s.get('properties') or {}).get('spin') for site in content['sites'] for s in site['species'])
        moments = spins or any(np.any(properties.get('magmom') or 0) for properties in of_sites)
        flags = [properties.get(FLAGS) for properties in of_sites]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CrystalFileError(f"expected pymatgen's dictionary of a structure: {explain(error)}") from error
    refuse_partial({f'site {k}': _shares(site) for k, site in enumerate(species)})
    symbols = [site[0][0] for site in species]
    numbers = [read_atomic_number(symbol, f'site {k}') for k, symbol in enumerate(symbols)]
    left_out = [what for what, there in (('magnetic moments', moments), ('oxidation states', charged)) if there]
    notes = (f'{" and ".join(left_out)} of the file are not used',) if left_out else ()
    atoms = Atoms(numbers=numbers, cell=cell, scaled_positions=fractional, pbc=pbc)
    hold_sites(atoms, flags)
    return atoms, (*isotope_note(symbols), *notes)


def _shares(site: list[tuple[str, float]]) -> dict[str, float]:
    """Return the share of each element on a site, its ions taken together."""
    shares: dict[str, float] = {}
    for element, share in site:
        shares[element] = shares.get(element, 0.0) + share
    return shares
