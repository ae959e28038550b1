"""Train the package's default model from its data, measure it and publish it.

    e3relax data pnictides/ substitution.npz --output pairs.npz
    python benchmarks/default_model.py pairs.npz --output default --publish

The default is an ensemble. Its members are trained one after the other, each in two stages: on the relaxations as they
are, then on the part of them that keeps the symmetry of the start, with the pnictides taken more often. The command
goes on where it was stopped, and leaves out what is done. The ensemble gets environments of its training, and its
uncertainty is calibrated on the validation splits, named ones too; the test splits are only measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import report

from aiida_e3relax.crystals.datasets.pairs_file import read_different_pairs
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.device import prepare_device
from aiida_e3relax.gnn.training.ensembles import calibrate, combine
from aiida_e3relax.gnn.training.reference_sets import add_reference_set
from aiida_e3relax.gnn.training.run import train
from aiida_e3relax.gnn.training.settings import read_settings

SECOND_STAGE: dict[str, Any] = {
    'learning_rate': 1e-3,
    'weight_decay': 0.3,
    'steps': 20000,
    'validate_every': 1000,
    'early_stop': None,
    'oversampling': {'pnictides': 2},
    'symmetric_targets': True,
}

MEMBERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    'member-0': (
        {'seed': 0, 'steps': 16000},
        SECOND_STAGE | {'seed': 10, 'steps': 16000, 'oversampling': {'pnictides': 4}},
    ),
    'member-1': ({'seed': 1, 'steps': 12000}, SECOND_STAGE | {'seed': 11}),
    'member-2': ({'seed': 2, 'steps': 14000}, SECOND_STAGE | {'seed': 12}),
}
"""The members' two stages: what their settings are beside the presets `short` and `finetune`."""


def main() -> None:
    """Train what is missing, combine, calibrate, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', nargs='+', type=Path, help='training files that `e3relax data` wrote')
    parser.add_argument('--output', type=Path, default=Path('default'), help='folder of the runs')
    parser.add_argument('--device', default='auto')
    parser.add_argument('--threads', type=int)
    parser.add_argument('--publish', action='store_true', help="make the ensemble the package's default")
    options = parser.parse_args()
    device = prepare_device(options.device, options.threads)
    pairs = Pairs.concatenate(read_different_pairs(options.pairs))
    members = []
    for name, stages in MEMBERS.items():
        first, second = options.output / name, options.output / f'{name}-tuned'
        train(pairs, read_settings(stages[0], first.name), first, device)
        tuning = read_settings(stages[1], second.name, 'finetune')
        train(pairs, tuning, second, device, tuned_from=load_checkpoint(first / 'best.pt'))
        members.append(second / 'best.pt')
    ensemble = options.output / 'ensemble.pt'
    combine(members, ensemble, half=True)
    add_reference_set(ensemble, pairs.of_split('train'), device)
    held_back = pairs.select(np.flatnonzero(np.char.startswith(pairs.split, 'val')))
    calibrate(ensemble, held_back, device, trained_on=pairs.of_split('train'))
    report(ensemble, pairs, device, options.publish)


if __name__ == '__main__':
    main()
