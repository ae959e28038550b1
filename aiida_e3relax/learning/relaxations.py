"""Finished relaxations in the provenance graph, with the settings that VASP computed them with."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiida import orm
from aiida.common.links import LinkType
from aiida_vasp.data.potcar import PotcarData

from aiida_e3relax.workflows.vasp.inputs.species import list_species
from aiida_e3relax.workflows.vasp.inputs.stand_in import find_engine

VASP_JOB = 'aiida.calculations:vasp.vasp'
AT_ONCE = 5000
"""Nodes that one query names: databases bound the number of values."""

TAGS = ('GGA', 'METAGGA', 'LHFCALC', 'HFSCREEN', 'AEXX', 'IVDW', 'LUSE_VDW', 'LSORBIT', 'PSTRESS', 'ENCUT', 'PREC')
"""INCAR tags that decide on which energy surface a relaxation goes down; U and potentials are told by element."""


@dataclasses.dataclass(frozen=True)
class RelaxationKind:
    """Where a work chain that relaxes has its crystals: the labels of the links to them, namespaces joined by `__`."""

    start: str = 'structure'
    end: str = 'structure'


KINDS: dict[str, RelaxationKind] = {
    'E3RelaxVaspWorkChain': RelaxationKind(),
    'VaspRelaxWorkChain': RelaxationKind(end='relax__structure'),
    'ResilientVaspRelaxWorkChain': RelaxationKind(end='relax__structure'),
}
"""Work chains that relax, by their process label: this package's chain, and those of aiida-vasp."""


@dataclasses.dataclass(frozen=True)
class Relaxation:
    """A relaxation that finished well.

    Attributes
    ----------
    process, label
        The UUID of its work chain, and its label.
    start, end
        The UUIDs of the crystals.
    settings
        What it was computed with: `engine`, which is VASP or a stand-in's, and the `TAGS` that were set.
    of_elements
        By symbol of an element its potential and its U, where there is one.
    isif, positions_dof
        What VASP moved; None where no job of VASP says so.
    is_converged
        Whether the last job says that its forces or energies fell below their bound; None where it says nothing.
    """

    process: str
    label: str
    start: str
    end: str
    settings: Mapping[str, Any]
    of_elements: Mapping[str, str]
    isif: int | None = None
    positions_dof: Sequence[Sequence[bool]] | None = None
    is_converged: bool | None = None


def find_relaxations(
    processes: orm.QueryBuilder, kinds: Mapping[str, RelaxationKind] | None = None
) -> list[Relaxation]:
    """Return the relaxations among processes, oldest first.

    Parameters
    ----------
    processes
        A query that projects the PKs of work chains. Those that did not finish well, and legs that another relaxation
        of them called, are passed over.
    kinds
        Work chains that relax, by their process label; default is `KINDS`.
    """
    kinds = KINDS if kinds is None else kinds
    labels = _labels_of_finished(processes.all(flat=True), kinds)
    own = set(labels)
    called = {pk for pk, caller in _calls(own) if caller in own}
    found = {pk: label for pk, label in labels.items() if pk not in called}
    structures = _read_crystals(found, kinds)
    jobs = _read_jobs(_last_vasp_jobs(found))
    nothing: dict[str, Any] = {'settings': {}, 'of_elements': {}}
    return [
        Relaxation(uuid, label, *structures[pk], **jobs.get(pk, nothing))
        for pk, uuid, label in _read_names(list(found))
        if pk in structures
    ]


def _chunks(pks: Iterable[int]) -> Iterator[list[int]]:
    ordered = sorted(pks)
    for begin in range(0, len(ordered), AT_ONCE):
        yield ordered[begin : begin + AT_ONCE]


def _labels_of_finished(pks: Iterable[int], kinds: Mapping[str, RelaxationKind]) -> dict[int, str]:
    """Return the process labels of those that are of `kinds` and finished well, by PK."""
    labels: dict[int, str] = {}
    for some in _chunks(set(pks)):
        filters = {
            'id': {'in': some},
            'attributes.process_label': {'in': list(kinds)},
            'attributes.process_state': 'finished',
            'attributes.exit_status': 0,
        }
        query = orm.QueryBuilder().append(
            orm.WorkChainNode, filters=filters, project=['id', 'attributes.process_label']
        )
        labels |= dict(query.all())
    return labels


