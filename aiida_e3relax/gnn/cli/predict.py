"""``e3relax predict``."""

from __future__ import annotations

import argparse
from pathlib import Path

from aiida_e3relax.common.errors import SOME_UNREADABLE, InputError
from aiida_e3relax.crystals.freedom.freedom import AXES, NO_VACUUM, Freedom, Moves, read_freedom_text
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.cli.options import MOST_SEED, add_device, add_model, whole_number
from aiida_e3relax.gnn.potentials.registry import DLS_VOLUME, POTENTIALS, PRE_RELAXERS
from aiida_e3relax.gnn.prediction.settings import ENGINES, STARTS, Details, PotentialSettings, PredictionSettings


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
    parser.add_argument(
        '--dtype',
        choices=['auto', 'float32', 'float64'],
        default='float32',
        help='auto: float64, and float32 on GPUs where that is slow (default: float32)',
    )
    parser.add_argument(
        '--restore-symmetry',
        action=argparse.BooleanOptionalAction,
        help='take the rounding of float32 out of predictions, which else hides their symmetry from VASP; needs '
        'spglib, and takes longer than a prediction (default: where --dtype auto takes float32)',
    )
    parser.add_argument(
        '--max-edges',
        type=whole_number(1),
        default=PredictionSettings.max_edges,
        help='edges in one batch; bounds the memory (default: %(default)s)',
    )
    parser.add_argument(
        '--engine',
        choices=ENGINES,
        default=PredictionSettings.engine,
        help='reference: the plain layers, slower and the same to rounding (default: %(default)s)',
    )
    _add_potential(parser)
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
        '--fixed-sites',
        type=Path,
        metavar='FILE',
        help='JSON with sites that are held, for formats that cannot say so: {"LABEL": {"abc": [0, 1], "c": [5]}}',
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


def _add_potential(parser: argparse.ArgumentParser) -> None:
    """Add the options of potentials; those of second opinions, the older form, go on to work."""
    parser.add_argument(
        '--potential',
        choices=PRE_RELAXERS,
        metavar='NAME',
        help=f'relax with this interatomic potential, too: {", ".join(POTENTIALS)}; needs its package. {DLS_VOLUME}: '
        'no potential, scale to the volume that pymatgen predicts',
    )
    parser.add_argument(
        '--start',
        choices=STARTS,
        help="where it begins: at the network's predictions (default), or at the input, without a network",
    )
    parser.add_argument(
        '--steps', type=int, metavar='N', help=f'most steps that it takes (default: {PotentialSettings.steps})'
    )
    parser.add_argument(
        '--force-max',
        type=float,
        metavar='X',
        help=f'until no force is above X eV/A (default: {PotentialSettings.force_max_eV_per_A})',
    )
    parser.add_argument(
        '--stress-max',
        type=float,
        metavar='X',
        help=f'and no stress above X kB, of a cell that is free to move (default: {PotentialSettings.stress_max_kB:g})',
    )
    parser.add_argument(
        '--candidates',
        type=int,
        metavar='N',
        help='for crystals whose symmetry breaks: let it start from N perturbed crystals of a lower symmetry, too. The '
        'output has the one of the lowest energy, OUTPUT.candidates.npz beside an .npz, else OUTPUT.candidates.extxyz, '
        'all distinct ones with their energies, the unperturbed one among them',
    )
    parser.add_argument(
        '--seed', type=whole_number(0, MOST_SEED), metavar='N', help='draws the perturbations (default: 0)'
    )
    parser.add_argument(
        '--potential-weights',
        type=Path,
        metavar='FILE',
        help='its weights, where they do not come with the package; packages run code of such files: trust its source',
    )
    parser.add_argument('--second-opinion', choices=POTENTIALS, metavar='NAME', help=argparse.SUPPRESS)
    parser.add_argument('--second-opinion-steps', type=int, default=0, metavar='N', help=argparse.SUPPRESS)


def _run(options: argparse.Namespace) -> int:
    from aiida_e3relax.gnn.prediction.files import predict_files

    if options.second_opinion_steps < 0 or (options.second_opinion_steps and not options.second_opinion):
        raise InputError(
            f'--second-opinion-steps {options.second_opinion_steps}: expected a number from 0 on, above 0 only with '
            f'--second-opinion {"|".join(POTENTIALS)}'
        )
    potential = _potential(options)
    freedom = _freedom(options.freedom, options.vacuum)
    try:
        settings = PredictionSettings(
            options.device,
            options.dtype,
            options.max_edges,
            options.threads,
            options.engine,
            options.second_opinion,
            options.second_opinion_steps,
            freedom,
            Details(options.layers, options.bonds),
            options.plot,
            potential,
            options.fixed_sites,
            options.restore_symmetry,
        )
    except ValueError as error:
        raise InputError(f'--second-opinion: {error}') from error
    model = options.model
    if not settings.has_network:
        if model != DEFAULT_CHECKPOINT:
            raise InputError(f'--model {model}: with --start input no network is loaded; leave one of the two out')
        model = None
    return predict_files(options.structures, model, options.output, options.report, settings)


def _potential(options: argparse.Namespace) -> PotentialSettings | None:
    """Return what a potential is to do, None where none is asked for; raises InputError for what has no meaning."""
    given = {
        name: getattr(options, name) for name in ('start', 'steps', 'force_max', 'stress_max', 'candidates', 'seed')
    }
    given = {name: value for name, value in given.items() if value is not None}
    if options.potential is None:
        if options.potential_weights is not None:
            given['potential_weights'] = options.potential_weights
        if given:
            words = ', '.join(f'--{name.replace("_", "-")}' for name in given)
            raise InputError(f'{words}: expected --potential beside it, one of {", ".join(POTENTIALS)}')
        return None
    if options.second_opinion is not None:
        raise InputError('--second-opinion is the older form of --potential; leave one of the two out')
    fields = {'force_max': 'force_max_eV_per_A', 'stress_max': 'stress_max_kB'}
    settings = {fields.get(name, name): value for name, value in given.items()}
    try:
        return PotentialSettings(options.potential, weights=options.potential_weights, **settings)
    except ValueError as error:
        raise InputError(f'--potential: {error}') from error


def _freedom(text: str | None, vacuum: str | None) -> Freedom | None:
    """Return what may move by the options, None where they say nothing; raises InputError for what is no freedom."""
    if text is None and vacuum not in (None, NO_VACUUM):
        raise InputError(f'--vacuum {vacuum}: expected `--freedom in-plane` or `--freedom positions` beside it')
    if text is None and vacuum is None:
        return None
    try:
        return Freedom.from_value(read_freedom_text(Moves.CELL.value if text is None else text, vacuum))
    except ValueError as error:
        raise InputError(f'--freedom: {error}') from error
