"""``e3relax distil``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.gnn.cli.options import add_device, add_model, add_seed, check_training_file_output
from aiida_e3relax.gnn.potentials.registry import POTENTIALS
from aiida_e3relax.gnn.prediction.settings import STARTS, PotentialSettings

if TYPE_CHECKING:
    from aiida_e3relax.gnn.data.starts.draw import Drawn

SHOWN = 3
"""Starts of each kind that the list shows."""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        'distil',
        help='make training pairs of starts that a potential relaxes',
        description='Draw starts of relaxations as users make them from the crystals of training files, relax them by '
        'an interatomic potential, and write what is sound as a training file. Goes on where it was stopped; several '
        'processes with the same output share the work. docs/data.md describes kinds, splits and what is refused.',
    )
    parser.add_argument('pairs', nargs='+', type=Path, help='training files that `e3relax data` wrote')
    parser.add_argument('--output', type=Path, required=True, metavar='NAME.npz', help='the training file to write')
    parser.add_argument('--count', type=int, default=10_000, metavar='N', help='starts to draw (default: %(default)s)')
    parser.add_argument('--list', action='store_true', help='list the starts by kind, once they are drawn, and end')
    parser.add_argument('--so-far', action='store_true', help='write what is relaxed already, and relax no more')
    drawing = parser.add_argument_group('drawing')
    drawing.add_argument('--kinds', nargs='+', default=[], metavar='KIND', help='kinds of starts; default: all')
    drawing.add_argument(
        '--held-out',
        nargs='*',
        metavar='NAME',
        help='families of anions and classes of prototypes to test on, none with no name (default: fluorides nitrides '
        'perovskites matlockites)',
    )
    drawing.add_argument(
        '--held-out-val',
        nargs='+',
        default=[],
        metavar='NAME',
        help='others to calibrate on (`e3relax ensemble --calibrate`), which go into the splits val_ood_NAME',
    )
    drawing.add_argument(
        '--never',
        nargs='+',
        default=[],
        metavar='FORMULA|FILE',
        help='compounds whose chemical systems are never drawn, or files with one a line',
    )
    add_seed(drawing)
    relaxing = parser.add_argument_group('relaxing')
    relaxing.add_argument(
        '--teacher', choices=POTENTIALS, metavar='NAME', help=f'the potential: {", ".join(POTENTIALS)}'
    )
    relaxing.add_argument(
        '--teacher-weights', type=Path, metavar='FILE', help='its weights, where they do not come with the package'
    )
    relaxing.add_argument(
        '--start',
        choices=STARTS,
        default=STARTS[0],
        help="where the steps begin: at the network's predictions (default), which takes fewer, or at the start, as of "
        'starts to judge by in any case',
    )
    relaxing.add_argument('--steps', type=int, default=300, metavar='N', help='most steps (default: %(default)s)')
    relaxing.add_argument(
        '--compile',
        action='store_true',
        help='compile the tensor products of SevenNet: takes minutes once, and 40 %% off its time on a CPU',
    )
    relaxing.add_argument('--chunk', type=int, default=32, metavar='N', help='starts in a chunk (default: %(default)s)')
    add_model(relaxing)
    add_device(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from aiida_e3relax.common.interrupts import sigterm_as_interrupt
    from aiida_e3relax.gnn.distillation.run import StartOptions, starts_of

    _check(options)
    choices = _start_options(options, StartOptions)
    folder = options.output.with_suffix('.parts')
    with sigterm_as_interrupt():
        drawn = starts_of(options.pairs, options.count, choices, folder, only_look=options.list)
        if options.list:
            print(_listed(drawn))
            return 0
        return _distil(options, choices, drawn, folder)


def _distil(options: argparse.Namespace, choices: Any, drawn: Drawn, folder: Path) -> int:
    from aiida_e3relax.common.progress import ProgressLine
    from aiida_e3relax.crystals.datasets.pairs_file import read_different_pairs
    from aiida_e3relax.crystals.pairs import Pairs
    from aiida_e3relax.gnn.data.starts.held_out import systems_to_train_on
    from aiida_e3relax.gnn.data.summary import text
    from aiida_e3relax.gnn.device import prepare_device
    from aiida_e3relax.gnn.distillation.chunks import Chunks, waited_for
    from aiida_e3relax.gnn.distillation.run import screened, write_distilled
    from aiida_e3relax.gnn.distillation.teacher import Teacher

    device = prepare_device(options.device, options.threads)
    teacher = Teacher.load(_settings(options), options.model, device, options.compile and not options.so_far)
    chunks = Chunks(drawn.starts, options.chunk, teacher.facts, folder)
    chunks.check_done()
    if not options.so_far:
        print(_counts(drawn), flush=True)
        line = ProgressLine(f'relaxing starts by {teacher.facts["potential"]}', len(drawn.starts), chunks.relaxed)
        chunks.relax(teacher, line)
        line.close()
    with waited_for(folder / 'output.lock'):
        trained = systems_to_train_on(Pairs.concatenate(read_different_pairs(options.pairs)))
        distilled = screened(chunks.read(), teacher.name, trained)
        card = write_distilled(options.output, distilled, drawn, options.pairs, choices, teacher.facts)
    print(text(card['summary']))
    print(_refused('relaxations refused', distilled.refused))
    print(f'wrote {options.output} and {options.output.with_suffix(".card.json").name}')
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raise InputError for options that have no meaning, before anything is read."""
    from aiida_e3relax.gnn.data.starts.held_out import splits_of_held_out
    from aiida_e3relax.gnn.data.starts.kinds import KINDS

    weights = [] if options.teacher_weights is None else [options.teacher_weights]
    check_training_file_output(
        options.output, [*options.pairs, options.model, *weights, *(Path(word) for word in options.never)]
    )
    for name in ('count', 'chunk'):
        if getattr(options, name) < 1:
            raise InputError(f'--{name} {getattr(options, name)}: expected a number above 0')
    for kind in options.kinds:
        if kind not in KINDS:
            raise InputError(f'--kinds {kind}: expected {", ".join(KINDS)}')
    splits_of_held_out(_held_out(options), options.held_out_val)
    if options.teacher is None and not options.list:
        raise InputError(f'--teacher: expected the potential that relaxes the starts, one of {", ".join(POTENTIALS)}')


