"""Whether pairs are what the relaxations are that they name: read anew from the graph, and compared by numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.data.pairs import RELAXATION, E3RelaxPairsData
from aiida_e3relax.gnn.data.build import MOVES, BuildOptions, build
from aiida_e3relax.gnn.data.sources.base import Sites, Source, same
from aiida_e3relax.learning.gather import KIND, as_candidate, settings_key
from aiida_e3relax.learning.relaxations import Relaxation, RelaxationKind, find_named
from aiida_e3relax.workflows.vasp.inputs.surface import ADDED, chosen_tags

SAME = 1e-3
"""In A: by how much the same sites and lattice vectors may differ, as their file has fewer digits."""


def named_relaxations(node: E3RelaxPairsData) -> list[str]:
    """Return the UUIDs of the relaxations that the pairs in a node name; those that were read from files name none."""
    return [process for process in node.pairs.about.get(RELAXATION, np.array([])).tolist() if process]


def check_origin(node: E3RelaxPairsData, kinds: Mapping[str, RelaxationKind] | None = None) -> dict[str, str]:
    """Return by relaxation in what a pair in `node` differs from it; empty where none does.

    Relaxations are read anew from the graph, those of `kinds`, see `find_relaxations`, and made pairs as they were when
    the node was made. Compared are both crystals, what was held, and the settings. Pairs that name no relaxation are
    passed over: `named_relaxations` has the others.
    """
    pairs = node.pairs
    relaxations = {found.process: found for found in find_named(named_relaxations(node), kinds)}
    again, faults = _gather_again(relaxations.values())
    recorded = (node.card or {}).get('settings', {})
    for index, process in enumerate(pairs.about.get(RELAXATION, np.array([])).tolist()):
        if not process:
            continue
        if process not in relaxations:
            faults[process] = 'not in this profile, or it did not finish well'
        elif process in again:
            relaxation, pair = relaxations[process], pairs.select(np.array([index]))
            found = [*_compare(pair, again[process], relaxation), *_compare_settings(pair, recorded, relaxation)]
            if found:
                faults[process] = '; '.join(found)
    return faults


def _gather_again(relaxations: Iterable[Relaxation]) -> tuple[dict[str, Pairs], dict[str, str]]:
    """Return by relaxation its pair, and why others make none."""
    candidates = [
        dataclasses.replace(as_candidate(relaxation, {}), label=relaxation.process, split='train')
        for relaxation in relaxations
    ]
    if not candidates:
        return {}, {}
    try:
        built = build([Source(KIND, 'graph', 'graph', candidates)], BuildOptions(split='as-given', find_repeats=False))
    except InputError as error:  # where it is none of them
        return {}, {candidate.label: str(error) for candidate in candidates}
    pairs = {
        process: built.pairs.select(np.array([place]))
        for place, process in enumerate(built.pairs.unrelaxed.labels.tolist())
    }
    return pairs, {rejection.label: rejection.reason for rejection in built.rejections}


def _compare(pair: Pairs, again: Pairs, relaxation: Relaxation) -> list[str]:
    """Return in what one pair differs from that which its relaxation makes."""
    found = []
    if not _is_same(pair.unrelaxed, again.unrelaxed):
        found.append(f'started from another crystal: StructureData {relaxation.start}')
    if not (_is_same(pair.relaxed, again.relaxed) and _is_same(pair.as_filed, again.as_filed)):
        found.append(f'ended in another crystal: StructureData {relaxation.end}')
    if not (_is_same_mask(pair.fixed, again.fixed) and _is_same_mask(pair.fixed_cell, again.fixed_cell)):
        found.append('held other sites, or another cell')
    moves = [str(one.about[MOVES][0]) if MOVES in one.about else '' for one in (again, pair)]
    if moves[1] and moves[0] != moves[1]:
        found.append(f'moved `{moves[0]}`, not `{moves[1]}`')
    return found


def _compare_settings(pair: Pairs, recorded: Mapping[str, Mapping[str, Any]], relaxation: Relaxation) -> list[str]:
    """Return that a pair was computed with others than it says, or says no more of than a key that is not that of them.

    What earlier versions `recorded` by that key may have tags that VASP takes by itself, and lack those `ADDED` since.
    """
    key = str(pair.about['settings'][0]) if 'settings' in pair.about else ''
    if key in ('', settings_key(relaxation)):
        return []
    if key not in recorded:
        return [f'has settings {key} that the node does not record: expected {settings_key(relaxation)}']
    told = dict(recorded[key])
    engine = {'engine': told.pop('engine')} if 'engine' in told else {}
    before = engine | chosen_tags(told, lambda _: True)
    now = {tag: value for tag, value in relaxation.settings.items() if tag not in ADDED or tag in before}
    if before == now:
        return []
    return [f'was computed with other settings: {settings_key(relaxation)}, not {key}']


def _is_same_mask(one: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)


def _is_same(one: Crystals, other: Crystals) -> bool:
    return np.array_equal(one.pbc, other.pbc) and same(_sites(one), _sites(other), SAME)


def _sites(crystal: Crystals) -> Sites:
    return Sites(crystal.numbers, crystal.positions, crystal.cell[0], crystal.pbc[0])
