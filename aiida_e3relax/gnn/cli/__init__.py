"""The console script ``e3relax``: one module a command."""

from __future__ import annotations

import argparse
import os
import sys

from aiida_e3relax.common.errors import InputError, OutOfMemoryError, RunError, RunInterruptedError
from aiida_e3relax.common.out_of_memory import is_out_of_memory
from aiida_e3relax.gnn.cli import (
    ablate,
    benchmark,
    data,
    denoise,
    distil,
    ensemble,
    evaluate,
    finetune,
    import_checkpoint,
    potentials,
    predict,
    sweep,
    train,
)

COMMANDS = (
    predict,
    potentials,
    data,
    distil,
    denoise,
    train,
    finetune,
    ensemble,
    evaluate,
    benchmark,
    ablate,
    sweep,
    import_checkpoint,
)

OF_CLOSED_PIPE = 128 + 13
"""The exit status where nobody reads what is printed: a shell's number for SIGPIPE."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = _parsed(arguments)
    try:
        status = options.run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # such as of `head`, which has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes when it ends
        return OF_CLOSED_PIPE
    except RunError as error:
        return _print_error(error)
    except KeyboardInterrupt as error:
        return _print_error(RunInterruptedError(str(error) or 'interrupted'))
    except Exception as error:
        if is_out_of_memory(error):
            advice = 'give smaller batches (batch_size, --max-edges), a smaller model, or a larger machine'
            return _print_error(OutOfMemoryError(f'the memory does not suffice: {advice}'))
        if isinstance(error, OSError):  # full disks, folders that are read-only
            return _print_error(InputError(f'{error.filename or "a file"}: {error.strerror or error}'))
        raise


def _print_error(error: RunError) -> int:
    print(f'e3relax: error: {error}', file=sys.stderr)
    return error.exit_status


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options of a command line; ends the program where there is a word too many.

    argparse takes the words of a list in one place alone, before the options or after them. Commands that say by
    `more_words` which list of words they have take them in several.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    takes_more = hasattr(options, 'more_words') and not any(word.startswith('-') for word in rest)
    if rest and not takes_more:
        parser.error(f'unrecognized arguments: {" ".join(rest)}')
    if rest:
        getattr(options, options.more_words).extend(rest)
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='e3relax', description='Predict the relaxed form of crystals in one pass of an equivariant graph network.'
    )
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    for command in COMMANDS:
        command.add_to(commands)
    return parser
