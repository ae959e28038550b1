"""Measure what a campaign costs, at three sizes and with each knob turned, to tell what 100,000 structures cost.

    verdi -p PROFILE daemon start 2
    verdi -p PROFILE run benchmarks/cost_model.py FOLDER sizes knobs storage controller network
    verdi -p PROFILE run benchmarks/cost_model.py FOLDER all      # all of these
    python -m benchmarks.cost_tables FOLDER/costs.json            # the tables once more

Take a profile made for it by `aiida-e3relax setup`, in PostgreSQL on this machine, with RabbitMQ or AiiDA's own broker,
as in docs/how_to/test_cluster.md: all that happens in the profile is counted, and some of its settings are changed. EMT
stands in for VASP, whose own time is left out. Each part adds what it measured to FOLDER/costs.json, from which the
tables are printed; a campaign that is there is not run again, so that a run may be ended and go on. `storage` packs
the repository: run it when all campaigns have run.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import os
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from aiida import orm
from aiida.engine import run
from aiida.manage import get_manager
from aiida.manage.caching import enable_caching
from sqlalchemy import text

from aiida_e3relax.campaign.creation import create_campaign
from aiida_e3relax.campaign.group import CampaignGroup, load_campaign
from aiida_e3relax.campaign.plan import read_plan
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.campaign.submission.controller import CampaignController
from aiida_e3relax.campaign.submission.due import look_at
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.workflows.vasp.choices import ChainChoices
from benchmarks.alloys import draw_alloys
from benchmarks.cost_resources import read_cpu_times, read_kinds, read_storage, read_tables
from benchmarks.cost_tables import AGAIN, BASE, KNOBS_PART, SIZES_PART, Costs, Run, describe_costs
from benchmarks.load_campaign import spend
from benchmarks.process_samples import sum_cpu_times
from benchmarks.stream import write_crystals
from benchmarks.synthetic_campaign import Graph, fill_campaign, make_settings

SIZES = (5, 10, 20, 10, 5)
"""Of the campaigns, of three sizes; in this order a load that comes or goes counts for all sizes alike."""
KNOB_SIZE = 3
OPTIONS = (
    *('--vasp-code', 'vasp-standin-emt@localhost', '--protocol', 'fast', '--pre-relaxer', 'network'),
    *('--max-running', '5'),
)
MANY = 100_000
"""The structures of which the settings of a campaign tell in the case `BIG_SETTINGS`."""
RAW_LEGS = 'raw legs of all'
SHARING_ARM = 'an arm that shares these raw legs'
BIG_SETTINGS = 'settings as of a campaign of 100,000'
CPU = 'CPU s'
CACHED = 'the same again, VASP jobs from the cache'
KNOBS: dict[str, tuple[str, ...]] = {
    'no static run': ('--static-run', 'with-reference'),
    'folders of VASP jobs kept': ('--overrides', 'keep.yaml'),
    'one structure in each job of the network': ('--batch-size', '1'),
    'the cell as it is': ('--freedom', 'positions'),
    RAW_LEGS: ('--reference', 'all'),
}
"""Options of `campaign create` beside `OPTIONS`, by what they do."""
KEEP = 'clean_workdir: false\n'
CONTROLLED = (1_000, 10_000, 100_000)
REPORTED = (200, 800)
PREDICTED = (1, 1_000, 10_000)
REPEATS = 3


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where crystals and logs are kept, and the costs so far."""

    folder: Path
    costs: Costs

    def crystals(self, count: int) -> Path:
        """Return a folder with alloys, a POSCAR each."""
        folder = self.folder / f'crystals-{count}'
        if not folder.exists():
            folder.mkdir(parents=True)
            for name, atoms in draw_alloys(count):
                atoms.write(folder / f'{name}.vasp')
        return folder

    def save(self) -> None:
        """Write the costs."""
        self.costs.write(self.folder / 'costs.json')


