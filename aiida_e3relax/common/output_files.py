"""Output files that appear whole or not at all: each grows in a temporary folder beside it. Needs no torch."""

from __future__ import annotations

import contextlib
import glob
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from aiida_e3relax.common.errors import InputError, OutputError
from aiida_e3relax.common.messages import printable

SUFFIX = '.partial'


def partial_folder(path: Path) -> tempfile.TemporaryDirectory:
    """Return a temporary folder in which the file `path` grows; those of killed processes are removed.

    Raises OutputError where there can be none.
    """
    with writing(path):
        _remove_abandoned(path)
        prefix = f'{path.name}.{platform.node()}-{os.getpid()}-'
        return tempfile.TemporaryDirectory(prefix=prefix, suffix=SUFFIX, dir=path.parent, ignore_cleanup_errors=True)


def _remove_abandoned(path: Path) -> None:
    """Remove the folders that processes of this machine have left behind for `path`."""
    for folder in path.parent.glob(f'{glob.escape(path.name)}.*{SUFFIX}'):
        name = folder.name[len(path.name) + 1 : -len(SUFFIX)]
        match = re.fullmatch(rf'{re.escape(platform.node())}-(\d+)-\w+', name)
        if match and not Path('/proc', match[1]).exists() and Path('/proc/self').exists():
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise an OutputError of one line where `path` cannot be written: a full disk, a folder that is read-only."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f'{printable(path)}: cannot be written ({error.strerror or printable(str(error))}): make room, or name '
            'another place'
        ) from error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield where a file grows that is called `path` once it is whole; raises OutputError where it cannot be.

    Devices and pipes are written to as they are, and of a link the file that it leads to is replaced.
    """
    path = path.resolve()
    if _is_special(path):
        with writing(path):
            yield path
        return
    with partial_folder(path) as folder, writing(path):
        partial = Path(folder) / path.name
        yield partial
        partial.replace(path)


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path], takes_special: bool = False) -> None:
    """Check the files of `outputs`, by their options, as `check_output` does; no two may be one file."""
    taken = list(inputs)
    for option, path in outputs.items():
        if path is not None:
            check_output(path, option, taken, takes_special)
            taken.append(path)


def check_output(path: Path, option: str, inputs: Iterable[Path], takes_special: bool = False) -> None:
    """Raise an error unless `path` can be the name of a new file, or replace one that is none of `inputs`.

    It is an InputError, or an OutputError where nothing can be written in the folder. Devices and pipes, such as
    /dev/stdout, are taken where that is said: for texts that `whole_file` writes.
    """
    if takes_special and _is_special(path):
        return
    where = f'{option} {printable(path)}'
    with writing(path):
        if path.is_dir():
            raise InputError(f'{where}: expected a file, found a folder: name a file in it')
        if path.exists() and not path.is_file():
            raise InputError(f'{where}: expected a file, found something else, which would be replaced')
        if not path.parent.is_dir():
            raise InputError(f'{where}: the folder {printable(path.parent)} does not exist')
        same = next((given for given in inputs if is_same_file(given, path)), None)
        if same is not None:
            raise InputError(f'{where}: is {printable(same)}, which would be lost: name another file')
        with tempfile.TemporaryFile(dir=path.parent):
            pass  # permissions do not tell of all that keeps files from being made


def _is_special(path: Path) -> bool:
    return path.exists() and not (path.is_file() or path.is_dir())


def is_same_file(one: Path, other: Path) -> bool:
    """Return whether two paths are of one file, be it there or not."""
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))
