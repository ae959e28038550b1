"""Questions to the provenance graph, each answered by a fixed number of queries."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any

import networkx as nx
import pandas as pd
from aiida import orm
from aiida.common.links import LinkType
from aiida.tools.graph.graph_traversers import traverse_graph

from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.results.records import read_chains, read_comparisons
from aiida_e3relax.campaign.results.table import make_frame, make_row
from aiida_e3relax.common.messages import short, suggestion
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.potential import E3RelaxPotentialData
from aiida_e3relax.data.structures import ATOMIC_NUMBERS
from aiida_e3relax.workflows.allowed_values import VERDICTS
from aiida_e3relax.workflows.comparison.reference import CHAIN, RAW_LEG, content, find_reference_fault

PREDICTION = 'aiida.calculations:e3relax.predict'
HASH_PREFIX = 'sha256:'
DEVICE = re.compile(r'cpu|cuda(:\d*)?')
PREDICTION_COLUMNS = (
    'status',
    'message',
    'n_atoms',
    'uncertainty_A',
    'distance_to_training',
    'device',
    'job_pk',
    'job_uuid',
    'predicted',
)
REFERENCE_COLUMNS = ('chain_pk', 'chain_uuid', 'ended', 'ionic_steps', 'energy_final_eV_per_atom', 'fault')


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a result comes from.

    Attributes
    ----------
    model
        The checkpoint whose prediction the relaxation started from; None where no network had a part.
    potential
        What the report of that prediction says of the potential that took part; None where none did.
    weights
        The node of its weights; None where its package brought them.
    path
        From the checkpoint, else the weights, else the prediction, to the result, data and processes in turn.
    """

    model: E3RelaxModelData | None
    potential: Mapping[str, Any] | None
    weights: E3RelaxPotentialData | None
    path: tuple[orm.Node, ...]


def find_chains(
    elements: Collection[str] | str = (),
    n_atoms: tuple[int, int] | int | None = None,
    model: str | None = None,
    device: str | None = None,
    verdict: str | None = None,
    campaign: str | None = None,
) -> pd.DataFrame:
    """Return the chains for which everything given holds, of one campaign or of all and none, as a table.

    Parameters
    ----------
    elements
        Symbols of elements that the structure has, all of them; or one symbol.
    n_atoms
        The smallest and the largest number of atoms; or one number.
    model
        The content hash of the checkpoint, or how it begins, with or without `sha256:`.
    device
        What the network ran on, or how that begins: `cpu`, `cuda`, `cuda:0`.
    verdict
        Of the guard, one of `VERDICTS`.
    campaign
        The name of a campaign.

    Returns
    -------
    DataFrame
        With `frame.COLUMNS` and the index `label`, oldest first; `in_sample` and `attempts`, which only a campaign's
        table has, are None. Chains that have no comparison yet are there unless model, device or verdict are asked for.

    Raises
    ------
    ValueError
        When there is no campaign of that name, no element of such a symbol, no checkpoint of such a hash in the
        profile, and for numbers of atoms, a device or a verdict that no chain can have.
    """
    elements = {elements} if isinstance(elements, str) else set(elements)
    lowest, highest = _read_sizes(n_atoms)
    if unknown := sorted(elements - set(ATOMIC_NUMBERS)):
        raise ValueError(f'element: expected symbols such as O or Fe, found {", ".join(unknown)}')
    settings = load_campaign(campaign).settings_node if campaign is not None else None
    filters: dict[str, Any] = {}
    if model is not None:
        _require_model(model)
        filters['attributes.network.content_hash'] = {'like': f'{_full_hash(model)}%'}
    if device is not None:
        if not DEVICE.fullmatch(device):
            raise ValueError(f'device: expected cpu, cuda or cuda:<n>, found {short(device)}')
        filters['attributes.network.device'] = {'like': f'{device}%'}
    if verdict is not None:
        if verdict not in VERDICTS:
            raise ValueError(f'verdict: found {short(verdict)}{suggestion(verdict, VERDICTS)}')
        filters['attributes.guard.verdict'] = verdict
    chains, comparisons = read_chains(settings), read_comparisons(settings, filters)
    return make_frame(
        make_row(chain, comparisons.get(uuid))
        for uuid, chain in chains.items()
        if (uuid in comparisons or not filters)
        and elements <= set(chain['elements'])
        and lowest <= chain['n_atoms'] <= highest
    )


