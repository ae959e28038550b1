"""Finished relaxations in the provenance graph, with the settings that VASP computed them with."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from aiida import orm
from aiida.common.links import LinkType
from aiida_vasp.data.potcar import PotcarData

from aiida_e3relax.gnn.data.sources.base import UnusableError
from aiida_e3relax.gnn.data.sources.convergence import check_relaxation, read_bound
from aiida_e3relax.workflows.comparison.reference import CHAIN, RAW_LEG
from aiida_e3relax.workflows.vasp.inputs.species import list_species
from aiida_e3relax.workflows.vasp.inputs.stand_in import EXECUTABLE, find_engine
from aiida_e3relax.workflows.vasp.inputs.surface import OTHER_TAGS, chosen_tags, is_of_surface, upper_tags

T = TypeVar('T', int, str)

VASP_JOB = 'aiida.calculations:vasp.vasp'
AT_ONCE = 5000
"""Nodes that one query names: databases bound the number of values."""

KPOINTS = 'k-points'
"""The name, among other settings, of the largest spacing of k-points along a vector with several, in 2 pi/A."""
WITH_U = ' with L, U, J = '
"""Stands between the potential of an element and its U."""
SAME_CRYSTAL = 'no relaxation: it ends in the very crystal that it started from'
D_ELECTRONS = 2
"""On what U acts where LDAUL is not set."""


@dataclasses.dataclass(frozen=True)
class RelaxationKind:
    """Where a work chain that relaxes has its crystals: the labels of the links to them, namespaces joined by `__`.

    `better_end` is that of a crystal which, where it is there, is a better end than `end`. With `has_legs` the ends are
    those of relaxations that it called and that finished well: they count however it ended itself, and that of the leg
    `relax_raw` as a better end.
    """

    start: str = 'structure'
    end: str = 'structure'
    better_end: str | None = None
    has_legs: bool = False


KINDS: dict[str, RelaxationKind] = {
    CHAIN: RelaxationKind(better_end='raw__structure', has_legs=True),
    'VaspRelaxWorkChain': RelaxationKind(end='relax__structure'),
    'ResilientVaspRelaxWorkChain': RelaxationKind(end='relax__structure'),
    'VaspMultiStageRelaxWorkChain': RelaxationKind(end='relax__structure'),
}
"""Work chains that relax, by their process label: this package's chain, and those of aiida-vasp.

A chain ends where its raw leg did, if it had one: a network that learns where its own predictions lead, and into which
minimum, learns in part from itself. Without one the crystal that was relaxed from the prediction is the end. It counts
where the leg finished well, whatever became of the chain.
"""


class _Process(NamedTuple):
    """A work chain of a known kind: its process label, and how it ended if it has."""

    label: str
    state: str
    exit_status: int | None
    is_sealed: bool

    @property
    def has_ended(self) -> bool:
        """Whether it has; over the state of one that is sealed a second worker may have written, see `processes`."""
        return self.is_sealed or self.state in ('finished', 'excepted', 'killed')

    @property
    def is_well(self) -> bool:
        return self.exit_status == 0 and (self.is_sealed or self.state == 'finished')

    def describe(self) -> str:
        """Return how it ended, in words that many share."""
        if not self.has_ended:
            return 'not ended'
        told = self.state if self.exit_status is None else f'exit code {self.exit_status}'
        return f'failed: {self.label} with {told}'


class _Ends(NamedTuple):
    """The UUIDs of the crystals at the ends of a relaxation, see `Relaxation`."""

    start: str
    end: str
    has_best_end: bool


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
        What it was computed with: `engine`, which is VASP or a stand-in's, and the `SURFACE_TAGS` that were set.
    others
        The `OTHER_TAGS` that were set, and `KPOINTS`.
    of_elements
        By symbol of an element its potential and its U, where there is one.
    isif, constraints, positions_dof
        What VASP moved: the tags ISIF and LATTICE_CONSTRAINTS, and the selective dynamics; None where no job of VASP
        says so.
    fault
        Why it is no pair: what VASP ran is no relaxation, or did not converge, or the crystal stayed the same node;
        else None.
    is_well
        Whether its work chain finished well itself; else only a leg of it did.
    has_best_end
        Whether the end is the better one of its kind, where that may have one.
    """

    process: str
    label: str
    start: str
    end: str
    settings: Mapping[str, Any]
    of_elements: Mapping[str, str]
    others: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    isif: int | None = None
    constraints: Any = None
    positions_dof: Sequence[Sequence[bool]] | None = None
    fault: str | None = None
    is_well: bool = True
    has_best_end: bool = True


