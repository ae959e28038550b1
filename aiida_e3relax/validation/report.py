"""The report of a validation: a table, a text and figures in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiida_e3relax.campaign.output import written_together
from aiida_e3relax.campaign.results.spreadsheet import to_csv
from aiida_e3relax.common.figures import COLOURS, GREY, matplotlib_figure
from aiida_e3relax.common.messages import printable
from aiida_e3relax.validation.group import ValidationGroup, ValidationSettings
from aiida_e3relax.validation.results import DIFFERENCE, ENERGY, validation_frame

TABLE = 'validation.csv'
TEXT = 'validation.md'
FIGURE = 'figures/energy_differences.{suffix}'
LINEAR = 0.01
"""In eV/atom: the axis of the figure is linear to about here, and logarithmic beyond."""
TICKS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def write_report(group: ValidationGroup, folder: Path) -> Path:
    """Write what a validation found so far into `folder`, and return the text.

    Raises OSError where the files cannot be written.
    """
    frame = validation_frame(group)
    with written_together(folder, 'report') as partial:
        (partial / TABLE).write_text(to_csv(frame.set_index('crystal')), encoding='utf-8')
        drawn = bool(frame.loc[frame['geometry'] != 'relaxed', DIFFERENCE].notna().any())
        (partial / TEXT).write_text(make_text(group.settings, frame, drawn), encoding='utf-8')
        if drawn:
            (partial / FIGURE).parent.mkdir()
            figure = draw_differences(frame)
            for suffix in ('png', 'pdf'):
                figure.savefig(partial / FIGURE.format(suffix=suffix), dpi=200)
    return folder / TEXT


def differences(frame: pd.DataFrame, common: bool = False) -> dict[str, NDArray[np.float64]]:
    """Return E - E(relaxed) in eV/atom by geometry, the unrelaxed crystal first; what is missing is left out.

    With `common` only the crystals that have all of them.
    """
    wide = _wide(frame)
    if common:
        wide = wide.dropna()
    return {str(name): column.dropna().to_numpy() for name, column in wide.items()}


def summarise(frame: pd.DataFrame, common: bool = False) -> pd.DataFrame:
    """Return a row for each geometry: how many crystals, and what E - E(relaxed) is like, in eV/atom.

    `lower_than_unrelaxed` counts the crystals whose energy is below that of the unrelaxed one, among those that have
    both.
    """
    wide = _wide(frame)
    if common:
        wide = wide.dropna()
    rows = {}
    for name, column in wide.items():
        values = column.dropna().to_numpy()
        both = wide[['unrelaxed', name]].dropna() if name != 'unrelaxed' else wide.iloc[:0]
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75)) if len(values) else (np.nan,) * 3
        rows[name] = {
            'n': len(values),
            'missing': len(column) - len(values),
            'median': median,
            'quartile_1': low,
            'quartile_3': high,
            'mean': values.mean() if len(values) else np.nan,
            'mean_absolute': np.abs(values).mean() if len(values) else np.nan,
            'largest': values.max() if len(values) else np.nan,
            'lower_than_unrelaxed': int((both[name] < both['unrelaxed']).sum()) if name != 'unrelaxed' else None,
            'n_both': len(both),
        }
    return pd.DataFrame.from_dict(rows, orient='index')


def make_text(settings: ValidationSettings, frame: pd.DataFrame, has_figure: bool) -> str:
    """Return the report as Markdown."""
    return '\n'.join(_lines(settings, frame, has_figure)) + '\n'


def draw_differences(frame: pd.DataFrame) -> Any:
    """Return the figure of E - E(relaxed) of each geometry: a violin, the box of the quartiles, and each crystal.

    The axis is linear up to about `LINEAR` and logarithmic beyond (inverse hyperbolic sine), and so are the violins'
    densities. Whiskers reach from 5 to 95 %.
    """
    found = {name: values for name, values in differences(frame).items() if len(values)}
    figure = matplotlib_figure(1.6 + 1.1 * len(found), 3.8)
    axes = figure.subplots()
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=0)
    rng = np.random.default_rng(0)
    for place, (name, values) in enumerate(found.items()):
        colour = GREY if name == 'unrelaxed' else COLOURS[(place - 1) % len(COLOURS)]
        scaled = _scale(values)
        if np.ptp(scaled) > 0:  # no density of what is all the same
            violin = axes.violinplot([scaled], [place], widths=0.85, showextrema=False)
            violin['bodies'][0].set(facecolor=colour, alpha=0.3)
        low, first, median, third, high = _scale(np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)))
        axes.bxp(
            [{'whislo': low, 'q1': first, 'med': median, 'q3': third, 'whishi': high}],
            positions=[place],
            widths=0.16,
            showfliers=False,
            patch_artist=True,
            boxprops={'facecolor': 'white', 'edgecolor': colour},
            whiskerprops={'color': colour},
            capprops={'color': colour},
            medianprops={'color': 'black'},
        )
        spread = rng.uniform(0.13, 0.22, len(values))
        axes.plot(place + spread, scaled, 'o', color=colour, markersize=2.5, alpha=0.7)
    everything = np.concatenate(list(found.values()))
    ticks = [sign * tick for tick in TICKS for sign in (1, -1) if tick or sign > 0]
    low, high = min(everything.min(), 0.0), max(everything.max(), 0.0)
    shown = sorted(tick for tick in ticks if 1.5 * low <= tick <= 1.5 * high)
    axes.set_yticks(_scale(np.array(shown)), [f'{tick:g}' for tick in shown])
    names = [f'{name}\nn = {len(values)}' for name, values in found.items()]
    axes.set_xticks(range(len(found)), names)
    axes.set(ylabel='E - E$_\\mathrm{relaxed}$ (eV/atom)', xlim=(-0.6, len(found) - 0.4))
    if engines := _engines(frame):
        figure.suptitle(f'computed by the VASP stand-in ({", ".join(engines)})', x=0.99, ha='right', fontsize=7)
    return figure


def _wide(frame: pd.DataFrame) -> pd.DataFrame:
    """Return E - E(relaxed) with a row for each crystal and a column for each other geometry, in the frame's order."""
    geometries = [name for name in frame['geometry'].unique() if name != 'relaxed']
    return pd.DataFrame(
        {name: frame[frame['geometry'] == name].set_index('crystal')[DIFFERENCE] for name in geometries},
        index=frame['crystal'].unique(),
    )


