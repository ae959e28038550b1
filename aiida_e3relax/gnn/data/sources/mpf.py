"""The pickles of M3GNet's MPF.2021.2.8: ``{material: {'structure': [pymatgen structures], ...}}``."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.gnn.data.sources.base import (
    Candidate,
    Loaded,
    Source,
    SourceOptions,
    UnusableError,
    sites_of_structure,
)

SUFFIXES = ('.p', '.pkl', '.pickle')


def recognises(path: Path) -> bool:
    """Return whether `path` is named as a pickle."""
    return path.suffix in SUFFIXES


def open_source(path: Path, options: SourceOptions) -> Source:
    """Return the first and last structure of every material.

    Raises InputError unless pickles are allowed: loading one runs whatever code its author put in.
    """
    if not options.allow_pickle:
        raise InputError(
            f'{path}: a pickle, which can run any code when it is loaded; if you trust where it comes from, '
            'repeat the command with --allow-pickle'
        )
    try:
        with path.open('rb') as handle:
            content = pickle.load(handle)
    except Exception as error:  # unpickling raises anything
        raise InputError(f'{path}: cannot be unpickled: {type(error).__name__}: {error}') from error
    if not isinstance(content, dict) or not all(isinstance(v, dict) and 'structure' in v for v in content.values()):
        raise InputError(f"{path}: expected a dict of materials, each with a list 'structure', as in MPF.2021.2.8")
    candidates = [Candidate(str(name), '', partial(_load, value['structure'])) for name, value in content.items()]
    return Source('mpf', str(path), path.stem, candidates)


def _load(structures: list[Any]) -> Loaded:
    if len(structures) < 2:
        raise UnusableError(f'nothing was relaxed: {len(structures)} structures')
    return Loaded(sites_of_structure(structures[0]), sites_of_structure(structures[-1]))
