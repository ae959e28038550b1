"""Time the queries on a campaign in the loaded profile, filled with chains that never ran.

    verdi -p PROFILE run benchmarks/queries.py [CHAINS]

It prints the table of benchmarks/README.md. Take a profile made for it: what it stores stays. The graph of each chain
has the nodes and links of a real one, without files; half as many chains of another campaign lie beside those asked
for. Each query runs three times, and the fastest counts.
"""

from __future__ import annotations

import datetime
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from aiida import orm
from aiida.manage import get_manager

from aiida_e3relax.campaign.results.queries import find_chains, find_predictions, find_references_of, trace_origin
from aiida_e3relax.campaign.results.statistics import summarise
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.campaign.results.trajectories import campaign_trajectories
from aiida_e3relax.data.model import E3RelaxModelData
from benchmarks.synthetic_campaign import draw_fates, fill_campaign

CHAINS = 1000
REPEATS = 3


def main(chains: int) -> None:
    """Fill the profile and print how long each query takes."""
    model = E3RelaxModelData.default()
    started = time.perf_counter()
    name = f'queries-{datetime.datetime.now():%H%M%S}'
    for label, count in ((name, chains), (f'{name}-beside', chains // 2)):
        fill_campaign(label, draw_fates(count, np.random.default_rng(0)), model, seed=count)
    filled = time.perf_counter() - started
    frame = campaign_frame(name)
    compared = frame[frame['same_minimum'].notna()].iloc[0]
    chain = orm.load_node(compared['chain_uuid'])
    result = chain.base.links.get_outgoing(link_label_filter='predicted__misc').one().node
    questions: dict[str, Callable[[], Any]] = {
        'everything of the campaign': lambda: campaign_frame(name),
        'chains with oxygen': lambda: find_chains(elements=['O']),
        'chains of 2 to 4 atoms': lambda: find_chains(n_atoms=(2, 4)),
        'chains by model, device and verdict': lambda: find_chains(
            model=model.content_hash, device='cuda', verdict='rejected'
        ),
        'from an energy to its checkpoint': lambda: trace_origin(result),
        'all predictions of a model': lambda: find_predictions(model.content_hash),
        'reference legs for a chain': lambda: find_references_of(chain),
        'trajectories of all legs (no files)': lambda: campaign_trajectories(name),
        'statistics, from the table': lambda: summarise(frame),
    }
    print('| question | s |\n|---|---|')
    for title, ask in questions.items():
        print(f'| {title} | {min(_time(ask) for _ in range(REPEATS)):.2f} |')
    nodes = orm.QueryBuilder().append(orm.Node).count()
    storage = get_manager().get_profile_storage().profile.storage_backend
    print(
        f'\n{storage}, {chains} chains among {nodes:,} nodes, stored in {filled:.0f} s. '
        f'Measured {datetime.datetime.now(datetime.UTC).date()} on {platform.machine()}.'
    )


def _time(ask: Callable[[], Any]) -> float:
    started = time.perf_counter()
    ask()
    return time.perf_counter() - started


if __name__ == '__main__':
    main(int(sys.argv[1]) if len(sys.argv) > 1 else CHAINS)
