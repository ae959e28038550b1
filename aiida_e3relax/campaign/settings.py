"""The settings of a campaign, which are stored when it is created and never change."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from aiida import orm

from aiida_e3relax.campaign.defaults import NETWORK_JOBS, NETWORK_RETRIES
from aiida_e3relax.campaign.rounds.settings import (
    JUDGES,
    JUDGES_A_ROUND,
    RANDOM,
    LearningSettings,
    alternate,
    draw_judges,
    shuffled,
)

SCHEMA = 2
READ = (1, SCHEMA)
"""What can be read. Before 2 everything was an attribute of the node."""
LONG = ('structures', 'fixed', 'left_out', 'batches', 'reference_sample', 'judges')
"""What grows with the structures, in the file `LONG_FILE` of the node.

Each process of the campaign has the node as an input, which AiiDA loads and hashes time and again: attributes that tell
of 100,000 structures doubled what it took for a chain.
"""
LONG_FILE = 'structures.json'
ALL = 'all'
"""In the place of a sample: every structure."""


@dataclasses.dataclass(frozen=True)
class CampaignSettings:
    """The content of a campaign's settings node.

    Attributes
    ----------
    name
        The label of the group.
    created
        When, as ISO 8601 in UTC.
    structures
        The UUID of each raw structure by its label, which is that of its chain, too.
    fixed
        By label the sites that the file of a structure holds, as `fixed` in `freedom`.
    left_out
        By label what makes a structure unfit that was given, and is no part of the campaign.
    batches, batch_size
        The UUIDs of the nodes in which the network is given the structures, `batch_size` in each but the last.
    reference_share, reference_sample, seed
        Which structures are relaxed from the raw one beside the prediction: `all`, or the labels drawn with that seed.
        Without predictions all are, whatever an older version has drawn.
    chain
        What is the same for each chain: the record of `ChainChoices`.
    guard
        The guard's settings by the protocol and the overrides.
    versions
        Of the packages that made the campaign.
    network_retries
        How often a batch is given to the network again where its run fails as a whole, before its structures are held
        back.
    raw_legs_of
        Of an arm the UUID of the settings of its base campaign: the one of the same structures that relaxes the raw
        crystals for it. None of a campaign that relaxes its own.
    learning
        How its model learns from what has been relaxed: the record of `LearningSettings`. None of a campaign that was
        not told to, whose model may learn by hand alone.
    judges
        The structures that judge the models and are never learnt from; None without `learning`.
    network_jobs
        How many batches are given to the network at the same time, each in a job of its own.
    """

    name: str
    created: str
    structures: dict[str, str]
    fixed: dict[str, dict[str, list[int]]]
    left_out: dict[str, str]
    batches: list[str]
    batch_size: int
    reference_share: float
    reference_sample: list[str] | str
    seed: int
    chain: dict[str, Any]
    guard: dict[str, Any]
    versions: dict[str, str]
    network_retries: int = NETWORK_RETRIES
    raw_legs_of: str | None = None
    learning: dict[str, Any] | None = None
    judges: list[str] | None = None
    network_jobs: int = NETWORK_JOBS

    @classmethod
    def from_node(cls, node: orm.Dict) -> CampaignSettings:
        """Return the settings in a node, defaults where an older version of this package has not written a key.

        Raises ValueError where another version has written other settings.
        """
        content = read_content(node)
        del content['schema']
        fields = [field for field in dataclasses.fields(cls) if field.name != 'chain']
        own = {field.name: content.pop(field.name) for field in fields if field.name in content}
        needed = {field.name for field in fields if field.default is dataclasses.MISSING}
        if missing := sorted(needed - own.keys()):
            raise ValueError(f'settings of a campaign in {node}: expected the key `{missing[0]}`, found none')
        return cls(**own, chain=content)

    def to_node(self) -> orm.Dict:
        """Return an unstored node with the settings, those of `chain` beside the others and `LONG` in a file."""
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        long = {name: content.pop(name) for name in LONG}
        node = orm.Dict({'schema': SCHEMA, **content.pop('chain'), **content}, label=f'settings of {self.name}')
        node.base.repository.put_object_from_bytes(json.dumps(long).encode(), LONG_FILE)
        return node

    @property
    def relaxes_raw_alone(self) -> bool:
        """Whether nothing is predicted: VASP relaxes each structure from the raw one."""
        return not (self.chain.get('network_code') or self.chain.get('model'))

    def has_raw_leg(self, label: str) -> bool:
        """Return whether a structure is relaxed from the raw one whatever the network predicts."""
        return self.reference_sample == ALL or self.relaxes_raw_alone or label in self._sample

    @functools.cached_property
    def _sample(self) -> frozenset[str]:
        return frozenset(self.reference_sample)

    @functools.cached_property
    def how_to_learn(self) -> LearningSettings:
        """How its model learns: `learning`, or by hand alone."""
        return LearningSettings.from_mapping(self.learning or {})

    @functools.cached_property
    def judge_set(self) -> frozenset[str]:
        """The structures that judge the models and are never learnt from, all of which have a raw leg."""
        if self.judges is not None:
            return frozenset(self.judges)
        sample = [label for label in self.structures if self.has_raw_leg(label)]
        count = max(JUDGES_A_ROUND, int(np.ceil(JUDGES * len(self.structures))))
        return frozenset(draw_judges(sample, count, self.seed))

    def batch_index(self) -> dict[str, int]:
        """Return by label the place of its batch; empty without a network.

        The labels are read from the batches: PostgreSQL does not keep the order of the keys of `structures`.
        """
        batches: list[Any] = [orm.load_node(uuid=uuid) for uuid in self.batches]
        return {label: place for place, batch in enumerate(batches) for label in batch.labels}


def read_content(node: orm.Dict) -> dict[str, Any]:
    """Return all that a campaign's settings node holds, by key, `schema` among them.

    Raises ValueError where another version has written other settings.
    """
    content = node.get_dict()
    schema = content.get('schema')
    if schema not in READ:
        raise ValueError(
            f'settings of a campaign in {node}: expected schema {" or ".join(map(str, READ))}, found {schema}; use the '
            'version of aiida-e3relax that created it'
        )
    if schema == SCHEMA:
        content |= json.loads(node.base.repository.get_object_content(LONG_FILE, mode='r'))
    return content


def draw_sample(labels: Sequence[str], share: float, seed: int) -> list[str] | str:
    """Return a random sample of `labels` in their order: that share of them, rounded up, or `ALL`.

    The same labels, share and seed give the same sample.
    """
    if share >= 1.0:
        return ALL
    size = int(np.ceil(share * len(labels)))
    drawn = np.random.default_rng(seed).choice(len(labels), size=size, replace=False)
    return [labels[place] for place in sorted(drawn.tolist())]


def order_structures(labels: Sequence[str], judges: Sequence[str], how: LearningSettings, seed: int) -> list[str]:
    """Return the structures in the order in which a campaign that learns begins them, as far as that is known before.

    Those that judge have their turn all along, in random order; orders that go by predictions begin as given.
    """
    judging = set(judges)
    others = [label for label in labels if label not in judging]
    if how.order == RANDOM:
        others = shuffled(others, seed, 'order')
    return alternate(shuffled(judges, seed, 'turn'), others, len(judges) / len(labels))


def split_batches(structures: Mapping[str, orm.StructureData], size: int) -> list[dict[str, orm.StructureData]]:
    """Return the structures in their order as mappings of `size`, the last one of what is left."""
    items = list(structures.items())
    return [dict(items[start : start + size]) for start in range(0, len(items), size)]