def trace_origin(node: orm.Data) -> Origin:
    """Return the prediction that a structure, an energy or anything else computed goes back to, and how.

    Of several predictions, as where one campaign started from the results of another, it is the nearest. Raises
    ValueError for a node that is not stored.
    """
    if node.pk is None:
        raise ValueError(f'{node}: expected a stored node')
    backward = (LinkType.CREATE, LinkType.INPUT_CALC)
    found = traverse_graph([node.pk], get_links=True, links_backward=backward)
    graph = nx.DiGraph((link.source_id, link.target_id) for link in found['links'] or ())
    graph.add_node(node.pk)
    filters = {'id': {'in': list(found['nodes'])}, 'process_type': PREDICTION}
    query = orm.QueryBuilder().append(orm.CalcJobNode, filters=filters, project='id')
    paths = [nx.shortest_path(graph, pk, node.pk) for pk in query.all(flat=True)]
    if not paths:
        return Origin(None, None, None, (node,))
    path = tuple(orm.load_node(pk) for pk in min(paths, key=len))
    job: Any = path[0]
    inputs = job.base.links.get_incoming(link_type=LinkType.INPUT_CALC).nested()
    model, weights = (inputs.get(port) for port in ('model', 'potential_weights'))
    report = job.outputs.report.get_dict() if 'report' in job.outputs else {}
    opinion = report.get('second_opinion') or {}
    potential = report.get('potential') or (opinion if opinion.get('steps') else None)
    return Origin(model, potential, weights, (*filter(None, (model or weights,)), *path))


def find_predictions(model: str) -> pd.DataFrame:
    """Return every prediction of a checkpoint, by its content hash or how that begins, as a table.

    Returns
    -------
    DataFrame
        With `PREDICTION_COLUMNS`, one row a structure of each run, oldest run first, and the index `label`, the name of
        the structure in its run. `predicted` is the UUID of the node that holds it, None where it failed.

    Raises ValueError where no checkpoint in the profile has such a hash.
    """
    _require_model(model)
    query = orm.QueryBuilder()
    hashed = {'attributes.content_hash': {'like': f'{_full_hash(model)}%'}}
    query.append(E3RelaxModelData, filters=hashed, tag='model')
    query.append(orm.CalcJobNode, with_incoming='model', project=['id', 'uuid'], tag='job')
    query.append(
        orm.Dict,
        with_incoming='job',
        edge_filters={'label': 'report'},
        project=['attributes.structures', 'attributes.device.used'],
    )
    query.order_by({'job': {'id': 'asc'}})
    outputs = _read_predicted(hashed)
    rows = []
    for pk, uuid, structures, device in query.iterall(batch_size=1000):
        of_job = outputs.get(uuid, {})
        for row in structures or ():  # a run that failed as a whole tells of none
            node = of_job.get('batch', of_job.get(f'structures__{row["label"]}')) if row['status'] == 'ok' else None
            rows.append({**row, 'device': device, 'job_pk': pk, 'job_uuid': uuid, 'predicted': node})
    return _make_table(rows, PREDICTION_COLUMNS)


