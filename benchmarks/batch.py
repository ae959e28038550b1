"""What AiiDA spends on many structures in one node, and on one run of the network over them.

    python benchmarks/batch.py

In a temporary profile (SQLite), in this process: a batch of 10,000 crystals is stored and read, `StructureData` nodes
are gathered into a batch and taken out of one, and one job of the network runs over 1,000 crystals. Processor time is
that of this process alone, so that the network, a process of its own, does not count. Writes Markdown to standard
output.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MANY, RUN, SOME = 10_000, 1_000, 300
PROFILE = 'batch'


def main() -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ['AIIDA_PATH'] = folder  # read when aiida is imported
        from aiida import load_profile
        from aiida.manage.configuration import create_profile, get_config

        config = get_config(create=True)
        create_profile(
            config, name=PROFILE, email='benchmark@localhost', storage_backend='core.sqlite_dos', storage_config={}
        )
        load_profile(PROFILE)
        measure_storage()
        measure_run(Path(folder))


def measure_storage() -> None:
    """Print what storing, reading, gathering and taking out cost."""
    from aiida import orm

    from aiida_e3relax.calculations.batches import gather_structures, take_structure
    from aiida_e3relax.data.batch import StructureBatchData

    crystals = make_crystals_of_all_sizes(MANY)
    batch = StructureBatchData(crystals)
    print('| step | structures | wall time (ms) | CPU time (ms) |\n|---|---|---|---|', flush=True)
    tell('make and store', MANY, lambda: StructureBatchData(crystals).store())
    batch.store()
    tell('read the labels', MANY, lambda: orm.load_node(batch.pk).labels)
    label = batch.labels[-1]
    tell('read one structure', 1, lambda: orm.load_node(batch.pk).get_structure(label))
    tell('read all structures', MANY, lambda: orm.load_node(batch.pk).crystals)
    taken = tell('`take_structure`', 1, lambda: take_structure(batch, label))
    assert taken.is_stored
    structures = {f'crystal_{i}': batch.get_structure(batch.labels[i]).store() for i in range(SOME)}
    tell('`gather_structures`', SOME, lambda: gather_structures(**structures))
    repository = batch.base.repository
    size = sum(repository.get_object_size(name) for name in repository.list_object_names())
    print(f'\n{MANY} structures of {len(crystals.numbers)} atoms take {size / 1e6:.1f} MB.\n', flush=True)


def measure_run(folder: Path) -> None:
    """Print what AiiDA spends on one job of the network."""
    from aiida import orm
    from aiida.engine import run_get_node

    from aiida_e3relax.calculations.predict import E3RelaxCalculation
    from aiida_e3relax.data.batch import StructureBatchData
    from aiida_e3relax.data.model import E3RelaxModelData

    computer = orm.Computer(
        label='localhost',
        hostname='localhost',
        transport_type='core.local',
        scheduler_type='core.direct',
        workdir=str(folder / 'work'),
    ).store()
    computer.configure(safe_interval=0.0)
    computer.set_minimum_job_poll_interval(0.0)
    code = orm.InstalledCode(
        label='e3relax',
        computer=computer,
        filepath_executable=str(Path(sys.executable).with_name('e3relax')),
        default_calc_job_plugin='e3relax.predict',
    ).store()
    model = E3RelaxModelData.default()
    print('| one job over | wall time (s) | CPU time of AiiDA (s) | a structure (ms) |\n|---|---|---|---|', flush=True)
    for count in (1, RUN):
        batch = StructureBatchData(make_crystals_of_all_sizes(count))
        wall, cpu = time.perf_counter(), time.process_time()
        _, node = run_get_node(
            E3RelaxCalculation, code=code, model=model, batch=batch, parameters={'device': 'cpu', 'threads': 1}
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        if not node.is_finished_ok:
            raise SystemExit(f'the job failed with exit code {node.exit_status}: {node.exit_message}')
        print(f'| {count} | {wall:.1f} | {cpu:.2f} | {1e3 * cpu / count:.2f} |', flush=True)


def make_crystals_of_all_sizes(count: int) -> Any:
    """Return rattled and strained rock salts of 2 to 24 atoms, about 12 on the average."""
    import numpy as np

    from aiida_e3relax.crystals.structures import make_crystals

    rng = np.random.default_rng(0)
    spacing = 2.5  # A
    numbers, positions, cells = [], [], []
    for size in rng.integers(1, 13, count):
        points = np.indices((1, size, 2)).reshape(3, -1).T
        strain = np.eye(3) + 0.02 * rng.normal(size=(3, 3))
        numbers.append(np.where(points.sum(axis=1) % 2, 8, 12))
        positions.append((points + 0.02 * rng.normal(size=points.shape)) * spacing @ strain)
        cells.append(np.diag([1, size, 2]) * spacing @ strain)
    return make_crystals(numbers, positions, cells, [f'crystal-{i}' for i in range(count)])


def tell(step: str, count: int, run: Callable[[], Any]) -> Any:
    """Run a step, print a row of the table, and return what it returned."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f'| {step} | {count} | {1e3 * wall:.1f} | {1e3 * cpu:.1f} |', flush=True)
    return result


if __name__ == '__main__':
    main()
