"""Pairs out of the provenance graph: what relaxed, from where to where, and computed with what."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.exceptions import NotExistent

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.data.pairs import RELAXATION, E3RelaxPairsData
from aiida_e3relax.gnn.data.build import BuildOptions, BuiltData, build
from aiida_e3relax.gnn.data.card import data_card
from aiida_e3relax.gnn.data.sources.base import Candidate, Loaded, Sites, Source, UnusableError, sites_of, with_isif
from aiida_e3relax.learning.relaxations import KPOINTS, Relaxation

KIND = 'AiiDA'
NOT_SET = 'not set'


@dataclasses.dataclass(frozen=True)
class Gathered:
    """Pairs that were gathered.

    Attributes
    ----------
    node
        The node of pairs, not stored.
    data
        What was built: pairs, rejections, repeats.
    settings
        By their key in `Pairs.about`, `settings`, what the relaxations were computed with.
    others
        How many relaxations had which value of each other setting that is not the same in all, by its name.
    """

    node: E3RelaxPairsData
    data: BuiltData
    settings: Mapping[str, Mapping[str, Any]]
    others: Mapping[str, Mapping[str, int]]


def settings_key(relaxation: Relaxation) -> str:
    """Return a short key of what a relaxation was computed with, apart from what belongs to its elements."""
    text = json.dumps(dict(sorted(relaxation.settings.items())), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def check_settings(relaxations: Sequence[Relaxation]) -> None:
    """Raise InputError unless all relaxations go down one energy surface, saying what differs and how often.

    They do where engine and INCAR tags agree, and each element has one potential and one U. Of crystals that no job of
    VASP made it is not known.
    """
    if unknown := [relaxation for relaxation in relaxations if not relaxation.settings]:
        raise InputError(
            f'{len(unknown)} of {len(relaxations)} relaxations end in a crystal that no job of VASP made, such as '
            f'{unknown[0].process}: what they were computed with is not known. Take them with --mix-settings if it was '
            'one way for all'
        )
    groups: dict[str, list[Relaxation]] = defaultdict(list)
    for relaxation in relaxations:
        groups[settings_key(relaxation)].append(relaxation)
    if len(groups) > 1:
        names = sorted({name for found in groups.values() for name in found[0].settings})
        differing = [name for name in names if len({str(g[0].settings.get(name)) for g in groups.values()}) > 1]
        told = '; '.join(
            f'{len(found)} with {_in_words(found[0].settings, differing)} (settings {key})'
            for key, found in sorted(groups.items(), key=lambda item: -len(item[1]))
        )
        raise InputError(
            f'{len(relaxations)} relaxations have {len(groups)} kinds of settings: {told}. Take one with --settings '
            'KEY, or all with --mix-settings: their energy surfaces differ, and so do the crystals at the end'
        )
    of_elements: dict[str, Counter[str]] = defaultdict(Counter)
    for relaxation in relaxations:
        for symbol, what in relaxation.of_elements.items():
            of_elements[symbol][what] += 1
    if several := {symbol: found for symbol, found in of_elements.items() if len(found) > 1}:
        told = '; '.join(
            f'{symbol}: {", ".join(f"{what} ({count})" for what, count in found.most_common())}'
            for symbol, found in sorted(several.items())
        )
        raise InputError(
            f'elements were computed with more than one potential or U: {told}. Gather them apart, by naming other '
            'campaigns, groups or elements in --from, or take all with --mix-settings'
        )


def gather(
    relaxations: Iterable[Relaxation],
    source: str,
    options: BuildOptions,
    mix_settings: bool = False,
    settings: str | None = None,
    splits: Mapping[str, str] | None = None,
) -> Gathered:
    """Return the pairs of relaxations, from their start to their end, with the UUID of each.

    Parameters
    ----------
    relaxations
        Those that finished well.
    source
        The name of the data set.
    options
        How pairs are repaired, divided, and searched for repeats; see `build`.
    mix_settings
        Take relaxations that were computed with different settings together.
    settings
        Only those with settings of this key.
    splits
        The split of the pair of each relaxation by its UUID, where `options` have the split `as-given`.

    Raises
    ------
    InputError
        Where there are none, where their settings differ, and where no pair can be used.
    """
    found = list(relaxations)
    if settings is not None:
        known = Counter(map(settings_key, found))
        found = [relaxation for relaxation in found if settings_key(relaxation) == settings]
        if not found:
            keys = ', '.join(f'{key} ({count})' for key, count in known.most_common()) or 'none'
            raise InputError(f'--settings {settings}: no relaxation has these; found {keys}')
    if not found:
        raise InputError('found no relaxation that finished well; `aiida-e3relax campaign status` says what runs')
    if not mix_settings:
        check_settings(found)
    kinds = {settings_key(relaxation): dict(relaxation.settings) for relaxation in found}
    sources = [Source(KIND, source, source, [as_candidate(relaxation, splits or {}) for relaxation in found])]
    data = build(sources, options)
    card = data_card(data, sources, options, None, None)
    others = count_others(found)
    card |= {'settings': kinds, 'other_settings': others, 'of_elements': _elements_in_words(found)}
    differing = {name: counts for name, counts in others.items() if _differ(name, found)}
    return Gathered(E3RelaxPairsData.from_pairs(data.pairs, card, label=source), data, kinds, differing)


def count_others(relaxations: Sequence[Relaxation]) -> dict[str, dict[str, int]]:
    """Return how many relaxations have which value of each of `Relaxation.others`, by name, the most frequent first.

    Spacings of k-points, which hardly two crystals share, are told to 0.01.
    """
    names = dict.fromkeys(name for relaxation in relaxations for name in relaxation.others)
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    for relaxation in relaxations:
        for name in names:
            value = relaxation.others.get(name, NOT_SET)
            counts[name][f'{value:.2f}' if isinstance(value, float) and name == KPOINTS else str(value)] += 1
    return {name: dict(found.most_common()) for name, found in counts.items()}


def _differ(name: str, relaxations: Sequence[Relaxation]) -> bool:
    """Return whether values differ more than they may by one choice for all crystals.

    A mesh of k-points is rounded up, so that from one spacing asked for come spacings that differ by less than half.
    """
    values = {relaxation.others.get(name, NOT_SET) for relaxation in relaxations}
    if name != KPOINTS:
        return len(values) > 1
    known = values - {NOT_SET}
    return max(known) >= 2 * min(known)


def gather_divided(relaxations: Iterable[Relaxation], source: str, splits: Mapping[str, str]) -> E3RelaxPairsData:
    """Return the pairs of relaxations of a campaign, not stored, in the `splits` that are given by their UUIDs.

    A campaign has one recipe, by which some tags depend on the structure, as those of Hubbard's U: `gather` takes them
    together, and the card tells which there are. What ends in the crystal of a pair that judges is not learnt from.
    The node counts what was left out, and why.
    """
    options = BuildOptions(split='as-given', drop_leaks=True)
    gathered = gather(relaxations, source, options, mix_settings=True, splits=splits)
    rejections = gathered.data.rejections
    left_out = Counter(each.reason if each.kind == 'leaks' else each.kind for each in rejections)
    gathered.node.base.attributes.set(E3RelaxPairsData.LEFT_OUT_KEY, dict(left_out.most_common()))
    return gathered.node


def as_candidate(relaxation: Relaxation, splits: Mapping[str, str]) -> Candidate:
    """Return a relaxation as a possible pair, in the split that `splits` have by its UUID, if any."""
    about = {RELAXATION: relaxation.process, 'settings': settings_key(relaxation)}
    split = splits.get(relaxation.process, '')
    return Candidate(relaxation.label or relaxation.process, split, lambda: _load(relaxation), about)


def _load(relaxation: Relaxation) -> Loaded:
    if relaxation.is_converged is False:
        raise UnusableError('not converged: the last run of VASP stopped before its forces were below their bound')
    before, after = (_read(uuid) for uuid in (relaxation.start, relaxation.end))
    if relaxation.positions_dof is not None:
        held = ~np.asarray(relaxation.positions_dof, dtype=bool)
        if held.shape != after.positions.shape:
            raise UnusableError(f'fixed sites: `positions_dof` has the shape {held.shape}, not one row a site')
        after = after._replace(fixed=held)
    if relaxation.isif is not None:
        after = with_isif(after, str(relaxation.isif), relaxation.constraints)
    return Loaded(before, after)


def _read(uuid: str) -> Sites:
    try:
        structure: Any = orm.load_node(uuid=uuid)
    except NotExistent as error:
        raise UnusableError(f'deleted: the crystal {uuid}') from error
    try:
        return sites_of(structure.get_ase())
    except ValueError as error:  # kinds with several elements, or vacancies
        raise UnusableError(f'partial occupancies: {error}') from error


def _in_words(settings: Mapping[str, Any], names: Sequence[str]) -> str:
    return ', '.join(f'{name} {settings.get(name, NOT_SET)}' for name in names)


def _elements_in_words(relaxations: Iterable[Relaxation]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for relaxation in relaxations:
        for symbol, what in relaxation.of_elements.items():
            found[symbol].add(what)
    return {symbol: sorted(whats) for symbol, whats in sorted(found.items())}