def find_reference_legs(
    structure: orm.StructureData, inputs: Mapping[str, Any] | None = None, without: str | None = None
) -> pd.DataFrame:
    """Return the finished relaxations of a raw structure, which could stand for another one, as a table.

    Parameters
    ----------
    structure
        The raw structure; relaxations of any node with the same content are found.
    inputs
        Those of the chain that is to be compared, such as a filled builder; with them each relaxation is held against
        the rules of `workflows.reference`.
    without
        The UUID of a chain to leave out.

    Returns
    -------
    DataFrame
        With `REFERENCE_COLUMNS`, newest first, and the index `label`. `fault` is why the relaxation cannot be taken
        with these inputs; None where it can, or nothing is known against it.
    """
    query = orm.QueryBuilder()
    query.append(orm.StructureData, filters={'extras._aiida_hash': content(structure)}, tag='structure')
    query.append(
        orm.WorkChainNode,
        with_incoming='structure',
        edge_filters={'label': 'structure'},
        filters={'attributes.process_label': CHAIN},
        project=['label', 'id', 'uuid'],
        tag='chain',
    )
    query.append(
        orm.WorkChainNode,
        with_incoming='chain',
        edge_filters={'label': RAW_LEG, 'type': LinkType.CALL_WORK.value},
        filters={'attributes.exit_status': 0},
        project='mtime',
    )
    query.append(
        orm.Dict,
        with_incoming='chain',
        edge_filters={'label': 'comparison'},
        project=['attributes.raw.ionic_steps', 'attributes.raw.energy_final_eV_per_atom'],
    )
    rows = []
    for label, pk, uuid, ended, steps, energy in query.order_by({'chain': {'id': 'desc'}}).all():
        if uuid != without:
            row = {'label': label, 'chain_pk': pk, 'chain_uuid': uuid, 'ended': ended, 'ionic_steps': steps}
            fault = find_reference_fault({**inputs, 'reference_leg': orm.Str(uuid)}) if inputs else None
            rows.append(row | {'energy_final_eV_per_atom': energy, 'fault': fault})
    return _make_table(rows, REFERENCE_COLUMNS)


def find_references_of(chain: orm.WorkChainNode) -> pd.DataFrame:
    """Return what `find_reference_legs` does for the inputs of a chain that ran, other chains alone."""
    links = chain.base.links.get_incoming(link_type=LinkType.INPUT_WORK).all()
    inputs: dict[str, Any] = {link.link_label.replace('__', '.'): link.node for link in links}
    return find_reference_legs(inputs['structure'], inputs, without=chain.uuid)


def _read_predicted(model: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the UUIDs of the nodes with predictions of a model, by the UUID of the job and the label of the link."""
    query = orm.QueryBuilder()
    query.append(E3RelaxModelData, filters=dict(model), tag='model')
    query.append(orm.CalcJobNode, with_incoming='model', project='uuid', tag='job')
    predicted = {'label': {'or': [{'==': 'batch'}, {'like': 'structures%'}]}}
    query.append(orm.Data, with_incoming='job', edge_filters=predicted, edge_project='label', project='uuid')
    outputs: dict[str, dict[str, str]] = {}
    for job, node, link in query.iterall(batch_size=1000):
        outputs.setdefault(job, {})[link] = node
    return outputs


def _make_table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    """Return rows as a table of Python's objects, None where a value is missing."""
    table = pd.DataFrame(rows, columns=['label', *columns], dtype=object).set_index('label')
    return table.where(table.notna(), None)


def has_model(model: str) -> bool:
    """Return whether a checkpoint in the profile has this content hash, or one that begins so."""
    filters = {'attributes.content_hash': {'like': f'{_full_hash(model)}%'}}
    return orm.QueryBuilder().append(E3RelaxModelData, filters=filters, project='id').limit(1).first() is not None


def has_label(label: str) -> bool:
    """Return whether a checkpoint in the profile has this label."""
    query = orm.QueryBuilder().append(E3RelaxModelData, filters={'label': label}, project='id')
    return query.limit(1).first() is not None


def _require_model(model: str) -> None:
    if not has_model(model):
        raise ValueError(f'model: no checkpoint in this profile has a content hash that begins with {short(model)}')


def _read_sizes(n_atoms: tuple[int, int] | int | None) -> tuple[float, float]:
    """Return the smallest and the largest number of atoms; raises ValueError where no crystal has as many."""
    if n_atoms is None:
        return 0, float('inf')
    lowest, highest = (n_atoms, n_atoms) if isinstance(n_atoms, int) else n_atoms
    if highest < 1 or lowest > highest:
        raise ValueError(f'atoms: expected a number from 1 on, or the smaller one first, found {lowest}-{highest}')
    return lowest, highest


def _full_hash(model: str) -> str:
    return HASH_PREFIX + model.removeprefix(HASH_PREFIX)
