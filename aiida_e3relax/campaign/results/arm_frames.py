"""The arms of campaigns, read from the graph and compared."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
from aiida import orm

from aiida_e3relax.campaign.arms import JOINT, RAW_ALONE, find_arms, find_base, find_other_settings, find_pre_relaxer
from aiida_e3relax.campaign.group import CampaignGroup, load_campaign
from aiida_e3relax.campaign.learnt import note_learnt
from aiida_e3relax.campaign.results.arm_notes import iterate_notes
from aiida_e3relax.campaign.results.arms import ArmsComparison, compare_arms
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.campaign.settings import CampaignSettings
from aiida_e3relax.common.messages import name_some, printable
from aiida_e3relax.workflows.comparison.legs import ENVIRONMENT
from aiida_e3relax.workflows.comparison.reference import content

Parts = Mapping[str, CampaignSettings]
"""An arm: the settings of its campaign, or of several of other crystals that are taken as one, by their names."""


def compare_campaigns(names: Iterable[str], classes: Mapping[str, str] | None = None) -> ArmsComparison:
    """Return arms side by side; a name stands for that campaign and, where it relaxes raw crystals, for its arms.

    Names that `JOINT` joins stand for campaigns of other crystals each, which are taken as one, and so are their arms,
    each with that of the same pre-relaxer; a note names those without such a like. An arm goes by its pre-relaxer, with
    `predicted_algo` where it has one, or by the name of its campaign where several have the same. A campaign without
    predictions is no arm. `classes` are as in `compare_arms`.

    Raises
    ------
    ValueError
        For a name that there is not, where there is no arm, for arms without a crystal in common, where one label
        stands for other crystals in one campaign than in another, for campaigns that cannot be joined, and for
        structures that have been deleted.
    """
    words = list(names)
    listed, left_out = _list_arms(words)
    _check_common(words, listed)
    arms = _name_arms(listed)
    frames = {name: _join_frames({label: campaign_frame(label) for label in parts}) for name, parts in arms.items()}
    notes = (*left_out, *_iterate_notes(arms), *iterate_notes(frames))
    comparison = compare_arms(frames, classes, _list_bases(arms.values()))
    of_arms = {name: parts.values() for name, parts in arms.items()}
    learnt = note_learnt(of_arms, comparison.by_crystal.index[comparison.by_crystal['in_all']])
    return dataclasses.replace(comparison, notes=(*notes, *learnt))


def _list_bases(arms: Iterable[Parts]) -> list[pd.DataFrame]:
    """Return the tables of the base campaigns of arms that are none of these themselves, as far as they are there."""
    found = {label: find_base(settings) for parts in arms for label, settings in parts.items() if settings.raw_legs_of}
    own = {label for parts in arms for label in parts}
    names = {base.label for base in found.values() if base} - own
    return [campaign_frame(name) for name in sorted(names)]


def _list_arms(words: list[str]) -> tuple[list[Parts], list[str]]:
    """Return the arms that words stand for, each once, and what to know of those that are left out."""
    read = [_read_word(word) for word in words]
    arms = {tuple(arm): arm for found, _ in read for arm in found}
    if not arms:
        raise ValueError(
            f'campaign `{printable(words[0])}`: it relaxes raw crystals alone and has no arms; make one with '
            '`aiida-e3relax campaign create --raw-legs-of`'
        )
    return list(arms.values()), [note for _, notes in read for note in notes]


def _check_common(words: list[str], arms: Iterable[Parts]) -> None:
    """Raise ValueError where no crystal is in all arms, so that there will never be anything to compare."""
    labels = [{label for settings in arm.values() for label in settings.structures} for arm in arms]
    if not set.intersection(*labels):
        raise ValueError(
            f'campaigns `{printable("`, `".join(words))}`: expected arms of the same crystals, found none that is in '
            'all of them; campaigns of different crystals are taken as one with a comma between their names, as in '
            f'A{JOINT}B'
        )


def _read_word(word: str) -> tuple[list[Parts], list[str]]:
    """Return the arms that a name, or names with `JOINT` between them, stand for, and notes on those left out."""
    is_one = JOINT not in word or CampaignGroup.collection.find({'label': word})  # older names may have it
    parts = []
    for name in [word] if is_one else word.split(JOINT):
        group = load_campaign(name.strip())
        found = {arm.label: arm.settings for arm in (group, *find_arms(group))}
        parts.append({label: settings for label, settings in found.items() if find_pre_relaxer(settings) != RAW_ALONE})
    if len(parts) == 1:
        return [{label: settings} for label, settings in parts[0].items()], []
    return _join_arms(word, parts)


def _join_arms(word: str, parts: list[dict[str, CampaignSettings]]) -> tuple[list[Parts], list[str]]:
    """Return each arm of the first part with its like of each other part, and notes on arms without such a like.

    Raises ValueError where a campaign is in two parts, where arms of one part are alike, and where none has a like.
    """
    advice = f'name the arms that belong together, as in ARM{JOINT}ARM'
    counts = Counter(label for part in parts for label in part)
    if twice := [label for label, count in counts.items() if count > 1]:
        raise ValueError(f'{word}: expected other campaigns in each part, found `{twice[0]}` in two; name each once')
    by_start: list[dict[Any, str]] = []
    for part in parts:
        labels: dict[Any, str] = {}
        for label, settings in part.items():
            like = labels.setdefault(_find_start(settings), label)
            if like != label:
                raise ValueError(f'{word}: `{like}` and `{label}` are by the same pre-relaxer; {advice}')
        by_start.append(labels)
    common = [start for start in by_start[0] if all(start in labels for labels in by_start)]
    alone = [label for labels in by_start for start, label in labels.items() if start not in common]
    like = 'by the same pre-relaxer, with the same model and settings'
    if alone and not common:
        raise ValueError(f'{word}: expected in each part an arm {like}, found none like `{alone[0]}` beside it')
    joined: list[Parts] = [
        {labels[start]: part[labels[start]] for labels, part in zip(by_start, parts, strict=True)} for start in common
    ]
    return joined, [f'{label} is in no figure: not each of {word} has an arm {like}.' for label in alone]


def _find_start(settings: CampaignSettings) -> tuple[str, ...]:
    """Return what makes the starts of an arm: the pre-relaxer, the content of model and weights, and how it is run."""
    nodes: list[Any] = [settings.chain.get(key) for key in ('model', 'potential_weights')]
    contents = [orm.load_node(uuid=uuid).content_hash if uuid else '' for uuid in nodes]
    overrides = settings.chain.get('overrides') or {}
    own = {key: overrides.get(key) for key in ('network', 'predicted_algo') if overrides.get(key)}
    return (find_pre_relaxer(settings), *contents, json.dumps(own, sort_keys=True))


def _join_frames(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the tables of the parts of an arm as one; raises ValueError where a label is in two of them."""
    known: dict[Any, str] = {}
    for name, frame in frames.items():
        for label in frame.index:
            if label in known:
                raise ValueError(
                    f'campaigns `{known[label]}` and `{name}`: expected other crystals in each of those that are taken '
                    f'as one, found `{label}` in both'
                )
            known[label] = name
    return pd.concat(frames.values())


