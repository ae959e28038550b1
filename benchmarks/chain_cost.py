# ruff: noqa: E402 (AIIDA_PATH has to be set before aiida is imported)
"""What AiiDA spends on a chain of two legs, by where the time goes and nodes by kind, and on chains with fewer parts.

    python benchmarks/chain_cost.py [--runs 3]

The chain relaxes a rattled metal with the network and the VASP stand-in (EMT), in this process, in a temporary profile
(SQLite, no broker). A timer looks at the stack every 2 ms of CPU time; a sample belongs to the innermost frame that
says what the time is for, and to an import whatever that runs. The jobs themselves are not counted. Writes Markdown to
standard output.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import os
import platform
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any

FOLDER = tempfile.TemporaryDirectory()
os.environ['AIIDA_PATH'] = FOLDER.name  # importing aiida makes a configuration folder there
os.environ['PATH'] = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])

from aiida import load_profile, orm
from aiida.engine import run_get_node
from aiida.manage.configuration import create_profile, get_config

from aiida_e3relax.cli.resources import (
    STANDIN_FAMILY,
    provide_computer,
    provide_model,
    provide_network_code,
    provide_potentials,
    provide_standin_code,
)
from aiida_e3relax.workflows.demo import demo_crystal
from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain

IMPORTED = time.process_time()
PROFILE = 'chain-cost'
SAMPLE_EVERY = 0.002  # s
IMPORTS = 'imports'
CHECKPOINTS = 'checkpoints after each step'
REST = 'everything else'
JOBS = 'jobs: files, transport, scheduler'
PORTS = 'inputs serialised and validated'
ENGINE = 'the rest of the engine: states, polls, signals'
PURPOSES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (IMPORTS, '<frozen importlib', ()),
    ('our calculation functions', 'aiida_e3relax/', ('make_kpoints', 'guard_prediction', 'compare')),
    ('our work chains, calculation and parser', 'aiida_e3relax/', ()),
    ("aiida-vasp's parser", 'aiida_vasp/parsers/', ()),
    ("aiida-vasp's work chains and calculation", 'aiida_vasp/', ()),
    (CHECKPOINTS, 'aiida/engine/persistence.py', ()),
    (CHECKPOINTS, 'aiida/orm/utils/serialize.py', ()),
    (CHECKPOINTS, 'plumpy/persistence.py', ()),
    (CHECKPOINTS, 'aiida/engine/processes/process.py', ('save_instance_state', 'encode_input_args')),
    ('links: checked and stored', 'aiida/orm/nodes/links.py', ('add_incoming',)),
    ('nodes: hashed', 'aiida/orm/nodes/caching.py', ()),
    ('nodes: stored', 'aiida/orm/nodes/node.py', ('store', 'store_all')),
    ('links of outputs, looked for after each step', 'aiida/engine/processes/process.py', ('update_outputs',)),
    (PORTS, 'aiida/engine/processes/ports.py', ()),
    (PORTS, 'plumpy/ports.py', ()),
    (JOBS, 'aiida/engine/daemon/execmanager.py', ()),
    (JOBS, 'aiida/transports/', ()),
    (JOBS, 'aiida/schedulers/', ()),
    (JOBS, 'aiida/engine/processes/calcjobs/', ()),
    ('report', 'logging/__init__.py', ()),
    (ENGINE, 'aiida/engine/', ()),
    (ENGINE, 'plumpy/', ()),
)
"""What time is for: by a part of the path of a frame's file and, where there are any, the names of its functions."""


CASES: dict[str, dict[str, Any]] = {
    'two legs': {'reference_leg': 'always'},
    'one leg': {'reference_leg': 'never'},
    'one leg without a static run': {'reference_leg': 'never', 'overrides': {'static_run': 'with-reference'}},
    'one leg, the cell as it is': {'reference_leg': 'never', 'freedom': 'positions'},
}
"""Chains, by what is given to the builder; the first one is looked at closely."""


class Samples:
    """Counts of what the process was doing each time that another `SAMPLE_EVERY` of its CPU time had passed."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()

    def __enter__(self) -> Samples:
        signal.signal(signal.SIGPROF, self._count)
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_EVERY, SAMPLE_EVERY)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def share(self, purpose: str) -> float:
        """Return the part of the samples that belong to `purpose`."""
        return self.counts[purpose] / self.counts.total()

    def _count(self, _signal: int, frame: FrameType | None) -> None:
        self.counts[find_purpose(frame)] += 1


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of chains, in s: CPU time of this process, CPU time of the shells that AiiDA starts, and wall time."""

    own: float
    shells: float
    wall: float

    @classmethod
    def so_far(cls) -> Cost:
        """Return what this process has spent."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return cls(time.process_time(), children.ru_utime + children.ru_stime, time.monotonic())

    def since(self, start: Cost, n_chains: int) -> Cost:
        """Return the cost from `start` to here, for each of `n_chains`."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(start), strict=True)
        return Cost(*((after - before) / n_chains for after, before in pairs))


