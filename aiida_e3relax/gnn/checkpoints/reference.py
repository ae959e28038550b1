"""The field `reference` of a checkpoint, the environments of its training, which earlier ones do not have."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aiida_e3relax.gnn.checkpoints.content import field, read_weights
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.reference_set import Growth, ReferenceSet

FIELD = 'reference'

MOST_TEXT = 1000
"""Characters of a label or a formula."""


def reference_content(reference: ReferenceSet) -> dict[str, Any]:
    """Return the field; coordinates are kept in half precision, which is far finer than environments are apart."""
    growth = reference.growth
    return {
        'centre': reference.centre.float().cpu().clone(),
        'axes': reference.axes.float().cpu().contiguous().clone(),
        'environments': reference.environments.half().cpu().contiguous().clone(),
        'example': reference.example.to('cpu', torch.int32).clone(),
        'labels': list(reference.labels),
        'formulas': list(reference.formulas),
        'unit': reference.unit,
        'growth': None if growth is None else dataclasses.asdict(growth),
    }


def read_reference(content: Mapping[str, Any], model: RelaxationModel) -> ReferenceSet | None:
    """Return the field `reference` of the checkpoint of `model`, None where there is none; raises ValueError."""
    if FIELD not in content:
        return None
    found = field(content, FIELD, dict, 'environments of the training')
    numbers = read_weights(
        {name: found.get(name) for name in ('centre', 'axes', 'environments')}, where=f'field `{FIELD}`'
    )
    centre, axes, environments = numbers['centre'], numbers['axes'], numbers['environments']
    labels, formulas = (_read_texts(found, name) for name in ('labels', 'formulas'))
    example = _read_example(found, len(labels))
    expected = model.site_features
    if not expected or centre.shape != (expected,):
        raise ValueError(f'field `{FIELD}`: centre: expected the {expected} features of the model, found {len(centre)}')
    if axes.ndim != 2 or len(axes) != expected or not axes.shape[1]:
        raise ValueError(f'field `{FIELD}`: axes: expected the shape ({expected}, K), found {tuple(axes.shape)}')
    if environments.ndim != 2 or environments.shape[1] != axes.shape[1] or len(environments) != len(example):
        raise ValueError(
            f'field `{FIELD}`: environments: expected the shape ({len(example)}, {axes.shape[1]}), found '
            f'{tuple(environments.shape)}'
        )
    if len(labels) != len(formulas):
        raise ValueError(f'field `{FIELD}`: expected a formula for each label, found {len(formulas)} and {len(labels)}')
    unit = _read_number(found, 'unit')
    growth = None
    if found.get('growth') is not None:
        described = field(found, 'growth', dict, 'how uncertainties grow')
        growth = Growth(*(_read_number(described, name) for name in Growth.__dataclass_fields__))
    return ReferenceSet(centre, axes, environments, example, labels, formulas, unit, growth)


def _read_texts(found: Mapping[str, Any], name: str) -> list[str]:
    texts = field(found, name, list, 'a list of words')
    if any(type(text) is not str or not text.isprintable() or len(text) > MOST_TEXT for text in texts):
        raise ValueError(f'field `{FIELD}`: {name}: expected printable words of up to {MOST_TEXT} characters')
    return texts


def _read_example(found: Mapping[str, Any], count: int) -> Tensor:
    example = found.get('example')
    if not isinstance(example, Tensor) or example.layout != torch.strided or example.dtype != torch.int32:
        raise ValueError(f'field `{FIELD}`: example: expected a plain tensor of int32, found {type(example).__name__}')
    if example.ndim != 1 or example.device.type != 'cpu' or not len(example) or example.stride() != (1,):
        raise ValueError(f'field `{FIELD}`: example: expected numbers in a row, found the shape {tuple(example.shape)}')
    if not 0 <= int(example.min()) <= int(example.max()) < count:
        raise ValueError(f'field `{FIELD}`: example: expected numbers from 0 to {count - 1}')
    return example.long()


def _read_number(found: Mapping[str, Any], name: str) -> float:
    number = field(found, name, float, 'a number')
    if not (math.isfinite(number) and 0 < number < 1e6):
        raise ValueError(f'field `{FIELD}`: {name}: expected a number above 0, found {number}')
    return number