def measure_sizes(bench: Bench) -> None:
    """Run campaigns of three sizes by the daemon, after a small one in which the workers do their imports."""
    folder = bench.folder / _name('warm-up', 4)
    folder.mkdir(parents=True)
    spend(folder, 'create', folder.name, *_create_options(bench, 4))
    spend(folder, 'run', folder.name)
    for count in SIZES[sum(done.part == SIZES_PART for done in bench.costs.runs) :]:
        measure_size(bench, count)


def measure_size(bench: Bench, count: int) -> None:
    """Run a campaign by the daemon and keep what it took from its creation to its export."""
    name = _name(SIZES_PART, count)
    folder = bench.folder / name
    folder.mkdir(parents=True)
    stored, began = read_storage(), read_cpu_times()
    spent = {'create': spend(folder, 'create', name, *_create_options(bench, count))}
    created = read_cpu_times()
    spent['run'] = spend(folder, 'run', name)
    now = read_cpu_times()
    values = {f'PostgreSQL for `create`: {CPU}': created[f'PostgreSQL: {CPU}'] - began[f'PostgreSQL: {CPU}']}
    values |= {title: now[title] - created[title] for title in now}
    values |= {title: size - stored[title] for title, size in read_storage().items()}
    for command in ('status', 'report', 'export'):
        target = () if command == 'status' else ('--folder', str(folder / command))
        spent[command] = spend(folder, command, name, *target)
    values |= {f'`{command}`: {CPU}': taken.cpu for command, taken in spent.items()}
    keep_run(bench, name, SIZES_PART, BASE, count, values)


def measure_knobs(bench: Bench) -> None:
    """Run campaigns of one size that differ by one knob each, the unchanged one first and once more at the end.

    Their processes run one after the other in this process, which does what a worker does: its CPU time is that of the
    chains alone, and the campaigns share its imports.
    """
    (bench.folder / 'keep.yaml').write_text(KEEP, encoding='utf-8')
    given = _create_options(bench, KNOB_SIZE)
    run_here(create(bench, 'warm-up', _create_options(bench, 1)))
    base = load_campaign(measure_knob(bench, BASE, given))
    with enable_caching(identifier='aiida.calculations:vasp.vasp'):
        measure_knob(bench, CACHED, given)
    measure_knob(bench, BIG_SETTINGS, (), functools.partial(create_padded, like=base))
    for case, options in KNOBS.items():
        paths = [str(bench.folder / word) if word.endswith('.yaml') else word for word in options]
        name = measure_knob(bench, case, [*given, *paths])
        if case == RAW_LEGS:
            measure_knob(bench, SHARING_ARM, ('--raw-legs-of', name, '--pre-relaxer', 'network'))
    measure_knob(bench, AGAIN, given)


def measure_knob(
    bench: Bench, case: str, options: Sequence[str], make: Callable[[str], CampaignGroup] | None = None
) -> str:
    """Run a campaign in this process and keep what it took, unless that has been done; returns its name.

    `make` creates it where the command does not. Raises RuntimeError unless all chains end well.
    """
    if done := bench.costs.find_run(KNOBS_PART, case, KNOB_SIZE):
        return done.name
    group = make(_name(KNOBS_PART, KNOB_SIZE)) if make else create(bench, KNOBS_PART, options)
    stored, began = read_storage(), _times_here()
    run_here(group)
    values = {title: time - began[title] for title, time in _times_here().items()}
    values |= {title: size - stored[title] for title, size in read_storage().items()}
    keep_run(bench, group.label, KNOBS_PART, case, KNOB_SIZE, values)
    return group.label


def create(bench: Bench, part: str, options: Sequence[str]) -> CampaignGroup:
    """Create a campaign by the command."""
    name = _name(part, KNOB_SIZE)
    folder = bench.folder / name
    folder.mkdir(parents=True)
    spend(folder, 'create', name, *options)
    return load_campaign(name)


