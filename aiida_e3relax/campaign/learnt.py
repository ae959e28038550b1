"""Which structures of a campaign its model has learnt from before: what it saves on these says little of others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from aiida import orm

from aiida_e3relax.calculations.learning import TEST
from aiida_e3relax.campaign.settings import CampaignSettings
from aiida_e3relax.common.messages import count_of, name_some
from aiida_e3relax.crystals.digests import crystal_digests
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.pairs import E3RelaxPairsData
from aiida_e3relax.data.structures import structures_to_crystals
from aiida_e3relax.learning.relaxations import chunks


def find_learnt(settings: CampaignSettings) -> list[str]:
    """Return the structures of a campaign that its model had learnt from before the campaign began, in their order.

    The cards of the model and of those that it was tuned from name the pairs, see `parsers.train`; what is not in the
    profile any more, or was trained outside it, is not known. Structures are told by their species, positions and cells
    as they were given. Pairs of the split `test` judge and are not learnt from.
    """
    model = settings.chain.get('model')
    starts = set(_iterate_starts(model)) if model else set()
    if not starts:
        return []
    found = set()
    for some in chunks(settings.structures.values()):
        query = orm.QueryBuilder()
        query.append(orm.StructureData, filters={'uuid': {'in': some}}, project=['uuid', '*'])
        crystals = structures_to_crystals(dict(query.all()))
        digests = zip(crystals.labels.tolist(), crystal_digests(crystals), strict=True)
        found |= {uuid for uuid, digest in digests if digest in starts}
    return [label for label, uuid in settings.structures.items() if uuid in found]


def warn_of_learnt(campaigns: Iterable[CampaignSettings]) -> str:
    """Return how many of their structures the model of the first of the campaigns that has learnt from any has.

    It is a warning; empty where none has.
    """
    for settings in campaigns:
        if learnt := find_learnt(settings):
            return (
                f'warning: the model has learnt from {count_of(len(learnt), "structure")} of these '
                f'{len(settings.structures)} ({name_some(learnt)}): what it saves on them says little of other '
                'crystals (docs/learning.md, A tuned model in another campaign)'
            )
    return ''


def note_learnt(arms: Mapping[str, Iterable[CampaignSettings]], compared: Collection[str]) -> Iterator[str]:
    """Yield for each arm, by its name, how many of the crystals that are `compared` its model has learnt from."""
    for name, parts in arms.items():
        learnt = [label for settings in parts for label in find_learnt(settings) if label in compared]
        if learnt:
            yield (
                f'{name}: {len(learnt)} of the {len(compared)} crystals compared ({name_some(learnt)}) are among those '
                'that its model has learnt from: what it saves on them flatters it.'
            )


def _iterate_starts(model: str) -> Iterator[str]:
    """Yield digests of the crystals from which the relaxations began that the model with this UUID has learnt from."""
    for pairs in _find_pairs(model):
        content = pairs.pairs
        yield from crystal_digests(content.select((content.split != TEST).nonzero()[0]).unrelaxed)


def _find_pairs(model: str) -> list[E3RelaxPairsData]:
    """Return the nodes of pairs that the model with this UUID was made of, and those that it was tuned from."""
    pairs: dict[int, E3RelaxPairsData] = {}
    seen: set[int] = set()
    left: list[Mapping[str, Any]] = [{'uuid': model}]
    while left:
        for node in _find(E3RelaxModelData, left.pop()):
            if node.pk in seen:
                continue
            seen.add(node.pk)
            made_of = node.card.get('made_of') or {}
            for told in (made_of.get('pairs') or {}).values():
                pairs |= {each.pk: each for each in _find(E3RelaxPairsData, told)}
            left += [made_of.get('model') or {}, *_list_origins(node.card.get('training') or {})]
    return list(pairs.values())


def _list_origins(training: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what the record of a training tells of the models that it began with, and of the members of ensembles."""
    tuned, members = training.get('tuned_from') or {}, training.get('members') or []
    before = [tuned.get('training') or {}, *members]
    return [tuned, *members, *(origin for each in before if each for origin in _list_origins(each))]


def _find(node_class: Any, told: Mapping[str, Any]) -> list[Any]:
    """Return the node with the UUID that a card tells or, where it is not in the profile, those with the hash."""
    for key, field in (('uuid', 'uuid'), ('content_hash', f'attributes.{node_class.HASH_KEY}')):
        query = orm.QueryBuilder().append(node_class, filters={field: told.get(key) or ''})
        if found := query.all(flat=True):
            return found
    return []
