"""The arms of campaigns, read from the graph and compared."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
from aiida import orm

from aiida_e3relax.campaign.arms import RAW_ALONE, find_arms, find_other_settings, find_pre_relaxer
from aiida_e3relax.campaign.group import CampaignGroup, load_campaign
from aiida_e3relax.campaign.results.arms import ArmsComparison, compare_arms
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.common.messages import printable
from aiida_e3relax.workflows.comparison.reference import content


def compare_campaigns(names: Iterable[str]) -> ArmsComparison:
    """Return arms side by side; a name stands for that campaign and, where it relaxes raw crystals, for its arms.

    An arm goes by its pre-relaxer, or by the name of its campaign where several have the same one. A campaign without
    predictions is no arm.

    Raises
    ------
    ValueError
        For a name that there is not, where there is no arm, where one label stands for other crystals in one campaign
        than in another, and for structures that have been deleted.
    """
    arms = _name_arms(_list_arms(list(names)))
    frames = {name: campaign_frame(group.label) for name, group in arms.items()}
    return dataclasses.replace(compare_arms(frames), notes=tuple(_iterate_notes(arms, frames)))


def _list_arms(names: list[str]) -> list[CampaignGroup]:
    """Return the campaigns that the names stand for, each once."""
    groups: dict[str, CampaignGroup] = {}
    for name in names:
        group = load_campaign(name)
        groups |= {found.uuid: found for found in (group, *find_arms(group))}
    arms = [group for group in groups.values() if find_pre_relaxer(group.settings) != RAW_ALONE]
    if not arms:
        raise ValueError(
            f'campaign `{printable(names[0])}`: it relaxes raw crystals alone and has no arms; make one with '
            '`aiida-e3relax campaign create --raw-legs-of`'
        )
    return arms


def _name_arms(arms: list[CampaignGroup]) -> dict[str, CampaignGroup]:
    texts = [find_pre_relaxer(group.settings) for group in arms]
    counts = Counter(texts)
    names = [text if counts[text] == 1 else group.label for text, group in zip(texts, arms, strict=True)]
    if len(set(names)) < len(names):  # a campaign is called as the pre-relaxer of another one
        names = [group.label for group in arms]
    return dict(zip(names, arms, strict=True))


def _iterate_notes(arms: Mapping[str, CampaignGroup], frames: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Yield what makes arms hard to compare; raises ValueError for what cannot be compared at all."""
    _check_structures({group.label: frames[name] for name, group in arms.items()})
    (first, of_first), *others = ((name, group.settings) for name, group in arms.items())
    for name, settings in others:
        different = find_other_settings(of_first.chain, settings.chain)
        labels = of_first.structures.keys() & settings.structures.keys()
        if any(of_first.fixed.get(label) != settings.fixed.get(label) for label in labels):
            different.append('fixed')
        if different:
            yield (
                f'{name} was relaxed with another `{"`, `".join(different)}` than {first}: steps and energies of the '
                'two are not of the same relaxation.'
            )
    for name, frame in frames.items():
        if n_left := int(frame['state'].isin(('waiting', 'running')).sum()):
            yield f'{name}: {n_left} of {len(frame)} structures are waiting or running, and in no figure yet.'


def _check_structures(frames: Mapping[str, pd.DataFrame]) -> None:
    """Raise ValueError where a label stands for another crystal than in the first campaign that has it."""
    known: dict[str, tuple[str, str]] = {}
    for name, frame in frames.items():
        for label, uuid in frame['structure_uuid'].items():
            other, same = known.setdefault(str(label), (name, uuid))
            nodes: list[Any] = [orm.load_node(uuid=each) for each in (same, uuid)] if same != uuid else []
            if len(set(map(content, nodes))) > 1:
                raise ValueError(
                    f'campaigns `{other}` and `{name}`: expected one crystal under the label `{label}`, found two'
                )
