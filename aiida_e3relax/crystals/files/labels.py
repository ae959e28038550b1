"""Unique labels of crystals, from the names of their files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from aiida_e3relax.common.messages import printable

COMPRESSED = ('.gz', '.bz2', '.xz')
SAYING_NOTHING = re.compile(
    r'poscar|contcar|centcar|xdatcar|outcar|chgcar|vasprun|structure|input|output|init(ial)?|final|(un)?relaxed|'
    r'geometry|crystal|cell|atoms|pw|start',
    re.IGNORECASE,
)
"""Names of files that stand in many folders: there the label is the folder's name."""


def labels_of(paths: Sequence[str | Path], clean: Callable[[str], str] = printable) -> list[str]:
    """Return a label for each file of `paths`, no two alike, with as few parts of the path as that takes.

    ``a/POSCAR`` and ``b/POSCAR`` are ``a`` and ``b``; ``x/1.cif`` and ``y/1.cif`` are ``x/1`` and ``y/1``; ``1.cif``
    and ``1.vasp`` are themselves.

    Parameters
    ----------
    paths
        The files; they need not exist.
    clean
        Makes a label of what a name holds, such as letters and digits alone; labels differ after it.
    """
    files = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 (symbolic links keep their names)
    distinct = list(dict.fromkeys(files))
    names = [_Name(file) for file in distinct]
    labels = [clean(name.label) for name in names]
    while True:
        groups: dict[str, list[int]] = {}
        for index, label in enumerate(labels):
            groups.setdefault(label, []).append(index)
        grown = False
        for group in groups.values():
            if len(group) > 1:
                whole = len({names[index].path.name for index in group}) > 1
                for index in group:
                    grown |= names[index].grow(whole)
                    labels[index] = clean(names[index].label)
        if not grown:
            break
    taken = UniqueLabels()
    of_file = dict(zip(distinct, labels, strict=True))
    return [taken.claim(of_file[file]) for file in files]


def make_label(text: str) -> str:
    """Return letters, digits and single underscores that are like `text`, with no digit first."""
    label = re.sub('[^0-9A-Za-z]+', '_', text).strip('_')
    return label if label[:1].isalpha() else f's_{label}'.rstrip('_')


class UniqueLabels:
    """Labels that were given, so that none is given twice; takes some bytes a label."""

    def __init__(self) -> None:
        self._given: dict[int, int] = {}

    def claim(self, label: str) -> str:
        """Return `label`, or where it was given already the first free one of ``label_2``, ``label_3``, ..."""
        free, number = label, self._given.get(hash(label), 0)
        while hash(free) in self._given:
            number += 1
            free = f'{label}_{number}'
        self._given[hash(label)] = max(number, 1)
        self._given.setdefault(hash(free), 1)
        return free


class _Name:
    """The parts of a file's path that its label shows."""

    def __init__(self, path: Path):
        self.path = path
        stem = path.name
        for suffix in COMPRESSED:
            stem = stem.removesuffix(suffix)
        self._stem = Path(stem).stem if Path(stem).suffix else stem
        self._parents = path.parts[1:-1]
        says_nothing = SAYING_NOTHING.fullmatch(self._stem) is not None
        self._depth = int(says_nothing and bool(self._parents))
        self._file = '' if self._depth else self._stem

    @property
    def label(self) -> str:
        """The label, as long as it has grown."""
        parents = self._parents[len(self._parents) - self._depth :]
        return '/'.join([*parents, *([self._file] if self._file else [])])

    def grow(self, whole: bool) -> bool:
        """Add the file's whole name where `whole`, else one more folder; returns whether there was more to add."""
        if whole and self._file != self.path.name:
            self._file = self.path.name
            return True
        if self._depth < len(self._parents):
            self._depth += 1
            return True
        return False
