"""The runs of `benchmarks/load.py`: a campaign with faults, hundreds of chains in flight, thousands of predictions.

Each returns what came of it as plain data for JSON. AiiDA is imported when the environment is that of the cluster.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from aiida_e3relax.crystals.structures import Crystals
from benchmarks.load_cluster import COMPUTER, NETWORK_CODE, PROFILE, VASP_CODE, WORKERS, Cluster, run
from benchmarks.load_faults import SCENARIOS, Person, Timeline

FAULTLESS = 'faultless'
OPTIONS = ('--protocol', 'fast', '--freedom', 'positions', '--reference', 'none')
LIMIT = 1500.0  # s, for a scenario
SLOTS_PER_CHAIN, SLOTS_PER_WORKER = 7, 200
"""As the controller of campaigns counts them, and as AiiDA has them."""
BEGUN = 3
"""Jobs, that of the network among them, after which faults begin."""
BATCHES = 10
SAMPLE = 100
POLLS = (60.0, 10.0)
"""In s, between two polls of the scheduler: the first is that of the run, the second what AiiDA takes by itself."""
SETTLING, HOLD = 60.0, 180.0  # s
PATIENCE = 300.0  # s


def run_scenario(cluster: Cluster, name: str, count: int) -> dict[str, Any]:
    """Run a campaign of `count` alloys, all at the same time, under the faults of a scenario."""
    scenario = SCENARIOS[name]
    campaign = _new_name(name)
    with contextlib.ExitStack() as stack:
        if scenario.disk:
            stack.enter_context(cluster.small_disk(scenario.disk))
        after, earlier = cluster.read_newest_node(), {job.number for job in cluster.read_jobs()}
        _create(cluster, campaign, count, scenario.vasp_code(cluster), *scenario.options)
        stack.callback(cluster.stop_daemon)
        cluster.start_daemon()
        timeline = Timeline(scenario.faults(cluster), lambda: len(cluster.read_jobs()) >= len(earlier) + BEGUN)
        person = Person(cluster, campaign, cluster.folder / f'{name}.log')
        try:
            has_ended = person.run_to_end(timeline, LIMIT)
        finally:
            timeline.mend()
        if next(scenario.faults(cluster), None) and not timeline.done:
            raise RuntimeError(f'{name}: the campaign had ended before anything was broken: give a larger --size')
        return {
            'title': scenario.title,
            'seconds': timeline.seconds,
            'has_ended': has_ended,
            'faults': timeline.done,
            'given': person.given,
            'ends_of_run': person.ends,
            **_audit(cluster, campaign, after, earlier),
        }


def run_in_flight(cluster: Cluster, count: int) -> dict[str, Any]:
    """Run a campaign whose chains are all in flight at once, and measure what that asks of the machine.

    VASP's partition is closed until the first jobs of all chains wait in it. There are as many workers as
    docs/how_to/large_campaigns.md counts for them.
    """
    workers = max(WORKERS, -(-(count + 1) * SLOTS_PER_CHAIN // SLOTS_PER_WORKER))
    campaign, folder = _new_name('in-flight'), cluster.folder / 'in-flight'
    folder.mkdir(exist_ok=True)
    after, earlier = cluster.read_newest_node(), {job.number for job in cluster.read_jobs()}
    _create(cluster, campaign, count, VASP_CODE)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_profile())
        gate = stack.enter_context(_Gate(cluster, count))
        stack.enter_context(_daemon(cluster, workers))
        from benchmarks.load_campaign import Stored, spend, sum_job_time
        from benchmarks.process_samples import Samples, summarise_samples

        before, began = Stored.now(), datetime.datetime.now(datetime.UTC)
        samples = Samples(campaign, folder / 'samples.csv')

        def watch(process: psutil.Process) -> None:
            samples.look(process)
            gate.look()

        spent = spend(folder, 'run', campaign, watch=watch)
        stored, jobs = Stored.now(), sum_job_time(began)
    return {
        'title': f'{count} chains at once',
        'seconds': spent.wall,
        'seconds_closed': gate.seconds,
        'most_waiting': gate.most,
        'spent_on_waiting': gate.spent,
        'has_ended': True,
        'workers': workers,
        'load': float(samples.table['load'].median()),
        'connections': int(samples.table['connections'].max()),
        'of_processes': summarise_samples(samples.table),
        'cpu_of_run': spent.cpu,
        'cpu_of_vasp_jobs': jobs,
        'before': dataclasses.asdict(before),
        'after': dataclasses.asdict(stored),
        'faults': [],
        'given': [],
        'ends_of_run': [],
        **_audit(cluster, campaign, after, earlier),
    }


def run_prediction(cluster: Cluster, count: int) -> dict[str, Any]:
    """Let the network predict `count` crystals in one job, and once more in some; compare, also with this process."""
    with _daemon(cluster), _profile():
        from benchmarks.batch import make_crystals_of_all_sizes

        crystals = make_crystals_of_all_sizes(count)
        batches = np.array_split(np.arange(count), min(BATCHES, count))
        ways = {'one': [crystals], 'some': [crystals.select(indices.tolist()) for indices in batches]}
        earlier = {job.number for job in cluster.read_jobs()}
        told = {name: _predict(cluster, parts) for name, parts in ways.items()}
        jobs = [job for job in cluster.read_jobs() if job.number not in earlier]
        one, some = (told[name].pop('crystals') for name in ways)
        sample = np.sort(np.random.default_rng(0).choice(count, min(SAMPLE, count), replace=False)).tolist()
        here = _predict_here(crystals.select(sample))
        return {
            'structures': count,
            'atoms': len(crystals.numbers),
            'batches': len(batches),
            **told,
            'in_order': all(np.array_equal(each.labels, crystals.labels) for each in (one, some)),
            'same_sites': all(np.array_equal(each.numbers, crystals.numbers) for each in (one, some)),
            'moved': float(np.abs(one.positions - crystals.positions).max()),
            'between_ways': float(np.abs(one.positions - some.positions).max()),
            'sample': len(sample),
            'from_here': float(np.abs(one.select(sample).positions - here).max()),
            'jobs_of_slurm': len(jobs),
        }


# ---------------------------------------------------------------- parts


def _new_name(name: str) -> str:
    return f'{name}-{datetime.datetime.now(datetime.UTC):%m%d-%H%M%S}'


def _create(cluster: Cluster, campaign: str, count: int, vasp_code: str, *options: str) -> None:
    """Make a campaign of alloys that may all run at the same time."""
    from benchmarks.alloys import draw_alloys

    crystals = cluster.folder / 'crystals' / str(count)
    if not crystals.exists():
        crystals.mkdir(parents=True)
        for label, atoms in draw_alloys(count):
            atoms.write(crystals / f'{label}.vasp')
    run(
        *('aiida-e3relax', 'campaign', 'create', campaign, '--from', str(crystals), '--max-running', str(count)),
        *('--network-code', NETWORK_CODE, '--vasp-code', vasp_code, '--overrides', str(cluster.overrides)),
        *OPTIONS,
        *options,
        log=cluster.folder / 'create.log',
    )


class _Gate:
    """Keeps VASP's jobs in the queue until `count` of them wait, or no more have come for PATIENCE, and measures that.

    Attributes
    ----------
    most
        How many waited at the same time.
    seconds
        How long it was closed.
    spent
        CPU-seconds of the workers for an hour of a waiting chain, by the interval between polls of POLLS.
    """

    def __init__(self, cluster: Cluster, count: int):
        self.most, self.seconds = 0, 0.0
        self.spent: dict[str, float] = {}
        self._cluster, self._count = cluster, count
        self._poll_interval = _poll_interval()
        self._closed = time.monotonic()
        self._steps = self._go_on()

    def __enter__(self) -> _Gate:
        self._cluster.open_partition(False)
        _set_poll_interval(POLLS[0])
        return self

    def __exit__(self, *_: object) -> None:
        self._open()
        _set_poll_interval(self._poll_interval)

    def look(self) -> None:
        """Go on, as far as that is possible now."""
        next(self._steps, None)

    def _go_on(self) -> Iterator[None]:
        grew = time.monotonic()
        while self.most < self._count and not (self.most and time.monotonic() - grew > PATIENCE):
            waiting = sum(job.state == 'PENDING' for job in self._cluster.read_jobs())
            if waiting > self.most:
                self.most, grew = waiting, time.monotonic()
            yield
        for interval in POLLS:
            _set_poll_interval(interval)
            yield from self._wait(SETTLING)
            began, cpu = time.monotonic(), _sum_cpu(self._cluster)
            yield from self._wait(HOLD)
            share = (_sum_cpu(self._cluster) - cpu) / (time.monotonic() - began)
            self.spent[f'{interval:g}'] = 3600 * share / self.most
        _set_poll_interval(POLLS[0])
        self._open()

    @staticmethod
    def _wait(seconds: float) -> Iterator[None]:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            yield

    def _open(self) -> None:
        if not self.seconds:
            self._cluster.open_partition(True)
            self.seconds = time.monotonic() - self._closed


def _poll_interval() -> float:
    """Return how long the workers wait at least between two polls of the scheduler, in s."""
    from aiida import orm

    return orm.load_computer(COMPUTER).get_minimum_job_poll_interval()


def _set_poll_interval(seconds: float) -> None:
    """Let the workers ask the scheduler that often at most."""
    from aiida import orm

    orm.load_computer(COMPUTER).set_minimum_job_poll_interval(seconds)


@contextlib.contextmanager
def _daemon(cluster: Cluster, workers: int = WORKERS) -> Iterator[None]:
    cluster.start_daemon(workers)
    try:
        yield
    finally:
        cluster.stop_daemon()


@contextlib.contextmanager
def _profile() -> Iterator[None]:
    from aiida import load_profile
    from aiida.manage import get_manager

    load_profile(PROFILE)
    try:
        yield
    finally:
        get_manager().unload_profile()


def _audit(cluster: Cluster, campaign: str, after: int, earlier: set[str]) -> dict[str, Any]:
    """Return what became of a campaign whose first node has a PK above `after`, and the jobs that were not `earlier`.

    It is held against the campaign without a fault where that has run before.
    """
    with _profile():
        from benchmarks.load_audit import End, audit, read_campaign

        graph = read_campaign(campaign, after)
        ends = None
        if (faultless := cluster.folder / f'{FAULTLESS}.json').exists():
            content = json.loads(faultless.read_text(encoding='utf-8'))
            ends = {label: End(**end) for label, end in content['ends'].items()}
        found = audit(graph, [job for job in cluster.read_jobs() if job.number not in earlier], ends)
    return {
        'campaign': campaign,
        'structures': len(graph.chains),
        'audit': dataclasses.asdict(found),
        'n_jobs_of_aiida': len(graph.jobs),
        'processes': graph.processes,
        'most_at_once': graph.most_at_once,
        'ends': {label: dataclasses.asdict(end) for label, end in graph.ends.items()},
    }


def _predict(cluster: Cluster, parts: list[Crystals]) -> dict[str, Any]:
    """Return what the network made of crystals in so many jobs, as `crystals`, and what that took."""
    import yaml
    from aiida import orm
    from aiida.engine import submit

    from aiida_e3relax.data.batch import StructureBatchData
    from aiida_e3relax.data.model import E3RelaxModelData
    from aiida_e3relax.workflows.network.base import E3RelaxBaseWorkChain

    inputs = yaml.safe_load(cluster.overrides.read_text(encoding='utf-8'))['network']['predict']
    inputs |= {'code': orm.load_code(NETWORK_CODE), 'model': E3RelaxModelData.default()}
    inputs['parameters'] = {'device': 'cpu', 'threads': 1}
    began, cpu = time.monotonic(), _sum_cpu(cluster) + time.process_time()
    runs: list[Any] = [
        submit(E3RelaxBaseWorkChain, predict={**inputs, 'batch': StructureBatchData(part)}) for part in parts
    ]
    while not all(each.is_terminated for each in runs):
        time.sleep(1.0)
    wall, cpu = time.monotonic() - began, _sum_cpu(cluster) + time.process_time() - cpu
    if failed := [each.pk for each in runs if not each.is_finished_ok]:
        raise RuntimeError(f'runs of the network failed: {failed}; see `verdi -p {PROFILE} process report`')
    structures = [entry for each in runs for entry in each.outputs.report['structures']]
    return {
        'jobs_of_aiida': sum(len(each.called) for each in runs),
        'seconds': wall,
        'cpu_of_aiida': cpu,
        'seconds_of_network': sum(each.outputs.report['timings_s']['total'] for each in runs),
        'statuses': dict(Counter(entry['status'] for entry in structures)),
        'crystals': Crystals.concatenate([each.outputs.batch.crystals for each in runs]),
    }


def _sum_cpu(cluster: Cluster) -> float:
    """Return the CPU time of the workers so far, in s."""
    return sum(sum(process.cpu_times()[:2]) for process in cluster.find_workers())


def _predict_here(crystals: Crystals) -> NDArray[np.float64]:
    """Return the positions, in A, that the network predicts in this process."""
    from ase import Atoms

    from aiida_e3relax.gnn.prediction.relaxer import Relaxer

    offsets = crystals.offsets
    given = [
        Atoms(
            crystals.numbers[offsets[place] : offsets[place + 1]],
            crystals.positions[offsets[place] : offsets[place + 1]],
            cell=crystals.cell[place],
            pbc=crystals.pbc[place],
        )
        for place in range(len(crystals))
    ]
    relaxed = Relaxer(device='cpu', threads=1).relax(given)
    return np.concatenate([each.structure.positions for each in relaxed if each.structure is not None])
