"""The options of a command line that say how structures are relaxed, and what is made of them."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from aiida import orm
from aiida.common.exceptions import NotExistent
from aiida_vasp.data.potcar import PotcarGroup

from aiida_e3relax.cli.numbers import FiniteRange
from aiida_e3relax.common.mappings import merge
from aiida_e3relax.common.strict_yaml import load_yaml
from aiida_e3relax.crystals.freedom.freedom import AXES, NO_VACUUM, Freedom, Moves, read_freedom_text
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.workflows.guard import GuardMode
from aiida_e3relax.workflows.vasp.arguments import NO_CODE, list_codes, load_code
from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain
from aiida_e3relax.workflows.vasp.choices import ChainChoices
from aiida_e3relax.workflows.vasp.validators import FORCE_CUTOFFS, KPOINTS_SPACINGS

DEFAULT_PROTOCOL = E3RelaxVaspWorkChain.get_default_protocol()
PROTOCOLS_EPILOG = 'Protocols: ' + ' '.join(
    f'{name}: {text}' for name, text in E3RelaxVaspWorkChain.get_available_protocols().items()
)
ONE_PROCESS = {'vasp': {'vasp': {'calc': {'metadata': {'options': {'resources': {'num_mpiprocs_per_machine': 1}}}}}}}
NO_POTENTIALS = (
    'upload them with `aiida-vasp potcar uploadfamily`, or make those of the stand-in with `aiida-e3relax setup`'
)
MOST_HOURS = 100_000.0
Command = TypeVar('Command', bound=Callable[..., Any])

OPTIONS = (
    click.option('--vasp-code', help='The code that runs VASP.  [default: the only one]'),
    click.option('--network-code', help='The code that runs `e3relax`.  [default: the only one]'),
    click.option('--no-network', is_flag=True, help='Relax the raw structure alone.'),
    click.option('--potential-family', help='The family of potentials, see aiida-vasp.  [default: the only one]'),
    click.option('--model', help='A checkpoint file, a model node, or `default`.  [default: the shipped one]'),
    click.option('--protocol', metavar='NAME', help=f'See below.  [default: {DEFAULT_PROTOCOL}]'),
    click.option(
        '--force-cutoff',
        type=FiniteRange(*FORCE_CUTOFFS),
        help='Largest force at the end, in eV/A.  [default: of the protocol]',
    ),
    click.option('--max-steps', type=click.IntRange(min=1), help='Ionic steps of a run.  [default: of the protocol]'),
    click.option(
        '--kpoints-spacing', type=FiniteRange(*KPOINTS_SPACINGS), help='In 2 pi/A.  [default: of the protocol]'
    ),
    click.option(
        '--freedom',
        metavar='WORD|MAPPING',
        help=f'What may move: {", ".join(Moves)}; or all of it, such as '
        "'{moves: in-plane, vacuum: c, fixed: {abc: [0, 1]}}'.  [default: of the protocol]",
    ),
    click.option(
        '--vacuum',
        type=click.Choice([*AXES, NO_VACUUM]),
        help='The lattice vector across the vacuum of a layer, or none for a crystal whose wide gaps are none.  '
        '[default: as the structure shows]',
    ),
    click.option('--keep-symmetry', is_flag=True, help="Symmetrise the prediction to the structure's space group."),
    click.option(
        '--guard',
        type=click.Choice([mode.value for mode in GuardMode]),
        help='What follows when a prediction is out of bounds: VASP starts from the raw structure, from the prediction '
        'with a warning, or nobody looks.  [default: of the protocol]',
    ),
    click.option(
        '--overrides',
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help='A YAML file with inputs over the protocol, such as `vasp: {vasp: {parameters: {incar: {encut: 600}}}}`; '
        'the options given here go over it.',
    ),
    click.option('--machines', type=click.IntRange(min=1), help='Nodes of each VASP run.  [default: 1]'),
    click.option('--mpi-processes', type=click.IntRange(min=1), help='On each of them.  [default: 1]'),
    click.option(
        '--max-hours',
        type=FiniteRange(0.0, MOST_HOURS, min_open=True),
        help='Wall time of each VASP run.  [default: 24]',
    ),
    click.option('--queue', help="The scheduler's queue or partition of the VASP runs."),
)


def chain_options(command: Command) -> Command:
    """Give a command `OPTIONS`, whose values go to `read_choices`."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def read_choices(options: dict[str, Any]) -> ChainChoices:
    """Return what the options say of every structure alike.

    Raises ClickException for what the profile lacks, ValueError for an unknown protocol and for overrides that put
    something else in the place of a mapping.
    """
    overrides = merge(ONE_PROCESS, read_overrides(options['overrides']) if options['overrides'] else {})
    overrides = merge(overrides, _common_settings(options))
    with_network = not options['no_network']
    return ChainChoices(
        vasp_code=choose_code(options['vasp_code'], 'vasp.vasp', '--vasp-code'),
        network_code=choose_code(options['network_code'], 'e3relax.predict', '--network-code')
        if with_network
        else None,
        potential_family=options['potential_family'] or _only_family(),
        freedom=_choose_freedom(options, overrides),
        model=_choose_model(options['model']) if with_network else None,
        protocol=options['protocol'],
        overrides=overrides,
        options=_job_options(options),
    )


