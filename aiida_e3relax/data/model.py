"""A checkpoint of the network and its model card, as one node."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from aiida import orm
from aiida.common.exceptions import ValidationError
from aiida.orm.implementation.utils import clean_value

from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.checkpoints.model_card import check_card, hash_file, hash_stream, is_calibrated, read_card


class E3RelaxModelData(orm.SinglefileData):
    """A trained network: the checkpoint file, and its model card as the attribute `card`.

    The content hash, `sha256:` and the hexadecimal digest of the file's bytes, stands in the card and is checked when
    the node is made and again when it is stored. Reading a node needs no torch.
    """

    CARD_KEY = 'card'
    HASH_KEY = 'content_hash'

    def __init__(self, file: str | Path, card: Mapping[str, Any] | None = None, **kwargs: Any):
        """Make an unstored node from a checkpoint file.

        Parameters
        ----------
        file
            The checkpoint, a `.pt` file.
        card
            The model card; by default the file `<stem>.card.json` beside the checkpoint.

        Raises
        ------
        ValueError
            When either file is missing, the checkpoint is not a zip archive, the card lacks a key, or the card's
            content hash is not that of the checkpoint.
        """
        path = Path(file).absolute()
        if not path.is_file():
            raise ValueError(f'checkpoint `{path}`: no such file; name a `.pt` file written by `e3relax train`')
        card = read_card(path) if card is None else dict(card)
        content_hash = hash_file(path)
        check_card(card, content_hash, source=str(path))
        if not zipfile.is_zipfile(path):
            raise ValueError(
                f'checkpoint `{path}`: expected a zip archive as `e3relax train` writes it, found something else or a '
                'truncated file; fetch or train it again'
            )
        super().__init__(file=path, **kwargs)
        self.base.attributes.set(self.CARD_KEY, card)
        self.base.attributes.set(self.HASH_KEY, content_hash)
        self.label = self.label or card['name']

    @classmethod
    def get_or_create(cls, file: str | Path, card: Mapping[str, Any] | None = None) -> tuple[Self, bool]:
        """Return the stored node with this checkpoint and card, and whether it was created just now.

        Raises ValueError as the constructor does.
        """
        node = cls(file, card)
        stored = node.find_stored()
        return (node.store(), True) if stored is None else (stored, False)

    def find_stored(self) -> Self | None:
        """Return the first stored node with this checkpoint and card, None where there is none."""
        query = orm.QueryBuilder().append(
            type(self), filters={f'attributes.{self.HASH_KEY}': self.content_hash}, project='*', tag='model'
        )
        as_stored = clean_value(self.card)  # AiiDA keeps 14 digits of a float
        found = query.order_by({'model': {'id': 'asc'}}).all(flat=True)
        return next((stored for stored in found if stored.card == as_stored), None)

    @classmethod
    def default(cls) -> E3RelaxModelData:
        """Return the stored node of the checkpoint that comes with the package."""
        return cls.get_or_create(DEFAULT_CHECKPOINT)[0]

    @property
    def card(self) -> dict[str, Any]:
        """The model card: name, architecture, training data, metrics, licence and so on."""
        return self.base.attributes.get(self.CARD_KEY)

    @property
    def content_hash(self) -> str:
        """``sha256:`` and the hexadecimal digest of the checkpoint's bytes."""
        return self.base.attributes.get(self.HASH_KEY)

    @property
    def name(self) -> str:
        """The model's name, from its card."""
        return self.card['name']

    @property
    def architecture(self) -> str:
        """The network's architecture, such as `e3relax-h2`, from the card."""
        return self.card['architecture']

    @property
    def is_calibrated(self) -> bool:
        """Whether what it states of its errors has their size, see `model_card.is_calibrated`."""
        return is_calibrated(self.architecture, self.card.get('training'))

    def _validate(self) -> bool:
        """Check that the repository file is the one the card describes."""
        super()._validate()
        with self.open(mode='rb') as handle:
            content_hash = hash_stream(handle)
        try:
            check_card(self.card, content_hash, source=self.filename)
        except ValueError as error:
            raise ValidationError(str(error)) from error
        return True
