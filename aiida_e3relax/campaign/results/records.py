"""Chains as the graph has them: raw structures, states and comparisons, each read in one query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from aiida import orm
from pymatgen.core import Composition

from aiida_e3relax.campaign.submission.processes import LINK, find_state
from aiida_e3relax.workflows.comparison.reference import CHAIN


def chain_query(settings: orm.Dict | None, project: Iterable[str]) -> orm.QueryBuilder:
    """Return a query over chains, oldest first, under the tag `chain`: of the campaign with these settings, or all."""
    query = orm.QueryBuilder()
    chain: dict[str, Any] = {
        'filters': {'attributes.process_label': CHAIN},
        'project': list(project),
        'tag': 'chain',
    }
    if settings is None:
        query.append(orm.WorkChainNode, **chain)
    else:
        query.append(orm.Dict, filters={'id': settings.pk}, tag='settings')
        query.append(orm.WorkChainNode, with_incoming='settings', edge_filters={'label': LINK}, **chain)
    return query.order_by({'chain': {'id': 'asc'}})


def read_compositions(uuids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return what structures are made of, by UUID, in one query."""
    if not uuids:
        return {}
    query = orm.QueryBuilder()
    project = ['uuid', 'attributes.kinds', 'attributes.sites']
    query.append(orm.StructureData, filters={'uuid': {'in': list(uuids)}}, project=project)
    return {uuid: _describe_composition(kinds, sites) for uuid, kinds, sites in query.iterall(batch_size=1000)}


def read_chains(settings: orm.Dict | None = None) -> dict[str, dict[str, Any]]:
    """Return the state, label and raw structure of chains, by UUID, oldest first, in one query.

    They are the chains of the campaign with these settings, or all in the profile.
    """
    query = chain_query(settings, ['uuid', 'id', 'label', *(f'attributes.{key}' for key in _STATE_KEYS)])
    query.append(
        orm.StructureData,
        with_outgoing='chain',
        edge_filters={'label': 'structure'},
        project=['uuid', 'attributes.kinds', 'attributes.sites'],
    )
    chains = {}
    for uuid, pk, label, state, exit_status, sealed, exit_message, structure_uuid, kinds, sites in query.iterall(1000):
        chains[uuid] = {
            'label': label,
            'structure_uuid': structure_uuid,
            'chain_uuid': uuid,
            'chain_pk': pk,
            'state': find_state(state, exit_status, bool(sealed)).value,
            'exit_status': exit_status,
            'exit_message': exit_message,
            **_describe_composition(kinds, sites),
        }
    return chains


def read_references(settings: orm.Dict) -> dict[str, str]:
    """Return the input `reference_leg` of the chains of the campaign with these settings, by UUID, in one query."""
    query = chain_query(settings, ['uuid'])
    query.append(orm.Str, with_outgoing='chain', edge_filters={'label': 'reference_leg'}, project='attributes.value')
    return dict(query.iterall(batch_size=1000))


def read_comparisons(
    settings: orm.Dict | None = None, filters: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Return the content of the `comparison` of chains, by the chain's UUID, in one query.

    `filters` are those of QueryBuilder on the node `comparison`.
    """
    query = chain_query(settings, ['uuid'])
    query.append(
        orm.Dict,
        with_incoming='chain',
        edge_filters={'label': 'comparison'},
        filters=dict(filters or {}),
        project='attributes',
    )
    return dict(query.iterall(batch_size=1000))


_STATE_KEYS = ('process_state', 'exit_status', 'sealed', 'exit_message')


def _describe_composition(kinds: list[dict[str, Any]], sites: list[dict[str, Any]]) -> dict[str, Any]:
    """Return formula, number of sites and elements of a structure from its attributes."""
    of_kind = {kind['name']: dict(zip(kind['symbols'], kind['weights'], strict=True)) for kind in kinds}
    amounts: Counter[str] = Counter()
    for site in sites:
        amounts.update(of_kind[site['kind_name']])
    return {
        'formula': Composition(amounts).reduced_formula,
        'n_atoms': len(sites),
        'elements': sorted(amounts),
    }
