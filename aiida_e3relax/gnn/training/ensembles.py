"""Ensembles made from trained checkpoints, and the calibration of their uncertainties."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
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
from aiida_e3relax.gnn.checkpoints.model_card import card_path, inherit, read_card, write_card
from aiida_e3relax.gnn.checkpoints.reference import FIELD, reference_content
from aiida_e3relax.gnn.evaluation.calibration import Calibration
from aiida_e3relax.gnn.evaluation.error_law import ErrorLaw, fit_errors
from aiida_e3relax.gnn.evaluation.evaluate import measure
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.ensemble import Ensemble
from aiida_e3relax.gnn.models.reference_set import Growth
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.training.leaks import ADVICE, pair_digests
from aiida_e3relax.gnn.training.settings import CALIBRATION_PAIRS

ARCHITECTURE = 'ensemble'


def combine(paths: list[Path], output: Path, half: bool = False) -> Checkpoint:
    """Write the checkpoints at `paths` as one ensemble with its card, and return it as read back.

    Its elements are those that every member was trained on. With `half` the weights are kept in half precision.

    Raises
    ------
    InputError
        For fewer than two members, for members of different architectures or sizes, and for two with the same weights,
        whose spread would say nothing; the message names them.
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
    for (one, first), (other, second) in itertools.combinations(zip(paths, checkpoints, strict=True), 2):
        if _have_same_weights(first, second):
            raise InputError(
                f'{one} and {other} have the same weights, so that their spread says nothing: give each member once'
            )
    for number, checkpoint in enumerate(checkpoints):
        model.members[number].load_state_dict(checkpoint.model.state_dict())  # type: ignore[union-attr, index]
    elements = sorted(set.intersection(*(set(c.elements) for c in checkpoints)))
    training = {'members': [{'content_hash': c.content_hash, **c.training} for c in checkpoints]}
    save_checkpoint(output, ARCHITECTURE, model, elements, training, half)
    cards = [checkpoint.card for checkpoint in checkpoints]
    origin = [{'name': c.get('name', p.stem), 'version': c.get('version')} for p, c in zip(paths, cards, strict=True)]
    card = {'name': output.stem, 'architecture': ARCHITECTURE, 'version': 1, 'atomic_numbers': elements}
    write_card(output, {**card, **inherit(cards), 'members': origin, 'training': training})
    return load_checkpoint(output)


def separate(path: Path, folder: Path) -> list[Path]:
    """Write the members of the ensemble at `path` as checkpoints in `folder`, and return theirs.

    Each has the elements that the ensemble was trained on, and what its own training was.

    Raises
    ------
    InputError
        For what is no ensemble.
    CheckpointError
        For a file that is missing or damaged.
    """
    checkpoint = load_checkpoint(path)
    if not isinstance(checkpoint.model, Ensemble):
        raise InputError(f'{path}: expected an ensemble, found {checkpoint.architecture}')
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    trainings = checkpoint.training.get('members', [{}] * len(checkpoint.model.members))
    for number, (member, training) in enumerate(zip(checkpoint.model.members, trainings, strict=True)):
        assert isinstance(member, RelaxationModel)
        paths.append(folder / f'{path.stem}-{number}.pt')
        save_checkpoint(paths[-1], checkpoint.model.hyperparameters.member, member, checkpoint.elements, training)
    return paths


def _have_same_weights(one: Checkpoint, other: Checkpoint) -> bool:
    """Return whether two models of one architecture and size predict the same."""
    weights = other.model.state_dict()
    return all(torch.equal(tensor, weights[name]) for name, tensor in one.model.state_dict().items())


def copy_checkpoint(source: Path, output: Path) -> Checkpoint:
    """Write the checkpoint at `source`, with its card where it has one, as `output`, and return it as read back.

    Raises
    ------
    InputError
        Where both are one file.
    CheckpointError
        For a file that is missing or damaged.
    """
    if output.resolve() == source.resolve():
        raise InputError(f'{output}: is the checkpoint itself, which would be lost: name another output')
    load_checkpoint(source)
    card_path(output).unlink(missing_ok=True)
    save_atomically(output, load_content(source))
    if card_path(source).is_file():
        write_card(output, read_card(source) | {'name': output.stem})
    return load_checkpoint(output)