def read_overrides(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, an empty one for an empty file; raises ClickException for anything else."""
    try:
        overrides = load_yaml(path.read_text(encoding='utf-8'))
    except (ValueError, OSError) as error:
        raise click.ClickException(f'{path}: {error}') from error
    if not isinstance(overrides, dict | None):
        found = reprlib.repr(overrides)
        raise click.ClickException(f'{path}: expected inputs such as `freedom: positions`, found {found}')
    return overrides or {}


def choose_code(label: str | None, plugin: str, option: str) -> orm.AbstractCode:
    """Return the code of that label, or the only one for `plugin`; raises ClickException when there is no such one."""
    if label is not None:
        try:
            return load_code(label, plugin, option)
        except ValueError as error:
            raise click.ClickException(str(error)) from error
    known = list_codes(plugin)
    if len(known) == 1:
        return known[0]
    names = ', '.join(code.full_label for code in known)
    if known:
        raise click.ClickException(f'{option}: there are several codes for {plugin}; choose one of {names}')
    raise click.ClickException(f'{option}: no code for {plugin} is in this profile; {NO_CODE.format(plugin=plugin)}')


def find_node(text: str, expected: str) -> orm.Node:
    """Return the node of that PK or UUID; raises ClickException, which says what was `expected`, where none has it."""
    try:
        return orm.load_node(text)
    except (NotExistent, ValueError) as error:
        raise click.ClickException(f'{text}: expected {expected}') from error


def describe(node: orm.Node) -> str:
    """Return the type and PK of a node."""
    return f'{type(node).__name__}<{node.pk}>'


def _only_family() -> str:
    labels = sorted(group.label for group in PotcarGroup.collection.all())
    if len(labels) == 1:
        return labels[0]
    if labels:
        raise click.ClickException(f'--potential-family: there are several; choose one of {", ".join(labels)}')
    raise click.ClickException(f'--potential-family: no family of potentials is in this profile; {NO_POTENTIALS}')


def _choose_model(text: str | None) -> E3RelaxModelData:
    if text in (None, 'default'):
        return E3RelaxModelData.default()
    if Path(text).is_file():
        return E3RelaxModelData.get_or_create(text)[0]
    node = find_node(text, '`default`, a checkpoint file that is there, or the PK or UUID of a model')
    if not isinstance(node, E3RelaxModelData):
        raise click.ClickException(f'{text}: expected an E3RelaxModelData, found {describe(node)}')
    return node


def _common_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that every engine has, as overrides."""
    given: dict[str, Any] = {}
    if options['force_cutoff'] is not None:
        given = merge(given, {'vasp': {'relax_settings': {'force_cutoff': options['force_cutoff']}}})
    if options['max_steps'] is not None:
        given = merge(given, {'vasp': {'relax_settings': {'steps': options['max_steps']}}})
    if options['kpoints_spacing'] is not None:
        given = merge(given, {'vasp': {'vasp': {'kpoints_spacing': options['kpoints_spacing']}}})
    if options['guard'] is not None:
        given = merge(given, {'guard': {'mode': options['guard']}})
    return given


def _job_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the VASP jobs that were given on the command line."""
    resources = {'num_machines': options['machines'], 'num_mpiprocs_per_machine': options['mpi_processes']}
    given: dict[str, Any] = {'resources': {key: value for key, value in resources.items() if value is not None}}
    if any(value > 1 for value in given['resources'].values()):
        given['withmpi'] = True
    if options['max_hours'] is not None:
        given['max_wallclock_seconds'] = math.ceil(3600 * options['max_hours'])
    if options['queue']:
        given['queue_name'] = options['queue']
    return given


def _choose_freedom(options: dict[str, Any], overrides: dict[str, Any]) -> str | dict[str, Any]:
    """Return what may move by the options, over the overrides and the protocol."""
    given: dict[str, Any] = {}
    if options['freedom']:
        try:
            given = read_freedom_text(options['freedom'], options['vacuum'])
        except ValueError as error:
            raise ValueError(f'--freedom: {error}') from error
    elif options['vacuum']:
        given['vacuum'] = options['vacuum']
    if options['keep_symmetry']:
        given['keep_symmetry'] = True
    base = E3RelaxVaspWorkChain.get_protocol_inputs(options['protocol'], overrides)['freedom']
    if not given:
        return base
    try:
        Freedom.from_value(base)
    except ValueError as error:
        raise ValueError(f'--overrides: `freedom`: {error}') from error
    return {**({'moves': base} if isinstance(base, str) else base), **given}
