"""The files in which a campaign's structures are, found without AiiDA."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import click

from aiida_e3relax.common.messages import printable

GROUP = 'group:'
QUERY = 'query:'
SOURCES_HELP = (
    'Where the structures are; may be given more than once. A file, such as POSCAR or CIF, with every crystal in it; a '
    'folder, with every file in it and in the folders below, but of those of a VASP run the POSCAR alone; a pattern '
    "such as 'hypothetical/*.cif'. Or group:LABEL, the structures in an AiiDA group. "
    'Or query:elements=Cu,Ag,Au;atoms=2-8, the structures in the profile that no process has made, of these elements '
    'only and with that many sites; either condition may be left out.'
)
VASP_FILES = re.compile(
    '(INCAR|KPOINTS|POTCAR|CONTCAR|CENTCAR|OUTCAR|OSZICAR|XDATCAR|CHG|CHGCAR|WAVECAR|EIGENVAL|DOSCAR|IBZKPT|PROCAR|'
    'PCDAT|REPORT|LOCPOT|ELFCAR|STOPCAR|AECCAR[0-2]|vasprun[.]xml|vaspout[.]h5|vaspwave[.]h5|vasp_output)'
    '([._].*)?'
)
"""Names of the files of a VASP run other than POSCAR, which hold no crystal or not the one that it started from."""


def check_files(words: Iterable[str]) -> None:
    """Raise ClickException for the first word of --from that should be files, and where none is."""
    for word in words:
        if not word.startswith((GROUP, QUERY)):
            find_files(word, Counter())


def find_files(word: str, notes: Counter[str]) -> list[Path]:
    """Return the files that a word of --from stands for, sorted, and count in `notes` what is passed over.

    Raises ClickException where there are none.
    """
    path = Path(word)
    try:
        if path.is_file():
            files = [path]
        elif word and path.is_dir():
            files = _walk(path, notes)
        else:
            found = glob.glob(word, recursive=True)  # noqa: PTH207 (that of pathlib takes hidden files)
            files = [file for file in map(Path, found) if file.is_file()]
    except OSError as error:  # such as a name that is too long
        raise click.ClickException(f'--from {printable(word)}: {printable(str(error))}') from error
    if not files:
        raise click.ClickException(
            f'--from {printable(word)}: expected a file, a folder with files, a pattern that files match, {GROUP}LABEL '
            f'or {QUERY}CONDITIONS; nothing is there'
        )
    return sorted(files)


def _walk(folder: Path, notes: Counter[str]) -> list[Path]:
    """Return the files in a folder and below, without hidden ones and what else a VASP run has beside its POSCAR."""
    everything = [
        file
        for file in folder.rglob('*')
        if file.is_file() and not any(part.startswith('.') for part in file.relative_to(folder).parts)
    ]
    files = [file for file in everything if not VASP_FILES.fullmatch(file.name)]
    if n_others := len(everything) - len(files):
        notes['file of a VASP run other than its POSCAR is passed over'] += n_others
    return files
