"""``e3relax predict``."""

from __future__ import annotations

import argparse
from pathlib import Path

from aiida_e3relax.common.errors import SOME_UNREADABLE, InputError
from aiida_e3relax.crystals.freedom.freedom import AXES, NO_VACUUM, Freedom, Moves, read_freedom_text
from aiida_e3relax.gnn.cli.options import add_device, add_model
from aiida_e3relax.gnn.potentials.registry import POTENTIALS
from aiida_e3relax.gnn.prediction.settings import ENGINES, Details, PredictionSettings


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        'predict',
        help='predict relaxed crystals',
        description='Predict relaxed crystals. What cannot be read is told and passed over: exit status 0 when '
        f'everything was read, {SOME_UNREADABLE} when the output lacks what could not be, another when there is none.',
    )
    parser.add_argument(
        'structures',
        nargs='+',
        type=Path,
        help='.npz of crystals, CIF, POSCAR, extxyz and other formats that ASE reads',
    )
    add_model(parser)
    parser.add_argument(
        '--output', type=Path, required=True, help='predicted crystals: .npz, or a format that ASE writes by its suffix'
    )
    parser.add_argument('--report', type=Path, help='JSON with the status of every structure and the facts of the run')
    parser.add_argument('--dtype', choices=['float32', 'float64'], default='float32', help='default: float32')
    parser.add_argument(
        '--max-edges',
        type=int,
        default=PredictionSettings.max_edges,
        help='edges in one batch; bounds the memory (default: %(default)s)',
    )
    parser.add_argument(
        '--engine',
        choices=ENGINES,
        default=PredictionSettings.engine,
        help='reference: the plain layers, slower and the same to rounding (default: %(default)s)',
    )
    parser.add_argument(
        '--second-opinion',
        choices=POTENTIALS,
        help='states energy and force in the report, before and after the prediction; needs its package',
    )
    parser.add_argument(
        '--second-opinion-steps',
        type=int,
        default=PredictionSettings.second_opinion_steps,
        metavar='N',
        help='steps that it takes from the prediction, which stay where its energy falls (default: %(default)s)',
    )
    parser.add_argument(
        '--freedom',
        metavar='WORD|MAPPING',
        help=f'what may move: {", ".join(Moves)}; or all of it, such as '
        "'{moves: in-plane, vacuum: c, fixed: {abc: [0, 1]}}'; sites that a file fixes stay anyway (default: atoms and "
        'cell, but positions for a layer or a wire)',
    )
    parser.add_argument(
        '--vacuum',
        choices=[*AXES, NO_VACUUM],
        help='the lattice vector across the vacuum of a layer; none: these are bulk crystals, do not look for gaps',
    )
    parser.add_argument(
        '--layers',
        action='store_true',
        help='write the structure after every layer of the network, the input first: OUTPUT.layers.npz beside an .npz, '
        'else a trajectory for `ase gui`, OUTPUT.layers.traj',
    )
    parser.add_argument(
        '--bonds',
        action='store_true',
        help='write the length of every bond with its uncertainty, of a model that states it (ensembles, DeepRelax): '
        'OUTPUT.bonds.npz beside an .npz, else OUTPUT.bonds.csv',
    )
    parser.add_argument(
        '--plot',
        type=Path,
        metavar='FOLDER',
        help='draw the bonds of the first structures, a figure each; with --bonds',
    )
    add_device(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from aiida_e3relax.gnn.prediction.files import predict_files

    if options.second_opinion_steps < 0 or (options.second_opinion_steps and not options.second_opinion):
        raise InputError(
            f'--second-opinion-steps {options.second_opinion_steps}: expected a number from 0 on, above 0 only with '
            f'--second-opinion {"|".join(POTENTIALS)}'
        )
    settings = PredictionSettings(
        options.device,
        options.dtype,
        options.max_edges,
        options.threads,
        options.engine,
        options.second_opinion,
        options.second_opinion_steps,
        _freedom(options.freedom, options.vacuum),
        Details(options.layers, options.bonds),
        options.plot,
    )
    return predict_files(options.structures, options.model, options.output, options.report, settings)


def _freedom(text: str | None, vacuum: str | None) -> Freedom | None:
    """Return what may move by the options, None where they say nothing; raises InputError for what is no freedom."""
    if text is None and vacuum not in (None, NO_VACUUM):
        raise InputError(f'--vacuum {vacuum}: expected `--freedom in-plane` or `--freedom positions` beside it')
    if text is None and vacuum is None:
        return None
    try:
        return Freedom.from_value(read_freedom_text(text or Moves.CELL.value, vacuum))
    except ValueError as error:
        raise InputError(f'--freedom: {error}') from error
