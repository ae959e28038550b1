"""Reference sets made of what a network was trained on, see `gnn.models.reference_set`."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.messages import printable
from aiida_e3relax.common.progress import ProgressLine, progress
from aiida_e3relax.crystals.orientation import Frame
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint, load_checkpoint, load_content, save_atomically
from aiida_e3relax.gnn.checkpoints.model_card import card_path, read_card, write_card
from aiida_e3relax.gnn.checkpoints.reference import FIELD, reference_content
from aiida_e3relax.gnn.engine.accelerate import accelerate
from aiida_e3relax.gnn.graph.batch import make_batch
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.ensemble import Ensemble
from aiida_e3relax.gnn.models.reference_set import ReferenceSet, nearest_environments, over_sites

ENVIRONMENTS = 16384
"""In a set, about one MB with the names of their crystals."""

COMPONENTS = 16
"""Of the features. More of them tell elements apart better, geometries worse, and leave fewer environments to a MB."""

CANDIDATES = 100_000
"""Environments that those of the set are chosen from, at random where there are more."""

SAME = 0.02
"""Distance of sites of one crystal, in standard deviations of a feature, that count as one environment."""

SAMPLE = 2000
"""Crystals by which the unit is measured."""

UNIT_PERCENTILE = 95
"""Of their distances to other chemical systems."""

PIECE_ATOMS = 4096


def add_reference_set(path: Path, pairs: Pairs, device: torch.device, most: int = ENVIRONMENTS) -> Checkpoint:
    """Give the checkpoint at `path` the environments that it was trained on, and return it as read back.

    Predictions stay as they are. Uncertainties do not grow with the distance until they are calibrated.

    Parameters
    ----------
    path
        The checkpoint; the file and its card, where it has one, are written anew.
    pairs
        What the model was trained on.
    device
        Where it runs.
    most
        Environments to keep.

    Raises
    ------
    InputError
        For a model that states no features, elements that it does not know, and crystals of one chemical system alone.
    """
    checkpoint = load_checkpoint(path)
    reference = make_reference_set(checkpoint, pairs, device, most, str(path))
    about = {
        'data': sorted(set(pairs.source.tolist())),
        'crystals': len(pairs),
        'environments': len(reference.environments),
        'unit': reference.unit,
    }
    training = {name: value for name, value in checkpoint.training.items() if name != 'calibration'}
    training |= {'reference': about}
    save_atomically(path, load_content(path) | {FIELD: reference_content(reference), 'training': training})
    if card_path(path).is_file():
        write_card(path, read_card(path) | {'training': training})
    return load_checkpoint(path)


def make_reference_set(
    checkpoint: Checkpoint, pairs: Pairs, device: torch.device, most: int = ENVIRONMENTS, name: str = 'the model'
) -> ReferenceSet:
    """Return the reference set of a model out of the unrelaxed crystals of `pairs`; see `add_reference_set`."""
    if not checkpoint.model.site_features:
        raise InputError(
            f'{name}: {checkpoint.architecture} states no features of sites, so it has no distance to its training: '
            'leave the reference set out'
        )
    unknown = np.setdiff1d(pairs.unrelaxed.numbers, checkpoint.elements)
    if len(unknown):
        raise InputError(
            f'{name}: expected crystals that it was trained on, found the element with the atomic number {unknown[0]} '
            'among them, which it was not: give the files of its training'
        )
    systems = _numbered_systems(pairs)
    if len(set(systems.tolist())) < 2:
        raise InputError(
            f'{name}: expected crystals of two or more chemical systems for its reference set, found {len(pairs)} '
            'crystals of fewer: give more of what it was trained on'
        )
    features = _features_of_sites(checkpoint, pairs, device)
    crystal = torch.as_tensor(pairs.unrelaxed.structure_index)
    centre, axes = _principal_axes(features)
    sites = torch.cat([(piece - centre) @ axes for piece in features.split(PIECE_ATOMS)])
    chosen = _choose(sites, crystal, most)
    examples, example = torch.unique(crystal[chosen], return_inverse=True)
    environments = sites[chosen].half().float()
    of_example = systems[examples]
    unit = _measure_unit(sites, environments, of_example[example], systems, pairs.unrelaxed.n_atoms)
    return ReferenceSet(
        centre,
        axes,
        environments,
        example,
        [printable(label) for label in pairs.unrelaxed.labels[examples.numpy()].tolist()],
        [_formula(pairs.unrelaxed.numbers[pairs.unrelaxed.atoms_of([index])]) for index in examples.tolist()],
        unit,
    )


def _features_of_sites(checkpoint: Checkpoint, pairs: Pairs, device: torch.device) -> Tensor:
    """Return the ``(A, D)`` features of all sites, from the first member of an ensemble, whose they are."""
    model = checkpoint.model
    first = cast(RelaxationModel, model.members[0]) if isinstance(model, Ensemble) else model
    first = accelerate(copy.deepcopy(first)).to(device=device, dtype=torch.float32).eval()
    parts = []
    line = ProgressLine('environments of the training', len(pairs))
    with torch.no_grad():
        for piece in pairs.unrelaxed.pieces(PIECE_ATOMS):
            part = pairs.select(piece)
            frame = Frame.of(part.unrelaxed, standard=first.standard_orientation)
            batch = make_batch(frame.turned(part.unrelaxed), first.graph, device)
            fixed, fixed_cell = (
                None if mask is None else torch.as_tensor(mask, device=device) for mask in (part.fixed, part.fixed_cell)
            )
            geometry = first(dataclasses.replace(batch, fixed=fixed, fixed_cell=fixed_cell))[-1]
            assert geometry.features is not None
            parts.append(torch.cat(geometry.features, dim=1).cpu())
            line.advance(len(piece))
    line.close()
    return torch.cat(parts)


def _principal_axes(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean ``(D,)``, and the axes ``(D, K)`` along which features, each over its deviation, vary most."""
    centre, deviation = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    scaled = ((piece - centre) / deviation for piece in features.split(PIECE_ATOMS))
    _, vectors = torch.linalg.eigh(sum(piece.T @ piece for piece in scaled))
    largest = vectors[:, -COMPONENTS:].flip(1)
    signs = torch.where(largest.sum(dim=0) < 0, -1.0, 1.0)  # either is as good: the same for the same data
    return centre, largest * signs / deviation[:, None]