def find_relaxations(
    processes: orm.QueryBuilder,
    kinds: Mapping[str, RelaxationKind] | None = None,
    left_out: dict[int, str] | None = None,
) -> list[Relaxation]:
    """Return the relaxations among processes, oldest first.

    Parameters
    ----------
    processes
        A query that projects the PKs of work chains. Those that did not finish well are passed over, where they have no
        leg that did, and so are the legs of another relaxation, which may start from a prediction and are told by that
        one.
    kinds
        Work chains that relax, by their process label; default is `KINDS`.
    left_out
        Where it is put, by PK, why others of these kinds are none; not of the legs of a work chain among `processes`.
    """
    kinds = KINDS if kinds is None else kinds
    pks = processes.all(flat=True)
    known = _read_processes(pks, kinds)
    callers = _find_callers(known, kinds)
    found = {pk: process for pk, process in known.items() if pk not in callers}
    structures = _read_structures(found, kinds)
    if left_out is not None:
        left_out |= _find_unknown(set(pks) - known.keys(), kinds)
        left_out |= {leg: 'called by another work chain' for leg, caller in callers.items() if caller not in known}
        others = {pk: process for pk, process in found.items() if pk not in structures}
        left_out |= {pk: 'without crystals' if one.is_well else one.describe() for pk, one in others.items()}
    jobs = _jobs_that_made({ends.end for ends in structures.values()})
    read = _read_jobs(set(jobs.values()))
    nothing: dict[str, Any] = {'settings': {}, 'of_elements': {}}
    relaxations = [
        Relaxation(
            uuid,
            label,
            **structures[pk]._asdict(),
            is_well=found[pk].is_well,
            **read.get(jobs.get(structures[pk].end, 0), nothing),
        )
        for pk, uuid, label in _read_names(list(found))
        if pk in structures
    ]
    return [dataclasses.replace(each, fault=SAME_CRYSTAL) if each.start == each.end else each for each in relaxations]


def choose_attempts(relaxations: Iterable[Relaxation], labels: Container[str]) -> dict[str, Relaxation]:
    """Return of relaxations, oldest first, those with one of `labels`, of each the one that counts, by label.

    It is the newest of the chains that finished well. Without one it is the newest with the better end of its kind, and
    without that the newest.
    """
    ranked = sorted(relaxations, key=lambda each: (each.is_well, each.has_best_end and not each.is_well))
    return {relaxation.label: relaxation for relaxation in ranked if relaxation.label in labels}


def find_named(uuids: Iterable[str], kinds: Mapping[str, RelaxationKind] | None = None) -> list[Relaxation]:
    """Return the relaxations with these UUIDs of their work chains, of those that are there; see `find_relaxations`."""
    found = []
    for some in chunks(set(uuids)):
        query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'uuid': {'in': some}}, project='id')
        found += find_relaxations(query, kinds)
    return found


def chunks(keys: Iterable[T]) -> Iterator[list[T]]:
    """Yield PKs or UUIDs in order, as many at a time as one query may name."""
    ordered = sorted(keys)
    for begin in range(0, len(ordered), AT_ONCE):
        yield ordered[begin : begin + AT_ONCE]


def _read_processes(pks: Iterable[int], kinds: Mapping[str, RelaxationKind]) -> dict[int, _Process]:
    """Return those that are of `kinds`, by PK."""
    found: dict[int, _Process] = {}
    names = ('process_label', 'process_state', 'exit_status', 'sealed')
    for some in chunks(set(pks)):
        filters = {'id': {'in': some}, 'attributes.process_label': {'in': list(kinds)}}
        project = ['id', *(f'attributes.{name}' for name in names)]
        query = orm.QueryBuilder().append(orm.WorkChainNode, filters=filters, project=project)
        found |= {
            pk: _Process(label, str(state), status, bool(sealed)) for pk, label, state, status, sealed in query.all()
        }
    return found


