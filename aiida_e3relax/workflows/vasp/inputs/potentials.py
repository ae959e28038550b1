"""The choice of a potential for each element out of a family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiida import orm
from aiida_vasp.data.potcar import PotcarData, PotcarGroup
from aiida_vasp.workchains.v2.vasp import VaspWorkChain


def choose_potentials(
    elements: Iterable[str], family: str, preferred: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return a potential of `family` for each of `elements`, as the input `potential_mapping` of aiida-vasp.

    That is the one in `preferred`, which then must exist, else the one that aiida-vasp's own protocols take (`Ga_d`
    for Ga), else the one named after the element.

    Raises
    ------
    ValueError
        When the profile has no such family, or the family lacks a potential.
    """
    if PotcarData.get_potcar_group(family) is None:
        known = sorted(group.label for group in PotcarGroup.collection.all())
        raise ValueError(
            f'potential family `{family}`: there is none of this name in the profile; expected one of '
            f'{known or "none at all"}; upload one with `aiida-vasp potcar uploadfamily`'
        )
    recommended = VaspWorkChain.get_protocol_inputs()['potential_mapping']
    mapping = {}
    for element in elements:
        there = PotcarData.get_full_names(family_name=family, element=element)
        wanted = [preferred[element]] if preferred and element in preferred else [recommended.get(element), element]
        chosen = next((name for name in wanted if name in there), None)
        if not there:
            raise ValueError(
                f'potential family `{family}`: it has no potential for {element}; upload a family that has one with '
                '`aiida-vasp potcar uploadfamily`, or take another'
            )
        if chosen is None:
            names = dict.fromkeys(filter(None, wanted))
            raise ValueError(
                f'potential family `{family}`: expected {" or ".join(names)} for {element}, found '
                f'{", ".join(sorted(there))}; choose one with `potential_mapping`'
            )
        mapping[element] = chosen
    return mapping


def choose_for_structure(
    structure: orm.StructureData, family: str, preferred: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the potentials of the elements of `structure`, and of those of its kinds that `preferred` names.

    Raises ValueError as `choose_potentials` does.
    """
    preferred = preferred or {}
    mapping = choose_potentials(structure.get_symbols_set(), family, preferred)
    for kind in structure.kinds:
        if kind.name in preferred and kind.name not in mapping:
            wanted = {kind.symbol: preferred[kind.name]}
            mapping[kind.name] = choose_potentials([kind.symbol], family, wanted)[kind.symbol]
    return mapping
