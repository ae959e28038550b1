"""Run a validation: draw the crystals, submit bit by bit, show how far it is, and write the report."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from aiida.common.exceptions import NotExistent
from sqlalchemy.exc import SQLAlchemyError

from aiida_e3relax.campaign.creation import check_name
from aiida_e3relax.campaign.submission.daemon import NO_DAEMON, Daemon
from aiida_e3relax.campaign.submission.lock import CampaignLockedError, LockLostError, describe_lost_database, lock
from aiida_e3relax.campaign.submission.processes import UNSUCCESSFUL, State, last_state
from aiida_e3relax.cli.chain_choices import choose_model, read_choices
from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.messages import printable, short
from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash, read_pairs
from aiida_e3relax.crystals.freedom.words import Moves
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.validation.creation import create_validation, find_same
from aiida_e3relax.validation.draw import draw_pairs
from aiida_e3relax.validation.group import ValidationGroup
from aiida_e3relax.validation.report import write_report
from aiida_e3relax.validation.submission import ValidationController, ValidationProcesses
from aiida_e3relax.workflows.vasp.choices import ChainChoices

SUBMITTED_BETWEEN_LOOKS = 5
LONGEST_REASON = 160


@dataclasses.dataclass(frozen=True)
class Request:
    """What a person asks for.

    Attributes
    ----------
    pairs
        A training file.
    split, draw, seed, unmatched
        Which of its pairs; all of the split where `draw` is None.
    models
        Each a checkpoint file, a node or `default`, with `NAME=` before it where it is to be called so.
    name
        Of the validation; None for one that follows from the others.
    """

    pairs: Path
    split: str
    draw: int | None
    seed: int
    unmatched: bool
    models: tuple[str, ...]
    name: str | None

    @property
    def label(self) -> str:
        """The name of the validation."""
        words = [self.pairs.stem, self.split, str(self.draw or 'all'), *['unmatched'] * self.unmatched]
        return self.name or '-'.join([*words, *[f'seed{self.seed}'] * bool(self.seed)])


def run_validation(
    request: Request,
    options: dict[str, Any],
    max_running: int,
    retry_failed: bool,
    report_only: bool,
    folder: Path | None,
    interval: float,
) -> None:
    """Compute what is missing of a validation, which is made where it is not there, and write the report.

    Parameters
    ----------
    request
        What to compute.
    options
        Those of `static_options`.
    max_running
        How many jobs run at the same time.
    retry_failed
        Whether what ended without success is tried again.
    report_only
        Whether nothing is submitted.
    folder
        Of the report; None for one in the working directory that is called like the validation.
    interval
        Seconds between looks.

    Raises
    ------
    ClickException
        For anything that cannot be, with the reason; and with exit code 1 after the report where energies are missing.
    """
    stop = threading.Event()
    with _plain_errors(request.label):
        check_name(request.label)
        models = name_models(request.models)
        choices = _read_static_choices(options)
        group = _find_or_create(request, choices, is_to_run=not report_only)
        controller = ValidationController(group, models)
        if not report_only:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stop.set())
            with lock(group) as confirm_lock:
                if retry_failed:
                    click.echo(f'Trying again: {controller.retry_failed()} runs')
                _run_until(stop, controller, max_running, confirm_lock, interval)
        text = write_report(group, folder or Path(request.label))
        processes = controller.read()
        if not controller.is_done(processes):
            click.echo('Not all has ended. Go on: give the same command again')
        click.echo(f'Report: {text.resolve()}')
    if failed := len(_describe_failures(processes)):
        click.echo(f'{failed} runs failed: the report tells why; try them again with --retry-failed', err=True)


def name_models(words: tuple[str, ...]) -> dict[str, E3RelaxModelData]:
    """Return the models that the words of a command line name, by the name that tables use.

    That is what stands before `=`, else the name on the model card. Raises ClickException for a name that two have.
    """
    models: dict[str, E3RelaxModelData] = {}
    for word in words:
        name, separator, rest = word.partition('=')
        is_named = bool(separator) and not Path(word).is_file()
        model = choose_model(rest if is_named else word)
        name = name if is_named else model.name
        if models.setdefault(name, model).uuid != model.uuid:
            raise click.ClickException(
                f'--models {word}: another model is called `{printable(name)}`, too; give one of them another name, as '
                f'NAME={word}'
            )
    return models


def _read_static_choices(options: dict[str, Any]) -> ChainChoices:
    """Return how VASP computes, by the options of `static_options`."""
    of_relaxations = {
        **dict.fromkeys(('force_cutoff', 'max_steps', 'guard', 'static_run', 'predicted_algo')),
        'no_network': False,
        'keep_symmetry': False,
        'model': 'default',
        'freedom': Moves.POSITIONS.value,
    }
    return dataclasses.replace(read_choices({**of_relaxations, **options}, is_judged=False), model=None)


def _find_or_create(request: Request, choices: ChainChoices, is_to_run: bool) -> ValidationGroup:
    """Return the validation of that name, which is made where it is not there.

    Where it `is_to_run`, and no daemon could run it, none is made: another one could not have its name.
    """
    pairs = read_pairs(request.pairs)
    asked = {
        'pairs': request.pairs.name,
        'content_hash': pairs_hash(pairs),
        'split': request.split,
        'draw': request.draw,
        'seed': request.seed,
        'unmatched': request.unmatched,
        'static': choices.record(),
    }
    group = find_same(request.label, asked)
    if group is not None:
        click.echo(f'Going on with the validation {printable(request.label)}', err=True)
        if is_to_run:
            _require_daemon()
        return group
    draw = draw_pairs(_of_split(pairs, request), request.draw, request.seed, request.unmatched)
    if is_to_run:
        _require_daemon()
    line = ProgressLine('storing crystals and their k-points', len(draw.pairs))
    group = create_validation(request.label, draw, choices, asked, line.advance)
    line.close()
    return group


def _require_daemon() -> None:
    if not Daemon().count_workers():
        raise click.ClickException(NO_DAEMON)


def _of_split(pairs: Pairs, request: Request) -> Pairs:
    of_split = pairs.of_split(request.split)
    if not len(of_split):
        splits = ', '.join(sorted(set(pairs.split.tolist())))
        raise click.ClickException(
            f'--split {request.split}: {request.pairs} has no such pairs; found the splits {splits}'
        )
    return of_split


def _run_until(
    stop: threading.Event,
    controller: ValidationController,
    max_running: int,
    confirm_lock: Callable[[], None],
    interval: float,
) -> None:
    """Submit and show until everything has ended, or someone asks to stop."""
    told: set[str] = set()
    while not stop.is_set():
        n_submitted = controller.advance(max_running, SUBMITTED_BETWEEN_LOOKS, confirm_lock)
        processes = controller.read()
        lines = [_describe(controller, processes), *_describe_failures(processes)]
        if not controller.daemon.count_workers():
            lines.append(NO_DAEMON)
        for line in lines:
            if line not in told:
                click.echo(f'{datetime.datetime.now().isoformat(" ", timespec="seconds")} {line}')  # flushes
        told.update(lines)
        if controller.is_done(processes):
            return
        if not n_submitted:
            stop.wait(interval)


def _describe(controller: ValidationController, processes: ValidationProcesses) -> str:
    """Return in a line how far a validation is."""
    counts = ', '.join(f'{count} {state}' for state, count in sorted(controller.count(processes).items()))
    running = [name for name, tries in processes.networks.items() if last_state(tries) is State.RUNNING]
    return f'energies: {counts}' + (f'; predicting: {printable(", ".join(running))}' if running else '')


def _describe_failures(processes: ValidationProcesses) -> list[str]:
    """Return a line for each model and each energy whose last run failed, with the reason."""
    everything = {
        **{f'model {name}': tries for name, tries in processes.networks.items()},
        **{f'{label}, {stage}': tries for (label, stage), tries in processes.static.items()},
    }
    return [
        f'{printable(name)}: {short(tries[-1].exit_message or tries[-1].state, LONGEST_REASON)}'
        for name, tries in everything.items()
        if last_state(tries) in UNSUCCESSFUL
    ]


@contextlib.contextmanager
def _plain_errors(name: str) -> Iterator[None]:
    """Turn what can go wrong with the validation `name` into a line; raises ClickException."""
    shown = printable(name)
    try:
        yield
    except CampaignLockedError as error:
        raise click.ClickException(
            f'validation `{shown}` is being run by another process ({printable(str(error))}); wait for it, or write '
            'what has ended so far with --report-only'
        ) from error
    except (LockLostError, SQLAlchemyError) as error:
        raise click.ClickException(describe_lost_database(error)) from error
    except (InputError, ValueError, NotExistent) as error:
        raise click.ClickException(printable(str(error))) from error
    except OSError as error:
        where = f'{printable(error.filename)}: ' if error.filename else ''
        raise click.ClickException(f'{where}cannot be written: {printable(error.strerror or str(error))}') from error
