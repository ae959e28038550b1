"""Folders of VASP relaxations that converged: ``vasprun.xml``, one or several that go on, else POSCAR and CONTCAR."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from aiida_e3relax.gnn.data.sources.base import (
    Candidate,
    Loaded,
    Sites,
    Source,
    SourceOptions,
    UnusableError,
    plain_name,
    same,
    split_of_folder,
    with_isif,
)
from aiida_e3relax.gnn.data.sources.convergence import check_converged, check_relaxation
from aiida_e3relax.gnn.data.sources.poscar_runs import NAME, load_poscars
from aiida_e3relax.gnn.data.sources.vasprun_xml import CellAndCoordinates, VasprunContent, read_vasprun

_PART = r'(?:[._-]?(?:relax|run|opt|cont|part)?[._-]?(?P<{}>\d+))?'
_VASPRUN = re.compile(rf'vasprun{_PART.format("a")}\.xml{_PART.format("b")}(?:[._-]?static)?', re.IGNORECASE)
_VASP = re.compile(r'(vasprun|poscar|contcar|outcar|xdatcar|oszicar)([._-].*)?', re.IGNORECASE)

GOES_ON = 1e-3
"""In A, how far the start of a run that goes on may be from the end of the one before: digits of the files."""


def recognises(path: Path) -> bool:
    """Return whether a VASP run lies in or below the folder `path`."""
    return path.is_dir() and any(_vaspruns(names) or _has_poscars(names) for _, names in _folders(path))


def open_source(path: Path, options: SourceOptions) -> Source:
    """Return one candidate for each folder with files of VASP; those without a run are counted as rejected."""
    candidates = []
    left_out: dict[Path, str] = {}
    for folder, names in _folders(path, left_out):
        label = str(folder.relative_to(path)) if folder != path else path.resolve().name
        vaspruns, split = _vaspruns(names), split_of_folder(folder.relative_to(path))
        if vaspruns:
            candidates.append(Candidate(label, split, partial(_load_vaspruns, [folder / name for name in vaspruns])))
        elif _has_poscars(names):
            candidates.append(Candidate(label, split, partial(load_poscars, folder, names)))
        elif found := [name for name in names if _VASP.fullmatch(name)]:
            reason = f'passed over: neither vasprun.xml nor POSCAR with CONTCAR, but {", ".join(found[:3])}'
            candidates.append(Candidate(label, '', partial(_refuse, reason)))
        for name in names:
            if name.lower().startswith('vasprun') and name not in vaspruns and plain_name(name) not in vaspruns:
                reason = 'passed over: a name that does not say which part of a relaxation it is'
                candidates.append(Candidate(f'{label}/{name}', '', partial(_refuse, reason)))
    candidates += [
        Candidate(str(folder.relative_to(path)), '', partial(_refuse, reason)) for folder, reason in left_out.items()
    ]
    return Source('vasp', str(path), path.resolve().name, candidates)


def _folders(path: Path, left_out: dict[Path, str] | None = None) -> Iterator[tuple[Path, list[str]]]:
    """Yield `path` and the folders below it, in order, with the names of their files.

    Folders that are not looked into are added to `left_out`, with the reason.
    """
    left_out = {} if left_out is None else left_out

    def note(error: OSError) -> None:
        left_out[Path(error.filename)] = f'passed over: the folder cannot be read: {error.strerror}'

    for folder, below, names in os.walk(path, onerror=note):
        below.sort()
        for name in below:
            if (Path(folder) / name).is_symlink():
                left_out[Path(folder) / name] = 'passed over: a link to a folder; give that as a source of its own'
        yield Path(folder), sorted(names)


def _vaspruns(names: list[str]) -> list[str]:
    """Return the names of the parts of a relaxation in their order; one without a number comes last."""
    found: dict[str, tuple[float, str]] = {}
    for name in names:  # sorted: an uncompressed file comes before its compressed copies
        match = _VASPRUN.fullmatch(plain_name(name))
        if match:
            number = match['a'] or match['b']
            found.setdefault(plain_name(name), (math.inf if number is None else int(number), name))
    return [name for _, name in sorted(found.values())]


def _has_poscars(names: list[str]) -> bool:
    kinds = {match['kind'].upper() for name in names if (match := NAME.fullmatch(plain_name(name)))}
    return {'POSCAR', 'CONTCAR'} <= kinds


def _refuse(reason: str) -> Loaded:
    raise UnusableError(reason)


def _load_vaspruns(paths: list[Path]) -> Loaded:
    """Return the first crystal of the first part and the last one of the last, which must have converged."""
    runs = []
    for path in paths:
        run = read_vasprun(path)
        if 'IBRION' not in run.settings:  # VASP always states it
            raise UnusableError(run.fault or f'damaged: {path.name} states no IBRION')
        static = run.number('NSW', 0) < 1 or run.number('IBRION', -1) == -1
        if not (static and len(paths) > 1):  # a static run after a relaxation
            check_relaxation(run)
            runs.append((path.name, run))
    if not runs:
        raise UnusableError('no relaxation: static runs only')
    for (name, before), (next_name, after) in itertools.pairwise(runs):
        if not same(_end(before), _start(after), GOES_ON):
            raise UnusableError(f'parts do not fit: {next_name} does not start where {name} ended')
    last = runs[-1][1]
    check_converged(last)
    if sum(len(run.steps) for _, run in runs) < 2:
        raise UnusableError('nothing was relaxed: 1 ionic step')
    if not same(_evaluated(last), _end(last), GOES_ON):
        raise UnusableError('did not converge: the final structure is not the one of the last step')
    starts = [_with_fixed(_start(run), run) for _, run in runs]
    masks = [start.fixed for start in starts if start.fixed is not None]
    fixed = np.logical_and.reduce(masks) if len(masks) == len(starts) else None  # what every part of the run fixes
    moves = ' then '.join(dict.fromkeys(start.moves for start in starts))
    fixed_cell = all(start.fixed_cell for start in starts)
    return Loaded(starts[0]._replace(fixed=fixed, fixed_cell=fixed_cell, moves=moves), _end(last))


def _with_fixed(crystal: Sites, run: VasprunContent) -> Sites:
    """Return the crystal with what `run` fixes; raises UnusableError where its selective dynamics are damaged."""
    if run.movable is not None:
        if run.movable.shape != crystal.positions.shape:
            raise UnusableError(f'damaged: selective dynamics {run.movable.shape} for {len(crystal.numbers)} atoms')
        crystal = crystal._replace(fixed=~run.movable)
    constraints = run.settings.get('LATTICE_CONSTRAINTS')
    return with_isif(crystal, run.settings.get('ISIF', '2').strip(), constraints)


def _start(run: VasprunContent) -> Sites:
    return _crystal(run, run.initial or next((step.geometry for step in run.steps), None), 'first')


def _end(run: VasprunContent) -> Sites:
    return run.sites(run.final) if run.final else _evaluated(run)


def _evaluated(run: VasprunContent) -> Sites:
    return _crystal(run, run.steps[-1].geometry if run.steps else None, 'last')


def _crystal(run: VasprunContent, geometry: CellAndCoordinates | None, which: str) -> Sites:
    if geometry is None:
        raise UnusableError(run.fault or f'damaged: no {which} crystal')
    return run.sites(geometry)
