"""Files of crystals, written piece by piece and seen under their name only when they are whole."""

from __future__ import annotations

import dataclasses
import math
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError, OutputError
from aiida_e3relax.common.messages import printable
from aiida_e3relax.common.output_files import partial_folder, writing
from aiida_e3relax.crystals.files.content import OPENERS
from aiida_e3relax.crystals.files.errors import explain
from aiida_e3relax.crystals.files.plain_text import TEXTS, plain_format
from aiida_e3relax.crystals.files.suffixes import format_of_suffix, is_npz, without_compression
from aiida_e3relax.crystals.structures import Crystals

HOLDING = ('extxyz', 'traj', 'db', 'json', 'vasp')
"""Formats of ASE that keep which sites are held."""

APPENDABLE = ('extxyz', 'traj', 'db')
"""Formats of ASE that take more crystals at the cost of those alone."""

NEEDING_MORE = {'espresso-in': 'the pseudopotentials', 'mustem': 'the energy of the electrons'}
"""Formats of ASE that are not written, and what they hold beside a crystal."""

OF_ATOMS = ('numbers', 'positions')
"""Arrays with a row for each atom; the others have one for each crystal."""

LOST = 'which sites are held is not written: {} cannot hold it, .vasp can'


def open_writer(path: Path) -> NpzWriter | AseWriter:
    """Return a writer for the format that `path` ends in, as a context.

    Raises InputError where there is none, and OutputError, as all that writes here, where nothing can be written.
    """
    return NpzWriter(path) if is_npz(path) else AseWriter(path)