def calibrate(path: Path, pairs: Pairs, device: torch.device, trained_on: Pairs | None = None) -> Checkpoint:
    """Scale the uncertainties of the ensemble at `path` to the errors found on `pairs`, and return it as read back.

    Afterwards the median of the bonds' error over the stated uncertainty is about 1 in each group: data set, split, and
    family where the pairs tell of it. Where the ensemble has a reference set, the uncertainty grows with the distance
    to it, too (`fit_errors`); else one factor is all there is to choose. Predictions do not change.

    Parameters
    ----------
    path
        An ensemble that `combine` wrote; the file and its card are written anew.
    pairs
        Pairs that no member was trained on, best with chemical systems, families or prototypes that none was trained
        on, too: errors elsewhere are told by these alone. Not those that the ensemble is to be measured on.
    device
        Where the members run.
    trained_on
        Pairs that members were trained on, as far as they are known: a warning says how many of `pairs` are among them,
        and so does the card (`pairs_in_train`).

    Raises
    ------
    InputError
        Where no pair has both an uncertainty and an error.
    """
    in_train = 0 if trained_on is None else int(np.isin(pair_digests(pairs), pair_digests(trained_on)).sum())
    if in_train:
        print(
            f'warning: {in_train} of {len(pairs)} pairs to calibrate on were trained on: errors elsewhere are larger '
            f'than the uncertainty will say. {ADVICE}',
            file=sys.stderr,
        )
    if not _calibrate(path, pairs, device, 1, in_train):
        raise InputError(f'{path}: its members agree or refuse on all {len(pairs)} pairs: calibrate on other pairs')
    return load_checkpoint(path)


def recalibrate(path: Path, pairs: Pairs, device: torch.device) -> bool:
    """Calibrate an ensemble whose members have learnt, and return whether it is; of one that is, nothing changes.

    It is not by `pairs` of which fewer than `CALIBRATION_PAIRS` have an uncertainty and an error; the factor then is
    the one that it began with. See `calibrate`.
    """
    return 'calibration' in load_checkpoint(path).training or _calibrate(path, pairs, device, CALIBRATION_PAIRS)


def _calibrate(path: Path, pairs: Pairs, device: torch.device, fewest: int, in_train: int = 0) -> bool:
    """Calibrate the ensemble at `path` where at least so many pairs tell by what, and return whether they do."""
    checkpoint = load_checkpoint(path)
    if checkpoint.architecture != ARCHITECTURE:
        raise InputError(f'{path}: expected an ensemble, found {checkpoint.architecture}: combine several first')
    reference = checkpoint.reference and dataclasses.replace(checkpoint.reference, growth=None)
    groups = _calibrations(dataclasses.replace(checkpoint, reference=reference), pairs, device)
    law = fit_errors(list(groups.values()))
    if law is None or sum(len(group.stated) for group in groups.values()) < fewest:
        return False
    content, card = load_content(path), read_card(path)
    scale = law.scale * checkpoint.model.hyperparameters.uncertainty_scale
    found: dict[str, Any] = {'data': sorted(set(pairs.source.tolist())), 'pairs': len(pairs), 'factor': scale}
    found |= {'pairs_in_train': in_train} if in_train else {}
    if reference is not None:
        growth = Growth(law.scale * law.coefficient, law.power, law.limit) if law.coefficient else None
        content |= {FIELD: reference_content(dataclasses.replace(reference, growth=growth))}
        found |= {'growth': growth and dataclasses.asdict(growth), 'groups': _describe_groups(groups, law)}
    training = checkpoint.training | {'calibration': found}
    hyperparameters = content['hyperparameters'] | {'uncertainty_scale': scale}
    save_atomically(path, content | {'hyperparameters': hyperparameters, 'training': training})
    write_card(path, card | {'training': training})
    return True


def _calibrations(checkpoint: Checkpoint, pairs: Pairs, device: torch.device) -> dict[str, Calibration]:
    """Return what is stated and found of each group of `pairs`, by its name."""
    groups = {}
    for split in np.unique(pairs.split).tolist():
        models = {ARCHITECTURE: checkpoint}
        for m in measure(models, pairs.of_split(split), device, with_matches=False, with_dummy=False):
            if m.frame != 'aligned' or m.calibration is None:
                continue
            names = m.groups.get('family', np.full(len(m.labels), ''))
            for name in np.unique(names).tolist():
                found = m.calibration_of(names == name)
                if found is not None and len(found.stated):
                    groups[', '.join(filter(None, (m.data, split, name)))] = found
    return groups


def _describe_groups(groups: Mapping[str, Calibration], law: ErrorLaw) -> dict[str, dict[str, Any]]:
    """Return, by group, the median of errors over uncertainties, also where the group itself is left out of the fit."""
    described = {}
    for name, found in groups.items():
        others = [group for other, group in groups.items() if other != name]
        blind = fit_errors(others) if others else None
        described[name] = {
            'pairs': len(found.stated),
            'distance_median': found.row()['distance_median'],
            'observed_over_stated_median': law.ratio(found),
            'observed_over_stated_median_left_out': blind and blind.ratio(found),
        }
    return described
