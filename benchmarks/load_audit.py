"""Whether a campaign lost anything, or did anything twice: AiiDA's graph against SLURM's jobs and a faultless run."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from aiida import orm
from aiida.common.links import LinkType

from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.plan import read_plan
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.campaign.submission.due import look_at
from aiida_e3relax.campaign.submission.processes import Process, State
from benchmarks.load_cluster import ACTIVE, ENDED, SlurmJob
from benchmarks.load_tables import AMISS

UNNAMED = 'CALL'
"""AiiDA's label of a link to what a work chain has called, where the work chain names none."""
TOLERANCE = 1.0  # meV/atom
"""By how much an end may differ from that of the faultless run: one that was cut short goes on along another path."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A calculation job of AiiDA: its node, and the folder that its jobs of SLURM have."""

    pk: int
    folder: str | None


@dataclasses.dataclass(frozen=True)
class End:
    """The end of a structure's relaxation.

    Attributes
    ----------
    energy
        In eV/atom.
    steps
        Ionic steps in all; None where a run that failed has not told its own.
    leg
        The one that was taken, `raw` or `predicted`.
    """

    energy: float
    steps: int | None
    leg: str


@dataclasses.dataclass(frozen=True)
class Campaign:
    """What the graph has of a campaign, and of all processes since it was made.

    Attributes
    ----------
    chains
        By structure the states of its chains, the oldest first.
    ends
        By structure, of those that were relaxed.
    processes
        The states of all processes by their kind.
    unended
        The PKs of those that have not ended.
    jobs
        The calculation jobs.
    begun_twice
        Of work chains the sub-processes that there are more than one of, as `PK: link label`.
    most_at_once
        The largest number of chains that there were at the same time.
    """

    chains: Mapping[str, Sequence[State]]
    ends: Mapping[str, End]
    processes: Mapping[str, Mapping[str, int]]
    unended: Collection[int]
    jobs: Collection[Job]
    begun_twice: Sequence[str]
    most_at_once: int


@dataclasses.dataclass(frozen=True)
class Audit:
    """What is amiss, and what went another way than without a fault.

    Attributes
    ----------
    lost
        Structures without a chain that ended well.
    twice
        Structures with a chain more after one that ended well, or with two that run.
    unended
        Processes that have not ended.
    begun_twice
        What two workers that both had a work chain have each begun for it, as `PK: link label`.
    submitted_twice
        How many jobs of SLURM there were more than nodes, by the PK of the node.
    strays
        Jobs of SLURM without a node.
    left
        Jobs of SLURM that have not ended.
    different
        By how much the ends of structures differ from those of the faultless run, in meV/atom, where it is more than
        `TOLERANCE`.
    other_leg
        Structures that were relaxed from another start than in the faultless run, as after a leg that failed.
    tried_again
        Structures with more than one chain, none of them twice.
    failed
        Chains that ended otherwise than well, by how.
    largest_difference
        Of all ends, in meV/atom; None without a faultless run.
    more_steps
        Ionic steps more than in the faultless run, of the structures of which both are known.
    n_jobs
        Jobs of SLURM.
    """

    lost: list[str]
    twice: list[str]
    unended: list[int]
    begun_twice: list[str]
    submitted_twice: dict[int, int]
    strays: list[str]
    left: list[str]
    different: dict[str, float]
    other_leg: list[str]
    tried_again: list[str]
    failed: dict[str, int]
    largest_difference: float | None
    more_steps: int
    n_jobs: int

    @property
    def is_sound(self) -> bool:
        """Whether nothing was lost and nothing done twice."""
        return not any(getattr(self, name) for name in AMISS)