def _name_start(settings: CampaignSettings) -> str:
    """Return the pre-relaxer of a campaign, and how VASP moves the ions from there where that is of its own."""
    algo = (settings.chain.get('overrides') or {}).get('predicted_algo')
    return f'{find_pre_relaxer(settings)} ({algo})' if algo else find_pre_relaxer(settings)


def _name_arms(arms: list[Parts]) -> dict[str, Parts]:
    texts = [_name_start(next(iter(parts.values()))) for parts in arms]
    of_campaigns = [JOINT.join(parts) for parts in arms]
    counts = Counter(texts)
    names = [text if counts[text] == 1 else own for text, own in zip(texts, of_campaigns, strict=True)]
    if len(set(names)) < len(names):  # a campaign is called as the pre-relaxer of another one
        names = of_campaigns
    return dict(zip(names, arms, strict=True))


def _iterate_notes(arms: Mapping[str, Parts]) -> Iterator[str]:
    """Yield by which settings arms are hard to compare; raises ValueError for what cannot be compared at all.

    A campaign is held against the first arm that has its crystals, or some of them.
    """
    _check_structures({label: settings.structures for parts in arms.values() for label, settings in parts.items()})
    earlier: list[tuple[str, CampaignSettings]] = []
    for name, parts in arms.items():
        titled = [(name if len(parts) == 1 else label, settings) for label, settings in parts.items()]
        for title, settings in titled:
            left = set(settings.structures)
            for other, of_other in earlier:
                if common := left & of_other.structures.keys():
                    yield from _iterate_differences(title, settings, other, of_other, common)
                left -= common
        earlier += titled
    if later := [name for name, parts in arms.items() if any(settings.raw_legs_of for settings in parts.values())]:
        yield (
            f'The raw crystals were relaxed before the arms {name_some(later)}: the times of the two were not measured '
            'side by side.'
        )


def _iterate_differences(
    name: str, settings: CampaignSettings, other: str, of_other: CampaignSettings, common: Iterable[str]
) -> Iterator[str]:
    """Yield by what the relaxations of the `common` crystals differ between two campaigns."""
    different = find_other_settings(of_other.chain, settings.chain)
    if any(of_other.fixed.get(label) != settings.fixed.get(label) for label in common):
        different.append('fixed')
    if different:
        yield (
            f'{name} was relaxed with another `{"`, `".join(different)}` than {other}: steps and energies of the '
            'two are not of the same relaxation.'
        )
    options, others = (chain.get('options') or {} for chain in (settings.chain, of_other.chain))
    odd = sorted(key for key in options.keys() | others.keys() if options.get(key) != others.get(key))
    for keys, told in (
        ([key for key in odd if key in ENVIRONMENT], 'steps and energies may differ by that'),
        ([key for key in odd if key not in ENVIRONMENT], 'times and core times of the two were not measured alike'),
    ):
        if keys:
            yield f'{name} gave the jobs of VASP another `{"`, `".join(keys)}` than {other}: {told}.'
    versions = {key: value for key, value in settings.versions.items() if of_other.versions.get(key, value) != value}
    if versions:
        told = ', '.join(f'{key} {value} for {of_other.versions[key]}' for key, value in versions.items())
        yield f'{name} was made with other versions than {other}: {told}.'


def _check_structures(structures: Mapping[str, Mapping[str, str]]) -> None:
    """Raise ValueError where a label stands for another crystal than in the first campaign that has it.

    `structures` are by the name of a campaign the UUIDs of its raw crystals by their labels.
    """
    known: dict[str, tuple[str, str]] = {}
    for name, uuids in structures.items():
        for label, uuid in uuids.items():
            other, same = known.setdefault(label, (name, uuid))
            nodes: list[Any] = [orm.load_node(uuid=each) for each in (same, uuid)] if same != uuid else []
            if len(set(map(content, nodes))) > 1:
                raise ValueError(
                    f'campaigns `{other}` and `{name}`: expected one crystal under the label `{label}`, found two'
                )
