"""What a campaign takes of a machine, as differences between two looks: CPU time by server, nodes, bytes and files."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from aiida import orm
from aiida.engine.daemon.client import get_daemon_client
from aiida.manage import get_manager
from aiida.storage.psql_dos.backend import get_filepath_container

from benchmarks.process_samples import MIB, ask_database, find_servers, sum_cpu_times

COMPUTER = 'localhost'
DATABASE = 'select pg_database_size(current_database())'
TABLES = (
    "select json_object_agg(relname, pg_total_relation_size(oid)) from pg_class where relkind = 'r' "
    "and relname like 'db\\_%'"
)


def read_cpu_times() -> dict[str, float]:
    """Return the CPU time of daemon, broker and database so far in s, with that of their children that have ended."""
    if get_daemon_client().get_daemon_pid() is None:
        raise RuntimeError('daemon: expected one that runs, found none; start it: `verdi daemon start 2`')
    servers = find_servers()
    servers['broker'] = servers['broker'] or [_find_rabbitmq()]
    workers = [process for name, group in servers.items() if name.startswith('worker') for process in group]
    own, shells = sum_cpu_times(workers)
    others = {
        f'{title}: CPU s': sum(sum_cpu_times(servers[name]))
        for title, name in (('PostgreSQL', 'PostgreSQL'), ('broker', 'broker'), ('circus', 'circus'))
    }
    return {'workers: CPU s': own, 'their shells: CPU s': shells, **others}


def read_storage() -> dict[str, float]:
    """Return what the profile and the folder of its computer hold: numbers, and MiB.

    The repository's are bytes of files that are alone, and of packs; `on disk` counts whole blocks of the file system.
    """
    profile: Any = get_manager().get_profile()
    storage: Any = get_manager().get_profile_storage()
    container = Path(get_filepath_container(profile))
    entities = storage.get_info(detailed=True)['entities']
    found = {
        'nodes': entities['Nodes']['count'],
        'links': entities['Links']['count'],
        'processes': orm.QueryBuilder().append(orm.ProcessNode).count(),
        'jobs': orm.QueryBuilder().append(orm.CalcJobNode).count(),
        'database: MiB': ask_database(DATABASE) / MIB,
    }
    for title, folder in (('repository', container), ("the computer's folder", Path(_work_folder()))):
        sizes = list(_walk(folder))
        found[f'{title}: files'] = len(sizes)
        found[f'{title}: MiB'] = sum(size for size, _ in sizes) / MIB
        found[f'{title}: MiB on disk'] = sum(blocks for _, blocks in sizes) / MIB
    return found


def read_tables() -> dict[str, float]:
    """Return the MiB of the largest tables of the database, with their indices."""
    sizes = {name: size / MIB for name, size in ask_database(TABLES).items()}
    return {name: size for name, size in sorted(sizes.items(), key=lambda item: -item[1]) if size >= 0.05}


@dataclasses.dataclass(frozen=True)
class Kinds:
    """Where the bytes of the repository are, over jobs of VASP that have relaxed or run once.

    Attributes
    ----------
    n_jobs
        The jobs of VASP.
    sizes
        Mean bytes of a job: of each file that was retrieved, of its inputs, and of the arrays read from them.
    growth
        Of the files that grow, and of the arrays: bytes ``a + b steps + c steps atoms``, as `[a, b, c]`.
    """

    n_jobs: int
    sizes: dict[str, float]
    growth: dict[str, list[float]]


def read_kinds() -> Kinds:
    """Return where the bytes of all VASP jobs in the profile are, by least squares over them."""
    rows: list[tuple[int, int]] = []
    sizes: list[Counter[str]] = []
    query = orm.QueryBuilder().append(orm.CalcJobNode, filters={'process_type': {'like': '%vasp.vasp%'}})
    for job in query.all(flat=True):
        if not job.is_finished_ok:
            continue
        steps = job.outputs.misc['run_status']['last_iteration_index'][0]
        rows.append((steps, len(job.inputs.structure.sites)))
        found = Counter({f'retrieved `{name}`': size for name, size in _object_sizes(job.outputs.retrieved)})
        found['inputs'] = sum(size for _, size in _object_sizes(job))
        outputs = [link.node for link in job.base.links.get_outgoing().all()]
        arrays = [node for node in outputs if isinstance(node, orm.ArrayData)]
        found['arrays read from them'] = sum(size for node in arrays for _, size in _object_sizes(node))
        sizes.append(found)
    steps, atoms = np.array(rows, dtype=float).T
    matrix = np.stack([np.ones_like(steps), steps, steps * atoms], axis=1)
    names = sorted({name for found in sizes for name in found})
    columns = {name: np.array([found[name] for found in sizes], dtype=float) for name in names}
    growing = ('retrieved `vasprun.xml`', 'retrieved `OUTCAR`', 'arrays read from them')
    return Kinds(
        n_jobs=len(rows),
        sizes={name: float(values.mean()) for name, values in columns.items()},
        growth={
            name: np.linalg.lstsq(matrix, columns[name], rcond=None)[0].tolist() for name in growing if name in columns
        },
    )


def _find_rabbitmq() -> psutil.Process:
    """Return the RabbitMQ on this machine that the profile talks to; raises LookupError where there is none."""
    profile: Any = get_manager().get_profile()
    port = profile.process_control_config['broker_port']
    for found in psutil.net_connections('tcp'):
        if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid:
            return psutil.Process(found.pid)
    raise LookupError(f'broker: expected a process of this machine that listens on port {port}, found none')


def _object_sizes(node: orm.Node) -> Iterator[tuple[str, int]]:
    repository = node.base.repository
    for folder, _, names in repository.walk():
        for name in names:
            path = str(folder / name)
            yield path, repository.get_object_size(path)


def _work_folder() -> str:
    computer: Any = orm.load_computer(COMPUTER)
    return computer.get_workdir()


def _walk(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield size and blocks in bytes of each file below a folder."""
    for root, _, names in os.walk(folder):
        for name in names:
            status = (Path(root) / name).lstat()
            yield status.st_size, 512 * status.st_blocks
