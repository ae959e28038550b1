"""Relaxation trajectories that ASE reads, one file a relaxation: first and last frame.

So come OC20's IS2RS relaxations (``{id}.extxyz.xz``); its LMDB files hold pickled objects and are refused.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from aiida_e3relax.gnn.data.sources.base import Candidate, Sites, Source, SourceOptions, sites_of

SUFFIXES = ('.traj', '.extxyz', '.xyz')
_COMPRESSED = ('.xz', '.gz', '.bz2')


def recognises(path: Path) -> bool:
    """Return whether `path` is a trajectory, or a folder with some in it."""
    return _is_trajectory(path) or (path.is_dir() and any(_is_trajectory(p) for p in path.rglob('*')))


def open_source(path: Path, options: SourceOptions) -> Source:
    """Return one candidate for each trajectory."""
    files = sorted(p for p in path.rglob('*') if _is_trajectory(p)) if path.is_dir() else [path]
    candidates = [Candidate(_stem(file), '', partial(_load, file)) for file in files]
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


def _load(path: Path) -> tuple[Sites, Sites]:
    import ase.io

    frames = ase.io.read(path, index=':')
    if len(frames) < 2:
        raise ValueError(f'{path.name} has {len(frames)} frames: a relaxation has at least two')
    return sites_of(frames[0]), sites_of(frames[-1])