def _find_unknown(pks: Iterable[int], kinds: Mapping[str, RelaxationKind]) -> dict[int, str]:
    """Return by PK why processes that are not of `kinds` are no relaxations; not of what one of `kinds` called."""
    labels: dict[int, str] = {}
    for some in chunks(pks):
        project = ['id', 'attributes.process_label']
        query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'id': {'in': some}}, project=project)
        labels |= dict(query.all())
    called = _find_callers(labels, kinds)
    return {
        pk: f'{label} is not known to relax; if it does, name it in `--kinds`'
        for pk, label in labels.items()
        if pk not in called
    }


def _find_callers(pks: Iterable[int], kinds: Mapping[str, RelaxationKind]) -> dict[int, int]:
    """Return which of the processes a work chain of `kinds` called, whatever became of that, and the PK of that."""
    callers: dict[int, int] = {}
    for some in chunks(pks):
        query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'id': {'in': some}}, project='id', tag='leg')
        caller: dict[str, Any] = {'with_outgoing': 'leg', 'edge_filters': {'type': LinkType.CALL_WORK.value}}
        filters = {'attributes.process_label': {'in': list(kinds)}}
        callers |= dict(query.append(orm.WorkChainNode, filters=filters, project='id', **caller).all())
    return callers


def _read_names(pks: Sequence[int]) -> list[tuple[int, str, str]]:
    """Return PK, UUID and label of processes, oldest first."""
    named: list[Any] = []
    for some in chunks(pks):
        query = orm.QueryBuilder()
        query.append(orm.WorkChainNode, filters={'id': {'in': some}}, project=['id', 'uuid', 'label'], tag='p')
        named += query.order_by({'p': {'id': 'asc'}}).all()
    return named


def _read_structures(found: Mapping[int, _Process], kinds: Mapping[str, RelaxationKind]) -> dict[int, _Ends]:
    """Return start and end of the relaxations among processes, by PK."""
    sound = {pk: one for pk, one in found.items() if one.is_well or (one.has_ended and kinds[one.label].has_legs)}
    crystals = _read_crystals(sound, kinds)
    starts, ends, best = crystals['start'], crystals['end'], crystals['better_end']
    with_legs = {pk for pk, one in sound.items() if kinds[one.label].has_legs and not (one.is_well and pk in ends)}
    of_raw, of_others = _read_ends_of_legs(with_legs - best.keys(), kinds)
    ends, best = {**of_others, **ends, **of_raw, **best}, {**of_raw, **best}
    return {
        pk: _Ends(starts[pk], ends[pk], pk in best or kinds[one.label].better_end is None)
        for pk, one in found.items()
        if pk in starts and pk in ends
    }


def _read_ends_of_legs(
    pks: Iterable[int], kinds: Mapping[str, RelaxationKind]
) -> tuple[dict[int, str], dict[int, str]]:
    """Return the UUIDs of the ends of raw legs and of other ones that finished well, by the PK of the caller."""
    called: list[list[Any]] = []
    for some in chunks(pks):
        query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'id': {'in': some}}, project='id', tag='caller')
        leg: dict[str, Any] = {'with_incoming': 'caller', 'edge_filters': {'type': LinkType.CALL_WORK.value}}
        called += query.append(orm.WorkChainNode, project='id', edge_project='label', **leg).all()
    legs = _read_processes([leg for _, leg, _ in called], kinds)
    ends = _read_crystals({pk: one for pk, one in legs.items() if one.is_well}, kinds)['end']
    raw, others = ([row for row in called if (row[2] == RAW_LEG) is is_raw] for is_raw in (True, False))
    of_raw, of_others = ({caller: ends[leg] for caller, leg, _ in rows if leg in ends} for rows in (raw, others))
    return of_raw, of_others


def _read_crystals(found: Mapping[int, _Process], kinds: Mapping[str, RelaxationKind]) -> dict[str, dict[int, str]]:
    """Return the UUIDs of crystals of processes that have one by PK, by the field of `RelaxationKind` of their link."""
    crystals: dict[str, dict[int, str]] = {'start': {}, 'end': {}, 'better_end': {}}
    for name, kind in kinds.items():
        of_kind = [pk for pk, one in found.items() if one.label == name]
        links = {'start': kind.start, 'end': kind.end, 'better_end': kind.better_end}
        for side, link in links.items():
            if link is None:
                continue
            relation = 'with_outgoing' if side == 'start' else 'with_incoming'
            for some in chunks(of_kind):
                query = orm.QueryBuilder()
                query.append(orm.WorkChainNode, filters={'id': {'in': some}}, project='id', tag='process')
                options: dict[str, Any] = {relation: 'process', 'edge_filters': {'label': link}, 'project': 'uuid'}
                query.append(orm.StructureData, **options)
                crystals[side] |= dict(query.all())
    return crystals


