"""The comparison of a chain as text for a terminal: a table, and sentences below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiida import orm
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aiida_e3relax.calculations.pre_relaxer import NETWORK, PreRelaxer
from aiida_e3relax.workflows.guard import REJECTED, describe_verdict
from aiida_e3relax.workflows.vasp.messages import describe_failure

ENGINES = {
    'emt': 'effective medium theory, a toy potential for metals',
    'ionic': 'a toy potential for ionic crystals',
    'gpaw': 'GPAW, real DFT with PAW setups of its own',
}

ROWS = (
    ('VASP runs', 'vasp_runs', 'd'),
    ('ionic steps', 'ionic_steps', 'd'),
    ('electronic steps', 'electronic_steps', 'd'),
    ('cores', 'cores', 'd'),
    ('time of VASP (s)', 'wall_time_s', '.1f'),
    ('time of all its cores (s)', 'core_time_s', '.1f'),
    ('start: energy above the end (meV/atom)', 'start_energy_error_meV_per_atom', '.1f'),
    ('start: largest force (eV/A)', 'max_force_first_step_eV_per_A', '.3f'),
    ('start: pressure (kB)', 'pressure_first_step_kB', '.1f'),
    ('start: coordinate MAE to the end (A)', 'start_coordinate_mae_A', '.4f'),
    ('start: cell shape deviation (A^2)', 'start_cell_shape_deviation_A2', '.3f'),
    ('start: volume error (A^3)', 'start_volume_error_A3', '.3f'),
    ('end: energy (eV/atom)', 'energy_final_eV_per_atom', '.4f'),
    ('end: largest force (eV/A)', 'max_force_final_eV_per_A', '.3f'),
    ('end: volume (A^3)', 'volume_final_A3', '.3f'),
)
"""Title, key in a leg of the comparison, format."""


def format_chain(chain: orm.ProcessNode) -> RenderableType:
    """Return what a finished `E3RelaxVaspWorkChain` found, and where to look next."""
    where = Text(
        f'\nWhere to look next:\n'
        f'  verdi process show {chain.pk}              inputs, outputs, and what was called\n'
        f'  verdi process status -c {chain.pk}         the tree of jobs\n'
        f'  verdi process report -m 1 {chain.pk}       its messages in order; without -m 1 those of each job, too\n'
        f'  aiida-e3relax show {chain.pk} --plot x.png  energy and force against the ionic step\n'
        f'  verdi node graph generate {chain.pk}       the provenance graph as a picture (needs Graphviz)\n'
    )
    if 'comparison' not in chain.outputs:
        return Group(Text(f'No comparison: {chain.process_label} {describe_failure(chain)}', style='bold red'), where)
    parts: list[RenderableType] = [format_comparison(chain.outputs.comparison.get_dict())]
    if not chain.is_finished_ok:
        parts.append(Text(f'{chain.process_label} failed with exit code {chain.exit_status}.', style='bold red'))
    return Group(*parts, where)


def format_comparison(comparison: Mapping[str, Any]) -> RenderableType:
    """Return the content of a `comparison` node as a table, with what computed it and what the guard said."""
    table = Table(title=f'{comparison["formula"]}: VASP with and without the prediction', title_justify='left')
    table.add_column('')
    for column in ('without', 'with', 'difference'):
        table.add_column(column, justify='right')
    raw, predicted = (comparison[leg] or {} for leg in ('raw', 'predicted'))
    apart = [f'{time}_s' for time in ('wall_time', 'core_time') if comparison.get(f'{time}_saved_s', 0.0) is None]
    for title, key, form in ROWS:
        before, after = raw.get(key), predicted.get(key)
        difference = None if before is None or after is None or key in apart else after - before
        table.add_row(title, _format(before, form), _format(after, form), _format(difference, f'+{form}'))
    return Group(table, *_lines_below(comparison))


def _lines_below(comparison: Mapping[str, Any]) -> Iterator[Text]:
    """Yield the sentences below the table."""
    legs = [comparison[leg] for leg in ('raw', 'predicted') if comparison[leg]]
    stand_in = next((leg['stand_in'] for leg in legs if leg['stand_in']), None)
    if stand_in:
        engine = ENGINES.get(stand_in, stand_in)
        yield Text(f'Computed by the VASP stand-in, not by VASP: {engine}.', style='bold yellow')
    else:
        versions = dict.fromkeys(leg['code_version'] for leg in legs if leg['code_version'])
        known = f'Computed by VASP {" and ".join(versions)}.'
        yield Text(known if versions else 'No VASP run got as far as naming its program.')
    if 'same_minimum' in comparison:
        apart = f'{comparison["energy_difference_final_meV_per_atom"]:+.2f} meV/atom'
        if comparison['same_minimum']:
            yield Text(f'Both end in the same minimum ({apart}).', style='green')
        else:
            yield Text(f'They do NOT end in the same minimum ({apart}).', style='bold red')
        if comparison['ionic_steps_saved'] is not None:
            yield Text(
                _format_saved(comparison['ionic_steps_saved'], comparison['ionic_steps_saved_percent']), style='bold'
            )
        if len({bool(leg.get('vasp_runs_from_cache')) for leg in legs}) > 1:  # earlier versions lack the key
            yield Text('AiiDA took one of them from its cache: their times were not measured side by side.')
    guard = comparison['guard']
    if guard and guard['verdict'] != REJECTED:
        yield Text(f'{describe_verdict(guard)}.')
    if comparison['network']:
        network = comparison['network']
        # Comparisons of earlier versions lack this key and the two below.
        title = PreRelaxer.from_record(network.get('pre_relaxer', NETWORK)).title
        took = f'{title} took {1000 * network["wall_time_s"]:.0f} ms on {network["device"]}'
        count = network.get('structures_in_run', 1)
        yield Text(f'{took}, the share of this crystal in a run of {count}.' if count > 1 else f'{took}.')
        if opinion := network.get('second_opinion'):
            yield Text(_format_opinion(opinion))
        if potential := network.get('potential'):
            yield Text(_format_potential(potential))
    for remark in comparison['remarks']:
        yield Text(f'{remark.rstrip(".")}.', style='yellow')


def _format_opinion(opinion: Mapping[str, Any]) -> str:
    """Return what a potential says of the prediction."""
    if 'error' in opinion:
        return f'Second opinion of {opinion["potential"]}: none, {opinion["error"]}.'
    if 'input_error' in opinion:
        return f'Second opinion of {opinion["potential"]}: none of the raw crystal, {opinion["input_error"]}.'
    change = opinion['energy_prediction_eV_per_atom'] - opinion['energy_input_eV_per_atom']
    forces = ' to '.join(f'{opinion[f"max_force_{name}_eV_per_A"]:.2f}' for name in ('input', 'prediction'))
    steps = f', after {opinion["steps"]} steps of it,' if opinion['improved'] else ''
    return (
        f'Second opinion of {opinion["potential"]}: the prediction{steps} changes the energy by '
        f'{1e3 * change:+.0f} meV/atom, the largest force from {forces} eV/A.'
    )


def _format_potential(potential: Mapping[str, Any]) -> str:
    """Return what a potential did to a crystal."""
    name = f'{potential["potential"]} ({potential["weights"]})' if potential.get('weights') else potential['potential']
    if 'error' in potential:
        return f'{name} could not relax it: {potential["error"]}.'
    if (ratio := potential.get('volume_ratio')) is not None:
        return f'{name} scaled it to {100 * ratio:.0f} % of its volume.'
    ended = 'converged' if potential['converged'] else 'did not converge'
    ended = f'{ended} in {potential["steps"]} steps'
    if potential['steps'] and not potential.get('improved', True):
        start = 'the raw crystal' if potential.get('start') == 'input' else 'the prediction of the network'
        ended = f'found no lower energy in {potential["steps"]} steps, so that {start} stands'
    told = (
        f'{name} {ended}: energy {_format_change(potential)}, largest force '
        f'{potential["max_force_prediction_eV_per_A"]:.3f} eV/A.'
    )
    if potential['left_basin']:
        told += f' It left the basin where it started: {"; ".join(potential["basin"])}.'
    return told


def _format_change(potential: Mapping[str, Any]) -> str:
    """Return how far the energy is from that of the raw crystal, which a potential may not be able to compute."""
    if 'input_error' in potential:
        return f'of the raw crystal not known ({potential["input_error"]})'
    change = 1e3 * (potential['energy_prediction_eV_per_atom'] - potential['energy_input_eV_per_atom'])
    return f'{change:+.0f} meV/atom from the raw crystal'


def _format_saved(steps: int, percent: float | None) -> str:
    told = f'The prediction {"saved" if steps >= 0 else "cost"} {abs(steps)} ionic step{"" if abs(steps) == 1 else "s"}'
    return f'{told}.' if percent is None else f'{told} ({abs(percent):.0f} %).'


def _format(value: float | None, form: str) -> str:
    return '-' if value is None else format(value, form)
