"""The species and kinds of sites: translated for VASP, and restored in what it returns.

aiida-vasp writes the name of a kind into POSCAR and gives its results kinds named after the elements. So VASP is given
such kinds from the start, moments and Hubbard corrections are handed over beside them, and the results are put on the
sites of the input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import calcfunction
from aiida_vasp.utils.ldau import FELEMS

from aiida_e3relax.data.structures import moved_structure, own_extras, structures_to_crystals
from aiida_e3relax.workflows.vasp.inputs.incar import incar_tags, is_noncollinear

PLAIN_MOMENT = 1.0
"""In Bohr magnetons; VASP's own start where nothing is said."""


SPECIES_MAPPINGS = ('potential_mapping', 'ldau_mapping', 'magmom_mapping')
ORBITALS = {'p': 1, 'd': 2, 'f': 3}


@dataclasses.dataclass(frozen=True)
class SpeciesInputs:
    """What belongs to the species and sites of one structure.

    Attributes
    ----------
    potential_mapping
        aiida-vasp's input, the potential by element.
    tags
        INCAR tags: moments a site in Bohr magnetons, and Hubbard corrections a species of POSCAR in eV.
    """

    potential_mapping: dict[str, str]
    tags: dict[str, Any]


def translate_species(
    structure: orm.StructureData,
    potential_mapping: Mapping[str, str],
    ldau_mapping: Mapping[str, Any] | None = None,
    magmom_mapping: Mapping[str, Any] | None = None,
    noncollinear: bool = False,
) -> SpeciesInputs:
    """Return what to give to aiida-vasp for `structure` in place of its own inputs of these names.

    The keys of the mappings are kinds or elements; a kind goes before its element. In a `noncollinear` run a moment
    has three components, and a number is one along z.

    Raises
    ------
    ValueError
        For kinds of one element with different potentials, and for neighbouring sites of one element with different
        Hubbard corrections: aiida-vasp forgets kinds after the first run, and VASP takes such sites as one species.
        For a J without an orbital on which it acts.
    """
    potentials: dict[str, str] = {}
    for kind in structure.kinds:
        potential = _look_up(potential_mapping, kind)
        if potential is not None and potentials.setdefault(kind.symbol, potential) != potential:
            raise ValueError(
                f'`potential_mapping` gives {kind.symbol} the potentials {potentials[kind.symbol]} and {potential}; '
                'aiida-vasp forgets kinds after the first run, give one potential an element'
            )
    moments = _write_moments(structure, magmom_mapping or {}, noncollinear)
    tags = {} if moments is None else {'magmom': moments}
    return SpeciesInputs(potentials, tags | _write_hubbard(structure, ldau_mapping or {}))


def species_mappings(vasp: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user's mappings by kind or element, and what the moments are: the arguments of `translate_species`.

    Raises ValueError for a logical of the INCAR tags that is none.
    """
    mappings = {name: vasp[name].get_dict() for name in SPECIES_MAPPINGS if name in vasp}
    return {'potential_mapping': {}, **mappings, 'noncollinear': is_noncollinear(incar_tags(vasp['parameters']))}


def tags_beside(incar: Mapping[str, Any], species: SpeciesInputs) -> dict[str, Any]:
    """Return the tags of `species` to be written beside the tags `incar` of the user: LMAXMIX only where these lack it.

    Moments switch spin on where the user does not say whether it is.
    """
    spin = {'ispin': 2} if 'magmom' in species.tags and 'ispin' not in incar else {}
    return spin | {tag: value for tag, value in species.tags.items() if tag != 'lmaxmix' or tag not in incar}


def list_species(structure: orm.StructureData) -> list[str]:
    """Return the species of POSCAR in order: runs of sites of one element."""
    symbols = {kind.name: kind.symbol for kind in structure.kinds}
    return [symbol for symbol, _ in groupby(symbols[site.kind_name] for site in structure.sites)]


def is_named_by_elements(structure: orm.StructureData) -> bool:
    """Return whether every kind has the name of its element."""
    return all(kind.name == kind.symbol for kind in structure.kinds)


def loses_sites(structure: orm.StructureData) -> bool:
    """Return whether results of VASP lack something that the sites of `structure` have or that goes with it."""
    masses_differ = any(kind.mass != orm.Kind(symbols=kind.symbol).mass for kind in structure.kinds)
    return not all(structure.pbc) or not is_named_by_elements(structure) or masses_differ or bool(own_extras(structure))


@calcfunction
def name_species(structure: orm.StructureData) -> orm.StructureData:
    """Return `structure` with one kind an element, named by it, and the sites in their order."""
    renamed = orm.StructureData(cell=structure.cell, pbc=structure.pbc)
    symbols = {kind.name: kind.symbol for kind in structure.kinds}
    for site in structure.sites:
        renamed.append_atom(position=site.position, symbols=symbols[site.kind_name])
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


def _look_up(mapping: Mapping[str, Any], kind: orm.Kind) -> Any:
    return mapping.get(kind.name, mapping.get(kind.symbol))


def _write_moments(structure: orm.StructureData, mapping: Mapping[str, Any], noncollinear: bool) -> str | None:
    """Return MAGMOM as aiida-vasp would write it, three components a site if `noncollinear`; None without moments."""
    given = mapping.get('default')
    default = PLAIN_MOMENT if given is None else given
    moments = {kind.name: _look_up(mapping, kind) for kind in structure.kinds}
    if default == PLAIN_MOMENT and all(moment is None for moment in moments.values()):
        return None
    by_site = [moments[site.kind_name] for site in structure.sites]
    return ' '.join(
        str(number) for moment in by_site for number in _components(default if moment is None else moment, noncollinear)
    )


def _components(moment: Any, noncollinear: bool) -> list[float]:
    return [0, 0, moment] if noncollinear and np.ndim(moment) == 0 else np.ravel(moment).tolist()


def _write_hubbard(structure: orm.StructureData, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tags that aiida-vasp's `ldau_mapping` stands for; none where all corrections vanish."""
    corrections = {
        kind.name: (
            kind.symbol,
            *(_look_up(settings.get('mapping') or {}, kind) or ('', 0.0)),
            _look_up(settings.get('jmapping') or {}, kind) or 0.0,
        )
        for kind in structure.kinds
    }
    for kind, (_, orbital, _, j) in corrections.items():
        if j and not orbital:
            raise ValueError(
                f'`ldau_mapping`: `jmapping` gives {kind} a J of {j} eV, and `mapping` names no orbital for it; give '
                f'it there as well, such as `mapping: {{{kind}: [d, 0.0]}}`'
            )
    species = [correction for correction, _ in groupby(corrections[site.kind_name] for site in structure.sites)]
    for first, second in pairwise(species):
        if first[0] == second[0]:
            raise ValueError(
                f'`ldau_mapping` gives neighbouring sites of {first[0]} the corrections {first[1:]} and {second[1:]}, '
                'and VASP takes them as one species; give both the same, or put sites of another element between them'
            )
    if not any(u or j for _, _, u, j in species):
        return {}
    has_f = any(orbital == 'f' or (orbital and symbol in FELEMS) for symbol, orbital, _, _ in species)
    return {
        'ldau': True,
        'ldautype': settings.get('utype', 2),
        'ldaul': [ORBITALS[orbital] if orbital else -1 for _, orbital, _, _ in species],
        'ldauu': [u for _, _, u, _ in species],
        'ldauj': [j for _, _, _, j in species],
        'lmaxmix': 6 if has_f or settings.get('felec') else 4,
    }
