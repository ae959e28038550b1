"""Load and faults: thousands of predictions, hundreds of chains in flight, and what breaks under a campaign.

    python -m benchmarks.load FOLDER faultless workers database broker maintenance scheduler disk walltime
    python -m benchmarks.load FOLDER prediction in-flight
    python -m benchmarks.load FOLDER --end    # the tables of all that has run; exit status 1 where anything is amiss

It starts PostgreSQL, RabbitMQ, SLURM and an SSH server of its own, as those of docs/how_to/test_cluster.md and beside
them, with a profile of its own, all in FOLDER, which has to have a short path that every user can enter. --end stops
and removes them, the JSON files of the scenarios and the logs stay. A scenario that is named again runs anew. Each is a
campaign of ordered alloys, with EMT in the place of VASP, whose sites relax in cells that stay. After it AiiDA's graph
is held against SLURM's jobs and against the campaign without a fault: nothing may be lost, and nothing may be done
twice.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.load_cluster import Cluster
from benchmarks.load_faults import SCENARIOS
from benchmarks.load_tables import (
    format_details,
    format_faults,
    format_in_flight,
    format_prediction,
    is_prediction_sound,
    is_sound,
)

PREDICTION, IN_FLIGHT = 'prediction', 'in-flight'
SIZES = {PREDICTION: 10_000, IN_FLIGHT: 300}
CHAINS = 12


def main(arguments: Iterable[str] | None = None) -> int:
    """Run the scenarios, print the tables of all that have run, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('scenarios', nargs='*', metavar='SCENARIO', help=', '.join([*SCENARIOS, *SIZES]))
    parser.add_argument('--size', type=int, help=f'structures; {CHAINS}, and {SIZES} of these')
    parser.add_argument('--end', action='store_true', help='stop and remove the services')
    given = parser.parse_args(arguments)
    if unknown := set(given.scenarios) - {*SCENARIOS, *SIZES}:
        parser.error(f'no such scenario: {", ".join(sorted(unknown))}; there are {", ".join([*SCENARIOS, *SIZES])}')
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.scenarios or given.end:
        cluster = Cluster(given.folder)
        machine = f'{platform.machine()}, {os.cpu_count()} cores'
        try:
            for name in given.scenarios:
                cluster.set_up()
                result = run(cluster, name, given.size or SIZES.get(name, CHAINS))
                result |= {'date': f'{datetime.date.today()}', 'machine': machine}
                (given.folder / f'{name}.json').write_text(json.dumps(result, indent=1), encoding='utf-8')
        finally:
            if given.end:
                cluster.tear_down()
    return print_tables(given.folder)


def run(cluster: Cluster, name: str, count: int) -> dict[str, Any]:
    """Run one scenario, and return what came of it."""
    from benchmarks.load_runs import run_in_flight, run_prediction, run_scenario  # with the environment of the cluster

    if name == PREDICTION:
        return run_prediction(cluster, count)
    if name == IN_FLIGHT:
        return run_in_flight(cluster, count)
    return run_scenario(cluster, name, count)


def print_tables(folder: Path) -> int:
    """Print what is in the JSON files of a folder, and return 1 where anything is amiss, else 0."""
    results: dict[str, Any] = {
        name: json.loads((folder / f'{name}.json').read_text(encoding='utf-8'))
        for name in (*SCENARIOS, IN_FLIGHT, PREDICTION)
        if (folder / f'{name}.json').exists()
    }
    prediction = results.pop(PREDICTION, None)
    if results:
        print(f'{format_faults(results)}\n\n{format_details(results)}\n')
    if in_flight := results.get(IN_FLIGHT):
        print(f'{format_in_flight(in_flight)}\n')
    if prediction:
        print(f'{format_prediction(prediction)}\n')
    are_sound = all(is_sound(result) for result in results.values())
    return int(not (are_sound and (prediction is None or is_prediction_sound(prediction))))


if __name__ == '__main__':
    sys.exit(main())
