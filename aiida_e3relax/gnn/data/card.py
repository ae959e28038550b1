"""Data cards: what a training file holds, where it comes from and what was done to it, as JSON in and beside it."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash
from aiida_e3relax.gnn.data.build import BuildOptions, BuiltData
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
        'summary': summary(data.pairs),
        'content_hash': pairs_hash(data.pairs),
    }


def write_card_beside(path: Path, card: dict[str, Any]) -> Path:
    """Write a copy of the card beside its training file, for people to read, and return where."""
    beside = path.with_suffix('.card.json')
    beside.write_text(json.dumps(card, indent=2) + '\n', encoding='utf-8')
    return beside
