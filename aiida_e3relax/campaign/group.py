"""The AiiDA group that holds a campaign."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common.exceptions import NotExistent

from aiida_e3relax.campaign.settings import CampaignSettings
from aiida_e3relax.common.messages import printable


@dataclasses.dataclass(frozen=True)
class GroupExtras:
    """What may change of a campaign, as it is at one moment.

    Attributes
    ----------
    label
        The name of the campaign.
    is_paused
        Whether nothing more is submitted for now.
    max_running
        How many chains may run at the same time.
    network_jobs
        How many runs of the network may run at the same time, where it is another number than that of the settings.
    attempts
        How many chains a structure may have by its label, where it is more than one.
    network_attempts
        How many runs of the network a batch may have by its place, where it is more than the settings allow.
    raw_on_network_failure
        Whether structures for whose batch the network failed are relaxed without it, and not held back.
    rounds_asked
        How many rounds of learning there are to be, where a person has asked for one.
    round_fault
        Why the last round that was due could not be submitted: `after` how many finished relaxations, `asked`, how many
        rounds a person had asked for then, and `message`. None where all goes well.
    training
        What rounds take in the place of what the settings say of them, see `LearningSettings.with_training`.
    """

    label: str
    is_paused: bool = False
    max_running: int = 1
    network_jobs: int | None = None
    attempts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    network_attempts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    raw_on_network_failure: bool = False
    rounds_asked: int = 0
    round_fault: Mapping[str, Any] | None = None
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class CampaignGroup(orm.Group):
    """The raw structures of a campaign and its settings, under the campaign's name as label.

    The settings are a node and never change. What may change, the caps, a pause, what to try again and how the model is
    trained, are extras.
    """

    _PAUSED = 'paused'
    _MAX_RUNNING = 'max_running'
    _NETWORK_JOBS = 'network_jobs'
    _ATTEMPTS = 'attempts'
    _NETWORK_ATTEMPTS = 'network_attempts'
    _RAW_ON_NETWORK_FAILURE = 'raw_on_network_failure'
    _ROUNDS_ASKED = 'rounds_asked'
    _ROUND_FAULT = 'round_fault'
    _TRAINING = 'training'

    @property
    def settings_node(self) -> orm.Dict:
        """The node with the settings, an input of every process of the campaign.

        Raises ValueError where somebody has taken it out of the group.
        """
        return find_settings(self, f'campaign `{self.label}`')

    @property
    def settings(self) -> CampaignSettings:
        """The content of `settings_node`."""
        return CampaignSettings.from_node(self.settings_node)

    def read_extras(self) -> GroupExtras:
        """Return the extras as they are now, whoever set them, in one query; raises NotExistent of a deleted group."""
        label, extras = orm.QueryBuilder().append(orm.Group, filters={'id': self.pk}, project=['label', 'extras']).one()
        names = {
            'is_paused': self._PAUSED,
            'max_running': self._MAX_RUNNING,
            'network_jobs': self._NETWORK_JOBS,
            'attempts': self._ATTEMPTS,
            'network_attempts': self._NETWORK_ATTEMPTS,
            'raw_on_network_failure': self._RAW_ON_NETWORK_FAILURE,
            'rounds_asked': self._ROUNDS_ASKED,
            'round_fault': self._ROUND_FAULT,
            'training': self._TRAINING,
        }
        return GroupExtras(label, **{name: extras[key] for name, key in names.items() if key in extras})

    @property
    def is_paused(self) -> bool:
        """As in `GroupExtras`."""
        return self.read_extras().is_paused

    @is_paused.setter
    def is_paused(self, value: bool) -> None:
        self.base.extras.set(self._PAUSED, value)

    @property
    def max_running(self) -> int:
        """As in `GroupExtras`."""
        return self.read_extras().max_running

    @max_running.setter
    def max_running(self, value: int) -> None:
        self.base.extras.set(self._MAX_RUNNING, value)

    @property
    def network_jobs(self) -> int | None:
        """As in `GroupExtras`."""
        return self.read_extras().network_jobs

    @network_jobs.setter
    def network_jobs(self, value: int) -> None:
        self.base.extras.set(self._NETWORK_JOBS, value)

    @property
    def attempts(self) -> Mapping[str, int]:
        """As in `GroupExtras`."""
        return self.read_extras().attempts

    @attempts.setter
    def attempts(self, value: Mapping[str, int]) -> None:
        self.base.extras.set(self._ATTEMPTS, dict(value))

    @property
    def network_attempts(self) -> Mapping[str, int]:
        """As in `GroupExtras`."""
        return self.read_extras().network_attempts

    @network_attempts.setter
    def network_attempts(self, value: Mapping[str, int]) -> None:
        self.base.extras.set(self._NETWORK_ATTEMPTS, dict(value))

    @property
    def raw_on_network_failure(self) -> bool:
        """As in `GroupExtras`."""
        return self.read_extras().raw_on_network_failure

    @raw_on_network_failure.setter
    def raw_on_network_failure(self, value: bool) -> None:
        self.base.extras.set(self._RAW_ON_NETWORK_FAILURE, value)

    @property
    def rounds_asked(self) -> int:
        """As in `GroupExtras`."""
        return self.read_extras().rounds_asked

    @rounds_asked.setter
    def rounds_asked(self, value: int) -> None:
        self.base.extras.set(self._ROUNDS_ASKED, value)

    @property
    def round_fault(self) -> Mapping[str, Any] | None:
        """As in `GroupExtras`."""
        return self.read_extras().round_fault

    @round_fault.setter
    def round_fault(self, value: Mapping[str, Any] | None) -> None:
        self.base.extras.set(self._ROUND_FAULT, value and dict(value))

    @property
    def training(self) -> Mapping[str, Any]:
        """As in `GroupExtras`."""
        return self.read_extras().training

    @training.setter
    def training(self, value: Mapping[str, Any]) -> None:
        self.base.extras.set(self._TRAINING, dict(value))


def find_settings(group: orm.Group, name: str) -> orm.Dict:
    """Return the node with the settings in a group; raises ValueError, which begins with `name`, where there is none.

    It is the oldest Dict with the key `schema`.
    """
    query = orm.QueryBuilder().append(orm.Group, filters={'id': group.pk}, tag='group')
    query.append(orm.Dict, with_group='group', filters={'attributes': {'has_key': 'schema'}}, tag='settings')
    found = query.order_by({'settings': {'id': 'asc'}}).all(flat=True)
    if not found:
        raise ValueError(f'{name}: expected a Dict with its settings in the group, found none')
    return found[0]


def find_campaigns() -> list[CampaignGroup]:
    """Return the campaigns of the profile, oldest first."""
    query = orm.QueryBuilder().append(CampaignGroup, tag='campaign')
    return query.order_by({'campaign': {'id': 'asc'}}).all(flat=True)


def load_campaign(name: str) -> CampaignGroup:
    """Return the campaign of that name; raises ValueError with those that there are where there is none."""
    try:
        group: Any = CampaignGroup.collection.get(label=name)
    except NotExistent as error:
        known = orm.QueryBuilder().append(CampaignGroup, project='label').all(flat=True)
        names = ', '.join(map(printable, sorted(known))) or 'none; make one with `aiida-e3relax campaign create`'
        raise ValueError(f'campaign `{printable(name)}`: not in this profile; campaigns here: {names}') from error
    return group
