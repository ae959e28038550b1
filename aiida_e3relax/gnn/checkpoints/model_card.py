"""Model cards: what a checkpoint is, in a JSON file beside it, tied to it by a content hash. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from aiida_e3relax.common.errors import CheckpointError
from aiida_e3relax.common.messages import short
from aiida_e3relax.common.strict_json import finite, parse_json

REQUIRED_CARD_KEYS = ('name', 'architecture', 'content_hash', 'version')

OF_WEIGHTS = ('licence', 'doi', 'citation', 'limits')
"""What a card says of weights that holds for those that are made of them, too."""

MOST_BYTES = 2**24
"""Of a model card; the longest have some tens of thousands."""


def card_path(checkpoint: str | Path) -> Path:
    """Return where the model card of a checkpoint lies: ``NAME.card.json`` beside ``NAME.pt``."""
    return Path(checkpoint).with_suffix('.card.json')


def write_card(checkpoint: str | Path, card: Mapping[str, Any]) -> None:
    """Write the model card of a checkpoint; the file's content hash is put in."""
    content = {**card, 'content_hash': hash_file(Path(checkpoint))}
    path = card_path(checkpoint)
    partial = path.with_name(path.name + '.partial')
    partial.write_text(json.dumps(finite(content), indent=2) + '\n', encoding='utf-8')
    partial.replace(path)


def inherit(cards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the card of weights has from the `cards` of those that they are made of: what all say alike.

    `limits_of` is the model that the `limits` were found of.
    """
    first, *others = cards
    alike = {
        name: first[name]
        for name in OF_WEIGHTS
        if name in first and all(card.get(name) == first[name] for card in others)
    }
    return alike | ({'limits_of': first.get('limits_of', first.get('name'))} if 'limits' in alike else {})


def hash_stream(handle: BinaryIO) -> str:
    """Return the content hash of an open binary file."""
    digest = hashlib.sha256()
    while chunk := handle.read(1 << 20):
        digest.update(chunk)
    return f'sha256:{digest.hexdigest()}'


def hash_file(path: Path) -> str:
    """Return the content hash of a file."""
    with path.open('rb') as handle:
        return hash_stream(handle)


def read_card(checkpoint: Path) -> dict[str, Any]:
    """Return the model card that lies beside a checkpoint as `<stem>.card.json`.

    Raises CheckpointError when it is missing or not a JSON object.
    """
    path = card_path(checkpoint)
    if not path.is_file():
        raise CheckpointError(
            f'model card `{path}`: no such file; `e3relax train` writes it beside the checkpoint, copy both'
        )
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f'expected at most {MOST_BYTES:,} bytes, found {path.stat().st_size:,}')
        card = parse_json(path.read_text(encoding='utf-8'))
    except (ValueError, OSError) as error:
        raise CheckpointError(
            f'model card `{path}`: cannot be read ({short(error, 200)}); copy it again with its checkpoint'
        ) from error
    if not isinstance(card, dict):
        raise CheckpointError(
            f'model card `{path}`: expected a JSON object, found {type(card).__name__}; copy it again'
        )
    return card


def is_calibrated(architecture: str, training: Mapping[str, Any] | None) -> bool:
    """Return whether what a model states of its errors has their size; of an ensemble, whether it was scaled to errors.

    `training` is that of its card.
    """
    return architecture != 'ensemble' or bool((training or {}).get('calibration'))


def check_card(card: Mapping[str, Any], content_hash: str, source: str) -> None:
    """Raise CheckpointError unless `card` is complete and describes the file with `content_hash`."""
    missing = [key for key in REQUIRED_CARD_KEYS if key not in card]
    if missing:
        raise CheckpointError(
            f'model card of `{source}`: expected the keys {REQUIRED_CARD_KEYS}, {missing} are missing'
        )
    for key in ('name', 'architecture', 'content_hash'):
        if not (isinstance(card[key], str) and card[key] and card[key].isprintable()):
            raise CheckpointError(
                f'model card of `{source}`: `{key}`: expected a word, found {short(repr(card[key]))}; copy it again '
                'with its checkpoint'
            )
    if card['content_hash'] != content_hash:
        raise CheckpointError(
            f'checkpoint `{source}`: its model card says {short(card["content_hash"], 80)}, the file has '
            f'{content_hash}; the file '
            'is damaged or the card belongs to another checkpoint: copy both again from the same place'
        )
