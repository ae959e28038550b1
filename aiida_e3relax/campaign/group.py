"""The group that is a campaign."""

from __future__ import annotations

from aiida import orm


class CampaignGroup(orm.Group):
    """The raw structures of a campaign and its settings, under the campaign's name as label."""
