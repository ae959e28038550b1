"""The page of a report, from its contents."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import jinja2
from ase.data import chemical_symbols

from aiida_e3relax.calculations.pre_relaxer import NETWORK, PreRelaxer
from aiida_e3relax.campaign.report.arms import draw_inline
from aiida_e3relax.campaign.report.columns import PAGE_COLUMNS, make_rows
from aiida_e3relax.campaign.report.contents import STAGES, Contents
from aiida_e3relax.campaign.report.failures import explain_failures
from aiida_e3relax.campaign.report.key_figures import describe_pairs, list_key_figures
from aiida_e3relax.campaign.report.learning_plot import READING, has_curve, plot_learning
from aiida_e3relax.campaign.report.packing import pack_crystals, pack_trajectories
from aiida_e3relax.campaign.report.plotly_style import LEG_COLOURS, LEG_TITLES, new_plot
from aiida_e3relax.campaign.report.plots import Plot, draw_plots
from aiida_e3relax.campaign.results.arm_tables import describe_arms, tabulate_arms, tabulate_crystals
from aiida_e3relax.campaign.results.arms import ArmsComparison
from aiida_e3relax.campaign.results.headline import format_headline
from aiida_e3relax.campaign.results.learning import LearningResult
from aiida_e3relax.campaign.results.learning_tables import describe_learning, tabulate_learning
from aiida_e3relax.campaign.results.statistics import find_pre_relaxers
from aiida_e3relax.workflows.comparison.text import ENGINES, ROWS

TEMPLATE = files(__package__) / 'template'
LIBRARIES = files(__package__) / 'libraries'
STYLES = (LIBRARIES / 'tabulator_simple.min.css', TEMPLATE / 'report.css')
SCRIPTS = (
    *(LIBRARIES / name for name in ('plotly-cartesian.min.js', '3Dmol-min.js', 'tabulator.min.js')),
    *(TEMPLATE / f'{name}.js' for name in ('arrays', 'views', 'plots', 'table', 'detail', 'page')),
)
"""In the order in which the page runs them."""
LEARNING_PLOT = 'learning'
LONGEST_SETTING = 600
"""In characters."""


def render_page(contents: Contents, written: datetime) -> str:
    """Return the report as one HTML document that needs no other file."""
    frame = contents.frame
    plots = draw_plots(frame, contents.summary)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((TEMPLATE / 'report.html.j2').read_text())
    return template.render(
        name=contents.name,
        date=written.strftime('%-d %B %Y'),
        version=version('aiida-e3relax'),
        n_structures=len(frame),
        all_in_sample=bool(frame['in_sample'].all()),
        engines=[ENGINES.get(engine, engine) for engine in contents.summary.engines if engine != 'VASP'],
        program=_describe_program(contents),
        start=_describe_start(contents),
        n_unfinished=sum(contents.summary.states.get(state, 0) for state in ('waiting', 'running')),
        headline=format_headline(contents.summary),
        pairs=describe_pairs(contents.summary),
        key_figures=list_key_figures(contents.summary),
        plots=plots,
        arms=_describe_arms(contents.arms),
        learning=_describe_learning(contents.learning),
        zip=zip,
        failures=explain_failures(contents.summary),
        settings=list(_format_settings(contents.settings)),
        settings_uuid=contents.settings_uuid,
        data=to_json(_gather_data(contents, plots)),
        css='\n'.join(style.read_text() for style in STYLES),
        scripts=[script.read_text() for script in SCRIPTS],
    )


def to_json(value: Any) -> str:
    """Return `value` as JSON that may stand in a script element whatever it says."""
    return json.dumps(value, allow_nan=False, separators=(',', ':')).replace('<', '\\u003c')


def _gather_data(contents: Contents, plots: list[Plot]) -> dict[str, Any]:
    """Return what the scripts of the page work on."""
    table, learning = make_rows(contents.frame), contents.learning
    empty = {field for field, values in contents.frame.items() if values.isna().all()}
    return {
        'name': contents.name,
        'table': table,
        'columns': [dataclasses.asdict(column) for column in PAGE_COLUMNS if column.field not in empty],
        'legRows': [
            {'title': title, 'key': key, 'digits': 0 if form == 'd' else int(form[1])} for title, key, form in ROWS
        ],
        'plots': {plot.kind.key: json.loads(plot.figure.to_json()) for plot in plots if plot.figure}
        | ({LEARNING_PLOT: json.loads(plot_learning(learning).to_json())} if learning and has_curve(learning) else {}),
        'style': {
            'colours': LEG_COLOURS,
            'titles': LEG_TITLES,
            'layout': json.loads(new_plot().to_json())['layout'],
        },
        'structures': {stage: pack_crystals(contents.structures[stage]) for stage in STAGES},
        'trajectories': pack_trajectories(contents.trajectories),
        'symbols': chemical_symbols,
    }


def _describe_arms(arms: ArmsComparison | None) -> dict[str, Any] | None:
    """Return the sentences, tables and figure of a campaign beside its arms."""
    if arms is None:
        return None
    return {
        'sentences': describe_arms(arms),
        'tables': [*tabulate_arms(arms), tabulate_crystals(arms)],
        'figure': draw_inline(arms) if arms.n else None,
    }


def _describe_learning(learning: LearningResult | None) -> dict[str, Any] | None:
    """Return the sentences and tables of what learning brought, and how to read its figure where there is one."""
    if learning is None:
        return None
    return {
        'sentences': describe_learning(learning),
        'tables': tabulate_learning(learning),
        'plot': LEARNING_PLOT if has_curve(learning) else None,
        'reading': READING,
    }


def _describe_start(contents: Contents) -> str | None:
    """Return what made the starts of the predicted legs; None of a campaign without a prediction."""
    hashes = sorted(set(contents.frame['model'].dropna()))
    node = contents.settings.get('model')
    network = ', '.join(f'content hash {content_hash.removeprefix("sha256:")[:12]}…' for content_hash in hashes)
    texts = find_pre_relaxers(contents.frame) or ([NETWORK] if network or node else [])
    asked = [PreRelaxer.from_record(text) for text in texts]
    sentences = []
    if any(one.has_network for one in asked):
        name = network or (f'node {node}' if node else 'the one of the settings')
        sentences.append(f'A graph network ({name}) predicted the relaxed form of each raw crystal in one pass.')
    for one in asked:
        if one.potential:
            what = 'what it predicted' if one.has_network else 'each raw crystal'
            sentences.append(f'The potential {one.potential} relaxed {what}.')
    return ' '.join(sentences) or None


def _describe_program(contents: Contents) -> str:
    if contents.summary.stand_in:
        return 'The stand-in for VASP'
    versions = {version for leg in LEG_TITLES for version in contents.frame[f'{leg}_code_version'].dropna()}
    return f'VASP {", ".join(sorted(versions))}' if versions else 'The VASP code of the campaign'


def _format_settings(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the settings of a campaign that are not empty as text, long lists counted."""
    for key, value in settings.items():
        if value in (None, '', [], {}):
            continue
        text = value if isinstance(value, str) else json.dumps(value)
        if isinstance(value, list | dict) and len(text) > LONGEST_SETTING:
            text = f'{len(value)} entries, in the node'
        yield key.replace('_', ' '), text
