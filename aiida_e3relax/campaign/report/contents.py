"""What a report is made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd

from aiida_e3relax.campaign.results.arms import ArmsComparison
from aiida_e3relax.campaign.results.learning import LearningResult
from aiida_e3relax.campaign.results.statistics import Summary
from aiida_e3relax.campaign.results.trajectories import Trajectory
from aiida_e3relax.crystals.structures import Crystals

STAGES = ('raw', 'predicted', 'relaxed')


@dataclasses.dataclass(frozen=True)
class Contents:
    """Everything that a report shows of a campaign, as plain data.

    Attributes
    ----------
    name
        Of the campaign.
    settings, settings_uuid
        The content of its settings node, and where that is.
    frame
        The table of `campaign_frame`.
    summary
        What `summarise` makes of it.
    trajectories
        Energy and largest force against ionic step, by label and leg.
    structures
        The crystals of each of `STAGES`, labelled as in the frame; those that do not exist are left out.
    arms
        The campaign beside its arms; None where it has none.
    learning
        What learning brought; None of a campaign whose model never has and was not told to.
    """

    name: str
    settings: Mapping[str, Any]
    settings_uuid: str
    frame: pd.DataFrame
    summary: Summary
    trajectories: Mapping[str, Mapping[str, Trajectory]]
    structures: Mapping[str, Crystals]
    arms: ArmsComparison | None = None
    learning: LearningResult | None = None