def _jobs_that_made(ends: Collection[str]) -> dict[str, int]:
    """Return the PK of the job of VASP that each crystal comes from, by UUID: itself, or by a calculation function.

    Such a function, as one that gives the sites their names again, returns a crystal under the name that it took it by.
    """
    jobs: dict[str, int] = {}
    made = {'type': LinkType.CREATE.value}
    vasp = {'process_type': VASP_JOB}
    for some in chunks(ends):
        filters = {'uuid': {'in': some}}
        query = orm.QueryBuilder().append(orm.StructureData, filters=filters, project='uuid', tag='end')
        query.append(orm.CalcJobNode, with_outgoing='end', edge_filters=made, filters=vasp, project='id')
        jobs |= dict(query.all())
        query = orm.QueryBuilder().append(orm.StructureData, filters=filters, project='uuid', tag='end')
        function: dict[str, Any] = {'with_outgoing': 'end', 'edge_filters': made, 'edge_project': 'label'}
        query.append(orm.CalcFunctionNode, tag='function', **function)
        taken: dict[str, Any] = {'with_outgoing': 'function', 'edge_project': 'label', 'tag': 'taken'}
        query.append(orm.StructureData, **taken)
        query.append(orm.CalcJobNode, with_outgoing='taken', edge_filters=made, filters=vasp, project='id', tag='job')
        for end, job, given, took in (_in_order(row) for row in query.dict()):
            if given == took:
                jobs.setdefault(end, job)
    return jobs


def _in_order(row: Mapping[str, Any]) -> tuple[str, int, str, str]:
    """Return crystal, job, and the labels of the links, of a row of the query above."""
    edges = {name: values['label'] for name, values in row.items() if '--' in name}
    return row['end']['uuid'], row['job']['id'], edges['end--function'], edges['function--taken']


