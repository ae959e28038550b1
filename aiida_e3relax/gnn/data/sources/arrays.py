"""Pairs in one ``.npz``: training files of this package, and element-substitution sets.

An element-substitution set has the arrays ``n_atoms``, ``numbers``, ``cell_*`` and ``frac_*`` of both stages,
``donor_id``, ``target_id`` and ``split``.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.archive import read_archive
from aiida_e3relax.crystals.datasets.array_checks import ArrayChecks
from aiida_e3relax.crystals.datasets.pairs_file import read_pairs
from aiida_e3relax.crystals.files.suffixes import is_npz
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.data.sources.base import Candidate, Loaded, Sites, Source, SourceOptions

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
    return is_npz(path)


def open_source(path: Path, options: SourceOptions) -> Source:
    """Return the pairs of the file, as filed; raises InputError for an ``.npz`` of something else."""
    arrays, _ = read_archive(path)
    if {'labels', 'split', 'cell_relaxed'} <= arrays.keys():
        pairs = read_pairs(path)
        return _source('training file', path, dataclasses.replace(pairs, relaxed=pairs.as_filed))
    if missing := _SUBSTITUTION - arrays.keys():
        raise InputError(
            f'{path}: neither a training file of this package nor an element-substitution set: '
            f'the arrays {sorted(missing)} are missing; found {sorted(arrays)}'
        )
    check = ArrayChecks(path, arrays)
    numbers = check.whole('numbers', ('A',), least=0)
    donors, targets, split = (check.text(name) for name in ('donor_id', 'target_id', 'split'))
    labels = np.char.add(np.char.add(donors, '>'), targets)
    pbc = np.ones((len(labels), 3), dtype=bool)
    stages = []
    for stage in ('unrelaxed', 'relaxed'):
        cell = check.real(f'cell_{stage}', ('S', 3, 3))
        fractional = check.real(f'frac_{stage}', ('A', 3))
        positions = np.einsum('ac,acx->ax', fractional, np.repeat(cell, check.n_atoms, axis=0))
        stages.append(Crystals(check.n_atoms, numbers, positions, cell, pbc, labels))
    return _source('substitution', path, Pairs(stages[0], stages[1], split, np.full(len(split), path.stem)))


def _source(kind: str, path: Path, pairs: Pairs) -> Source:
    offsets = pairs.unrelaxed.offsets
    candidates = [
        Candidate(
            str(label),
            str(pairs.split[i]),
            partial(_load, pairs, i, slice(offsets[i], offsets[i + 1])),
            {name: str(texts[i]) for name, texts in pairs.about.items()},
        )
        for i, label in enumerate(pairs.unrelaxed.labels)
    ]
    return Source(kind, str(path), path.stem, candidates)


def _load(pairs: Pairs, index: int, atoms: slice) -> Loaded:
    before, after = (
        Sites(c.numbers[atoms], c.positions[atoms], c.cell[index], c.pbc[index])
        for c in (pairs.unrelaxed, pairs.relaxed)
    )
    fixed = None if pairs.fixed is None else pairs.fixed[atoms]
    fixed_cell = None if pairs.fixed_cell is None else bool(pairs.fixed_cell[index])
    return Loaded(before._replace(fixed=fixed, fixed_cell=fixed_cell), after)