def run_here(group: CampaignGroup) -> None:
    """Run the network and the chains of a campaign in this process."""
    controller = CampaignController(group)
    for due in (controller.due_networks, controller.due_chains):
        while builders := list(due(controller.look())):
            for builder in builders:
                run(builder)


def keep_run(bench: Bench, name: str, part: str, case: str, count: int, values: dict[str, float]) -> None:
    """Keep what a campaign took; raises RuntimeError unless all its chains have ended well."""
    frame = campaign_frame(name)
    if set(frame['state']) != {'finished'} or frame['exit_status'].any():
        raise RuntimeError(f'campaign {name}: expected chains that end well, found {frame["state"].to_dict()}')
    values['ionic steps'] = float(frame['predicted_ionic_steps'].sum())
    bench.costs.runs.append(Run(name, part, case, count, _wall_time(name), os.getloadavg()[0], values))
    bench.save()


def create_padded(name: str, like: CampaignGroup) -> CampaignGroup:
    """Create a campaign of the structures of another one, whose settings are as large as those of `MANY` structures."""
    structures: Any = {label: orm.load_node(uuid=uuid) for label, uuid in like.settings.structures.items()}
    choices = ChainChoices.from_record(like.settings.chain)
    more = {f'crystal_{number:06}': str(uuid.uuid4()) for number in range(MANY)}
    return create_campaign(name, structures, choices, left_out=more, reference_share=0.0, max_running=like.max_running)


def measure_storage(bench: Bench) -> None:
    """Keep where the bytes are, and what packing the repository and rewriting the database make of them."""
    bench.costs.kinds = dataclasses.asdict(read_kinds())
    bench.costs.tables = read_tables()
    steps: dict[str, Callable[[], Any]] = {
        'as the campaigns left it': lambda: None,
        '`verdi storage maintain --compress`': lambda: run_verdi('storage', 'maintain', '--compress', '--force'),
        '`VACUUM FULL` of the database': rewrite_database,
    }
    for title, act in steps.items():
        began = time.monotonic()
        act()
        bench.costs.packing[title] = {'wall s': time.monotonic() - began, **read_storage()}
        bench.save()


def measure_controller(bench: Bench) -> None:
    """Time looks of `run` at campaigns that never ran, of which the graph has settings and chains alone, and reports.

    The first look reads all chains, the next ones those that have not ended, of which there are none.

    A report is made of a graph with all nodes of a chain but without files, so that it has no trajectories.
    """
    for count in CONTROLLED:
        group = fill_bare(f'bare-{count}-{datetime.datetime.now():%H%M%S}', count)
        plan = read_plan(group)
        began = time.perf_counter()
        look_at(plan)
        first = time.perf_counter() - began
        bench.costs.controller[str(count)] = {'first look': first, 'look': _time(functools.partial(look_at, plan))}
        bench.save()
    model = E3RelaxModelData.default()
    for count in REPORTED:
        name = f'report-{count}-{datetime.datetime.now():%H%M%S}'
        folder = bench.folder / name
        folder.mkdir()
        fill_campaign(name, ['compared'] * count, model, seed=count, share=0.1)
        report = spend(folder, 'report', name, '--folder', str(folder / 'report'))
        page = (folder / 'report' / 'report.html').stat().st_size / 1e6
        frame = _time(functools.partial(campaign_frame, name))
        bench.costs.controller.setdefault(str(count), {}).update(
            {'report': report.cpu, 'report MiB': report.peak, 'page MB': page, 'table': frame}
        )
        bench.save()


def fill_bare(name: str, count: int) -> CampaignGroup:
    """Store a campaign of that many finished chains, of which only the chains themselves and the settings are there."""
    graph = Graph()
    structures = {f'crystal_{number:06}': str(uuid.uuid4()) for number in range(count)}
    settings = make_settings(name, structures, E3RelaxModelData.default(), 0.1).to_node().store().uuid
    for label in structures:
        kind = 'aiida.workflows:e3relax.vasp'
        graph.process(
            orm.WorkChainNode, 'E3RelaxVaspWorkChain', {'campaign': settings}, {}, label=label, process_type=kind
        )
    graph.write()
    group = CampaignGroup(label=name).store()
    group.add_nodes([orm.load_node(uuid=settings)])
    return group


