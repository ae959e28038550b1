"""The raw legs of a base campaign, which its arms take in the place of relaxing the raw crystals again."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping

from aiida import orm
from aiida.common.links import LinkType

from aiida_e3relax.campaign.submission.processes import LINK, Process, State
from aiida_e3relax.workflows.comparison.reference import CHAIN, RAW_LEG

ENDED = ('finished', 'excepted', 'killed')


@dataclasses.dataclass(frozen=True)
class RawLegs:
    """What a base campaign has for an arm.

    Attributes
    ----------
    name
        The base campaign; empty where nothing is left of it.
    chains
        By the label of a structure the UUID of the chain whose raw leg finished.
    to_come
        The structures whose raw crystal is still to be relaxed.
    held
        Those whose raw leg comes once somebody has mended what is at fault there: the base campaign holds back their
        batch, or their chain was killed or stopped by an exception, of which no other comes by itself.
    missing
        By label why there is no raw leg and will be none.
    """

    name: str
    chains: Mapping[str, str]
    to_come: tuple[str, ...]
    held: tuple[str, ...]
    missing: Mapping[str, str]


def find_raw_legs(node: orm.Dict) -> dict[str, str]:
    """Return by label the UUID of the newest chain that has ended and relaxed the raw crystal, in one query.

    `node` has the settings of the campaign.
    """
    query = orm.QueryBuilder().append(orm.Dict, filters={'id': node.pk}, tag='settings')
    query.append(
        orm.WorkChainNode,
        with_incoming='settings',
        edge_filters={'label': LINK},
        filters={
            'attributes.process_label': CHAIN,
            'or': [{'attributes.process_state': {'in': list(ENDED)}}, {'attributes.sealed': True}],
        },
        project=['label', 'uuid'],
        tag='chain',
    )
    query.append(
        orm.WorkChainNode,
        with_incoming='chain',
        edge_filters={'label': RAW_LEG, 'type': LinkType.CALL_WORK.value},
        filters={'attributes.exit_status': 0},
    )
    return dict(query.order_by({'chain': {'id': 'asc'}}).iterall(batch_size=1000))


def describe_missing(name: str, chain: Process) -> str:
    """Return why the last chain of a structure in the campaign `name` has left no raw leg."""
    ended = 'ended without one' if chain.state is State.FINISHED else f'ended with exit code {chain.exit_status}'
    return f'the raw leg did not finish in the campaign `{name}`, where the chain <{chain.pk}> {ended}'


def explain_refusal(error: ValueError, name: str) -> str:
    """Return why a chain is refused, and what to do where that is for its raw leg, out of the campaign `name`."""
    if '`reference_leg`' not in str(error):
        return str(error)
    return (
        f'{error}. The raw legs of `{name}` were relaxed with other inputs than VASP gets now, as after an upgrade: '
        'make a new base campaign with its arms, '
        f'`aiida-e3relax campaign create NAME --from {shlex.quote(f"group:{name}")} --arms ...`'
    )
