"""The work in chunks, a file each, that several processes share and that goes on after a kill.

A chunk is a training file of its own, whose card has the rows of the report. A process holds a lock on the chunk that
it relaxes; the lock goes with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.common.strict_json import finite
from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash, read_data_card, read_pairs, write_pairs
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.distillation.teacher import Teacher

Relaxed = tuple[Pairs, list[dict[str, Any]]]
"""Pairs, and what the report says of each."""


DECISIVE = ('potential', 'version', 'content_hash', 'start', 'steps', 'force_max_eV_per_A', 'stress_max_kB', 'network')
"""Facts of the teacher on which relaxations depend; on device and batches they do not, but for rounding."""


@contextlib.contextmanager
def locked(path: Path, wait: bool) -> Iterator[bool]:
    """Hold the lock file at `path`; without `wait` tell whether it could be had."""
    with path.open('a') as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield False
                return
            print(f'{path.with_suffix("")}: waiting for another process that is at it', file=sys.stderr)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield True


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
        """Relax what no other process has relaxed, or is at."""
        for number in range(len(self)):
            if self.is_done(number):
                continue
            with locked(self.path(number).with_suffix('.lock'), wait=False) as is_ours:
                if not is_ours or self.is_done(number):
                    continue
                starts = self.of(number)
                pairs, rows = teacher.relax(starts)
                card = {'key': self._key(starts), 'teacher': teacher.facts, 'rows': finite(rows)}
                write_pairs(self.path(number), pairs, card)
            self.path(number).with_suffix('.lock').unlink(missing_ok=True)
            line.done = self.relaxed - len(starts)  # those of other processes, too
            line.advance(len(starts))

    def read(self) -> Relaxed:
        """Return all pairs that are relaxed, and what the report says of each; raises InputError where none is."""
        parts, rows = [], []
        for number in range(len(self)):
            if self.is_done(number):
                parts.append(read_pairs(self.path(number)))
                rows += (read_data_card(self.path(number)) or {})['rows']
        if not parts:
            raise InputError(f'{self.folder}: nothing is relaxed yet')
        return Pairs.concatenate(parts), rows

    def check_done(self) -> None:
        """Raise InputError for chunks in the folder of another size, of other starts or by another teacher."""
        own = {self.path(number).name for number in range(len(self))}
        others = [path for path in self.folder.glob('chunk-*.npz') if path.name not in own]
        for size, count in Counter(int(path.stem.rpartition('-')[2]) for path in others).items():
            if size > self.size or (size < self.size and count > 1):  # one may be the last chunk of fewer starts
                raise InputError(f'{self.folder}: relaxed in chunks of {size}: give --chunk {size} to go on')
        for number in range(len(self)):
            if not self.is_done(number):
                continue
            if (read_data_card(self.path(number)) or {}).get('key') != self._key(self.of(number)):
                raise InputError(
                    f'{self.path(number)}: made from other starts or by another teacher: name another output, or give '
                    'the pairs, options and teacher that it was made with to go on'
                )

    def _indices(self, number: int) -> NDArray[np.int64]:
        return np.arange(number * self.size, min((number + 1) * self.size, len(self.starts)))

    def _key(self, starts: Pairs) -> str:
        """Return the hash of what a chunk is made of."""
        facts = json.dumps([self.facts.get(name) for name in DECISIVE])
        return hashlib.sha256(f'{pairs_hash(starts)} {facts}'.encode()).hexdigest()
