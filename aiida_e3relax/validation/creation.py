"""Make a validation in the provenance graph."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from aiida import orm
from aiida.orm.implementation.utils import clean_value

from aiida_e3relax.calculations.batches import gather_structures
from aiida_e3relax.campaign.creation import PACKAGES, check_name
from aiida_e3relax.crystals.duplicates import same_crystals
from aiida_e3relax.crystals.files import UniqueLabels, make_label
from aiida_e3relax.crystals.freedom.freedom import fixed_coordinates
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.data.structures import SYMBOLS
from aiida_e3relax.validation.draw import Draw
from aiida_e3relax.validation.group import ValidationGroup, ValidationSettings, find_validation
from aiida_e3relax.workflows.vasp.choices import ChainChoices
from aiida_e3relax.workflows.vasp.inputs.kpoints import make_kpoints


def vasp_inputs(choices: ChainChoices, structure: orm.StructureData) -> dict[str, Any]:
    """Return the inputs of VASP that the chain of a crystal would have, as those of `vasp.v2.vasp`.

    Raises ValueError for what the chain refuses.
    """
    alone = dataclasses.replace(choices, network_code=None, model=None)
    return alone.chain_builder(structure)._inputs(prune=True)['vasp']['vasp']


def create_validation(
    name: str,
    draw: Draw,
    choices: ChainChoices,
    request: Mapping[str, Any],
    report_progress: Callable[[], None] = lambda: None,
) -> ValidationGroup:
    """Store a validation and return it; nothing of it runs yet.

    The k-points of a crystal are chosen once, for the cell of its relaxed crystal, and serve for all its geometries.
    The group comes last: a validation is there as a whole or not at all.

    Parameters
    ----------
    name
        The label of the group, which can be the name of a folder.
    draw
        The pairs.
    choices
        How VASP computes, and the code of the network.
    request
        What was asked for; see `ValidationSettings`.
    report_progress
        Called after each pair.

    Raises ValueError for an odd name, for a crystal that cannot be computed, with its label, and for pairs of
    which some have a fixed cell and some have none.
    """
    check_name(name)
    has_fixed_cells = _have_fixed_cells(draw.pairs)
    pairs, taken = draw.pairs, UniqueLabels()
    labels = [taken.claim(make_label(text)) for text in pairs.unrelaxed.labels.tolist()]
    relaxed = dict(zip(labels, _nodes(pairs.as_filed, labels), strict=True))
    unrelaxed = dict(zip(labels, _nodes(pairs.unrelaxed, labels), strict=True))
    inputs = {label: _checked_inputs(label, choices, structure) for label, structure in relaxed.items()}
    crystals: dict[str, dict[str, str]] = {}
    for label, text in zip(labels, pairs.unrelaxed.labels.tolist(), strict=True):
        for stage, node in (('unrelaxed', unrelaxed[label]), ('relaxed', relaxed[label])):
            node.label = f'{text}, {stage}'
            node.store()
        vasp = inputs[label]
        kpoints = vasp.get('kpoints')
        if kpoints is None:
            kpoints = make_kpoints(relaxed[label], vasp['kpoints_spacing'], _freedom(choices))
        uuids = {'unrelaxed': unrelaxed[label].uuid, 'relaxed': relaxed[label].uuid, 'kpoints': kpoints.store().uuid}
        crystals[label] = {'name': text, **uuids}
        report_progress()
    fixed = _fixed_sites(pairs, labels)
    settings = ValidationSettings(
        name=name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        request=dict(request),
        looked_at=draw.looked_at,
        matched=draw.matched,
        crystals=crystals,
        order=labels,
        batch=gather_structures(**unrelaxed).uuid,
        versions={package: importlib.metadata.version(package) for package in PACKAGES},
        fixed=fixed,
        has_fixed_cells=has_fixed_cells,
        same_starts=_same_starts(pairs.unrelaxed, labels, fixed),
    )
    stored = settings.to_node().store()
    group = ValidationGroup(label=name)
    with group.backend.transaction():
        group.store()
        group.add_nodes([stored, *unrelaxed.values(), *relaxed.values()])
    return group


def _same_starts(unrelaxed: Crystals, labels: Sequence[str], fixed: Mapping[str, Any]) -> list[list[str]]:
    """Return the labels of crystals that start as one and the same, with the same fixed, for each that several do."""
    found: dict[tuple[int, str], list[str]] = {}
    for group, label in zip(same_crystals(unrelaxed).tolist(), labels, strict=True):
        found.setdefault((group, str(fixed.get(label))), []).append(label)
    return [same for same in found.values() if len(same) > 1]


def find_same(name: str, request: Mapping[str, Any]) -> ValidationGroup | None:
    """Return the validation of that name, None where there is none.

    Raises ValueError where it was made with another request, with what differs.
    """
    group = find_validation(name)
    if group is None:
        return None
    there, asked = group.settings.request, clean_value(dict(request))
    differing = [
        f'{key}: {_tell(there.get(key))} there, {_tell(asked.get(key))} now'
        for key in sorted(there.keys() | asked.keys())
        if key != 'static' and there.get(key) != asked.get(key)
    ]
    static, now = there['static'], asked['static']
    differing += [
        f'{key}: {_tell(static.get(key))} there, {_tell(now.get(key))} now'
        for key in sorted(static.keys() | now.keys())
        if static.get(key) != now.get(key)
    ]
    if differing:
        raise ValueError(
            f'validation `{name}`: there is one of this name with other choices ({"; ".join(differing)}); give the '
            'same to go on with it, or another --name'
        )
    return group


def _tell(value: Any) -> str:
    return 'nothing' if value in (None, {}) else str(value)


def _nodes(crystals: Crystals, labels: list[str]) -> list[orm.StructureData]:
    """Return unstored nodes of crystals with kinds named by the elements."""
    nodes = []
    for index in range(len(labels)):
        crystal = crystals.select([index])
        node = orm.StructureData(cell=crystal.cell[0].tolist(), pbc=crystal.pbc[0].tolist())
        for number, position in zip(crystal.numbers.tolist(), crystal.positions.tolist(), strict=True):
            node.append_atom(position=position, symbols=SYMBOLS[number])
        nodes.append(node)
    return nodes


def _have_fixed_cells(pairs: Pairs) -> bool:
    """Return whether the cells of `pairs` are fixed; raises ValueError where some are and some are not."""
    count = 0 if pairs.fixed_cell is None else int(pairs.fixed_cell.sum())
    if count not in (0, len(pairs)):
        raise ValueError(
            f'fixed cells: expected all pairs to have one or none, found {count} of {len(pairs)}, and a run of the '
            'network has one freedom for all; validate them apart, as two training files'
        )
    return count > 0


def _fixed_sites(pairs: Pairs, labels: list[str]) -> dict[str, dict[str, list[int]]]:
    """Return what is fixed in each crystal of `pairs` that has something, as `fixed` in `freedom`."""
    if pairs.fixed is None:
        return {}
    masks = np.split(pairs.fixed, pairs.unrelaxed.offsets[1:-1])
    return {label: fixed_coordinates(~mask) for label, mask in zip(labels, masks, strict=True) if mask.any()}


def _checked_inputs(label: str, choices: ChainChoices, structure: orm.StructureData) -> dict[str, Any]:
    try:
        return vasp_inputs(choices, structure)
    except ValueError as error:
        raise ValueError(f'relaxed crystal `{label}`: {error}') from error


def _freedom(choices: ChainChoices) -> orm.Str | orm.Dict:
    return orm.Str(choices.freedom) if isinstance(choices.freedom, str) else orm.Dict(dict(choices.freedom))
