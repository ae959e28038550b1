"""Readers of crystals from files of every supported format."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_e3relax.common.messages import printable, short
from aiida_e3relax.crystals.files.cif import read_cif
from aiida_e3relax.crystals.files.content import OPENERS, open_text_file, read_text
from aiida_e3relax.crystals.files.errors import CrystalFileError, explain
from aiida_e3relax.crystals.files.occupancies import ADVICE, refuse_partial, refuse_partial_atoms
from aiida_e3relax.crystals.files.poscar import read_poscar
from aiida_e3relax.crystals.files.pymatgen_json import read_pymatgen_json
from aiida_e3relax.crystals.files.suffixes import format_of_suffix, without_compression
from aiida_e3relax.crystals.files.xyz import read_xyz

if TYPE_CHECKING:
    from ase import Atoms

ASE_FORMATS = re.compile(
    'abinit-(in|out)|aims(-output)?|castep-(castep|cell|geom)|cube|espresso-(in|out)|exciting|gen|gpaw-out|qbox|'
    'res|siesta-xv|struct_out|traj|vasp-(out|xdatcar|xml)|xsf'
)
"""Formats read by ASE: those that name the element of every atom and hold all atoms of the cell.

Others, such as LAMMPS's types, PDB's asymmetric units or databases on servers, would be filled up in silence.
"""

MOST_DISTANCE = 1e6
"""Cartesian coordinates (A) beyond this are no crystal's: the sum with a cell's length is not exact any more."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A crystal of a file, or why it cannot be used.

    Attributes
    ----------
    atoms
        The crystal, or None.
    fault
        Why there is none, in one line without the file's name.
    notes
        What a person should know of how it was read.
    name
        Its name in the file, such as that of a CIF's data block; may be empty.
    label
        The label that the file gives it, as JSON of pymatgen's may; mostly empty.
    """

    atoms: Atoms | None
    fault: str = ''
    notes: tuple[str, ...] = ()
    name: str = ''
    label: str = ''


def read_crystals(path: str | Path) -> list[Atoms]:
    """Return every crystal of a file, at least one.

    Raises CrystalFileError where the file or a crystal in it cannot be used; the message begins with the file's name.
    """
    crystals = []
    for index, entry in enumerate(iterate_crystals(path)):
        if entry.atoms is None:
            raise CrystalFileError(f'{printable(path)}: {entry.name or f"structure {index}"}: {entry.fault}')
        crystals.append(entry.atoms)
    return crystals


def iterate_crystals(path: str | Path) -> Iterator[Entry]:
    """Yield the crystals of a file, at least one, and in their places those that cannot be used.

    Raises CrystalFileError, with the file's name, where the file cannot be read, or not to its end.
    """
    path = Path(path)
    count = 0
    try:
        for entry in _open(path):
            yield entry
            count += 1
        if not count:
            raise CrystalFileError('holds no structure')
    except Exception as error:  # readers of foreign formats raise anything
        where = f' (after the first {count})' if count else ''
        raise CrystalFileError(f'{printable(path)}: cannot be read as crystals{where}: {explain(error)}') from error


def _open(path: Path) -> Iterator[Entry]:
    """Yield what `iterate_crystals` does, and raise anything."""
    check_file(path)
    kind = _format(path)
    if kind == 'vasp':
        entry = _checked(partial(read_poscar, path))
        if entry.atoms is None:
            raise CrystalFileError(entry.fault)
        yield entry
    elif kind == 'cif':
        for name, read in read_cif(path):
            yield _checked(read, name)
    elif kind == 'json' and (structures := read_pymatgen_json(path)) is not None:
        for label, read in structures:
            yield dataclasses.replace(_checked(read, label), label=label)
    elif kind in {'json', 'db'}:
        yield from _read_database(path, kind)
    elif kind == 'extxyz':
        for read in read_xyz(path):
            yield _checked(read)
    else:
        yield from _read_ase(path, kind)


def check_file(path: Path) -> None:
    """Raise CrystalFileError unless `path` is a file with something in it."""
    if path.is_dir():
        raise CrystalFileError('is a folder; name the file in it')
    if not path.is_file():
        raise CrystalFileError('no such file')
    if not path.stat().st_size:
        raise CrystalFileError('the file is empty')


def _checked(read: Callable[[], tuple[Atoms, tuple[str, ...]]], name: str = '') -> Entry:
    """Return the entry that `read` gives, or with the fault that it raises."""
    try:
        atoms, notes = read()
        check_atoms(atoms)
    except Exception as error:  # readers of foreign formats raise anything
        return Entry(None, explain(error), name=name)
    return Entry(atoms, notes=(*notes, *_left_out(atoms)), name=name)


def check_atoms(atoms: Atoms) -> None:
    """Raise CrystalFileError unless `atoms` are atoms of elements, each at a place and whole."""
    if not len(atoms):
        raise CrystalFileError('holds no atoms')
    if (atoms.numbers < 1).any():
        site = int(np.flatnonzero(atoms.numbers < 1)[0])
        raise CrystalFileError(f'site {site}: expected an element, found the dummy atom `X`')
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise CrystalFileError('positions or cell hold NaN or infinite numbers')
    largest = max(np.abs(atoms.positions).max(), np.abs(atoms.cell.array).max())
    if largest > MOST_DISTANCE:
        raise CrystalFileError(f'expected positions and cell within {MOST_DISTANCE:.0e} A, found {largest:.3g} A')
    refuse_partial_atoms(atoms)


def _left_out(atoms: Atoms) -> tuple[str, ...]:
    """Return what the crystal comes with and a network, or a node of AiiDA, does not know."""
    there = {**getattr(atoms.calc, 'results', {}), **atoms.arrays}
    found = {'magnetic moments': ('initial_magmoms', 'magmoms', 'magmom'), 'charges': ('initial_charges',)}
    left_out = [what for what, names in found.items() if any(np.any(there.get(name, 0)) for name in names)]
    return (f'{" and ".join(left_out)} of the file are not used',) if left_out else ()


def _format(path: Path) -> str:
    """Return ASE's word for the format of a file, by its name and its first bytes."""
    plain = without_compression(path)
    suffix = plain.suffix.lower()
    if suffix == '.mcif':
        return 'cif'
    if (stated := format_of_suffix(path)) is not None:
        return stated
    if any(word in plain.name.upper() for word in ('POSCAR', 'CONTCAR', 'CENTCAR')):
        return 'vasp'
    from ase.io.formats import UnknownFileTypeError, filetype  # brings scipy along, which takes longer than the rest

    try:
        kind = filetype(str(path))
    except UnknownFileTypeError:
        kind = suffix
    if kind in {'extxyz', 'xyz'}:
        return 'extxyz'
    if ASE_FORMATS.fullmatch(kind) is None:
        raise CrystalFileError(
            f'expected a format that says the whole crystal, found {short(kind) or "none that is known"}: give a '
            'CIF, a POSCAR or an .extxyz, or name the file as its format is named'
        )
    return kind


