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
    return {text if counts[text] == 1 else group.label: group for text, group in zip(texts, arms, strict=True)}


def _iterate_notes(arms: Mapping[str, CampaignGroup], frames: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Yield what makes arms hard to compare; raises ValueError for what cannot be compared at all."""
    (first, of_first), *others = arms.items()
    for name, group in others:
        _check_structures(frames[first], frames[name], f'{of_first.label}` and `{group.label}')
        if different := find_other_settings(of_first.settings.chain, group.settings.chain):
            yield (
                f'{name} was relaxed with another `{"`, `".join(different)}` than {first}: steps and energies of the '
                'two are not of the same relaxation.'
            )
    for name, frame in frames.items():
        if n_left := int(frame['state'].isin(('waiting', 'running')).sum()):
            yield f'{name}: {n_left} of {len(frame)} structures are waiting or running, and in no figure yet.'


def _check_structures(frame: pd.DataFrame, other: pd.DataFrame, names: str) -> None:
    """Raise ValueError where the structures of one label are not the same crystal in two tables."""
    labels = frame.index.intersection(other.index)
    uuids = frame.loc[labels, 'structure_uuid'], other.loc[labels, 'structure_uuid']
    for label in labels[uuids[0] != uuids[1]]:
        nodes: list[Any] = [orm.load_node(uuid=column[label]) for column in uuids]
        if content(nodes[0]) != content(nodes[1]):
            raise ValueError(f'campaigns `{names}`: expected one crystal under the label `{label}`, found two')