def measure_network(bench: Bench) -> None:
    """Keep the CPU time of one job of the network over few and many crystals, on one thread."""
    executable = Path(sys.executable).with_name('e3relax')
    for count in PREDICTED:
        path = bench.folder / f'predicted-{count}.npz'
        write_crystals(path, count)
        output = path.with_suffix('.out.npz')
        command = [str(executable), 'predict', str(path), '--output', str(output), '--device', 'cpu', '--threads', '1']
        process = psutil.Popen([*command, '--dtype', 'auto'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, code, used = os.wait4(process.pid, 0)
        if code:
            raise RuntimeError(f'{" ".join(command)} failed')
        bench.costs.network[str(count)] = used.ru_utime + used.ru_stime
    bench.save()


def rewrite_database() -> None:
    """Give back what updated and deleted rows have left in the database's files; needs a daemon that is stopped."""
    run_verdi('daemon', 'stop')
    storage: Any = get_manager().get_profile_storage()
    storage.get_session().commit()  # an open transaction of its own would hold it up
    with storage.get_session().get_bind().connect() as connection:
        connection.execution_options(isolation_level='AUTOCOMMIT').execute(text('VACUUM FULL'))
    run_verdi('daemon', 'start', '2')


def run_verdi(*words: str) -> None:
    """Run a command of verdi on this profile; raises CalledProcessError where it fails."""
    profile: Any = get_manager().get_profile()
    executable = Path(sys.executable).with_name('verdi')
    subprocess.run([str(executable), '-p', profile.name, *words], check=True, stdout=subprocess.DEVNULL)


def _name(part: str, count: int) -> str:
    return f'{part}-{count}-{datetime.datetime.now():%H%M%S}'


def _times_here() -> dict[str, float]:
    """Return what `read_cpu_times` does of broker and database, and this process in the place of the workers."""
    own, shells = sum_cpu_times([psutil.Process()])
    servers = {title: spent for title, spent in read_cpu_times().items() if title.startswith(('PostgreSQL', 'broker'))}
    return {f'workers: {CPU}': own, f'their shells: {CPU}': shells, **servers}


def _create_options(bench: Bench, count: int) -> list[str]:
    return ['--from', str(bench.crystals(count)), *OPTIONS, '--reference', 'none']


def _wall_time(name: str) -> float:
    """Return the time from the first submission of a campaign to the end of its last chain in s."""
    query = orm.QueryBuilder().append(orm.Dict, filters={'id': load_campaign(name).settings_node.pk}, tag='settings')
    query.append(orm.WorkChainNode, with_incoming='settings', project=['ctime', 'mtime'])
    began, ended = zip(*query.all(), strict=True)
    return (max(ended) - min(began)).total_seconds()


def _time(ask: Callable[[], Any]) -> float:
    """Return the least wall time of some calls in s."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        ask()
        times.append(time.perf_counter() - began)
    return min(times)


PARTS: Mapping[str, Callable[[Bench], None]] = {
    SIZES_PART: measure_sizes,
    KNOBS_PART: measure_knobs,
    'storage': measure_storage,
    'controller': measure_controller,
    'network': measure_network,
}


def main() -> None:
    """Measure the parts that are named, and print the tables of all that was measured so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('parts', nargs='+', choices=[*PARTS, 'all'])
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    kept = options.folder / 'costs.json'
    if kept.exists():
        costs = Costs.read(kept)
    else:
        machine = f'{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}'
        costs = Costs(f'{datetime.date.today()}, {machine}')
    bench = Bench(options.folder, costs)
    for part, measure in PARTS.items():
        if part in options.parts or 'all' in options.parts:
            measure(bench)
    print(describe_costs(bench.costs))


if __name__ == '__main__':
    main()
