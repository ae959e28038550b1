"""What never changes of a campaign, read from the graph once for as long as somebody looks at it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from aiida import orm
from aiida.common.exceptions import NotExistent

from aiida_e3relax.campaign.arms import find_base
from aiida_e3relax.campaign.group import CampaignGroup, GroupExtras
from aiida_e3relax.campaign.settings import CampaignSettings
from aiida_e3relax.campaign.submission.processes import LinkedProcesses


@dataclasses.dataclass(frozen=True)
class Plan:
    """What never changes of a campaign.

    Attributes
    ----------
    group
        The campaign; None of a base campaign that has been deleted, of which the settings and the chains are left.
    node, settings
        The settings, and their content.
    batch_index
        By the label of a structure the place of its batch, see `CampaignSettings.batch_index`.
    base
        Of an arm the campaign that relaxes the raw crystals; None also where nothing is left of that.
    linked
        Reads the processes of the campaign, and keeps those that have ended.
    """

    group: CampaignGroup | None
    node: orm.Dict
    settings: CampaignSettings
    batch_index: Mapping[str, int]
    base: Plan | None = None
    linked: LinkedProcesses = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'linked', LinkedProcesses(self.node))

    def read_extras(self) -> GroupExtras | None:
        """Return what may change of the campaign; None where it has been deleted."""
        try:
            return self.group.read_extras() if self.group else None
        except NotExistent:
            return None


def read_plan(group: CampaignGroup) -> Plan:
    """Return what never changes of a campaign; raises ValueError where its settings cannot be read."""
    node = group.settings_node
    settings = CampaignSettings.from_node(node)
    return Plan(group, node, settings, settings.batch_index(), _read_base(settings))


def _read_base(settings: CampaignSettings) -> Plan | None:
    if settings.raw_legs_of is None:
        return None
    if group := find_base(settings):
        return read_plan(group)
    query = orm.QueryBuilder().append(orm.Dict, filters={'uuid': settings.raw_legs_of})
    node = query.first(flat=True)
    return node and Plan(None, node, CampaignSettings.from_node(node), {})