def _choose(sites: Tensor, crystal: Tensor, most: int) -> Tensor:
    """Return which sites ``(R,)`` stand for all: each is the one furthest from those before it (Gonzalez, 1985)."""
    cells = torch.cat([crystal[:, None], torch.round(sites / SAME).long()], dim=1).numpy()
    _, first = np.unique(cells, axis=0, return_index=True)
    if len(first) > CANDIDATES:
        first = np.random.default_rng(0).choice(first, CANDIDATES, replace=False)
    candidates = torch.as_tensor(np.sort(first))
    if len(candidates) <= most:
        return candidates
    places = sites[candidates].T.contiguous()
    squares = places.square().sum(dim=0)
    last = int(squares.argmin())
    chosen, nearest = [last], torch.full_like(squares, torch.inf)
    for _ in progress(range(most - 1), 'choosing among them'):
        torch.minimum(nearest, squares - 2 * (places[:, last] @ places) + squares[last], out=nearest)
        last = int(nearest.argmax())
        chosen.append(last)
    return candidates[torch.as_tensor(chosen)]


def _measure_unit(
    sites: Tensor, environments: Tensor, of_environment: Tensor, systems: Tensor, n_atoms: NDArray[np.int64]
) -> float:
    """Return the distance within which most training crystals have a crystal of another chemical system."""
    sample = np.random.default_rng(0).permutation(len(systems))[:SAMPLE]
    offsets = np.concatenate([[0], np.cumsum(n_atoms)])
    atoms = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in sample])
    counts = torch.as_tensor(n_atoms[sample])
    index = torch.repeat_interleave(torch.arange(len(sample)), counts)
    distance, _ = nearest_environments(sites[atoms], environments, (systems[sample][index], of_environment))
    whole, _ = over_sites(distance, index, counts)
    unit = np.percentile(whole[torch.isfinite(whole)].double().numpy(), UNIT_PERCENTILE)
    return max(float(unit), 1e-6)


def _numbered_systems(pairs: Pairs) -> Tensor:
    """Return a number ``(S,)`` for the chemical system of each crystal."""
    crystals = pairs.unrelaxed
    present = np.zeros((len(crystals), int(crystals.numbers.max(initial=0)) + 1), dtype=bool)
    present[crystals.structure_index, crystals.numbers] = True
    return torch.as_tensor(np.unique(present, axis=0, return_inverse=True)[1].reshape(-1))


def _formula(numbers: NDArray[np.int64]) -> str:
    from ase.formula import Formula
    from ase.symbols import Symbols

    return Formula(Symbols(numbers).get_chemical_formula()).reduce()[0].format('metal')