def _start_options(options: argparse.Namespace, make: Any) -> Any:
    from aiida_e3relax.gnn.data.starts.held_out import read_never

    never, kinds = tuple(sorted(read_never(options.never))), tuple(options.kinds)
    return make(_held_out(options), never, kinds, options.seed, tuple(options.held_out_val))


def _held_out(options: argparse.Namespace) -> tuple[str, ...]:
    """Return what is held out to test on."""
    from aiida_e3relax.gnn.data.starts.held_out import HELD_OUT

    return HELD_OUT if options.held_out is None else tuple(options.held_out)


def _settings(options: argparse.Namespace) -> PotentialSettings:
    try:
        return PotentialSettings(
            options.teacher, options.start, options.steps, weights=options.teacher_weights, only_if_lower=False
        )
    except ValueError as error:
        raise InputError(f'--teacher: {error}') from error


def _listed(drawn: Drawn) -> str:
    """Return the starts by kind, with the first of each."""
    starts, lines = drawn.starts, [_counts(drawn)]
    for kind in dict.fromkeys(starts.kinds.tolist()):
        chosen = (starts.kinds == kind).nonzero()[0]
        lines.append(f'{kind}: {len(chosen)} starts, {starts.unrelaxed.n_atoms[chosen].mean():.1f} atoms on average')
        for index in chosen[:SHOWN].tolist():
            about = {name: texts[index] for name, texts in starts.about.items()}
            lines.append(f'  {starts.unrelaxed.labels[index]}: {about["recipe"]} ({about["family"]})')
    return '\n'.join(lines)


def _counts(drawn: Drawn) -> str:
    """Return how many starts there are of each split, and what was refused."""
    from aiida_e3relax.crystals.pairs import split_names

    splits = drawn.starts.split.tolist()
    counts = ', '.join(f'{splits.count(name)} {name}' for name in split_names(splits) if name in splits)
    return f'{len(splits)} starts: {counts}\n{_refused("draws refused", drawn.refused)}'


def _refused(title: str, refused: dict[str, dict[str, int]]) -> str:
    """Return how many of each kind were refused for what."""
    lines = [f'{title}: {sum(sum(reasons.values()) for reasons in refused.values())}']
    lines += [
        f'  {kind}: ' + '; '.join(f'{count} {reason}' for reason, count in reasons.items())
        for kind, reasons in refused.items()
        if reasons
    ]
    return '\n'.join(lines)