def _read_jobs(jobs: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Return what VASP computed with in jobs, by PK."""
    read: dict[int, dict[str, Any]] = {}
    engines: dict[int, str] = {}
    for some in chunks(jobs):
        tags = {pk: upper_tags(found) for pk, found in _inputs(some, orm.Dict, 'parameters', 'attributes').items()}
        dynamics = _inputs(some, orm.Dict, 'dynamics', 'attributes.positions_dof')
        meshes = _inputs(some, orm.KpointsData, 'kpoints', 'attributes.mesh')
        cells = _inputs(some, orm.StructureData, 'structure', 'attributes.cell')
        codes = _inputs(some, orm.AbstractCode, 'code', 'id')
        for code in set(codes.values()) - set(engines):
            engines[code] = _engine_of(orm.load_node(code))
        potentials: dict[int, dict[str, str]] = defaultdict(dict)
        query = orm.QueryBuilder().append(orm.CalcJobNode, filters={'id': {'in': some}}, project='id', tag='job')
        query.append(PotcarData, with_outgoing='job', project=['attributes.element', 'attributes.title'])
        for pk, element, title in query.iterall(batch_size=1000):
            potentials[pk][str(element)] = str(title).strip()
        ended = orm.QueryBuilder().append(orm.CalcJobNode, filters={'id': {'in': some}}, project='id', tag='job')
        ended.append(orm.Dict, with_incoming='job', edge_filters={'label': 'misc'}, project='attributes.run_status')
        statuses = {pk: status or {} for pk, status in ended.iterall(batch_size=1000)}
        for pk in some:
            read[pk] = {
                'settings': {'engine': engines[codes[pk]]} | chosen_tags(tags[pk], is_of_surface),
                'others': chosen_tags(tags[pk], OTHER_TAGS.__contains__) | _k_points(meshes.get(pk), cells.get(pk)),
                'of_elements': _with_u(potentials[pk], tags[pk], pk),
                'isif': int(tags[pk].get('ISIF', 2)),
                'constraints': tags[pk].get('LATTICE_CONSTRAINTS'),
                'positions_dof': dynamics.get(pk),
                'fault': _find_fault(tags[pk], statuses.get(pk, {})),
            }
    return read


@dataclasses.dataclass(frozen=True)
class _Incar:
    """INCAR tags in capitals, read as the settings of a vasprun.xml are; see `Settings`."""

    tags: Mapping[str, Any]

    def number(self, name: str, default: float) -> float:
        value = self._read(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UnusableError(f'damaged: {name} = {value}, expected a number')
        return value

    def logical(self, name: str) -> bool:
        return self._read(name, False) is True

    def _read(self, name: str, default: Any) -> Any:
        value = self.tags.get(name)
        return default if value is None else chosen_tags({name: value}, lambda _: True).get(name, default)


def _find_fault(tags: Mapping[str, Any], status: Mapping[str, Any]) -> str | None:
    """Return why a job of VASP with these `tags`, in capitals, is no relaxation that converged, or None.

    Settings are judged as those of files are. `status` is what aiida-vasp read of how the job ended: whether the ions
    converged is None there where NSW lets them move once at most, and True after one step of several.
    """
    incar = _Incar(tags)
    try:
        check_relaxation(incar)
        read_bound(incar)
    except UnusableError as error:
        return str(error)
    is_converged = status.get('ionic_converged', True)
    if is_converged is None:
        return f'not known to have converged: NSW = {tags["NSW"]}'
    if not is_converged:
        return 'not converged: the last run of VASP stopped before its forces were below their bound'
    if status.get('electronic_converged') is False:
        return 'electrons did not converge in the last step: as many electronic steps as NELM allows'
    return None


def _engine_of(code: Any) -> str:
    """Return what a code computes with: `VASP`, or a stand-in with its engine where that is certain."""
    if not isinstance(code, orm.InstalledCode) or code.filepath_executable.name != EXECUTABLE:
        return 'VASP'
    return f'stand-in {find_engine({"code": code}) or "with an engine that its code does not name"}'


def _inputs(pks: list[int], node_class: Any, link: str, project: str) -> dict[int, Any]:
    """Return what stands in an input of jobs, by PK."""
    query = orm.QueryBuilder().append(orm.CalcJobNode, filters={'id': {'in': pks}}, project='id', tag='job')
    query.append(node_class, with_outgoing='job', edge_filters={'label': link}, project=project)
    return dict(query.all())


def _with_u(potentials: Mapping[str, str], tags: Mapping[str, Any], job: int) -> dict[str, str]:
    """Return the potential of each element and, where LDAU is on, its U and J in eV and on what."""
    told = dict(potentials)
    if str(tags.get('LDAU', '')).strip('. ').upper()[:1] not in ('T', '1'):
        return told
    species = list_species(orm.load_node(job).inputs.structure)
    on, u, j = (_numbers(tags.get(tag)) for tag in ('LDAUL', 'LDAUU', 'LDAUJ'))
    for place, symbol in enumerate(species):
        values = (_at(on, place, D_ELECTRONS), _at(u, place, 0.0), _at(j, place, 0.0))
        if values[0] >= 0 and (values[1] or values[2]):
            told[symbol] = f'{told.get(symbol, symbol)}{WITH_U}{", ".join(f"{v:g}" for v in values)}'
    return told


def _numbers(value: Any) -> list[float]:
    """Return the numbers of a tag, a list, a text or one number."""
    words = value.split() if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    return [float(word) for word in words if word is not None]


def _at(values: Sequence[float], place: int, default: float) -> float:
    return values[place] if place < len(values) else default


def _k_points(mesh: Sequence[int] | None, cell: Sequence[Sequence[float]] | None) -> dict[str, Any]:
    """Return the spacing of a mesh of k-points in 2 pi/A, as `KPOINTS`; nothing where none or one point is known."""
    if mesh is None or cell is None or max(mesh) < 2:
        return {}
    lengths = np.linalg.norm(np.linalg.inv(np.asarray(cell)), axis=0)  # of the reciprocal vectors, over 2 pi
    return {KPOINTS: round(float(max(length / n for length, n in zip(lengths, mesh, strict=True) if n > 1)), 4)}
