"""Measure which changes of their input the models follow: the table of docs/model.md.

    python -m benchmarks.symmetry

Models, weights and crystals are those of the equivariance tests (tests/gnn/models/test_equivariance.py).
"""

from __future__ import annotations

import argparse
import datetime
import platform
from importlib.metadata import version

import torch
from e3nn import o3

from aiida_e3relax.gnn.models.equivariance import Deviation, deviations, predicted_change
from aiida_e3relax.gnn.models.registry import MODELS
from tests.gnn.crystals import PROTOTYPES, batch_of, rattled
from tests.gnn.networks import random_network


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.manual_seed(3)
    rotation = o3.rand_matrix(dtype=torch.float64).numpy()
    generic, symmetric = batch_of(*rattled()), batch_of(*(make() for make in PROTOTYPES.values()))
    columns: dict[str, dict[str, Deviation]] = {}
    for name in MODELS:
        network = random_network(name)
        columns[name] = {'the prediction itself': predicted_change(network, generic)}
        columns[name] |= deviations(network, generic, symmetric, rotation)
    print(markdown(columns))
    print(f'\nMeasured {datetime.datetime.now(datetime.UTC).date()} on {platform.machine()}, torch {version("torch")}.')


def markdown(columns: dict[str, dict[str, Deviation]]) -> str:
    """Return a table with a column for each model: worst case over crystals, positions / cell in A."""
    lines = [f'| | {" | ".join(columns)} |', f'|---|{"---|" * len(columns)}']
    for change in next(iter(columns.values())):
        row = [f'{short(rows[change].positions)} / {short(rows[change].cell)}' for rows in columns.values()]
        lines.append(f'| {change} | {" | ".join(row)} |')
    return '\n'.join(lines)


def short(value: float) -> str:
    """Return one digit and the power of ten."""
    return f'{value:.0e}' if value else '0'


if __name__ == '__main__':
    main()