def audit(campaign: Campaign, of_slurm: Iterable[SlurmJob], faultless: Mapping[str, End] | None = None) -> Audit:
    """Return what was lost and what was done twice.

    Parameters
    ----------
    of_slurm
        All jobs that SLURM has had of the campaign.
    faultless
        The ends without a fault, to which those of the same structures are compared; None where there are none.
    """
    nodes = {job.folder: job.pk for job in campaign.jobs if job.folder}
    jobs = list(of_slurm)
    by_node = Counter(nodes[job.folder] for job in jobs if job.folder in nodes)
    expected_ends = faultless or {}
    pairs = {label: (end, expected_ends[label]) for label, end in campaign.ends.items() if label in expected_ends}
    differences = {label: 1e3 * abs(end.energy - expected.energy) for label, (end, expected) in pairs.items()}
    states = campaign.chains.items()
    twice = [label for label, of_label in states if _is_twice(of_label)]
    return Audit(
        lost=[label for label, of_label in states if State.FINISHED not in of_label or label not in campaign.ends],
        twice=twice,
        unended=sorted(campaign.unended),
        begun_twice=list(campaign.begun_twice),
        submitted_twice={pk: count - 1 for pk, count in sorted(by_node.items()) if count > 1},
        strays=[job.number for job in jobs if job.folder not in nodes],
        left=[job.number for job in jobs if job.state in ACTIVE],
        # A difference that is no number is not one to be passed over.
        different={label: value for label, value in differences.items() if not value <= TOLERANCE},
        other_leg=[label for label, (end, expected) in pairs.items() if end.leg != expected.leg],
        tried_again=[label for label, of_label in states if len(of_label) > 1 and label not in twice],
        failed=dict(
            Counter(state.value for _, of_label in states for state in of_label if state is not State.FINISHED)
        ),
        largest_difference=max(differences.values(), default=None),
        more_steps=sum(
            end.steps - expected.steps
            for end, expected in pairs.values()
            if end.steps is not None and expected.steps is not None
        ),
        n_jobs=len(jobs),
    )


def _is_twice(states: Sequence[State]) -> bool:
    """Return whether there is a chain that none of its structure's others called for."""
    return State.FINISHED in states[:-1] or list(states).count(State.RUNNING) > 1


def read_campaign(name: str, after: int) -> Campaign:
    """Return what the graph has of the campaign `name`, whose first node has a PK above `after`."""
    chains = look_at(read_plan(load_campaign(name))).processes.chains
    frame = campaign_frame(name)
    ends = {}
    for label, row in frame[frame['state'] == State.FINISHED].iterrows():
        leg = 'predicted' if row['predicted_finished'] else 'raw'
        energy, steps = row[f'{leg}_energy_final_eV_per_atom'], row[f'{leg}_ionic_steps']
        if math.isfinite(energy):
            ends[str(label)] = End(float(energy), int(steps) if math.isfinite(steps) else None, leg)
    keys = ['id', 'attributes.process_label', 'attributes.process_state', 'attributes.exit_status']
    query = orm.QueryBuilder().append(orm.ProcessNode, filters={'id': {'>': after}}, project=keys)
    processes: dict[str, Counter[str]] = {}
    unended = []
    for pk, kind, state, status in query.iterall():
        processes.setdefault(kind, Counter())[f'exit code {status}' if status else str(state)] += 1
        if state not in ENDED:
            unended.append(pk)
    keys = ['id', 'attributes.remote_workdir']
    query = orm.QueryBuilder().append(orm.CalcJobNode, filters={'id': {'>': after}}, project=keys)
    return Campaign(
        chains={label: [chain.state for chain in tries] for label, tries in chains.items()},
        ends=ends,
        processes={kind: dict(counts) for kind, counts in processes.items()},
        unended=unended,
        jobs=[Job(pk, folder) for pk, folder in query.iterall()],
        begun_twice=find_begun_twice(after),
        most_at_once=count_at_once([chain for tries in chains.values() for chain in tries]),
    )


def find_begun_twice(after: int) -> list[str]:
    """Return what work chains with a PK above `after` have begun more than once, as `PK: link label`.

    They name the link of each job and work chain, with a number where they try again; calculation functions, most of
    whose links have AiiDA's usual label, are not looked at.
    """
    begun: Counter[tuple[int, str]] = Counter()
    for kind in (orm.CalcJobNode, orm.WorkChainNode):
        query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'id': {'>': after}}, project='id', tag='caller')
        links = {'type': {'in': [LinkType.CALL_CALC.value, LinkType.CALL_WORK.value]}, 'label': {'!==': UNNAMED}}
        query.append(kind, with_incoming='caller', edge_filters=links, edge_project='label')
        begun.update((pk, label) for pk, label in query.iterall())
    return [f'{pk}: {label}' for (pk, label), count in sorted(begun.items()) if count > 1]


def count_at_once(processes: Iterable[Process]) -> int:
    """Return the largest number of processes that there were at the same time."""
    changes: list[tuple[datetime.datetime, int]] = []
    for process in processes:
        changes += [(process.began, 1), (process.changed, -1)]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most