def find_purpose(frame: FrameType | None) -> str:
    """Return what a stack is busy with."""
    found = None
    while frame is not None:
        purpose = _purpose_of(frame.f_code.co_filename, frame.f_code.co_name)
        if purpose == IMPORTS:
            return purpose
        found = found or purpose
        frame = frame.f_back
    return found or REST


def _purpose_of(path: str, function: str) -> str | None:
    matches = (purpose for purpose, part, names in PURPOSES if part in path and (not names or function in names))
    return next(matches, None)


def main() -> None:
    """Run the chain, and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=3, help='chains after the first one')
    n_runs = parser.parse_args().runs
    with FOLDER:
        make_profile()
        case, given = next(iter(CASES.items()))
        first, first_cost, _ = run_chains(1, given)
        then, cost, chain = run_chains(n_runs, given)
        print(f'{datetime.date.today()}, {platform.machine()}, {platform.system()}, Python {platform.python_version()}')
        print(f'\nCPU-seconds of the process, the first chain and the mean of {n_runs} more:\n')
        print('| where | first | then |\n|---|---|---|')
        for purpose, _ in (first.counts | then.counts).most_common():
            print(f'| {purpose} | {first_cost.own * first.share(purpose):.2f} | {cost.own * then.share(purpose):.2f} |')
        print(f'| **together** | **{first_cost.own:.2f}** | **{cost.own:.2f}** |')
        print(f'| imports before the first chain | {IMPORTED:.2f} | |')
        print(f'| shells that AiiDA starts for transport and scheduler | {first_cost.shells:.2f} | {cost.shells:.2f} |')
        print(f'| wall time, the jobs included | {first_cost.wall:.1f} | {cost.wall:.1f} |')
        nodes, n_links = made_by(chain)
        print(f'\n{len(nodes)} nodes and {n_links} links:\n')
        print('| kind | nodes |\n|---|---|')
        for kind, count in collections.Counter(map(kind_of, nodes)).most_common():
            print(f'| {kind} | {count} |')
        print(f'\nChains with fewer parts, mean of {n_runs}:\n')
        print('| chain | processes | nodes | links | CPU s | of shells | wall s |\n|---|---|---|---|---|---|---|')
        print_case(case, cost, chain)
        for case, given in list(CASES.items())[1:]:
            _, cost, chain = run_chains(n_runs, given)
            print_case(case, cost, chain)


def make_profile() -> None:
    """Load a new profile with what the chain needs; it looks after sub-processes each second, as by `verdi presto`."""
    config = get_config(create=True)
    storage = {'filepath': str(Path(FOLDER.name) / 'storage')}
    create_profile(
        config,
        name=PROFILE,
        email='benchmark@localhost',
        storage_backend='core.sqlite_dos',
        storage_config=storage,
    )
    config.set_option('runner.poll.interval', 1)
    config.set_option('logging.aiida_loglevel', 'ERROR')
    load_profile(PROFILE)
    provide_computer()
    provide_network_code()
    provide_standin_code('emt')
    provide_potentials()
    provide_model()


def run_chains(n_chains: int, given: dict[str, Any]) -> tuple[Samples, Cost, orm.WorkChainNode]:
    """Return where the time of chains one after the other went, the cost of one, and the last of them."""
    before = Cost.so_far()
    with Samples() as samples:
        for _ in range(n_chains):
            chain = run_chain(given)
    return samples, Cost.so_far().since(before, n_chains), chain


def run_chain(given: dict[str, Any]) -> orm.WorkChainNode:
    """Run a chain from the builder, which gets what is `given`, and return its node."""
    builder = E3RelaxVaspWorkChain.get_builder_from_protocol(
        structure=orm.StructureData(ase=demo_crystal('metal')),
        vasp_code='vasp-standin-emt@localhost',
        network_code='e3relax@localhost',
        potential_family=STANDIN_FAMILY,
        protocol='fast',
        **given,
    )
    chain = run_get_node(builder).node
    if not chain.is_finished_ok:
        raise RuntimeError(f'the chain ended with {chain.exit_status}: {chain.exit_message}')
    return chain


def made_by(chain: orm.WorkChainNode) -> tuple[list[orm.Node], int]:
    """Return the nodes that were made for the last chain, and how many links lead to them."""
    made = {'ctime': {'>=': chain.inputs.structure.ctime}}
    nodes = orm.QueryBuilder().append(orm.Node, filters=made).all(flat=True)
    return nodes, sum(len(node.base.links.get_incoming().all()) for node in nodes)


def kind_of(node: orm.Node) -> str:
    """Return what kind of node this is, of a process by its own name."""
    return getattr(node, 'process_label', type(node).__name__)


def print_case(case: str, cost: Cost, chain: orm.WorkChainNode) -> None:
    """Print a row on chains of one case."""
    nodes, n_links = made_by(chain)
    n_processes = sum(isinstance(node, orm.ProcessNode) for node in nodes)
    print(
        f'| {case} | {n_processes} | {len(nodes)} | {n_links} | {cost.own:.2f} | {cost.shells:.2f} | {cost.wall:.1f} |'
    )


if __name__ == '__main__':
    main()
