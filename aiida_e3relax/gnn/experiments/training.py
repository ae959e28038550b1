"""The training of a run, here or where a job of AiiDA did it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.strict_json import parse_json
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint, load_content
from aiida_e3relax.gnn.checkpoints.model_card import card_path, hash_file, read_card
from aiida_e3relax.gnn.experiments.results import CONFIG
from aiida_e3relax.gnn.training.run import train
from aiida_e3relax.gnn.training.settings import TrainingSettings, read_settings

REPORT = 'report.json'
"""How a training elsewhere ended, as `e3relax train --report` says it."""


@dataclasses.dataclass(frozen=True)
class Training:
    """What a `Result` knows of a training, and whether it took steps now."""

    facts: dict[str, Any]
    steps_taken: bool


def trained(pairs: Pairs, file: Path, settings: TrainingSettings, folder: Path, device: torch.device) -> Training:
    """Train on `pairs` in `folder`, or go on, unless the training of a job of AiiDA was put there.

    Raises what `train` and `trained_elsewhere` raise; `file` is that of the pairs.
    """
    last = folder / 'last.pt'
    if not last.is_file() and (report := trained_elsewhere(folder, file, settings)):
        print('trained elsewhere', file=sys.stderr)
        return Training({'steps': report['step']}, False)
    before = load_content(last)['step'] if last.is_file() else 0
    train(pairs, settings, folder, device)
    state = load_content(last)
    seconds = state['seconds']
    facts = {'steps': state['step'], 'training_s': seconds['wall'], 'training_cpu_s': seconds['cpu']}
    return Training(facts, state['step'] > before)


def trained_elsewhere(folder: Path, file: Path, settings: TrainingSettings) -> Mapping[str, Any] | None:
    """Return the report of a job of AiiDA whose ``best.pt`` was put into `folder` with its card; None without these.

    Raises InputError where it is not a whole training with `settings` on the pairs in `file` alone, which its card
    names by their content hash.
    """
    checkpoint = folder / 'best.pt'
    if not all(path.is_file() for path in (checkpoint, card_path(checkpoint), folder / REPORT)):
        return None
    report, made_of = parse_json((folder / REPORT).read_text(encoding='utf-8')), read_card(checkpoint).get('made_of')
    nodes = made_of.get('pairs', {}).values() if isinstance(made_of, Mapping) and 'model' not in made_of else ()
    if not isinstance(report, dict) or report.get('error') or report.get('is_complete') is not True:
        fault = f'{REPORT} does not say that it is complete'
    elif [node.get('content_hash') for node in nodes] != [hash_file(file)]:
        fault = f'its card does not say that it was made of {file} alone'
    elif read_settings(load_checkpoint(checkpoint).training.get('settings', {}), str(checkpoint)) != settings:
        fault = f'it has other settings than {CONFIG}'
    else:
        return report
    raise InputError(f'{checkpoint}: not the training of this run, {fault}: remove it and {REPORT} to train here')
