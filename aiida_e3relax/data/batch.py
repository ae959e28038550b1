"""Many structures in one node."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from aiida import orm
from aiida.common.exceptions import ValidationError
from numpy.typing import NDArray

from aiida_e3relax.crystals.files.stream import read_npy_header
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.data.site_kinds import SiteKinds
from aiida_e3relax.data.structures import structures_to_crystals


class StructureBatchData(orm.ArrayData):
    """N structures with labels in one node, as arrays: exact in float64, and read no further than asked for.

    A `StructureData` costs AiiDA some hundredths of a second wherever it goes, and rounds to 14 digits when it is
    stored. The sites of all structures stand here one after the other in the arrays `positions` (A, 3), in A, and
    `kind_index` (A,), with `n_atoms`, `cell` and `pbc` a structure; the kinds are the attribute `kinds`.
    """

    LABELS_FILE = 'labels.txt'
    KINDS_KEY = 'kinds'

    def __init__(
        self, structures: Crystals | Mapping[str, orm.StructureData], kinds: SiteKinds | None = None, **kwargs: Any
    ):
        """Make an unstored node.

        Parameters
        ----------
        structures
            At least one structure: a batch with its labels, or nodes by label.
        kinds
            The kinds of the sites of `Crystals`; default are those named by the elements. The mapping brings its own.

        Raises
        ------
        ValueError
            For no structure, labels that occur twice or are not printable text, and kinds of other elements.
        """
        if isinstance(structures, Crystals):
            crystals = structures
            kinds = kinds or SiteKinds.of_elements(crystals.numbers)
        else:
            crystals = structures_to_crystals(structures)
            kinds = SiteKinds.of_structures(structures.values())
        labels = crystals.labels.tolist()
        _check_labels(labels)
        if kinds.numbers.tolist() != crystals.numbers.tolist():
            raise ValueError('`kinds`: expected a kind of the element of each site, found other elements or sites')
        arrays = {
            'n_atoms': crystals.n_atoms,
            'kind_index': kinds.index,
            'positions': crystals.positions,
            'cell': crystals.cell,
            'pbc': crystals.pbc,
        }
        # In C order, so that the rows of one structure lie together in the file.
        super().__init__({name: np.ascontiguousarray(array) for name, array in arrays.items()}, **kwargs)
        self.base.attributes.set(self.KINDS_KEY, kinds.table)
        self.base.repository.put_object_from_bytes('\n'.join(labels).encode(), self.LABELS_FILE)

    def initialize(self) -> None:
        """Begin with nothing read."""
        super().initialize()
        self._places: dict[str, int] | None = None

    def __len__(self) -> int:
        return self.get_shape('n_atoms')[0]

    def __contains__(self, label: str) -> bool:
        return label in self._read_places()

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of the structures."""
        return list(self._read_places())

    @property
    def crystals(self) -> Crystals:
        """All structures; a site that is not one whole atom of one element has the atomic number 0."""
        return Crystals(
            numbers=self.kinds.numbers,
            labels=np.array(self.labels, dtype=np.str_),
            **{name: self.get_array(name) for name in ('n_atoms', 'positions', 'cell', 'pbc')},
        )

    @property
    def kinds(self) -> SiteKinds:
        """The kinds of all sites."""
        return SiteKinds(self.base.attributes.get(self.KINDS_KEY), self.get_array('kind_index'))

    def get_structure(self, label: str) -> orm.StructureData:
        """Return one structure as an unstored node with that label; only its part of the arrays is read.

        Raises KeyError for a label that is not there.
        """
        index = self._place(label)
        n_atoms = self.get_array('n_atoms')
        start = int(n_atoms[:index].sum())
        sites = slice(start, start + int(n_atoms[index]))
        table = self.base.attributes.get(self.KINDS_KEY)
        structure = orm.StructureData(
            cell=self._read_rows('cell', slice(index, index + 1))[0].tolist(),
            pbc=self._read_rows('pbc', slice(index, index + 1))[0].tolist(),
            label=label,
        )
        of_site = self._read_rows('kind_index', sites).tolist()
        for place in dict.fromkeys(of_site):
            structure.append_kind(orm.Kind(raw=table[place]))
        for place, position in zip(of_site, self._read_rows('positions', sites).tolist(), strict=True):
            structure.append_site(orm.Site(kind_name=table[place]['name'], position=position))
        return structure

    def moved(self, crystals: Crystals) -> Self:
        """Return an unstored batch of the structures that `crystals` names, with their kinds and its geometries.

        Raises KeyError for a label that is not there, and ValueError for other sites.
        """
        offsets = np.concatenate([[0], np.cumsum(self.get_array('n_atoms'))])
        places = [self._place(label) for label in crystals.labels.tolist()]
        atoms = [np.arange(offsets[place], offsets[place + 1]) for place in places]
        return type(self)(crystals, self.kinds.take(np.concatenate(atoms)))

    def _place(self, label: str) -> int:
        place = self._read_places().get(label)
        if place is None:
            raise KeyError(f'{type(self).__name__}<{self.pk}> holds no structure `{label}`; see `labels`')
        return place

    def _read_places(self) -> dict[str, int]:
        """Return the place of each structure by label."""
        if self._places is None:
            labels = self.base.repository.get_object_content(self.LABELS_FILE, 'r').split('\n')
            self._places = {label: place for place, label in enumerate(labels)}
        return self._places

    def _read_rows(self, name: str, rows: slice) -> NDArray[Any]:
        """Return some rows of an array, and read no others."""
        with self.base.repository.open(f'{name}.npy', 'rb') as handle:
            shape, _, dtype = read_npy_header(handle)
            size = int(np.prod(shape[1:])) * dtype.itemsize
            handle.seek(rows.start * size, os.SEEK_CUR)
            content = handle.read((rows.stop - rows.start) * size)
        return np.frombuffer(content, dtype).reshape(-1, *shape[1:])

    def _validate(self) -> bool:
        """Check that the arrays fit together, since they can be set one by one until the node is stored."""
        super()._validate()
        try:
            crystals = self.crystals
            _check_labels(crystals.labels.tolist())
        except (KeyError, IndexError, OSError, ValueError) as error:
            raise ValidationError(f'the arrays of a batch of structures do not fit together: {error}') from error
        return True


def _check_labels(labels: Sequence[str]) -> None:
    """Raise ValueError unless the labels can tell structures apart, in a file with one a line."""
    if not labels:
        raise ValueError('a batch holds at least one structure, found none')
    if odd := [label for label in labels if not label or not label.isprintable()]:
        raise ValueError(f'labels: expected printable text on one line, found {odd[0]!r}')
    if double := [label for label, count in Counter(labels).items() if count > 1]:
        raise ValueError(f'labels: expected each once, found `{"`, `".join(double[:5])}` more than once; rename them')
