"""The group that is a campaign."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.exceptions import NotExistent

from aiida_e3relax.campaign.settings import CampaignSettings


class CampaignGroup(orm.Group):
    """The raw structures of a campaign and its settings, under the campaign's name as label.

    The settings are a node and never change. What may change, the cap, a pause and what to try again, are extras.
    """

    _PAUSED = 'paused'
    _MAX_RUNNING = 'max_running'
    _ATTEMPTS = 'attempts'

    @property
    def settings_node(self) -> orm.Dict:
        """The node with the settings, an input of every process of the campaign."""
        query = orm.QueryBuilder().append(orm.Group, filters={'id': self.pk}, tag='group')
        return query.append(orm.Dict, with_group='group').one()[0]

    @property
    def settings(self) -> CampaignSettings:
        """The content of `settings_node`."""
        return CampaignSettings.from_node(self.settings_node)

    @property
    def is_paused(self) -> bool:
        """Whether nothing more is submitted for now."""
        return self._extra(self._PAUSED, False)

    @is_paused.setter
    def is_paused(self, value: bool) -> None:
        self.base.extras.set(self._PAUSED, value)

    @property
    def max_running(self) -> int:
        """How many chains may run at the same time."""
        return self._extra(self._MAX_RUNNING, 1)

    @max_running.setter
    def max_running(self, value: int) -> None:
        self.base.extras.set(self._MAX_RUNNING, value)

    @property
    def attempts(self) -> dict[str, int]:
        """How many chains a structure may have by its label, where it is more than one."""
        return self._extra(self._ATTEMPTS, {})

    @attempts.setter
    def attempts(self, value: dict[str, int]) -> None:
        self.base.extras.set(self._ATTEMPTS, value)

    def _extra(self, key: str, default: Any) -> Any:
        """Return an extra as it is now, whoever set it."""
        query = orm.QueryBuilder().append(orm.Group, filters={'id': self.pk}, project='extras')
        return query.one()[0].get(key, default)


def load_campaign(name: str) -> CampaignGroup:
    """Return the campaign of that name; raises ValueError with those that there are where there is none."""
    try:
        group: Any = CampaignGroup.collection.get(label=name)
    except NotExistent as error:
        known = orm.QueryBuilder().append(CampaignGroup, project='label').all(flat=True)
        names = ', '.join(sorted(known)) or 'none; make one with `aiida-e3relax campaign create`'
        raise ValueError(f'campaign `{name}`: not in this profile; campaigns here: {names}') from error
    return group
