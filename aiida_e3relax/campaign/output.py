"""Write several files into a folder: all of them or none."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from aiida_e3relax.campaign.creation import check_name

PARTIAL = '.partial'


@contextlib.contextmanager
def written_together(folder: Path, what: str) -> Iterator[Path]:
    """Give a folder for files that get their place in `folder` at the end, unless something is raised before.

    It is called like `what` and lies within `folder`, which is made where it does not exist. One that a killed process
    has left is removed. Files of the same names are replaced, others in `folder` stay.

    Raises
    ------
    OSError
        When there is no room, no permission, or something else in the place of a folder or a file.
    """
    is_new = not folder.exists()
    partial = folder / f'{what}{PARTIAL}'
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir()
        yield partial
        files = [path for path in sorted(partial.rglob('*')) if path.is_file()]
        places = [folder / path.relative_to(partial) for path in files]
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_dir():
                raise IsADirectoryError(None, 'expected a file, found a folder', str(place))
        for path, place in zip(files, places, strict=True):
            path.replace(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if is_new:
            with contextlib.suppress(OSError):  # not empty: all went well
                folder.rmdir()


def default_folder(name: str, ending: str = '') -> Path:
    """Return the folder in the working directory that is named after a campaign.

    Raises ValueError for a name that could lead elsewhere, as groups may have from before or after a `verdi group
    relabel`.
    """
    try:
        check_name(name)
    except ValueError as error:
        raise ValueError(f'{error}; say where to with --folder') from error
    return Path(f'{name}{ending}')
