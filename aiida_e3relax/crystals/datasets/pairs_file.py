"""The training format: pairs of crystals in one ``.npz`` that is mapped into memory and never unpickled.

The members lie uncompressed in the archive, so that each array is a window on the file: a data set larger than the
memory opens at once. Positions are Cartesian, in A, as the network takes them, and cells have lattice vectors as rows.
A member ``card.json`` describes the data (see `aiida_e3relax.gnn.data.card`). Plain ``numpy.load`` reads the rest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.messages import short
from aiida_e3relax.crystals.datasets.archive import read_archive
from aiida_e3relax.crystals.datasets.array_checks import ArrayChecks
from aiida_e3relax.crystals.pairs import Pairs, find_moved
from aiida_e3relax.crystals.structures import MAX_ATOMIC_NUMBER, Crystals
from aiida_e3relax.crystals.validation import geometry_fault, has_sound_geometry

CARD_MEMBER = 'card.json'

ABOUT = 'about_'
"""Begins the names of the arrays of `Pairs.about`."""


def write_pairs(path: str | Path, pairs: Pairs, card: Mapping[str, Any] | None = None) -> None:
    """Write `pairs`, and their data `card` where there is one, as one file without pickles."""
    path = Path(path)
    arrays = _arrays(pairs)
    unfinished = path.with_name(f'.{path.name}.part')
    try:
        with unfinished.open('wb') as handle:
            np.savez(handle, allow_pickle=False, **arrays)
        if card is not None:
            with zipfile.ZipFile(unfinished, 'a') as archive:
                archive.writestr(CARD_MEMBER, json.dumps(card, indent=2) + '\n')
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_pairs(path: str | Path, name: str | None = None) -> Pairs:
    """Return the pairs of a file of the training format, mapped into memory, after a look at every number in it.

    The checksums of the archive, and the hash of the data card where there is one, must be those of the content. Files
    of earlier versions, compressed, with fractional coordinates or without a card, are read too.

    Parameters
    ----------
    path
        An ``.npz`` that `write_pairs` or ``e3relax data`` wrote.
    name
        Name of the data set; default that in the file.

    Raises
    ------
    InputError
        For anything else; the message names the file, the array, what was expected and what was found.
    """
    arrays, card = _read(path)
    pairs = _pairs(Path(path), arrays)
    if card is not None and card.get('content_hash', found := pairs_hash(pairs)) != found:
        raise InputError(
            f'{path}: the arrays have the hash {found}, but its data card says {card["content_hash"]!r}: the file was '
            'changed after it was made; make it again with `e3relax data`'
        )
    return pairs if name is None else dataclasses.replace(pairs, source=np.full(len(pairs), name))


def read_different_pairs(paths: Sequence[str | Path], advice: str = 'leave one out') -> list[Pairs]:
    """Return the pairs of several files, as `read_pairs`; raises InputError with `advice` for the same ones twice."""
    files: dict[str, tuple[str | Path, Pairs]] = {}
    for path in paths:
        pairs = read_pairs(path)
        content = pairs_hash(pairs)
        if content in files:
            first, _ = files[content]
            raise InputError(f'{path}: holds the same pairs as {first}, and each would count twice: {advice}')
        files[content] = path, pairs
    return [pairs for _, pairs in files.values()]


def read_data_card(path: str | Path) -> dict[str, Any] | None:
    """Return the data card of a training file, or None for a file without one; raises InputError as `read_pairs`."""
    return _read(path)[1]


def _read(path: str | Path) -> tuple[dict[str, NDArray], dict[str, Any] | None]:
    """Return the arrays and the data card of a file."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f'{path}: a folder; make a training file of it first: e3relax data {path} --output NAME.npz')
    if not path.is_file():
        raise InputError(f'{path}: no such file; expected an .npz that `e3relax data` wrote')
    arrays, others = read_archive(path)
    if CARD_MEMBER not in others:
        return arrays, None
    try:
        card = json.loads(others[CARD_MEMBER])
    except (ValueError, RecursionError) as error:
        raise InputError(f'{path}: {CARD_MEMBER} is no JSON ({error}): make the file again') from error
    if not isinstance(card, dict):
        raise InputError(f'{path}: {CARD_MEMBER}: expected names and values, found a {type(card).__name__}')
    return arrays, card