def _calls(pks: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the PKs of processes that those of `pks` called, with the caller's."""
    for some in _chunks(pks):
        query = orm.QueryBuilder().append(orm.ProcessNode, filters={'id': {'in': some}}, project='id', tag='caller')
        calls = {'or': [{'type': LinkType.CALL_WORK.value}, {'type': LinkType.CALL_CALC.value}]}
        query.append(orm.ProcessNode, with_incoming='caller', edge_filters=calls, project='id')
        yield from ((called, caller) for caller, called in query.iterall(batch_size=1000))


def _read_names(pks: Sequence[int]) -> list[tuple[int, str, str]]:
    """Return PK, UUID and label of processes, oldest first."""
    named: list[Any] = []
    for some in _chunks(pks):
        query = orm.QueryBuilder()
        query.append(orm.WorkChainNode, filters={'id': {'in': some}}, project=['id', 'uuid', 'label'], tag='p')
        named += query.order_by({'p': {'id': 'asc'}}).all()
    return named


def _read_crystals(found: Mapping[int, str], kinds: Mapping[str, RelaxationKind]) -> dict[int, tuple[str, str]]:
    """Return the UUIDs of start and end of processes that have both, by PK."""
    ends: dict[str, dict[int, str]] = {'start': {}, 'end': {}}
    for name, kind in kinds.items():
        of_kind = [pk for pk, label in found.items() if label == name]
        for some in _chunks(of_kind):
            for side, link, relation in (('start', kind.start, 'with_outgoing'), ('end', kind.end, 'with_incoming')):
                query = orm.QueryBuilder()
                query.append(orm.WorkChainNode, filters={'id': {'in': some}}, project='id', tag='process')
                options: dict[str, Any] = {relation: 'process', 'edge_filters': {'label': link}, 'project': 'uuid'}
                query.append(orm.StructureData, **options)
                ends[side] |= dict(query.all())
    return {pk: (ends['start'][pk], ends['end'][pk]) for pk in found if pk in ends['start'] and pk in ends['end']}


def _last_vasp_jobs(roots: Iterable[int]) -> dict[int, int]:
    """Return the last relaxation by VASP below each process, by the PK of the process."""
    root_of = {pk: pk for pk in roots}
    below: dict[int, list[int]] = defaultdict(list)
    frontier = set(root_of)
    while frontier:
        calls = list(_calls(frontier))
        for called, caller in calls:
            root_of[called] = root_of[caller]
            below[root_of[caller]].append(called)
        frontier = {called for called, _ in calls}
    relaxing: dict[int, int] = {}
    for some in _chunks(pk for pks in below.values() for pk in pks):
        query = orm.QueryBuilder()
        query.append(orm.CalcJobNode, filters={'id': {'in': some}, 'process_type': VASP_JOB}, project='id', tag='job')
        query.append(orm.Dict, with_outgoing='job', edge_filters={'label': 'parameters'}, project='attributes')
        for pk, tags in query.iterall(batch_size=1000):
            if int(_upper(tags).get('NSW', 0)) > 0:
                root = root_of[pk]
                relaxing[root] = max(pk, relaxing.get(root, 0))
    return relaxing


def _read_jobs(jobs: Mapping[int, int]) -> dict[int, dict[str, Any]]:
    """Return what VASP computed with in the job of each process, by the PK of the process."""
    roots = {job: root for root, job in jobs.items()}
    read: dict[int, dict[str, Any]] = {}
    engines: dict[int, str] = {}
    for some in _chunks(roots):
        tags = {pk: _upper(found) for pk, found in _inputs(some, orm.Dict, 'parameters', 'attributes').items()}
        dynamics = _inputs(some, orm.Dict, 'dynamics', 'attributes.positions_dof')
        codes = _inputs(some, orm.AbstractCode, 'code', 'id')
        for code in set(codes.values()) - set(engines):
            engines[code] = find_engine({'code': orm.load_node(code)}) or ''
        potentials: dict[int, dict[str, str]] = defaultdict(dict)
        query = orm.QueryBuilder().append(orm.CalcJobNode, filters={'id': {'in': some}}, project='id', tag='job')
        query.append(PotcarData, with_outgoing='job', project=['attributes.element', 'attributes.full_name'])
        for pk, element, name in query.iterall(batch_size=1000):
            potentials[pk][str(element)] = str(name)
        ended = orm.QueryBuilder().append(orm.CalcJobNode, filters={'id': {'in': some}}, project='id', tag='job')
        ended.append(orm.Dict, with_incoming='job', edge_filters={'label': 'misc'}, project='attributes.run_status')
        statuses = {pk: status or {} for pk, status in ended.iterall(batch_size=1000)}
        for pk in some:
            engine = engines[codes[pk]]
            settings = {'engine': f'stand-in {engine}' if engine else 'VASP'}
            read[roots[pk]] = {
                'settings': settings | {tag: _plain(tags[pk][tag]) for tag in TAGS if tag in tags[pk]},
                'of_elements': _with_u(potentials[pk], tags[pk], pk),
                'isif': int(tags[pk].get('ISIF', 2)),
                'positions_dof': dynamics.get(pk),
                'is_converged': statuses.get(pk, {}).get('ionic_converged'),
            }
    return read


def _inputs(pks: list[int], node_class: Any, link: str, project: str) -> dict[int, Any]:
    """Return what stands in an input of jobs, by PK."""
    query = orm.QueryBuilder().append(orm.CalcJobNode, filters={'id': {'in': pks}}, project='id', tag='job')
    query.append(node_class, with_outgoing='job', edge_filters={'label': link}, project=project)
    return dict(query.all())


def _with_u(potentials: Mapping[str, str], tags: Mapping[str, Any], job: int) -> dict[str, str]:
    """Return the potential of each element and, where LDAU is on, its U and J in eV and on what."""
    told = dict(potentials)
    if not tags.get('LDAU'):
        return told
    species = list_species(orm.load_node(job).inputs.structure)
    for place, symbol in enumerate(species):
        values = [tags[tag][place] for tag in ('LDAUL', 'LDAUU', 'LDAUJ') if len(tags.get(tag) or ()) == len(species)]
        if values and float(values[1] if len(values) > 1 else 0):
            told[symbol] = f'{told.get(symbol, symbol)} with L, U, J = {", ".join(f"{float(v):g}" for v in values)}'
    return told


def _upper(tags: Mapping[str, Any]) -> dict[str, Any]:
    return {str(tag).upper(): value for tag, value in tags.items()}


def _plain(value: Any) -> Any:
    """Return the value of a tag so that what VASP reads alike is alike: words in capitals without spaces."""
    return value.strip().upper() if isinstance(value, str) else value
