"""The bonds of one predicted crystal in a figure, as in DeepRelax's Fig. 5 d and e."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.figures import COLOURS, GREY, label_decades, matplotlib_figure
from aiida_e3relax.crystals.bonds import StatedBonds
from aiida_e3relax.crystals.cells import shifted_to_nearest_image
from aiida_e3relax.crystals.structures import Crystals

DRAWN_RATIO = 1.15
"""Bonds up to this many sums of covalent radii are drawn in the picture of the crystal."""

SMALLEST = 1e-4
"""Errors and uncertainties below this (A) stand at it: the axes are logarithmic."""

VIEW = np.array([[0.940, 0.342, 0], [-0.089, 0.243, 0.966], [0.330, -0.908, 0.259]])
"""Rows: to the right, up, and towards the reader, of the picture of the crystal."""


def plot_bonds(bonds: StatedBonds, crystal: Crystals, path: Path, relaxed: Crystals | None = None) -> None:
    """Draw the uncertainty of bonds: in the crystal, against their length and, where it is known, their error.

    Parameters
    ----------
    bonds
        The bonds.
    crystal
        The predicted crystal, alone.
    path
        The figure: .png, .pdf or .svg.
    relaxed
        The same crystal as it is known to relax, its sites in the same order.
    """
    figure = matplotlib_figure(8.5 if relaxed is None else 12.5, 4.0)
    panels = figure.subplots(1, 2 if relaxed is None else 3, squeeze=False)[0]
    label = str(crystal.labels[0])
    figure.suptitle(
        f'{label if label.isprintable() else ascii(label)}: {len(bonds)} bonds of {len(crystal.numbers)} atoms'
    )
    _draw_crystal(panels[0], bonds, crystal)
    _scatter(panels[1], bonds.final_length, bonds, crystal)
    panels[1].set(xlabel='length in the predicted crystal (A)')
    if relaxed is not None:
        _draw_errors(panels[2], bonds, crystal, relaxed)
    figure.savefig(path, dpi=130)


def bond_errors(bonds: StatedBonds, crystal: Crystals, relaxed: Crystals) -> NDArray[np.float64]:
    """Return by how much the stated lengths ``(E,)`` miss those in the relaxed crystal, in A.

    Sites of `relaxed` are taken in the images nearest to `crystal`, the prediction.
    """
    difference = relaxed.fractional() - crystal.fractional()
    shift = np.angle(np.exp(2j * np.pi * difference).mean(axis=0)) / (2 * np.pi)
    nearest = shifted_to_nearest_image(difference - shift, relaxed.cell, relaxed.structure_index)
    there = relaxed.replace((crystal.fractional() + nearest) @ relaxed.cell[0], relaxed.cell)
    return np.abs(bonds.predicted_length - bonds.lengths_in(there))


def _draw_errors(axes: Any, bonds: StatedBonds, crystal: Crystals, relaxed: Crystals) -> None:
    from scipy.stats import spearmanr

    error = bond_errors(bonds, crystal, relaxed)
    _scatter(axes, np.maximum(error, SMALLEST), bonds, crystal)
    both, limits = np.concatenate([error, bonds.uncertainty]), axes.get_ylim()
    ends = [max(both.min(), SMALLEST), max(both.max(), 2 * SMALLEST)]
    axes.plot(ends, ends, color=GREY, linewidth=1, zorder=0)
    axes.set(xscale='log', xlabel='error of the stated length (A)', ylim=limits)
    label_decades(axes.xaxis, *axes.get_xlim())
    if len(bonds) > 1 and np.ptp(error) and np.ptp(bonds.uncertainty):
        axes.set_title(f'rank correlation {spearmanr(bonds.uncertainty, error).statistic:.2f}')


def _scatter(axes: Any, values: NDArray[np.float64], bonds: StatedBonds, crystal: Crystals) -> None:
    """Draw uncertainties against `values`, the most frequent pairs of elements in colours of their own."""
    from ase.data import chemical_symbols

    ends = np.sort(crystal.numbers[np.stack([bonds.centre, bonds.neighbour])], axis=0).T.tolist()
    pairs = np.array([f'{chemical_symbols[a]}-{chemical_symbols[b]}' for a, b in ends])
    frequent = [pair for pair, _ in Counter(pairs.tolist()).most_common(len(COLOURS))]
    stated = np.maximum(bonds.uncertainty, SMALLEST)
    for pair in [None, *frequent]:
        chosen = pairs == pair if pair else ~np.isin(pairs, frequent)
        if chosen.any():
            colour = COLOURS[frequent.index(pair)] if pair else GREY
            axes.scatter(
                values[chosen], stated[chosen], s=14, color=colour, alpha=0.6, linewidths=0, label=pair or 'other'
            )
    axes.set(yscale='log', ylabel='uncertainty of the length (A)')
    label_decades(axes.yaxis, *axes.get_ylim())
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def _draw_crystal(axes: Any, bonds: StatedBonds, crystal: Crystals) -> None:
    """Draw the cell with its atoms and short bonds, coloured by their uncertainty, seen from the side."""
    from ase.data import chemical_symbols, covalent_radii
    from ase.data.colors import jmol_colors
    from matplotlib.collections import LineCollection

    radii = covalent_radii[crystal.numbers]
    short = bonds.final_length < DRAWN_RATIO * (radii[bonds.centre] + radii[bonds.neighbour])
    cell = crystal.cell[0]
    wrap = -np.floor(crystal.fractional() + 1e-6)
    inside = crystal.positions + wrap @ cell
    centre, neighbour = bonds.centre[short], bonds.neighbour[short]
    images = inside[neighbour] + (bonds.offset[short] - wrap[neighbour] + wrap[centre]) @ cell
    corners = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    edges = [(i, j) for i in range(8) for j in range(i) if np.abs(corners[i] - corners[j]).sum() == 1]
    flat_corners = (corners @ cell @ VIEW.T)[:, :2]
    axes.add_collection(LineCollection([flat_corners[list(pair)] for pair in edges], colors=GREY, linewidths=0.8))
    begins = inside[centre] @ VIEW.T
    halves = (begins + images @ VIEW.T) / 2  # the other half is drawn by the bond in the other direction
    lines = np.stack([begins[:, :2], halves[:, :2]], axis=1)
    order = np.argsort(begins[:, 2])
    drawn = LineCollection(list(lines[order]), cmap='viridis', linewidths=2.5, capstyle='round')
    drawn.set_array(bonds.uncertainty[short][order])
    axes.add_collection(drawn)
    if short.any():
        axes.figure.colorbar(drawn, ax=axes, shrink=0.8, label='uncertainty of the bond (A)')
    atoms = np.argsort((inside @ VIEW.T)[:, 2])
    flat = (inside @ VIEW.T)[atoms, :2]
    axes.scatter(*flat.T, s=130 * radii[atoms], c=jmol_colors[crystal.numbers[atoms]], edgecolors='black', zorder=3)
    if len(atoms) <= 40:
        for (x, y), number in zip(flat, crystal.numbers[atoms].tolist(), strict=True):
            axes.text(x, y, chemical_symbols[number], ha='center', va='center', fontsize=7, zorder=4)
    axes.autoscale()
    axes.set(aspect='equal')
    axes.axis('off')
