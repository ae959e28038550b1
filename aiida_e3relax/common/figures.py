"""Parts of figures by matplotlib, drawn without a screen: colours, axes, a periodic table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida_e3relax.common.errors import InputError

COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
"""Colours that colour-blind readers can distinguish, too (Okabe and Ito)."""

GREY = '#8c8c8c'


def check_figure(path: Path) -> None:
    """Raise InputError unless a figure can be written to `path`, before anything is computed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(f'{path}: figures need matplotlib: pip install matplotlib') from error
    if path.suffix not in ('.png', '.pdf', '.svg'):
        raise InputError(f'{path}: figures are written as .png, .pdf or .svg')
    if not path.parent.is_dir():
        raise InputError(f'{path}: the folder {path.parent} does not exist')


def matplotlib_figure(width: float, height: float) -> Any:
    """Return an empty figure of that size in inches, with the style of all figures."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    mpl.rcParams.update({'font.size': 9, 'axes.titlesize': 10, 'axes.spines.top': False, 'axes.spines.right': False})
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def label_decades(axis: Any, low: float, high: float) -> None:
    """Put labels on a logarithmic axis from `low` to `high`: at powers of ten, and between them where it spans few."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    digits = (
        (1, 2, 3, 5, 7) if high < 6 * low else (1, 2, 5) if high < 30 * low else (1, 3) if high < 300 * low else (1,)
    )
    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter(StrMethodFormatter('{x:g}'))
    axis.set_minor_formatter(NullFormatter())


def draw_periodic_table(axes: Any, values: Mapping[str, float], label: str, logarithmic: bool = False) -> None:
    """Draw the elements as a periodic table, those with a value coloured by it and the number written below."""
    from ase.data import chemical_symbols
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.patches import Rectangle

    high = max(values.values())
    low = min(values.values())
    if logarithmic:  # a value of zero has no place on this axis
        low = max(low, 1e-4 * high, 1e-12)
    norm = (LogNorm if logarithmic else Normalize)(low, high if high > low else low + 1)
    colours = colormaps['viridis']
    for number in range(1, 104):
        row, column = _place(number)
        symbol = chemical_symbols[number]
        value = values.get(symbol)
        position = None if value is None else float(norm(max(value, low)))
        shade = 'white' if position is None else colours(position)
        dark = position is not None and position < 0.6
        axes.add_patch(Rectangle((column, -row), 0.94, 0.94, facecolor=shade, edgecolor='#d0d0d0', linewidth=0.5))
        ink = GREY if value is None else 'white' if dark else 'black'
        axes.text(column + 0.47, -row + 0.6, symbol, ha='center', va='center', fontsize=7, color=ink)
        if value is not None:
            axes.text(column + 0.47, -row + 0.22, _short(value), ha='center', va='center', fontsize=4.5, color=ink)
    axes.set(xlim=(0.8, 19.1), ylim=(-9.7, 0.1), aspect='equal')
    axes.axis('off')
    bar = axes.figure.colorbar(ScalarMappable(norm, colours), ax=axes, shrink=0.9, pad=0.01, panchor=False)
    bar.set_label(label, fontsize=8)
    if logarithmic:
        label_decades(bar.ax.yaxis, *bar.ax.get_ylim())


def _place(number: int) -> tuple[float, int]:
    """Return row and column of an element; lanthanides and actinides stand below the rest."""
    for first, row in ((57, 8.6), (89, 9.6)):
        if first <= number <= first + 14:
            return row, number - first + 3
    for period, (first, last) in enumerate(((1, 2), (3, 10), (11, 18), (19, 36), (37, 54), (55, 86), (87, 118)), 1):
        if first <= number <= last:
            from_left, from_right = number - first + 1, 18 - (last - number)
            s_block = from_left <= (1 if period == 1 else 2)
            return period, from_left if s_block else from_right
    raise ValueError(f'no element has the atomic number {number}')


def _short(value: float) -> str:
    return f'{value / 1000:.1f}k' if value >= 1000 else f'{value:.{3 if value >= 1 else 2}g}'
