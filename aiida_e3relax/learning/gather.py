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
from aiida_e3relax.gnn.data.build import BuildOptions, BuiltData, Rejection, build
from aiida_e3relax.gnn.data.card import data_card
from aiida_e3relax.gnn.data.sources.base import Candidate, Loaded, Sites, Source, UnusableError, sites_of, with_isif
from aiida_e3relax.learning.relaxations import KPOINTS, WITH_U, Relaxation

KIND = 'AiiDA'
NOT_SET = 'not set'
OF_U = 'LDAUTYPE'
"""The one of the compared tags that goes by the U of a material: a recipe sets it where it sets U."""
TOLD_WHOLE = ('leaks', 'no relaxation')
"""Kinds of rejections that are counted by all of their reason."""


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


def check_settings(relaxations: Sequence[Relaxation], is_one_recipe: bool = False) -> None:
    """Raise InputError unless all relaxations go down one energy surface, saying what differs and how often.

    They do where engine and INCAR tags agree, and each element has one potential and one U. Of crystals that no job of
    VASP made it is not known. Where `is_one_recipe`, an element may have several U: they go by the material.
    """
    kinds = _describe_kinds(relaxations)
    if unknown := [relaxation for relaxation in relaxations if not relaxation.settings]:
        raise InputError(
            f'{len(unknown)} of {len(relaxations)} relaxations end in a crystal that no job of VASP made, such as '
            f'{unknown[0].process}: what they were computed with is not known. There are {kinds}. Take one kind with '
            '--settings KEY, or all with --mix-settings if they were computed in one way'
        )
    if len({_surface(relaxation, is_one_recipe) for relaxation in relaxations}) > 1:
        raise InputError(
            f'{len(relaxations)} relaxations have several kinds of settings: {kinds}. Take one with --settings '
            'KEY, or all with --mix-settings: their energy surfaces differ, and so do the crystals at the end'
        )
    of_elements: dict[str, Counter[str]] = defaultdict(Counter)
    for relaxation in relaxations:
        for symbol, what in relaxation.of_elements.items():
            of_elements[symbol][what.partition(WITH_U)[0] if is_one_recipe else what] += 1
    if several := {symbol: found for symbol, found in of_elements.items() if len(found) > 1}:
        told = '; '.join(
            f'{symbol}: {", ".join(f"{what} ({count})" for what, count in found.most_common())}'
            for symbol, found in sorted(several.items())
        )
        raise InputError(
            f'elements were computed with more than one potential or U: {told}. There are {kinds}. Gather them apart, '
            'by naming other campaigns, groups or elements in --from, or take all with --mix-settings; in one campaign '
            'alone U may go by the material'
        )


def _surface(relaxation: Relaxation, is_one_recipe: bool) -> str:
    """Return what is compared of the settings, apart from what belongs to the elements."""
    settings = dict(relaxation.settings)
    if is_one_recipe:
        settings.pop(OF_U, None)
    return json.dumps(settings, sort_keys=True)