def _read_database(path: Path, kind: str) -> Iterator[Entry]:
    """Yield the crystals of a database of ASE, with the occupancies that stand beside them."""
    import ase.db

    if path.suffix.lower() in OPENERS:
        raise CrystalFileError(f'expected a database of ASE ({kind}) uncompressed; decompress it first')
    with ase.db.connect(path.absolute(), type=kind, use_lock_file=False) as database:
        for row in database.select():
            yield _checked(partial(_read_row, row), f'row {row.id}')


def _read_row(row: Any) -> tuple[Atoms, tuple[str, ...]]:
    if missing := [name for name in ('numbers', 'positions', 'cell', 'pbc') if name not in row]:
        raise CrystalFileError(f'expected numbers, positions, cell and pbc, `{missing[0]}` is missing')
    atoms = row.toatoms()
    if isinstance(row.data, dict) and 'occupancy' in row.data:
        atoms.info['occupancy'] = row.data['occupancy']
    return atoms, ()


def _read_ase(path: Path, kind: str) -> Iterator[Entry]:
    """Yield the crystals that ASE reads from a file of the format `kind`."""
    import ase.io
    from ase.io.formats import ioformats

    if kind == 'res':
        _check_res(read_text(path))
    if kind == 'castep-cell' and 'MIXTURE' in read_text(path).upper():
        raise CrystalFileError(f'expected one whole atom on each site, found a MIXTURE: {ADVICE}')
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter('ignore')
        source: Any = str(path)
        if ioformats[kind].acceptsfd and not ioformats[kind].isbinary:
            source = stack.enter_context(open_text_file(path))
        elif path.suffix.lower() in OPENERS:
            raise CrystalFileError(f'expected {kind} files uncompressed; decompress it first')
        for atoms in ase.io.iread(source, index=':', format=kind, do_not_split_by_at_sign=True):
            yield _checked(partial(_as_it_is, atoms))


def _as_it_is(atoms: Atoms) -> tuple[Atoms, tuple[str, ...]]:
    return atoms, ()


def _check_res(text: str) -> None:
    """Raise CrystalFileError for a SHELX file that says more than ASE reads: a list of all atoms of the cell."""
    rows = [line.split() for line in text.split('\n')]
    lattice = next((words[1] for words in rows if words[:1] == ['LATT'] and len(words) > 1), '1')
    if lattice != '-1' or any(words[:1] == ['SYMM'] for words in rows):
        raise CrystalFileError('expected all atoms of the cell (LATT -1, no SYMM), found symmetry: give a CIF')
    start = next((place for place, words in enumerate(rows) if words[:1] == ['SFAC']), len(rows)) + 1
    sites = [words for words in rows[start:] if len(words) > 5 and words[1].isdecimal()]
    refuse_partial({f'{w[0]} {k}': {w[0]: float(w[5]) % 10} for k, w in enumerate(sites)})
