"""The training format: pairs of crystals in one ``.npz`` that is mapped into memory and never unpickled.

The members lie uncompressed in the archive, so that each array is a window on the file: a data set larger than the
memory opens at once. Positions are Cartesian, in A, as the network takes them, and cells have lattice vectors as rows.
A member ``card.json`` tells what the data are (see `aiida_e3relax.gnn.data.card`). Plain ``numpy.load`` reads the rest.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.gnn.errors import InputError
from aiida_e3relax.gnn.pairs import Pairs
from aiida_e3relax.gnn.structures import Crystals

CARD_MEMBER = 'card.json'
_LOCAL_HEADER = 30  # bytes before the name of a member (APPNOTE.TXT of the ZIP format, 4.3.7)


def write_pairs(path: str | Path, pairs: Pairs, card: Mapping[str, Any] | None = None) -> None:
    """Write `pairs`, and their data `card` where there is one, as one file without pickles."""
    path = Path(path)
    arrays = _arrays(pairs)
    unfinished = path.with_name(f'.{path.name}.part')
    with unfinished.open('wb') as handle:
        np.savez(handle, allow_pickle=False, **arrays)
    if card is not None:
        with zipfile.ZipFile(unfinished, 'a') as archive:
            archive.writestr(CARD_MEMBER, json.dumps(card, indent=2) + '\n')
    unfinished.replace(path)


def read_pairs(path: str | Path, name: str | None = None) -> Pairs:
    """Return the pairs of a file of the training format, mapped into memory.

    Files of earlier versions, compressed and with fractional coordinates, are read too.

    Parameters
    ----------
    path
        An ``.npz`` that `write_pairs` or ``e3relax data`` wrote.
    name
        Name of the data set; default that in the file.

    Raises
    ------
    InputError
        For anything else.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f'{path}: a folder; make a training file of it first: e3relax data {path} --output NAME.npz')
    if not path.is_file():
        raise InputError(f'{path}: no such file; expected an .npz that `e3relax data` wrote')
    members = _mapped(path)
    labels = members.get('labels')
    if labels is None or not {'n_atoms', 'numbers', 'cell_unrelaxed', 'cell_relaxed', 'split'} <= members.keys():
        raise InputError(
            f'{path}: not a file of `e3relax data`; found the arrays {sorted(members)}. '
            f'Make one of it: e3relax data {path} --output NAME.npz'
        )
    n_atoms = members['n_atoms'].astype(np.int64)
    source = members['source'] if name is None else np.full(len(n_atoms), name)
    stages = ['unrelaxed', 'relaxed', *(['filed'] if 'cell_filed' in members else [])]
    crystals = [_crystals(members, stage, n_atoms, labels) for stage in stages]
    return Pairs(crystals[0], crystals[1], members['split'], source, *crystals[2:])


def read_data_card(path: str | Path) -> dict[str, Any] | None:
    """Return the data card of a training file, or None for a file without one."""
    with zipfile.ZipFile(path) as archive:
        if CARD_MEMBER not in archive.namelist():
            return None
        return json.loads(archive.read(CARD_MEMBER))


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
    return arrays


def _crystals(members: Mapping[str, NDArray], stage: str, n_atoms: NDArray[np.int64], labels: NDArray) -> Crystals:
    """Return the crystals of one stage; files of earlier versions hold fractional coordinates."""
    cell = members[f'cell_{stage}']
    if f'positions_{stage}' in members:
        positions = members[f'positions_{stage}']
    else:
        positions = np.einsum('ac,acx->ax', members[f'frac_{stage}'], np.repeat(cell, n_atoms, axis=0))
    pbc = members.get('pbc', np.ones((len(n_atoms), 3), dtype=bool))
    return Crystals(n_atoms, members['numbers'].astype(np.int64, copy=False), positions, cell, pbc, labels)


def _mapped(path: Path) -> dict[str, NDArray]:
    """Return the arrays of an ``.npz``: windows on the file where they lie in it uncompressed."""
    arrays: dict[str, NDArray] = {}
    try:
        with zipfile.ZipFile(path) as archive, path.open('rb') as handle:
            for member in archive.infolist():
                if not member.filename.endswith('.npy'):
                    continue
                name = member.filename.removesuffix('.npy')
                if member.compress_type == zipfile.ZIP_STORED:
                    arrays[name] = _window(path, handle, member)
                else:
                    with archive.open(member) as stream:
                        arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    except (zipfile.BadZipFile, ValueError) as error:
        raise InputError(f'{path}: not an .npz of plain arrays: {error}') from error
    return arrays


def _window(path: Path, handle: Any, member: zipfile.ZipInfo) -> NDArray:
    """Return the array of an uncompressed member as a read-only map of the file."""
    handle.seek(member.header_offset)
    header = handle.read(_LOCAL_HEADER)
    lengths = int.from_bytes(header[26:28], 'little') + int.from_bytes(header[28:30], 'little')  # name, extra field
    handle.seek(member.header_offset + _LOCAL_HEADER + lengths)
    version = np.lib.format.read_magic(handle)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(handle)
    if dtype.hasobject:
        raise ValueError(f'member {member.filename} holds pickled objects, which are never loaded')
    if 0 in shape:
        return np.zeros(shape, dtype)
    window = np.memmap(path, dtype, 'r', handle.tell(), shape, 'F' if fortran else 'C')
    return window.view(np.ndarray)
