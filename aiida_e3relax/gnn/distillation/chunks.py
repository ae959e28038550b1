"""The work in chunks, a file each, that several processes share and that goes on after a kill.

A chunk is a training file of its own, whose card has the rows of the report, and the hash of what it was made of and
by. A process holds a lock on the chunk that it relaxes; the lock goes with the process, however that ends, and another
one takes the chunk over.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.file_lock import file_lock
from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.common.strict_json import finite
from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash, read_data_card, read_pairs, write_pairs
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.distillation.teacher import Teacher

Relaxed = tuple[Pairs, list[dict[str, Any]]]
"""Pairs, and what the report says of each."""


ANOTHER_RUN = (
    'made from other starts or by another teacher: name another output, or give the pairs, options, teacher and '
    'network (--model) that it was made with to go on'
)
"""What to do about a file of another run."""

SECONDS_BETWEEN_LOOKS = 2.0
"""At chunks that other processes are at."""

DECISIVE = (
    'potential',
    'version',
    'content_hash',
    'start',
    'steps',
    'force_max_eV_per_A',
    'stress_max_kB',
    'network',
    'held_out_start',
)
"""Facts of the teacher on which relaxations depend; on device and batches they do not, but for rounding."""


@contextlib.contextmanager
def waited_for(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`; say it where another process must be waited for."""
    with file_lock(path) as held:
        if held is not None:
            yield
            return
    print(f'{path.with_suffix("")}: waiting for another process that is at it', file=sys.stderr)
    with file_lock(path, wait=True):
        yield


@dataclasses.dataclass(frozen=True, eq=False)
class Chunks:
    """The starts of a run in chunks of `size`, what relaxes them by its `facts`, and the `folder` of their files.

    More starts can be added later: the full chunks stay what they are.
    """

    starts: Pairs
    size: int
    facts: Mapping[str, Any]
    folder: Path

    def __len__(self) -> int:
        return (len(self.starts) + self.size - 1) // self.size

    def of(self, number: int) -> Pairs:
        """Return the starts of a chunk."""
        return self.starts.select(self._indices(number))

    def path(self, number: int) -> Path:
        """Return the file of a chunk; one that is not full yet has another name than when it is."""
        return self.folder / f'chunk-{number:05d}-{len(self._indices(number))}.npz'

    def is_done(self, number: int) -> bool:
        """Return whether a chunk is relaxed."""
        return self.path(number).is_file()

    @property
    def relaxed(self) -> int:
        """How many starts are relaxed."""
        return sum(len(self._indices(number)) for number in range(len(self)) if self.is_done(number))

    def relax(self, teacher: Teacher, line: ProgressLine) -> None:
        """Relax what no other process has relaxed or is at, and wait for the rest: a process may end before its chunk.

        Raises InputError for a chunk that others have made from other starts or by another teacher meanwhile.
        """
        checked: set[int] = set()
        while left := [number for number in range(len(self)) if number not in checked]:
            held = [number for number in left if not self._relax_one(number, teacher, line)]
            checked.update(set(left) - set(held))
            if held:
                line.done = self.relaxed
                line.advance(0, f'waiting for {len(held)} chunks that other processes are at')
                time.sleep(SECONDS_BETWEEN_LOOKS)

    def _relax_one(self, number: int, teacher: Teacher, line: ProgressLine) -> bool:
        """Return whether a chunk is done, once it is relaxed where no other process holds it."""
        path, lock = self.path(number), self.path(number).with_suffix('.lock')
        if not self.is_done(number):
            with file_lock(lock) as held:
                if held is not None and not self.is_done(number):
                    starts = self.of(number)
                    pairs, rows = teacher.relax(starts)
                    facts = {'key': self._key(starts), 'size': self.size, 'teacher': teacher.facts}
                    write_pairs(path, pairs, facts | {'rows': finite(rows)})
                    line.done = self.relaxed - len(starts)  # those of other processes, too
                    line.advance(len(starts))
            if not self.is_done(number):
                return False
        lock.unlink(missing_ok=True)
        self._card(number)
        return True

    def read(self) -> Relaxed:
        """Return all pairs that are relaxed, and what the report says of each.

        Raises InputError where none is, and for a chunk of other starts or by another teacher.
        """
        parts, rows = [], []
        for number in range(len(self)):
            if self.is_done(number):
                rows += self._card(number)['rows']
                parts.append(read_pairs(self.path(number)))
        if not parts:
            raise InputError(f'{self.folder}: nothing is relaxed yet')
        return Pairs.concatenate(parts), rows

    def check_done(self) -> None:
        """Raise InputError for chunks in the folder of another size, of other starts or by another teacher.

        The last chunk of fewer starts, which was not full, may be left there.
        """
        for path in sorted(self.folder.glob('chunk-*.npz')):
            size = (read_data_card(path) or {}).get('size', self.size)
            if size != self.size:
                raise InputError(f'{self.folder}: relaxed in chunks of {size}: give --chunk {size} to go on')
        for number in range(len(self)):
            if self.is_done(number):
                self._card(number)

    def _card(self, number: int) -> dict[str, Any]:
        """Return the card of a chunk; raises InputError where it is of other starts or by another teacher."""
        card = read_data_card(self.path(number)) or {}
        if card.get('key') != self._key(self.of(number)):
            raise InputError(f'{self.path(number)}: {ANOTHER_RUN}')
        return card

    def _indices(self, number: int) -> NDArray[np.int64]:
        return np.arange(number * self.size, min((number + 1) * self.size, len(self.starts)))

    def _key(self, starts: Pairs) -> str:
        """Return the hash of what a chunk is made of."""
        facts = json.dumps([self.facts.get(name) for name in DECISIVE])
        return hashlib.sha256(f'{pairs_hash(starts)} {facts}'.encode()).hexdigest()
