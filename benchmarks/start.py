"""CPU seconds, user and system together, that commands take from start to end.

    python benchmarks/start.py [--repeats N] [--check]

It prints the table of benchmarks/README.md: the best of N runs of each command, one thread. With `--check` the exit
status is 1 where one takes longer than its bound. The bounds are for a machine with nothing else to do: on one that is
shared the same work takes up to three times as many CPU seconds, as `import torch` in the table shows. Python keeps the
bytecode of all modules, as after an installation. No profile is needed: what is written goes to a temporary folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import os
import platform
import sys
import tempfile
from pathlib import Path

BIN = Path(sys.executable).parent
PLUGIN, PREDICT = 0.8, 1.5
"""Bounds in CPU seconds: help and errors of `aiida-e3relax`, and `e3relax predict` for one crystal."""

CIF = """data_ZnO
_cell_length_a 3.25
_cell_length_b 3.25
_cell_length_c 5.207
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
_space_group_name_H-M_alt 'P 1'
loop_
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Zn 0.3333 0.6667 0.0
Zn 0.6667 0.3333 0.5
O 0.3333 0.6667 0.385
O 0.6667 0.3333 0.885
"""


@dataclasses.dataclass(frozen=True)
class Command:
    """A command, whether it ends in an error, how many CPU seconds it may take, and its name in the table."""

    words: tuple[str, ...]
    fails: bool = False
    bound: float | None = None
    name: str = ''

    @property
    def title(self) -> str:
        """Its name; by default the command as a person types it."""
        return self.name or f'`{" ".join(repr(word) if " " in word else word for word in self.words)}`'

    def run(self, folder: Path) -> float:
        """Return the CPU seconds of one run; raises RuntimeError where it ends otherwise."""
        program = str(BIN / self.words[0])
        nowhere = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in (0, 1, 2)]
        here = Path.cwd()
        os.chdir(folder)  # a spawned process begins where its parent is
        process = os.posix_spawn(program, [program, *self.words[1:]], _environment(folder), file_actions=nowhere)
        os.chdir(here)
        _, ended, usage = os.wait4(process, 0)
        status = os.waitstatus_to_exitcode(ended)
        if (status != 0) != self.fails:
            raise RuntimeError(f'{self.title}: expected {"an error" if self.fails else "none"}, found status {status}')
        return usage.ru_utime + usage.ru_stime


COMMANDS = (
    Command(('aiida-e3relax', '--help'), bound=PLUGIN),
    Command(('aiida-e3relax', 'campaign', '--help'), bound=PLUGIN),
    Command(('aiida-e3relax', 'no-such-command'), fails=True, bound=PLUGIN, name='a command that is not there'),
    Command(('aiida-e3relax', 'campaign', 'status', 'any', '--profile', 'no-such-profile'), fails=True, bound=PLUGIN),
    Command(('verdi', '--help')),
    Command(('e3relax', '--help')),
    Command(('e3relax', 'predict', 'absent.cif', '--output', 'out.cif'), fails=True),
    Command(('e3relax', 'predict', 'ZnO.cif', '--output', 'out.cif', '--device', 'cpu'), bound=PREDICT),
    Command(('python', '-c', 'import torch')),
    Command(('python', '-c', 'import numpy')),
)


def measure(commands: tuple[Command, ...], repeats: int) -> list[float]:
    """Return the CPU seconds of the best of `repeats` runs of each command, after one that does not count."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / 'ZnO.cif').write_text(CIF, encoding='utf-8')
        best = [float('inf')] * len(commands)
        for turn in range(repeats + 1):  # in turn, so that a busy minute does not fall on one command
            for place, command in enumerate(commands):
                seconds = command.run(folder)
                if turn:
                    best[place] = min(best[place], seconds)
    return best


def table(commands: tuple[Command, ...], seconds: list[float]) -> str:
    """Return the table in Markdown."""
    rows = ['| command | CPU seconds | bound |', '|---|---|---|']
    for command, found in zip(commands, seconds, strict=True):
        rows.append(f'| {command.title} | {found:.2f} | {"" if command.bound is None else command.bound} |')
    return '\n'.join(rows)


def _environment(folder: Path) -> dict[str, str]:
    """Return the variables of the commands: one thread, and nothing written elsewhere."""
    own = {'OMP_NUM_THREADS': '1', 'AIIDA_PATH': str(folder), 'COLUMNS': '100'}
    return {name: value for name, value in os.environ.items() if name != 'PYTHONDONTWRITEBYTECODE'} | own


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns 1 where a bound is asked for and not kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--repeats', type=int, default=3, help='the best of so many runs counts (default: %(default)s)')
    parser.add_argument(
        '--check', action='store_true', help='exit status 1 where a command takes longer than its bound'
    )
    options = parser.parse_args(arguments)
    seconds = measure(COMMANDS, options.repeats)
    print(table(COMMANDS, seconds))
    print(
        f'\nMeasured {datetime.datetime.now(datetime.UTC).date()} on {platform.machine()}, best of {options.repeats}.'
    )
    slow = [
        f'{command.title}: {found:.2f} CPU seconds, expected at most {command.bound}'
        for command, found in zip(COMMANDS, seconds, strict=True)
        if command.bound is not None and found > command.bound
    ]
    if options.check:
        print(*slow, sep='\n', file=sys.stderr)
    return 1 if options.check and slow else 0


if __name__ == '__main__':
    sys.exit(main())
