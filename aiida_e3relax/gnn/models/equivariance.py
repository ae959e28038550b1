"""Equivariance and invariance tests: how well predictions follow transformations that leave a crystal the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import spglib
import torch
from numpy.typing import NDArray

from aiida_e3relax.crystals.structures import Crystals, make_crystals
from aiida_e3relax.gnn.graph.batch import make_batch
from aiida_e3relax.gnn.models.base import RelaxationModel, Transformation

SHIFT = np.array([1.3, -7.1, 2.9])
"""By how much `Transformation.TRANSLATION` and `Transformation.WRAPPING` shift a crystal, in A."""

CHOICES = {
    Transformation.RELABELLING: np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]]),
    Transformation.REVERSAL: np.diag([-1, -1, 1]),
    Transformation.OTHER_CELL: np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]]),
    Transformation.SUPERCELL: np.diag([2, 1, 1]),
}
"""New lattice vectors in terms of the old ones, as rows."""


@dataclasses.dataclass(frozen=True)
class Deviation:
    """Largest difference in A between what is predicted and what should be, over atoms and over lattice vectors.

    Positions are compared by fractional coordinates, in the cell of the input and up to a rigid shift of all atoms: an
    error of the cell is not counted again, and a crystal has no origin.
    """

    positions: float
    cell: float


def deviations(
    model: RelaxationModel, generic: Crystals, symmetric: Crystals, rotation: NDArray[np.float64]
) -> dict[Transformation, Deviation]:
    """Return the worst case of every transformation, in float64, with neighbours searched anew.

    Parameters
    ----------
    model
        A model in float64, on the CPU.
    generic
        Crystals without symmetry, so that atoms move.
    symmetric
        Crystals with symmetry, whose shells of neighbours are degenerate. They are transformed, too, unless `model`
        breaks their symmetry: what it then makes of a degenerate shell is a matter of rounding.
    rotation
        ``(3, 3)`` the proper rotation by which `Transformation.ROTATION` turns vectors as rows; best an arbitrary one.
    """
    inputs = _structures(symmetric)
    outputs = _predictions(model, inputs)
    sites, cell = np.max([_asymmetry(*pair) for pair in zip(inputs, outputs, strict=True)], axis=0).tolist()
    found = {Transformation.SITE_SYMMETRY: Deviation(sites, 0.0), Transformation.CELL_SYMMETRY: Deviation(0.0, cell)}
    if Transformation.SITE_SYMMETRY in model.breaks:
        inputs, outputs = [], []
    inputs += _structures(generic)
    outputs += _predictions(model, _structures(generic))
    for transformation in Transformation:
        if transformation not in found:
            images = [_image(transformation, structure, rotation) for structure in inputs]
            transformed = [image.structure for image in images]
            if transformation is Transformation.BATCH:
                predicted = [_predictions(model, [structure])[0] for structure in transformed]
            else:
                predicted = _predictions(model, transformed)
            rows = [_difference(*row) for row in zip(inputs, outputs, images, predicted, strict=True)]
            found[transformation] = Deviation(*np.max(rows, axis=0).tolist())
    return found


def predicted_change(model: RelaxationModel, crystals: Crystals) -> Deviation:
    """Return by how much `model`, in float64 on the CPU, changes `crystals` at most: what deviations compare with."""
    before = _structures(crystals)
    pairs = list(zip(before, _predictions(model, before), strict=True))
    return Deviation(
        max(_longest(_displacements(*pair)) for pair in pairs), max(_longest(b.cell - a.cell) for b, a in pairs)
    )


@dataclasses.dataclass(frozen=True)
class _Structure:
    """One crystal: `numbers` (N,), `fractional` coordinates (N, 3) and `cell` (3, 3), rows in A."""

    numbers: NDArray[np.int64]
    fractional: NDArray[np.float64]
    cell: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class _Image:
    """A transformed crystal, and how it came from the original one.

    `origin` (N,) says which atom each is a copy of, `turn` (3, 3) how vectors as rows are turned, and `choice` (3, 3)
    which lattice vectors stand in the cell.
    """

    structure: _Structure
    origin: NDArray[np.int64]
    turn: NDArray[np.float64]
    choice: NDArray[np.float64]


def _image(transformation: Transformation, structure: _Structure, rotation: NDArray[np.float64]) -> _Image:
    """Return `structure` after a transformation; see `deviations` for the `rotation`."""
    origin, shift = np.arange(len(structure.numbers)), np.zeros(3)
    turn, choice = np.eye(3), CHOICES.get(transformation, np.eye(3))
    if transformation is Transformation.ROTATION:
        turn = rotation
    elif transformation is Transformation.REFLECTION:
        turn = -rotation
    elif transformation in (Transformation.TRANSLATION, Transformation.WRAPPING):
        shift = SHIFT
    elif transformation is Transformation.LATTICE_VECTOR:
        shift = (origin == 0)[:, None] * ([2, -1, 1] @ structure.cell)
    elif transformation is Transformation.PERMUTATION:
        origin = np.random.default_rng(1).permutation(origin)
    elif transformation is Transformation.SUPERCELL:
        shift = np.repeat([0, 1], len(origin))[:, None] * structure.cell[0]
        origin = np.tile(origin, 2)
    cell = choice @ structure.cell @ turn
    positions = (structure.fractional @ structure.cell)[origin] + shift
    fractional = positions @ turn @ np.linalg.inv(cell)
    if transformation is Transformation.WRAPPING:
        fractional = fractional - np.floor(fractional)
    return _Image(_Structure(structure.numbers[origin], fractional, cell), origin, turn, choice)


def _structures(crystals: Crystals) -> list[_Structure]:
    parts = (np.split(values, crystals.offsets[1:-1]) for values in (crystals.numbers, crystals.fractional()))
    return [_Structure(*arrays) for arrays in zip(*parts, crystals.cell, strict=True)]


@torch.no_grad()
def _predictions(model: RelaxationModel, structures: list[_Structure]) -> list[_Structure]:
    """Return what `model` predicts for `structures` in one batch."""
    crystals = make_crystals(
        [one.numbers.tolist() for one in structures],
        [one.fractional @ one.cell for one in structures],
        [one.cell for one in structures],
    )
    geometry = model(make_batch(crystals, model.graph, dtype=torch.float64))[-1]
    fractional = np.split(geometry.fractional.numpy(), crystals.offsets[1:-1])
    return [
        _Structure(one.numbers, after, cell)
        for one, after, cell in zip(structures, fractional, geometry.cell.numpy(), strict=True)
    ]


def _displacements(before: _Structure, after: _Structure) -> NDArray[np.float64]:
    """Return how atoms move ``(N, 3)``, in A at the cell of before and less their mean."""
    difference = after.fractional - before.fractional
    return (difference - difference.mean(axis=0)) @ before.cell


def _difference(before: _Structure, after: _Structure, image: _Image, predicted: _Structure) -> tuple[float, float]:
    """Return how far what is `predicted` for the image lies from the image of the prediction: positions, cell."""
    displacements = _displacements(before, after)[image.origin] @ image.turn
    cell = image.choice @ after.cell @ image.turn
    return _longest(_displacements(image.structure, predicted) - displacements), _longest(predicted.cell - cell)


def _asymmetry(before: _Structure, after: _Structure) -> tuple[float, float]:
    """Return how far a prediction lies from its images under the symmetry operations of the input: positions, cell."""
    operations = spglib.get_symmetry(
        (before.cell.tolist(), before.fractional.tolist(), before.numbers.tolist()), symprec=1e-5
    )
    if operations is None:
        raise ValueError(f'spglib found no symmetry, not even the identity, in a cell of {len(before.numbers)} atoms')
    displacements, strain = _displacements(before, after), np.linalg.solve(before.cell, after.cell)
    rows = []
    for matrix, translation in zip(operations['rotations'], operations['translations'], strict=True):
        turn = np.linalg.solve(before.cell, matrix.T @ before.cell)
        offset = (before.fractional @ matrix.T + translation)[:, None] - before.fractional
        image = np.linalg.norm(offset - np.round(offset), axis=2).argmin(axis=1)
        sites = _longest(displacements[image] - displacements @ turn)
        rows.append((sites, _longest(before.cell @ (turn @ strain @ turn.T - strain))))
    sites, cell = np.max(rows, axis=0).tolist()
    return sites, cell


def _longest(vectors: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(vectors, axis=1).max())
