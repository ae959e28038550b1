"""Ensembles made from trained checkpoints, and the calibration of their uncertainties."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_content,
    save_atomically,
    save_checkpoint,
)
from aiida_e3relax.gnn.checkpoints.model_card import card_path, read_card, write_card
from aiida_e3relax.gnn.evaluation.calibration import Calibration
from aiida_e3relax.gnn.models.registry import make_model

ARCHITECTURE = 'ensemble'


def combine(paths: list[Path], output: Path, half: bool = False) -> Checkpoint:
    """Write the checkpoints at `paths` as one ensemble with its card, and return it as read back.

    Its elements are those that every member was trained on. With `half` the weights are kept in half precision.

    Raises
    ------
    InputError
        For fewer than two members, and for members of different architectures or sizes; the message names them.
    CheckpointError
        For a file that is missing or damaged.
    """
    if len(paths) < 2:
        raise InputError(f'an ensemble has at least two members; {len(paths)} given')
    if output.resolve() in [path.resolve() for path in paths]:
        raise InputError(f'{output}: is a member of the ensemble, which would be lost: name another output')
    checkpoints = [load_checkpoint(path) for path in paths]
    kinds = [(c.architecture, dataclasses.asdict(c.model.hyperparameters)) for c in checkpoints]
    for path, kind in zip(paths, kinds, strict=True):
        if kind != kinds[0]:
            raise InputError(
                f'{path} is {kind[0]} with {kind[1]}, but {paths[0]} is {kinds[0][0]} with {kinds[0][1]}: '
                'the members of an ensemble must be of one architecture and size'
            )
    architecture, sizes = kinds[0]
    try:
        members = {'member': architecture, 'member_hyperparameters': sizes, 'members': len(paths)}
        model = make_model(ARCHITECTURE, members)
    except ValueError as error:
        raise InputError(f'{paths[0]}: {error}') from error
    for number, checkpoint in enumerate(checkpoints):
        model.members[number].load_state_dict(checkpoint.model.state_dict())  # type: ignore[union-attr, index]
    elements = sorted(set.intersection(*(set(c.elements) for c in checkpoints)))
    training = {'members': [{'content_hash': c.content_hash, **c.training} for c in checkpoints]}
    save_checkpoint(output, ARCHITECTURE, model, elements, training, half)
    cards = [read_card(path) if card_path(path).is_file() else {} for path in paths]
    origin = [{'name': c.get('name', p.stem), 'version': c.get('version')} for p, c in zip(paths, cards, strict=True)]
    card = {'name': output.stem, 'architecture': ARCHITECTURE, 'version': 1, 'atomic_numbers': elements}
    write_card(output, {**card, 'members': origin, 'training': training})
    return load_checkpoint(output)


def calibrate(path: Path, pairs: Pairs, device: torch.device) -> Checkpoint:
    """Scale the uncertainties of the ensemble at `path` to the errors found on `pairs`, and return it as read back.

    Afterwards the median of the bonds' error over the stated uncertainty is 1. One factor is all there is to choose, so
    ranks stay as they are. Predictions do not change.

    Parameters
    ----------
    path
        An ensemble that `combine` wrote; the file and its card are written anew.
    pairs
        Pairs that no member was trained on; not those that the ensemble is to be measured on.
    device
        Where the members run.

    Raises
    ------
    InputError
        Where no pair has both an uncertainty and an error.
    """
    from aiida_e3relax.gnn.evaluation.evaluate import measure

    checkpoint = load_checkpoint(path)
    if checkpoint.architecture != ARCHITECTURE:
        raise InputError(f'{path}: expected an ensemble, found {checkpoint.architecture}: combine several first')
    measured = measure({ARCHITECTURE: checkpoint}, pairs, device, with_matches=False)
    found = [m.calibration for m in measured if m.frame == 'aligned' and m.calibration is not None]
    factor = Calibration.concatenate(found).row()['observed_over_stated_median'] if found else None
    if not factor:
        raise InputError(f'{path}: its members agree or refuse on all {len(pairs)} pairs: calibrate on other pairs')
    content, card = load_content(path), read_card(path)
    scale = factor * checkpoint.model.hyperparameters.uncertainty_scale
    names = sorted(set(pairs.source.tolist()))
    training = checkpoint.training | {'calibration': {'data': names, 'pairs': len(pairs), 'factor': scale}}
    hyperparameters = content['hyperparameters'] | {'uncertainty_scale': scale}
    save_atomically(path, content | {'hyperparameters': hyperparameters, 'training': training})
    write_card(path, card | {'training': training})
    return load_checkpoint(path)
