"""Pairs of unrelaxed and relaxed crystals that networks learn from, as one node."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.exceptions import ValidationError

from aiida_e3relax.crystals.datasets.pairs_file import read_data_card, read_pairs, write_pairs
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.data.structures import SYMBOLS
from aiida_e3relax.gnn.checkpoints.model_card import hash_file, hash_stream

RELAXATION = 'relaxation'
"""The name in `Pairs.about` of the UUIDs of the processes that relaxed the crystals."""


class E3RelaxPairsData(orm.SinglefileData):
    """A training file, as `e3relax data` and `E3RelaxPairsData.from_pairs` write it.

    Thousands of pairs are one node, without a link to each relaxation: where they come out of a graph, the file has
    their UUIDs (`Pairs.about`, `relaxation`). Reading a node needs no torch.
    """

    HASH_KEY = 'content_hash'
    LEFT_OUT_KEY = 'left_out'
    JUDGES_KEY = 'finished_judges'
    """Of the pairs of a round: how many of the chains of a campaign that had finished well are of judges."""
    REPLAYED_KEY = 'replayed'
    """Of divided pairs with others that are replayed: their `count`, how many were `asked` for, and both in words."""
    FILENAME = 'pairs.npz'

    def __init__(self, file: str | Path, **kwargs: Any):
        """Make an unstored node from a training file, after a look at every number in it.

        Raises ValueError for a file that is not there or is none, and for one without pairs.
        """
        path = Path(file).absolute()
        if not path.is_file():
            raise ValueError(f'training file `{path}`: no such file; name one that `e3relax data` wrote')
        pairs = read_pairs(path)
        if not len(pairs):
            raise ValueError(f'training file `{path}`: it holds no pair')
        super().__init__(file=path, filename=kwargs.pop('filename', path.name), **kwargs)
        self.base.attributes.set(self.HASH_KEY, hash_file(path))
        self.base.attributes.set('splits', dict(sorted(Counter(pairs.split.tolist()).items())))
        self.base.attributes.set('sources', dict(sorted(Counter(pairs.source.tolist()).items())))
        self.base.attributes.set('elements', sorted(str(SYMBOLS[n]) for n in np.unique(pairs.unrelaxed.numbers)))
        self.label = self.label or path.stem

    @classmethod
    def from_pairs(cls, pairs: Pairs, card: Mapping[str, Any] | None = None, **kwargs: Any) -> E3RelaxPairsData:
        """Return an unstored node of `pairs`, with their data card where there is one."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, cls.FILENAME)
            write_pairs(path, pairs, card)
            return cls(path, **kwargs)

    @classmethod
    def get_or_create(cls, file: str | Path) -> tuple[E3RelaxPairsData, bool]:
        """Return the stored node with this file, and whether it was created just now.

        Raises ValueError as the constructor does.
        """
        node = cls(file)
        filters = {f'attributes.{cls.HASH_KEY}': node.content_hash}
        query = orm.QueryBuilder().append(cls, filters=filters, project='*', tag='pairs')
        stored = query.order_by({'pairs': {'id': 'asc'}}).first(flat=True)
        return (stored, False) if stored else (node.store(), True)

    @property
    def content_hash(self) -> str:
        """``sha256:`` and the hexadecimal digest of the file's bytes."""
        return self.base.attributes.get(self.HASH_KEY)

    @property
    def splits(self) -> dict[str, int]:
        """How many pairs each split has."""
        return self.base.attributes.get('splits')

    @property
    def left_out(self) -> dict[str, int]:
        """How many relaxations of a campaign were left out of these pairs, by the reason."""
        return self.base.attributes.get(self.LEFT_OUT_KEY, {})

    @property
    def replayed(self) -> dict[str, Any] | None:
        """How many of these pairs are replayed, see `REPLAYED_KEY`; None without any to replay, and of older nodes."""
        return self.base.attributes.get(self.REPLAYED_KEY, None)

    def __len__(self) -> int:
        return sum(self.splits.values())

    @property
    def pairs(self) -> Pairs:
        """The pairs."""
        with self.as_path() as path:
            return read_pairs(path)

    @property
    def card(self) -> dict[str, Any] | None:
        """The data card: where the pairs come from, and what was done to them; None of a file without one."""
        with self.as_path() as path:
            return read_data_card(path)

    def _validate(self) -> bool:
        """Check that the file in the repository is the one that was given."""
        super()._validate()
        with self.open(mode='rb') as handle:
            found = hash_stream(handle)
        if found != self.content_hash:
            raise ValidationError(f'training file `{self.filename}`: expected {self.content_hash}, found {found}')
        return True
