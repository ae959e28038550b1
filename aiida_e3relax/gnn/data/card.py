"""Data cards: what a training file holds, where it comes from and what was done to it, as JSON in and beside it."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash, read_data_card
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.data.build import MOVES, BuildOptions, BuiltData
from aiida_e3relax.gnn.data.sources.base import Source
from aiida_e3relax.gnn.data.summary import summary

CARD_VERSION = 1


def data_card(
    data: BuiltData, sources: Sequence[Source], options: BuildOptions, licence: str | None, citation: str | None
) -> dict[str, Any]:
    """Return the card of a built data set."""
    return {
        'version': CARD_VERSION,
        'made': datetime.datetime.now(datetime.UTC).date().isoformat(),
        'by': f'aiida-e3relax {version("aiida-e3relax")}',
        'licence': licence,
        'citation': citation,
        'sources': [
            {
                'name': source.name,
                'path': Path(source.path).name,
                'kind': source.kind,
                'candidates': len(source.candidates),
                'notes': list(source.notes),
            }
            for source in sources
        ],
        'options': dataclasses.asdict(options),
        'split': data.split,
        'repairs': data.repairs,
        'repeats': data.repeats,
        'notes': data.notes,
        'rejected': {'pairs': len(data.rejections), 'reasons': dict(Counter(r.kind for r in data.rejections))},
        **({MOVES: dict(Counter(data.pairs.about[MOVES].tolist()))} if MOVES in data.pairs.about else {}),
        'summary': summary(data.pairs),
        'content_hash': pairs_hash(data.pairs),
    }


def made_card(
    pairs: Pairs, sources: Sequence[Path], options: Any, rejected: Mapping[str, int], **facts: Any
) -> dict[str, Any]:
    """Return the card of pairs that were made from the training files `sources`, by the dataclass `options`.

    `rejected` counts by reason what was left out; `facts` are what else there is to tell.
    """
    return {
        'version': CARD_VERSION,
        'made': datetime.datetime.now(datetime.UTC).date().isoformat(),
        'by': f'aiida-e3relax {version("aiida-e3relax")}',
        'licence': None,
        'citation': None,
        'sources': [_described(path) for path in sources],
        'options': dataclasses.asdict(options),
        **facts,
        'rejected': {'pairs': sum(rejected.values()), 'reasons': dict(rejected)},
        'summary': summary(pairs),
        'content_hash': pairs_hash(pairs),
    }


def _described(path: Path) -> dict[str, Any]:
    """Return what the card of made pairs says of a training file."""
    card = read_data_card(path) or {}
    names = ('licence', 'citation', 'content_hash')
    return {'name': path.stem, 'path': path.name, 'kind': 'training file'} | {n: card.get(n) for n in names}


def write_card_beside(path: Path, card: dict[str, Any]) -> Path:
    """Write a copy of the card beside its training file, for people to read, and return where."""
    beside = path.with_suffix('.card.json')
    beside.write_text(json.dumps(card, indent=2) + '\n', encoding='utf-8')
    return beside
