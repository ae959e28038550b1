"""Kinds of sites on the way to VASP and back.

aiida-vasp writes the name of a kind into POSCAR and gives its results kinds named after the elements. So VASP is given
such kinds from the start, moments and Hubbard corrections are handed over beside them, and the results are put on the
sites of the input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import calcfunction

from aiida_e3relax.data.structures import moved_structure, own_extras, structures_to_crystals

PLAIN_MOMENT = 1.0
"""In Bohr magnetons; VASP's own start where nothing is said."""


@dataclasses.dataclass(frozen=True)
class SpeciesInputs:
    """The inputs of aiida-vasp that belong to the species of one structure.

    Attributes
    ----------
    names
        By kind of the structure the name that VASP is given: the element, or with a number after it (`Fe_1`) where
        the kinds of one element differ in their potential or Hubbard correction.
    potential_mapping
        By such name the potential.
    ldau_mapping
        aiida-vasp's input with such names; None without Hubbard corrections.
    magmom
        The INCAR tag with a moment a site in Bohr magnetons; None where no site has one.
    """

    names: dict[str, str]
    potential_mapping: dict[str, str]
    ldau_mapping: dict[str, Any] | None
    magmom: str | None


def translate_species(
    structure: orm.StructureData,
    potential_mapping: Mapping[str, str],
    ldau_mapping: Mapping[str, Any] | None = None,
    magmom_mapping: Mapping[str, Any] | None = None,
) -> SpeciesInputs:
    """Return what to give to aiida-vasp for `structure`.

    The mappings are those of aiida-vasp, their keys kinds or elements; a kind goes before its element.
    """
    symbols = {kind.name: kind.symbol for kind in structure.kinds}
    ldau = dict(ldau_mapping or {})
    corrections = {name: _look_up(ldau.get('mapping', {}), name, symbol) for name, symbol in symbols.items()}
    exchanges = {name: _look_up(ldau.get('jmapping') or {}, name, symbol) for name, symbol in symbols.items()}
    potentials = {name: _look_up(potential_mapping, name, symbol) for name, symbol in symbols.items()}
    settings = {name: repr((potentials[name], corrections[name], exchanges[name])) for name in symbols}
    names = _name_kinds(symbols, settings)
    if ldau:
        ldau['mapping'] = {names[kind]: value for kind, value in corrections.items() if value is not None}
        ldau['jmapping'] = {names[kind]: value for kind, value in exchanges.items() if value is not None}
        # aiida-vasp knows f electrons by the element's name alone
        ldau['felec'] = ldau.get('felec', False) or any(value[0] == 'f' for value in ldau['mapping'].values())
    return SpeciesInputs(
        names=names,
        potential_mapping={names[kind]: value for kind, value in potentials.items() if value is not None},
        ldau_mapping=ldau if ldau.get('mapping') else None,
        magmom=_write_moments(structure, symbols, magmom_mapping or {}),
    )


def count_species(structure: orm.StructureData, names: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return the species of POSCAR in order, each with its number of sites: runs of sites with one name."""
    return [(name, len(list(run))) for name, run in groupby(names[site.kind_name] for site in structure.sites)]


def loses_sites(structure: orm.StructureData, names: Mapping[str, str]) -> bool:
    """Return whether results of VASP lack something that the sites of `structure` have or that goes with it."""
    plain = orm.StructureData(cell=structure.cell)
    for kind in structure.kinds:
        plain.append_atom(position=(0.0, 0.0, 0.0), symbols=kind.symbol)
    standard = {kind.name: kind.mass for kind in plain.kinds}
    return (
        not all(structure.pbc)
        or any(kind.name != names[kind.name] or standard.get(kind.name) != kind.mass for kind in structure.kinds)
        or bool(own_extras(structure))
    )


@calcfunction
def name_species(structure: orm.StructureData, names: orm.Dict) -> orm.StructureData:
    """Return `structure` with its kinds renamed, kinds that get one name made one, the sites in their order."""
    renamed = orm.StructureData(cell=structure.cell, pbc=structure.pbc)
    kinds = {kind.name: kind for kind in structure.kinds}
    for site in structure.sites:
        kind = kinds[site.kind_name]
        renamed.append_atom(position=site.position, symbols=kind.symbol, name=names[kind.name])
    renamed.label = structure.label
    return renamed


@calcfunction
def restore_sites(structure: orm.StructureData, **relaxed: orm.StructureData) -> dict[str, orm.StructureData]:
    """Return the relaxed geometries on the sites of `structure`, with its kinds, masses, periodic directions, extras.

    Raises ValueError where VASP's sites are not those of `structure` in the same order.
    """
    crystals = structures_to_crystals({'structure': structure, **relaxed})
    elements = np.split(crystals.numbers, crystals.offsets[1:-1])
    restored = {}
    for index, leg in enumerate(relaxed, start=1):
        if elements[index].tolist() != elements[0].tolist():
            raise ValueError(f'the sites that VASP relaxed in `{leg}` are not those of the input in the same order')
        crystal = crystals.select([index])
        restored[leg] = moved_structure(structure, crystal.positions, crystal.cell[0])
    return restored


def _look_up(mapping: Mapping[str, Any], kind: str, symbol: str) -> Any:
    return mapping.get(kind, mapping.get(symbol))


def _name_kinds(symbols: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    names = {}
    for kind, symbol in symbols.items():
        different = list(dict.fromkeys(settings[other] for other in symbols if symbols[other] == symbol))
        number = different.index(settings[kind]) + 1
        names[kind] = symbol if len(different) == 1 else f'{symbol}_{number}'
    return names


def _write_moments(structure: orm.StructureData, symbols: Mapping[str, str], mapping: Mapping[str, Any]) -> str | None:
    """Return the tag as aiida-vasp would write it, a moment with three components as these."""
    default = mapping.get('default', PLAIN_MOMENT)
    moments = {kind: _look_up(mapping, kind, symbol) for kind, symbol in symbols.items()}
    if default == PLAIN_MOMENT and all(moment is None for moment in moments.values()):
        return None
    by_site = [moments[site.kind_name] for site in structure.sites]
    return ' '.join(
        str(number) for moment in by_site for number in np.ravel(default if moment is None else moment).tolist()
    )
