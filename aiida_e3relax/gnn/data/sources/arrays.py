"""Pairs in one ``.npz``: training files of this package, and element-substitution sets.

An element-substitution set has the arrays ``n_atoms``, ``numbers``, ``cell_*`` and ``frac_*`` of both stages,
``donor_id``, ``target_id`` and ``split``.
"""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

import numpy as np

from aiida_e3relax.gnn.data.sources.base import Candidate, Sites, Source, SourceOptions
from aiida_e3relax.gnn.datasets import read_pairs
from aiida_e3relax.gnn.errors import InputError
from aiida_e3relax.gnn.structures import Crystals, make_crystals

_SUBSTITUTION = {
    'n_atoms',
    'numbers',
    'cell_unrelaxed',
    'cell_relaxed',
    'frac_unrelaxed',
    'frac_relaxed',
    'donor_id',
    'target_id',
    'split',
}


def recognises(path: Path) -> bool:
    """Return whether `path` is named as an ``.npz``."""
    return path.suffix == '.npz'


def open_source(path: Path, options: SourceOptions) -> Source:
    """Return the pairs of the file, as filed; raises InputError for an ``.npz`` of something else."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix('.npy') for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise InputError(f'{path}: not an .npz: {error}') from error
    if {'labels', 'split', 'cell_relaxed'} <= members:
        pairs = read_pairs(path)
        return _source('training file', path, pairs.unrelaxed, pairs.as_filed, pairs.split)
    if missing := _SUBSTITUTION - members:
        raise InputError(
            f'{path}: neither a training file of this package nor an element-substitution set: '
            f'the arrays {sorted(missing)} are missing; found {sorted(members)}'
        )
    with np.load(path, allow_pickle=False) as arrays:
        ends = np.cumsum(arrays['n_atoms'])[:-1]
        labels = np.char.add(np.char.add(arrays['donor_id'], '>'), arrays['target_id'])
        numbers = np.split(arrays['numbers'], ends)
        stages = {}
        for stage in ('unrelaxed', 'relaxed'):
            cells = arrays[f'cell_{stage}'].astype(np.float64)
            fractional = np.split(arrays[f'frac_{stage}'].astype(np.float64), ends)
            positions = [f @ cell for f, cell in zip(fractional, cells, strict=True)]
            stages[stage] = make_crystals(numbers, positions, list(cells), labels.tolist())
        return _source('substitution', path, stages['unrelaxed'], stages['relaxed'], arrays['split'])


def _source(kind: str, path: Path, unrelaxed: Crystals, relaxed: Crystals, split: np.ndarray) -> Source:
    offsets = unrelaxed.offsets
    candidates = [
        Candidate(str(label), str(split[i]), partial(_load, unrelaxed, relaxed, i, offsets[i], offsets[i + 1]))
        for i, label in enumerate(unrelaxed.labels)
    ]
    return Source(kind, str(path), path.stem, candidates)


def _load(unrelaxed: Crystals, relaxed: Crystals, index: int, start: int, end: int) -> tuple[Sites, Sites]:
    before, after = (
        Sites(c.numbers[start:end], c.positions[start:end], c.cell[index], c.pbc[index]) for c in (unrelaxed, relaxed)
    )
    return before, after
