"""Relaxation trajectories that ASE reads, one file a relaxation: first and last frame.

So come OC20's IS2RS relaxations (``{id}.extxyz.xz``); its LMDB files hold pickled objects and are refused.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aiida_e3relax.common.messages import short
from aiida_e3relax.crystals.files import iterate_crystals
from aiida_e3relax.gnn.data.sources.base import (
    Candidate,
    Loaded,
    Sites,
    Source,
    SourceOptions,
    UnusableError,
    same,
    sites_of,
    split_of_folder,
)
from aiida_e3relax.gnn.data.sources.convergence import KBAR, check_forces, check_stress

LARGEST_FORCE = 0.1
"""In eV/A, of the last frame of a relaxation: trajectories do not say which force ended them."""

UNTOUCHED = 1e-6
"""In A: frames this close are the same."""

NOT_KNOWN = 'no forces in the last frame: nothing says whether the relaxation converged'

NAMES = ('label', 'atoms_id', 'material_id', 'mp_id', 'uid', 'sid')
"""Keys that name a structure: all frames of one relaxation have the same."""

SUFFIXES = ('.traj', '.extxyz', '.xyz')
_COMPRESSED = ('.xz', '.gz', '.bz2')


def recognises(path: Path) -> bool:
    """Return whether `path` is a trajectory, or a folder with some in it."""
    return _is_trajectory(path) or (path.is_dir() and any(_is_trajectory(p) for p in path.rglob('*')))


def open_source(path: Path, options: SourceOptions) -> Source:
    """Return one candidate for each trajectory."""
    files = sorted(p for p in path.rglob('*') if _is_trajectory(p)) if path.is_dir() else [path]
    candidates = []
    for file in files:
        folder = file.relative_to(path).parent if path.is_dir() else Path()
        candidates.append(Candidate(_stem(file), split_of_folder(folder), partial(_load, file)))
    return Source('trajectories', str(path), _stem(path.resolve()), candidates)


def _is_trajectory(path: Path) -> bool:
    suffixes = path.suffixes
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes = suffixes[:-1]
    return bool(suffixes) and suffixes[-1] in SUFFIXES and path.is_file()


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (*_COMPRESSED, *SUFFIXES):
        name = name.removesuffix(suffix)
    return name


def _load(path: Path) -> Loaded:
    first = last = None
    count = 0
    for entry in iterate_crystals(path):
        last = entry
        first = first or entry
        count += 1
    if first is None or last is None or count < 2:
        raise UnusableError(f'nothing was relaxed: {path.name} has {count} frames, a relaxation has at least two')
    for which, entry in (('first', first), ('last', last)):
        if entry.atoms is None:
            raise UnusableError(f'not read: the {which} frame: {entry.fault}')
    _check_names(first.atoms, last.atoms)
    before, after = sites_of(first.atoms), sites_of(last.atoms)
    return Loaded(before, after, _judge(before, after, last.atoms))


def _check_names(first: Any, last: Any) -> None:
    """Raise UnusableError for frames that are different structures by their names."""
    for key in NAMES:
        names = [frame.info.get(key) for frame in (first, last)]
        if None not in names and names[0] != names[1]:
            raise UnusableError(
                f'no relaxation: its first frame is the structure {key} {short(repr(names[0]))} and its last '
                f'{short(repr(names[1]))}; of two files of structures give UNRELAXED::RELAXED'
            )


def _judge(before: Sites, after: Sites, frame: Any) -> str:
    """Return a note on a relaxation that ends in `frame`, if any; raises UnusableError if it did not converge."""
    if same(before, after, UNTOUCHED):
        raise UnusableError('nothing was relaxed: the last frame is the first')
    if frame.has('momenta') and np.abs(frame.get_momenta()).max(initial=0.0) > 0:
        raise UnusableError('no relaxation: the atoms of the last frame have momenta, as in molecular dynamics')
    known = {} if frame.calc is None else frame.calc.results
    if 'forces' not in known:
        return NOT_KNOWN
    check_forces(frame.get_forces(), LARGEST_FORCE, 'expected at most')
    moved = np.abs(before.cell - after.cell).max() > UNTOUCHED
    if moved and 'stress' in known:
        stress = -frame.get_stress(voigt=False) / KBAR
        check_stress(stress, frame.get_volume(), len(frame), LARGEST_FORCE)
    return ''
