"""The kinds of data sources. A new one is one new module and one line in `KINDS`."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.gnn.data.sources import arrays, mpf, papers, trajectories, two_files, vasp_runs
from aiida_e3relax.gnn.data.sources.base import Source, SourceOptions

KINDS = {'npz': arrays, 'mpf': mpf, 'papers': papers, 'vasp': vasp_runs, 'trajectories': trajectories}
"""Modules that read one path, in the order in which they are asked whether they know it.

Each has ``recognises(path)``, and ``open_source(path, options)`` that returns a `Source`.
"""

_EXPECTED = """a source of pairs is one of
  a folder with train.csv, val.csv, test.csv and CIF/          (the papers' data sets)
  a folder of VASP runs                                        (vasprun.xml, or POSCAR and CONTCAR; .gz, .bz2, .xz)
  a trajectory (.traj, .extxyz, .xyz; .xz, .gz), or a folder of them
  UNRELAXED::RELAXED, two files or databases that ASE reads
  an .npz of this package, or an element-substitution set
  a pickle of M3GNet's MPF set, with --allow-pickle"""


def open_source(spec: str, options: SourceOptions | None = None) -> Source:
    """Return the source that `spec` names, with its candidates, not yet read.

    Raises
    ------
    InputError
        For a path that is not there, that no reader knows, or in which no pair is found.
    """
    options = options or SourceOptions()
    if two_files.SEPARATOR in spec:
        source = two_files.open_source(spec, options)
    else:
        path = Path(spec)
        if not path.exists():
            raise InputError(f'{spec}: no such file or folder{_near_misses(path)}')
        reader = next((module for module in KINDS.values() if module.recognises(path)), None)
        if reader is None:
            raise InputError(f'{spec}: {_found(path)}; {_EXPECTED}')
        source = reader.open_source(path, options)
        others = [kind for kind, module in KINDS.items() if module is not reader and module.recognises(path)]
        if others:
            note = f'it holds {" and ".join(others)}, too, passed over: give their folders as sources of their own'
            source = dataclasses.replace(source, notes=(*source.notes, note))
    if not source.candidates:
        raise InputError(f'{spec}: no pair in it; {_EXPECTED}')
    return source


def _near_misses(path: Path) -> str:
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings)
    return f'; did you mean {" or ".join(str(path.parent / name) for name in close)}?' if close else ''


def _found(path: Path) -> str:
    if path.is_dir():
        return f'a folder with {sorted(p.name for p in path.iterdir())[:5]}, none of which is known'
    if path.suffix in two_files.DATABASES:
        return 'one database; give the unrelaxed and the relaxed one as UNRELAXED::RELAXED'
    if path.suffix in ('.lmdb', '.mdb'):
        return 'an LMDB of pickled objects, which are never loaded; take the trajectories of the same data instead'
    return 'a file of no known kind'