def _describe_kinds(relaxations: Iterable[Relaxation]) -> str:
    """Return how many relaxations have which settings, in what these differ, and by which key they are taken."""
    groups: dict[str, list[Relaxation]] = defaultdict(list)
    for relaxation in relaxations:
        groups[settings_key(relaxation)].append(relaxation)
    differing = _differing([found[0].settings for found in groups.values() if found[0].settings])
    told = []
    for key, found in sorted(groups.items(), key=lambda item: -len(item[1])):
        settings = found[0].settings
        words = _in_words(settings, differing) if settings else 'what is not known'
        told.append(f'{len(found)} with {words} (settings {key})' if words else f'{len(found)} with settings {key}')
    return '; '.join(told)


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the settings that are not the same in all."""
    names = sorted({name for each in settings for name in each})
    return [name for name in names if len({str(each.get(name)) for each in settings}) > 1]


def gather(
    relaxations: Iterable[Relaxation],
    source: str,
    options: BuildOptions,
    mix_settings: bool = False,
    settings: str | None = None,
    splits: Mapping[str, str] | None = None,
    is_one_recipe: bool = False,
) -> Gathered:
    """Return the pairs of relaxations, from their start to their end, with the UUID of each.

    Parameters
    ----------
    relaxations
        Those that finished well; the settings of those with a fault, which are no pairs, do not count.
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
    is_one_recipe
        Whether all are of one campaign, whose U may go by the material, as in oxides only.

    Raises
    ------
    InputError
        Where there are none, where their settings differ, and where no pair can be used.
    """
    found = list(relaxations)
    sound = [relaxation for relaxation in found if relaxation.fault is None]
    if settings is not None:
        known = Counter(map(settings_key, sound))
        sound = [relaxation for relaxation in sound if settings_key(relaxation) == settings]
        found = [*sound, *(relaxation for relaxation in found if relaxation.fault is not None)]
        if not sound:
            keys = ', '.join(f'{key} ({count})' for key, count in known.most_common()) or 'none'
            raise InputError(f'--settings {settings}: no relaxation has these; found {keys}')
    if not found:
        raise InputError(
            'found no relaxation that finished well: `aiida-e3relax campaign status` says what runs in a campaign, and '
            'what other work chains relax is named in `--kinds`'
        )
    if not mix_settings:
        check_settings(sound, is_one_recipe)
    kinds = {settings_key(relaxation): dict(relaxation.settings) for relaxation in sound}
    sources = [Source(KIND, source, source, [as_candidate(relaxation, splits or {}) for relaxation in found])]
    data = build(sources, options)
    card = data_card(data, sources, options, None, None)
    others = count_others(sound)
    card |= {'settings': kinds, 'other_settings': others, 'of_elements': _elements_in_words(sound)}
    differing = {name: counts for name, counts in others.items() if _differ(name, sound)}
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

    A campaign has one recipe, by which U may depend on the material: `gather` takes them together, and the card tells
    which there are. Other settings change where the recipe did, as with another version of this package: of these the
    most frequent are taken. What ends in the crystal of a pair that judges is not learnt from. The node counts what was
    left out, and why.
    """
    taken, left_out = _with_most_frequent_settings(list(relaxations))
    options = BuildOptions(split='as-given', drop_leaks=True)
    gathered = gather(taken, source, options, mix_settings=True, splits=splits)
    left_out.update(map(count_as, gathered.data.rejections))
    gathered.node.base.attributes.set(E3RelaxPairsData.LEFT_OUT_KEY, dict(left_out.most_common()))
    return gathered.node


def count_as(rejection: Rejection) -> str:
    """Return the reason that a rejection is counted by."""
    return rejection.reason if rejection.kind in TOLD_WHOLE else rejection.kind


def _with_most_frequent_settings(relaxations: Sequence[Relaxation]) -> tuple[list[Relaxation], Counter[str]]:
    """Return those with the settings that most have, and those with a fault, and how many others have which."""
    groups: dict[str, list[Relaxation]] = defaultdict(list)
    for relaxation in relaxations:
        if relaxation.fault is None:
            groups[_surface(relaxation, True)].append(relaxation)
    if len(groups) < 2:
        return list(relaxations), Counter()
    most, *others = sorted(groups.values(), key=len, reverse=True)
    left_out: Counter[str] = Counter()
    for found in others:
        one, other = found[0].settings, most[0].settings
        names = [name for name in _differing([one, other]) if name != OF_U]
        left_out[f'with {_in_words(one, names)}, where most have {_in_words(other, names)}'] += len(found)
    without = {relaxation.process for found in others for relaxation in found}
    return [relaxation for relaxation in relaxations if relaxation.process not in without], left_out


def as_candidate(relaxation: Relaxation, splits: Mapping[str, str]) -> Candidate:
    """Return a relaxation as a possible pair, in the split that `splits` have by its UUID, if any."""
    about = {RELAXATION: relaxation.process, 'settings': settings_key(relaxation)}
    split = splits.get(relaxation.process, '')
    return Candidate(relaxation.label or relaxation.process, split, lambda: _load(relaxation), about)


def _load(relaxation: Relaxation) -> Loaded:
    if relaxation.fault is not None:
        raise UnusableError(relaxation.fault)
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