def pairs_hash(pairs: Pairs) -> str:
    """Return the content hash of `pairs`: species, geometries, splits, names."""
    digest = hashlib.sha256()
    for name, array in sorted(_arrays(pairs).items()):
        digest.update(name.encode())
        digest.update(' '.join(array.tolist()).encode() if array.dtype.kind == 'U' else array.tobytes())
    return f'sha256:{digest.hexdigest()}'


def _arrays(pairs: Pairs) -> dict[str, NDArray]:
    """Return what a file holds, by the name of the member."""
    before = pairs.unrelaxed
    arrays = {
        'n_atoms': before.n_atoms.astype(np.int64),
        'numbers': before.numbers.astype(np.int64),
        'pbc': before.pbc,
        'labels': before.labels,
        'split': pairs.split,
        'source': pairs.source,
    }
    stages = {'unrelaxed': before, 'relaxed': pairs.relaxed}
    if pairs.filed is not None:
        stages['filed'] = pairs.filed
    for stage, crystals in stages.items():
        arrays |= {f'cell_{stage}': crystals.cell, f'positions_{stage}': crystals.positions}
    masks = {'fixed': pairs.fixed, 'fixed_cell': pairs.fixed_cell}
    arrays |= {name: mask for name, mask in masks.items() if mask is not None}
    return arrays | {f'{ABOUT}{name}': texts for name, texts in pairs.about.items()}


def _pairs(path: Path, arrays: dict[str, NDArray]) -> Pairs:
    """Return the arrays of a file as pairs, checked."""
    if 'cell_unrelaxed' not in arrays or 'cell_relaxed' not in arrays:
        raise InputError(
            f'{path}: not a file of `e3relax data`; found the arrays {sorted(arrays)[:12]}. '
            f'Make one of it: e3relax data {path} --output NAME.npz'
        )
    stages = ['unrelaxed', 'relaxed', *(['filed'] if 'cell_filed' in arrays else [])]
    check = ArrayChecks(path, arrays)
    n_atoms = check.n_atoms
    numbers = check.whole('numbers', ('A',), least=1, most=MAX_ATOMIC_NUMBER)
    labels, split, source = check.text('labels'), check.split(), check.text('source')
    pbc = check.logical('pbc', ('S', 3)) if 'pbc' in arrays else np.ones((len(n_atoms), 3), dtype=bool)
    crystals = []
    for stage in stages:
        cell = check.real(f'cell_{stage}', ('S', 3, 3))
        if f'frac_{stage}' in arrays and f'positions_{stage}' not in arrays:  # files of earlier versions
            fractional = check.real(f'frac_{stage}', ('A', 3))
            positions = np.einsum('ac,acx->ax', fractional, np.repeat(cell, n_atoms, axis=0))
        else:
            positions = check.real(f'positions_{stage}', ('A', 3))
        crystals.append(Crystals(n_atoms, numbers, positions, cell, pbc, labels))
        _check_geometry(path, stage, crystals[-1])
    mirrored = np.flatnonzero(crystals[0].volumes * crystals[1].volumes < 0)
    if len(mirrored):
        raise InputError(f'{path}: the cells of pair {mirrored[0]} ({short(labels[mirrored[0]])}) differ in handedness')
    pairs = Pairs(
        crystals[0],
        crystals[1],
        split,
        source,
        crystals[2] if len(crystals) > 2 else None,
        check.logical('fixed', ('A', 3)) if 'fixed' in arrays else None,
        check.logical('fixed_cell', ('S',)) if 'fixed_cell' in arrays else None,
        {name.removeprefix(ABOUT): check.text(name) for name in arrays if name.startswith(ABOUT)},
    )
    for index, reason in find_moved(pairs).items():
        raise InputError(f'{path}: pair {index} ({short(labels[index])}): {reason}: make the file again')
    return pairs


def _check_geometry(path: Path, stage: str, crystals: Crystals) -> None:
    """Raise InputError for the first crystal whose geometry is not sound."""
    sound = has_sound_geometry(crystals)
    if not sound.all():
        index = int(sound.argmin())
        _, message = geometry_fault(crystals.select([index])) or ('', 'not a crystal')
        label = short(crystals.labels[index])
        raise InputError(f'{path}: the {stage} crystal {index} ({label}): {message}: make the file again')
