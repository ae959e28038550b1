"""The options of a command line that say how structures are relaxed; `chain_choices` reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from aiida_e3relax.cli.numbers import FiniteRange
from aiida_e3relax.crystals.freedom.words import AXES, NO_VACUUM, Moves
from aiida_e3relax.workflows.allowed_values import FORCE_CUTOFFS, KPOINTS_SPACINGS, Algo, GuardMode, StaticRun
from aiida_e3relax.workflows.protocols.files import CHAIN_PROTOCOLS, available_protocols, default_protocol

DEFAULT_PROTOCOL = default_protocol(CHAIN_PROTOCOLS)
PROTOCOLS_EPILOG = 'Protocols: ' + ' '.join(
    f'{name}: {text}' for name, text in available_protocols(CHAIN_PROTOCOLS).items()
)
MOST_HOURS = 100_000.0
MOST_STEPS = 100_000
"""Of a potential, as `prediction.settings` has it, which imports numpy."""
Command = TypeVar('Command', bound=Callable[..., Any])

OPTIONS = (
    click.option('--vasp-code', help='The code that runs VASP.  [default: the only one]'),
    click.option('--network-code', help='The code that runs `e3relax`.  [default: the only one]'),
    click.option('--no-network', is_flag=True, help='Relax the raw structure alone.'),
    click.option(
        '--pre-relaxer',
        metavar='WHO',
        help='What makes the start of VASP: network, the name of an interatomic potential such as sevennet-mf-0 '
        '(`e3relax potentials` lists them), both as in network+sevennet-mf-0, or dls-volume, the volume that pymatgen '
        'predicts.  [default: of the overrides, else network with --model, else of the network code, see '
        '`aiida-e3relax pre-relaxer`]',
    ),
    click.option(
        '--potential-weights',
        metavar='FILE|NODE',
        help='The weights of that potential, where its package brings none: a file, or label, PK or UUID of a node.',
    ),
    click.option(
        '--potential-steps',
        type=click.IntRange(0, MOST_STEPS),
        metavar='N',
        help='Most steps that the potential takes.  [default: of the overrides, else 200]',
    ),
    click.option(
        '--potential-force-max',
        type=FiniteRange(0.0, min_open=True),
        metavar='X',
        help='It goes on until no force is above X eV/A.  [default: of the overrides, else 0.02]',
    ),
    click.option(
        '--potential-stress-max',
        type=FiniteRange(0.0, min_open=True),
        metavar='X',
        help='And no stress above X kB, of a cell that is free to move.  [default: of the overrides, else 1]',
    ),
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
        'with a warning, or the bounds are not checked.  [default: of the protocol]',
    ),
    click.option(
        '--static-run',
        type=click.Choice([choice.value for choice in StaticRun]),
        help='When a static run of VASP follows a relaxation of the cell from a prediction: always, or only where the '
        'raw structure is relaxed, too, to be compared.  [default: of the overrides, else always]',
    ),
    click.option(
        '--predicted-algo',
        type=click.Choice([choice.value for choice in Algo]),
        help='How VASP moves the ions from a prediction: cg, or rd for RMM-DIIS (IBRION = 1), which does without trial '
        'steps; from the raw structure it stays as it is, so that comparisons mix start and algorithm, and say so.  '
        '[default: of the overrides, else as from the raw structure]',
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
    click.option(
        '--num-gpus',
        type=click.IntRange(min=0),
        help='GPUs that each job of the network asks SLURM or LSF for.  [default: of the overrides]',
    ),
)


STATIC = (
    'vasp_code',
    'network_code',
    'potential_family',
    'protocol',
    'kpoints_spacing',
    'vacuum',
    'overrides',
    'machines',
    'mpi_processes',
    'max_hours',
    'queue',
)
"""Those of `OPTIONS` that say something on runs in which nothing moves."""


def chain_options(command: Command) -> Command:
    """Give a command `OPTIONS`, whose values go to `chain_choices.read_choices`."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def static_options(command: Command) -> Command:
    """Give a command those of `OPTIONS` that are in `STATIC`."""
    own = list(getattr(command, '__click_params__', ()))
    command = chain_options(command)
    of_chain = command.__click_params__[len(own) :]  # type: ignore[attr-defined]
    command.__click_params__ = own + [option for option in of_chain if option.name in STATIC]  # type: ignore[attr-defined]
    return command