def _scale(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.arcsinh(values / LINEAR)


def _engines(frame: pd.DataFrame) -> list[str]:
    return sorted(set(frame['stand_in'].dropna()))


def _lines(settings: ValidationSettings, frame: pd.DataFrame, has_figure: bool) -> Iterator[str]:
    request = settings.request
    yield f'# Static DFT validation: {printable(settings.name)}'
    yield ''
    drawn = (
        'all pairs' if request['draw'] is None else f'{request["draw"]} pairs drawn at random (seed {request["seed"]})'
    )
    yield (
        f'{len(settings.order)} crystals: {drawn} of the split `{request["split"]}` of `{request["pairs"]}` '
        f'({request["content_hash"]}).'
    )
    if request['unmatched']:
        yield (
            "Only crystals whose unrelaxed structure pymatgen's StructureMatcher, with its defaults, does not map on "
            f'the relaxed one: of {settings.looked_at} pairs that were looked at {settings.matched} were left out.'
        )
    yield (
        f'Protocol `{request["static"]["protocol"] or "of the default name"}`. All geometries of a crystal have the '
        'same INCAR, the same potentials, and the k-point mesh of its relaxed cell.'
    )
    if overrides := request['static'].get('overrides'):
        yield f'Beside the protocol: `{printable(json.dumps(overrides, sort_keys=True, default=str))}`.'
    for labels in settings.same_starts:
        yield (
            f'{", ".join(map(printable, labels))} start as the same crystal, within the tolerances by which `e3relax '
            'data` finds repeats: where their relaxed crystals differ, a model can hardly meet them all.'
        )
    if engines := _engines(frame):
        yield ''
        yield f'**These energies were computed by the stand-in for VASP ({", ".join(engines)}), not by VASP.**'
    running = frame['state'].isin(['waiting', 'running']).sum()
    if running:
        yield ''
        yield f'{running} of {len(frame)} energies are not there yet.'
    yield from ('', '## E - E(relaxed) in eV/atom', '')
    summary = summarise(frame)
    yield from _summary_table(summary)
    yield ''
    yield (
        '`unrelaxed` is what a model that does nothing (the Dummy) would have. A negative value is an energy below '
        'that of the reference: at this level of theory the reference is no minimum, or the model found a lower one.'
    )
    holes = frame[frame['reason'] != '']
    if len(holes):
        common = summarise(frame, common=True)
        if common['n'].iloc[0]:
            yield from ('', f'On the {common["n"].iloc[0]} crystals that have every energy:', '')
            yield from _summary_table(common)
    if has_figure:
        yield from ('', f'![Energies above the relaxed crystal]({FIGURE.format(suffix="png")})')
    yield from ('', '## By crystal: E - E(relaxed) in eV/atom', '')
    yield from _crystal_table(frame)
    if len(holes):
        yield from ('', '## What is missing', '')
        yield from (
            f'- {printable(row.crystal)}, {printable(row.geometry)}: {printable(row.reason)}'
            for row in holes.itertuples()
        )
    yield from ('', '## Where each number comes from', '')
    yield (
        f'`{TABLE}` has a row for each energy: the UUIDs of the checkpoint, the run of the network, the geometry, the '
        'static run and its VASP calculation. `aiida-e3relax query origin UUID`, with the UUID of a geometry, walks '
        'from it back to its checkpoint; `verdi node show UUID` shows any of them.'
    )
    yield ''
    models = frame.dropna(subset=['checkpoint']).drop_duplicates('geometry')
    yield from _table(
        ['model', 'checkpoint', 'node', 'run of the network'],
        [[row.geometry, f'{row.checkpoint}', row.model_uuid, row.network_uuid] for row in models.itertuples()],
    )
    yield ''
    versions = ', '.join(f'{package} {version}' for package, version in sorted(settings.versions.items()))
    code = ', '.join(sorted(set(frame['code_version'].dropna()))) or 'not known yet'
    yield f'Made {settings.created} with {versions}; VASP says it is {code}.'


def _summary_table(summary: pd.DataFrame) -> list[str]:
    rows = []
    for name, row in summary.iterrows():
        lower = '' if name == 'unrelaxed' else f'{row["lower_than_unrelaxed"]:.0f} of {row["n_both"]:.0f}'
        quartiles = f'{_number(row["quartile_1"])} to {_number(row["quartile_3"])}'
        figures = [_number(row[key]) for key in ('mean', 'mean_absolute', 'largest')]
        rows.append(
            [name, f'{row["n"]:.0f}', f'{row["missing"]:.0f}', _number(row['median']), quartiles, *figures, lower]
        )
    headings = ['', 'crystals', 'missing', 'median', 'quartiles', 'mean', 'mean absolute', 'largest']
    return _table([*headings, 'lower than unrelaxed'], rows)


def _crystal_table(frame: pd.DataFrame) -> list[str]:
    wide = _wide(frame)
    relaxed = frame[frame['geometry'] == 'relaxed'].set_index('crystal')
    rows = [
        [
            name,
            relaxed.loc[name, 'formula'],
            relaxed.loc[name, 'n_atoms'],
            relaxed.loc[name, 'kpoints'],
            _number(relaxed.loc[name, ENERGY], 4),
            *(_number(value, 4) for value in differences_of),
        ]
        for name, differences_of in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    headings = ['crystal', 'formula', 'atoms', 'k-points', 'E(relaxed)', *wide.columns]
    return _table(headings, rows)


def _number(value: float, digits: int = 3) -> str:
    return '·' if np.isnan(value) else f'{value:z.{digits}f}'


def _table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    cells = [[printable(str(cell)).replace('|', '\\|') for cell in row] for row in [headings, *rows]]
    first, *others = [f'| {" | ".join(row)} |' for row in cells]
    return [first, '|' + '---|' * len(headings), *others]
