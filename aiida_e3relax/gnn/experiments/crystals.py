"""Predicted crystals beside the unrelaxed and the relaxed ones, with their lattice parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aiida_e3relax.common.figures import matplotlib_figure
from aiida_e3relax.crystals.orientation import Frame
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.evaluation.evaluate import FRAMES
from aiida_e3relax.gnn.experiments.figures import LABELS
from aiida_e3relax.gnn.experiments.table import Outcome, position_measure
from aiida_e3relax.gnn.prediction.predict import predict

QUANTILES = (0.25, 0.5, 0.75, 0.95)
"""Of the errors of positions, those of movable atoms where some are fixed: the crystals that are shown."""

_VIEW = np.array([[0.94, 0.34, 0.0], [0.06, -0.17, 0.98], [0.33, -0.92, -0.18]])
"""Rows: right, up, and towards the reader, for a cell with a along x and b in the xy plane."""


def draw_crystals(outcome: Outcome, pairs: Pairs, split: str, path: Path) -> None:
    """Draw crystals at the `QUANTILES` of a run's error of positions: unrelaxed, predicted, relaxed.

    Parameters
    ----------
    outcome
        The run, with its measures.
    pairs, split
        The pairs of its data set, of which those of `split` are shown.
    path
        The figure.
    """
    pairs = pairs.of_split(split)
    measured = next(m for of_split, m in outcome.measured if of_split == split and m.frame == FRAMES[-1])
    pairs = pairs.select(np.flatnonzero(pairs.source == measured.data))
    name = position_measure(measured.values)
    errors = measured.values[name]
    order = np.argsort(errors, kind='stable')[: np.isfinite(errors).sum()]  # NaN, where none may move, comes last
    chosen = list(dict.fromkeys(int(order[int(q * (len(order) - 1))]) for q in QUANTILES))
    pairs = pairs.select(np.array(chosen))
    checkpoint = load_checkpoint(outcome.run.folder / 'best.pt')
    masks, cpu = (pairs.fixed, pairs.fixed_cell), torch.device('cpu')
    predicted = predict(checkpoint.model, pairs.unrelaxed, checkpoint.elements, cpu, fixed=masks).crystals
    target = pairs.centred(aligned(pairs).relaxed)
    frame = Frame.of(pairs.unrelaxed, standard=True)
    shown = {
        'unrelaxed': pairs.unrelaxed,
        f'predicted by {outcome.run.variant}': pairs.centred(predicted),
        'relaxed': target,
    }
    shift = np.floor(pairs.unrelaxed.fractional() + 1e-6)
    figure = matplotlib_figure(9, 3.2 * len(chosen))
    for row, (part, index) in enumerate(zip(np.atleast_1d(figure.subfigures(len(chosen), 1)), chosen, strict=True)):
        atoms = slice(pairs.unrelaxed.offsets[row], pairs.unrelaxed.offsets[row + 1])
        formula = _formula(pairs.unrelaxed.numbers[atoms])
        text = (
            f'{formula} ({measured.labels[index]}): error of {LABELS[name].removesuffix(" (A)")} {errors[index]:.3f} A'
        )
        part.suptitle(text, x=0.02, ha='left', fontsize=10, weight='bold')
        panels = part.subplots(1, len(shown))
        corners = []
        for axes, (title, crystals) in zip(panels, shown.items(), strict=True):
            turned = frame.turned(crystals)
            corners.append(
                _draw(axes, turned.cell[row], turned.fractional()[atoms] - shift[atoms], turned.numbers[atoms])
            )
            axes.set_title(title, fontsize=9)
            axes.set(xlabel=_lattice(turned, row), xticks=[], yticks=[], aspect='equal')
            axes.spines[:].set_visible(False)
        low, high = np.min([c[0] for c in corners], axis=0), np.max([c[1] for c in corners], axis=0)
        for axes in panels:
            axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    figure.savefig(path, dpi=150)


def _draw(
    axes: Any, cell: NDArray[np.float64], fractional: NDArray[np.float64], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw the cell and its atoms, and return the corners of what is drawn."""
    from ase.data import covalent_radii
    from ase.data.colors import jmol_colors
    from matplotlib.patches import Circle

    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    places = corners @ cell @ _VIEW.T
    for one in range(8):
        for other in range(one + 1, 8):
            if np.abs(corners[one] - corners[other]).sum() == 1:
                x, y, depth = places[[one, other]].T
                order = depth.mean() - places[:, 2].max()
                axes.plot(x, y, color='#606060', linewidth=0.8, zorder=order)
    atoms = fractional @ cell @ _VIEW.T
    radii = 0.5 * covalent_radii[numbers]
    for (x, y, depth), radius, number in zip(atoms, radii, numbers, strict=True):
        circle = Circle((x, y), radius, facecolor=jmol_colors[number], edgecolor='black', linewidth=0.6)
        circle.set_zorder(depth - places[:, 2].max())
        axes.add_patch(circle)
    low = np.minimum(places[:, :2].min(axis=0), (atoms[:, :2] - radii[:, None]).min(axis=0))
    high = np.maximum(places[:, :2].max(axis=0), (atoms[:, :2] + radii[:, None]).max(axis=0))
    return low - 0.3, high + 0.3


def _lattice(crystals: Crystals, index: int) -> str:
    """Return the lattice parameters and the volume of a crystal in three lines."""
    cell = crystals.cell[index]
    lengths = np.linalg.norm(cell, axis=1)
    cosines = [cell[i] @ cell[j] / lengths[i] / lengths[j] for i, j in ((1, 2), (0, 2), (0, 1))]
    alpha, beta, gamma = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    a, b, c = lengths
    return (
        f'a, b, c = {a:.3f}, {b:.3f}, {c:.3f} A\n'
        f'α, β, γ = {alpha:.2f}, {beta:.2f}, {gamma:.2f}°\n'
        f'V = {abs(crystals.volumes[index]):.2f} A$^3$'
    )


def _formula(numbers: NDArray[np.int64]) -> str:
    """Return the formula of all atoms of a cell, metals first."""
    from ase.formula import Formula
    from ase.symbols import Symbols

    return re.sub(r'(\d+)', r'$_{\1}$', Formula(Symbols(numbers).get_chemical_formula()).format('metal'))


def outcome_to_show(found: Sequence[Outcome], data: str, name: str | None) -> Outcome | None:
    """Return the run to show of a data set: of the row `name`, else of the first that has ended."""
    done = [o for o in found if o.run.data == data and o.measured and o.result and o.result.content_hash]
    return next((o for o in done if o.run.variant == name), done[0] if done else None)
