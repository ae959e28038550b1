"""Read the contents of a report from the provenance graph."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from aiida import orm

from aiida_e3relax.campaign.arms import find_arms
from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.report.contents import Contents
from aiida_e3relax.campaign.results.arm_frames import compare_campaigns
from aiida_e3relax.campaign.results.learning_records import read_learning
from aiida_e3relax.campaign.results.records import chain_query
from aiida_e3relax.campaign.results.statistics import summarise
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.campaign.results.trajectories import campaign_trajectories
from aiida_e3relax.campaign.settings import read_content
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.data.structures import structures_to_crystals

OUTPUTS = {'predicted_structure': 'predicted', 'structure': 'relaxed'}
"""The stages of a crystal that are outputs of its chain."""


def gather_contents(name: str, classes: Mapping[str, str] | None = None) -> Contents:
    """Return what the report of the campaign `name` shows.

    `classes` are those of the crystals by label, in the place of their chemistry. Raises ValueError when there is no
    such campaign, and where a crystal has no class.
    """
    group = load_campaign(name)
    settings = group.settings_node
    frame = campaign_frame(name)
    return Contents(
        name=name,
        settings=read_content(settings),
        settings_uuid=settings.uuid,
        frame=frame,
        summary=summarise(frame, classes),
        trajectories=campaign_trajectories(name),
        structures=gather_crystals(settings, frame),
        arms=compare_campaigns([name], classes) if find_arms(group) else None,
        learning=read_learning(name, frame),
    )


def gather_crystals(settings: orm.Dict, frame: pd.DataFrame) -> dict[str, Crystals]:
    """Return the raw, predicted and relaxed crystals of a campaign, in two queries."""
    raw = orm.QueryBuilder()
    raw.append(orm.StructureData, filters={'uuid': {'in': frame['structure_uuid'].tolist()}}, project=['uuid', '*'])
    by_uuid = dict(raw.iterall(1000))
    nodes: dict[str, dict[str, orm.StructureData]] = {stage: {} for stage in OUTPUTS.values()}
    nodes['raw'] = {label: by_uuid[uuid] for label, uuid in frame['structure_uuid'].items()}
    outputs = chain_query(settings, ['uuid'])
    outputs.append(
        orm.StructureData,
        with_incoming='chain',
        edge_filters={'label': {'in': list(OUTPUTS)}},
        edge_project='label',
        project='*',
    )
    labels = {uuid: label for label, uuid in frame['chain_uuid'].dropna().items()}
    for uuid, structure, link in outputs.iterall(1000):
        if uuid in labels:
            nodes[OUTPUTS[link]][labels[uuid]] = structure
    return {stage: structures_to_crystals(found) for stage, found in nodes.items()}