class ArraysWriter:
    """Arrays that grow row by row, as one ``.npz`` without pickles."""

    def __init__(self, path: Path):
        self.path = path
        self._folder = partial_folder(path)
        self._pieces: dict[str, list[_Piece]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def append(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add rows to arrays by name; text may get longer."""
        for name, given in arrays.items():
            array = given if given.dtype.itemsize else given.astype('U1')  # texts without a character
            self._pieces.setdefault(name, []).append(_Piece.of(array))
            with writing(self.path), (Path(self._folder.name) / name).open('ab') as handle:
                handle.write(array.tobytes())

    def close(self) -> None:
        """Put the file under its name."""
        partial = Path(self._folder.name) / 'whole'
        with writing(self.path):
            with zipfile.ZipFile(partial, 'w', zipfile.ZIP_STORED) as archive:
                for name, pieces in self._pieces.items():
                    self._assemble(archive, name, pieces)
            partial.replace(self.path)

    def _assemble(self, archive: zipfile.ZipFile, name: str, pieces: list[_Piece]) -> None:
        """Join the pieces of one array; text gets the width of the longest."""
        dtype = np.result_type(*(piece.dtype for piece in pieces))
        shape = (sum(piece.shape[0] for piece in pieces), *pieces[0].shape[1:])
        with (
            (Path(self._folder.name) / name).open('rb') as source,
            archive.open(f'{name}.npy', 'w', force_zip64=True) as member,
        ):
            header = {'descr': np.lib.format.dtype_to_descr(dtype), 'fortran_order': False, 'shape': shape}
            np.lib.format.write_array_header_1_0(member, header)
            for piece in pieces:
                content = source.read(piece.dtype.itemsize * math.prod(piece.shape))
                member.write(np.frombuffer(content, piece.dtype).astype(dtype).tobytes())


class NpzWriter(ArraysWriter):
    """Crystals and their status, failed ones too, as one ``.npz`` without pickles."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._states_uncertainty = False

    def check(self, count: int) -> None:
        """Any number of crystals fits."""

    def find_lost(self, cell: NDArray[np.float64], movable: NDArray[np.bool_] | None) -> str | None:
        """Return that an ``.npz`` does not hold which coordinates ``(N, 3)`` of a crystal may change, if it matters."""
        return None if movable is None else LOST.format('.npz')

    def write(
        self,
        crystals: Crystals,
        status: NDArray[np.str_],
        uncertainty: NDArray[np.float64] | None = None,
        movable: Sequence[NDArray[np.bool_] | None] = (),
    ) -> None:
        """Add `crystals` with the status words ``(S,)``, and the uncertainties ``(S,)`` in A where there are any.

        The file has uncertainties where any piece has; those of the others are NaN.
        """
        count = len(crystals)
        self._states_uncertainty |= uncertainty is not None
        arrays = {f.name: getattr(crystals, f.name) for f in dataclasses.fields(crystals)}
        arrays |= {'status': status, 'uncertainty': np.full(count, np.nan) if uncertainty is None else uncertainty}
        for name, array in arrays.items():
            rows = int(crystals.n_atoms.sum()) if name in OF_ATOMS else count
            pieces = self._pieces.get(name)
            if len(array) != rows or (pieces and not _Piece.of(array).continues(pieces[0])):
                raise ValueError(f'`{name}` of {count} crystals: found {array.dtype} of shape {array.shape}')
        self.append(arrays)

    def close(self) -> None:
        """Put the file under its name."""
        if not self._states_uncertainty:
            self._pieces.pop('uncertainty', None)
        super().close()


@dataclasses.dataclass(frozen=True)
class _Piece:
    """A piece of an array."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @staticmethod
    def of(array: NDArray[Any]) -> _Piece:
        """Return what `array` is as a piece."""
        return _Piece(array.dtype, array.shape)

    def continues(self, first: _Piece) -> bool:
        """Return whether it can follow `first`: numbers of the same kind, or text, in rows of the same shape."""
        return self.dtype.kind == first.dtype.kind and self.shape[1:] == first.shape[1:]


class AseWriter:
    """The crystals with status ``ok``, in a format that ASE writes, compressed where the name says so.

    Formats that can be appended to, such as extxyz, are written as crystals come; the others at the end.
    """

    def __init__(self, path: Path):
        self.path = path
        name = plain_format(path)
        self._format, self._single = (name, name == 'vasp') if name else _find_format(path)
        self._folder = partial_folder(path)
        self._partial = Path(self._folder.name) / without_compression(path).name
        self._appends = self._format in APPENDABLE
        self._kept: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def check(self, count: int) -> None:
        """Raise InputError unless `count` crystals fit."""
        if count > 1 and self._single:
            raise InputError(f'{self.path}: {self._format} cannot hold {count} structures; use .npz or .extxyz')

    def find_lost(self, cell: NDArray[np.float64], movable: NDArray[np.bool_] | None) -> str | None:
        """Return that the format cannot hold which coordinates ``(N, 3)`` of a crystal may change, if it cannot."""
        if movable is None or self._constraints(cell, movable) is not None:
            return None
        return LOST.format(self._format)

    def write(
        self,
        crystals: Crystals,
        status: NDArray[np.str_],
        uncertainty: NDArray[np.float64] | None = None,
        movable: Sequence[NDArray[np.bool_] | None] = (),
        info: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Add those of `crystals` whose `status` is ``ok``, with their uncertainties in A where there are any.

        And with which fractional coordinates may change, ``(N, 3)`` of each crystal, None or nothing where all may; and
        with what else stands in the ``info`` of each.
        """
        chosen = np.flatnonzero(status == 'ok')
        frames = _frames(crystals.select(chosen))
        for frame, index in zip(frames, chosen.tolist(), strict=True):
            if movable and (flags := movable[index]) is not None:
                frame.set_constraint(self._constraints(frame.cell.array, flags))
        if uncertainty is not None:
            for frame, value in zip(frames, uncertainty[chosen], strict=True):
                if np.isfinite(value):
                    frame.info['uncertainty_A'] = float(value)
        for name, values in (info or {}).items():
            for frame, index in zip(frames, chosen.tolist(), strict=True):
                frame.info[name] = values[index]
        self._kept += frames
        self.check(len(self._kept))
        if self._appends and self._kept:
            self._write(append=True)
            self._kept = []

    def _constraints(self, cell: NDArray[np.float64], movable: NDArray[np.bool_]) -> list[Any] | None:
        """Return ASE's constraints that the format can hold, None where it cannot."""
        from aiida_e3relax.crystals.freedom.constraints import make_constraints

        try:
            held = make_constraints(movable, cell, cartesian=self._format == 'extxyz')
        except ValueError:
            return None
        return held if self._format in HOLDING else None

    def close(self) -> None:
        """Put the file under its name; raises InputError where no crystal was predicted."""
        if self._kept:
            self._write(append=False)
        if not self._partial.exists():
            raise InputError(f'{printable(self.path)} was not written: no structure could be predicted')
        with writing(self.path):
            self._compressed().replace(self.path)

    def _compressed(self) -> Path:
        """Return what was written, compressed by the suffix of the file."""
        opener = OPENERS.get(self.path.suffix.lower())
        if opener is None:
            return self._partial
        packed = self._partial.with_name('compressed')
        with self._partial.open('rb') as plain, opener(packed, 'wb') as target:
            shutil.copyfileobj(plain, target)
        return packed

    def _write(self, append: bool) -> None:
        with writing(self.path):
            if self._format in TEXTS and not any(frame.constraints for frame in self._kept):
                self._partial.write_text(TEXTS[self._format](self._kept), encoding='utf-8')
                return
            import ase.io

            frames = self._kept if len(self._kept) > 1 else self._kept[0]
            try:
                if self._format == 'traj':  # what `ase.io.write` appends to a trajectory is not read again
                    with ase.io.Trajectory(self._partial, 'a') as trajectory:
                        for frame in self._kept:
                            trajectory.write(frame)
                else:
                    ase.io.write(self._partial, frames, format=self._format, append=append)
            except OSError:
                raise
            except Exception as error:  # writers of foreign formats raise anything
                raise OutputError(
                    f'{printable(self.path)}: ASE cannot write this as {self._format} ({explain(error)}): use '
                    '.npz or .extxyz'
                ) from error


def _find_format(path: Path) -> tuple[str, bool]:
    """Return ASE's name of the format that a file's name says, and whether it holds one structure alone."""
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats

    try:
        name = format_of_suffix(path) or filetype(path, read=False)
    except UnknownFileTypeError:  # of a name without an ending
        name = None
    if name not in ioformats:
        raise InputError(f'{path}: ASE knows no format of this name; use .npz, .cif, .vasp or .extxyz')
    if not ioformats[name].can_write:
        raise InputError(f'{path}: ASE cannot write {name}; use .npz or .extxyz')
    if name in NEEDING_MORE:
        raise InputError(
            f'{path}: {name} needs {NEEDING_MORE[name]}, too, which no crystal tells; use .cif, .vasp or .extxyz, and '
            'make it of that'
        )
    return name, ioformats[name].single


def _frames(crystals: Crystals) -> list[Any]:
    """Return ASE's structures, with the labels in their ``info``."""
    import ase

    offsets = crystals.offsets
    return [
        ase.Atoms(
            numbers=crystals.numbers[offsets[i] : offsets[i + 1]],
            positions=crystals.positions[offsets[i] : offsets[i + 1]],
            cell=crystals.cell[i],
            pbc=crystals.pbc[i],
            info={'label': str(crystals.labels[i])},
        )
        for i in range(len(crystals))
    ]
