"""The content of a checkpoint file, checked field by field; errors name the field."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from aiida_e3relax.common.fields import describe_value, read_fields
from aiida_e3relax.common.messages import short, suggestion
from aiida_e3relax.crystals.structures import MAX_ATOMIC_NUMBER
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.ensemble import Ensemble
from aiida_e3relax.gnn.models.registry import MODELS, make_model

MOST_VALUES = 1_000_000
"""Numbers and words in the description of a training."""

LARGEST_REAL = defaultdict(lambda: 1e6, {'cutoff': 100.0, 'radial_cutoff': 1000.0})
"""Largest values of the hyper-parameters that are no whole numbers, lengths in A."""

MOST_NEIGHBOURS = 10_000
"""Of an atom, in a graph."""

OF_A_PART = {'offset_features': 100_000, 'strain_channels': 100_000}
"""Largest sizes of a part that a switch may leave out: the weights then do not tell them."""

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def field(content: Mapping[str, Any], name: str, kind: type, expected: str) -> Any:
    """Return the field `name`, which must be exactly of type `kind`; raises ValueError."""
    if name not in content:
        raise ValueError(f'field `{name}`, {expected}, is missing')
    if type(content[name]) is not kind:
        raise ValueError(f'field `{name}`: expected {expected}, found {_describe(content[name])}')
    return content[name]


def read_elements(content: Mapping[str, Any]) -> list[int]:
    """Return the field `elements`; raises ValueError."""
    elements = field(content, 'elements', list, 'a list of atomic numbers')
    bad = [z for z in elements if type(z) is not int or not 1 <= z <= MAX_ATOMIC_NUMBER]
    if bad or not elements:
        found = _describe(bad[0]) if bad else 'none'
        raise ValueError(f'field `elements`: expected atomic numbers from 1 to {MAX_ATOMIC_NUMBER}, found {found}')
    return elements


def read_training(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the field `training`: plain numbers and words, as a model card holds them; raises ValueError."""
    training = field(content, 'training', dict, 'how the model was trained')
    waiting, seen = [(training, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if seen > MOST_VALUES or depth > 16:
            raise ValueError('field `training`: expected fewer values')
        if type(value) is dict:
            waiting += [(entry, depth + 1) for pair in value.items() for entry in pair]
        elif type(value) in (list, tuple):
            waiting += [(entry, depth + 1) for entry in value]
        elif value is not None and type(value) not in (bool, int, float, str):
            raise ValueError(f'field `training`: expected plain numbers and words, found {_describe(value)}')
    return training


def read_model(content: Mapping[str, Any]) -> RelaxationModel:
    """Return the model of the fields `architecture`, `hyperparameters` and `weights`; raises ValueError."""
    architecture = field(content, 'architecture', str, 'the name of a model')
    hyperparameters = field(content, 'hyperparameters', dict, 'the sizes of the model')
    weights = read_weights(field(content, 'weights', dict, 'the weights by name'), may_count=True)
    check_hyperparameters(architecture, hyperparameters, weights)
    return build_model(architecture, hyperparameters, weights)


def read_weights(
    weights: Mapping[Any, Any], where: str = 'field `weights`', may_count: bool = False
) -> dict[str, Tensor]:
    """Return weights as plain finite tensors of the default precision, each with its own memory; raises ValueError.

    Where they `may_count`, integers are taken, too, as they are: batch norms hold the number of their batches.
    """
    read, dtypes = {}, (*FLOATS, *[torch.int64] * may_count)
    for name, value in weights.items():
        if type(name) is not str or not isinstance(value, Tensor):
            raise ValueError(f'{where}: expected tensors by name, found {_describe(value)} under {_describe(name)}')
        if value.layout != torch.strided or value.device.type != 'cpu' or value.dtype not in dtypes:
            raise ValueError(
                f'{where}: {short(name)}: expected a plain tensor of real numbers, found {_describe(value)}'
            )
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(
                f'{where}: {short(name)}: expected a number for each place, found fewer in {_describe(value)}'
            )
        dtype = torch.get_default_dtype() if value.is_floating_point() else value.dtype
        read[name] = value.detach().to(dtype, copy=True).contiguous()
        if not torch.isfinite(read[name]).all():
            raise ValueError(f'{where}: {short(name)}: expected finite numbers, found NaN or infinite ones')
    return read


def check_hyperparameters(
    architecture: str, hyperparameters: Mapping[str, Any], weights: Mapping[str, Tensor], within: str = ''
) -> None:
    """Raise ValueError for sizes of another type, or that no model with these weights can have."""
    if architecture not in MODELS:
        raise ValueError(
            f'unknown architecture {short(repr(architecture))}{suggestion(architecture[:60], list(MODELS))}'
        )
    where = f'field `hyperparameters`: {within}{architecture}'
    sizes = read_fields(MODELS[architecture].Hyperparameters, hyperparameters, where)
    largest = max((length for weight in weights.values() for length in weight.shape), default=1)
    bounds = {'layers': len(weights), 'members': len(weights), **OF_A_PART}
    for name, described in MODELS[architecture].Hyperparameters.__dataclass_fields__.items():
        value = getattr(sizes, name)
        if 'bounds' in described.metadata:
            continue  # read_fields has held it to them
        if type(value) is int:
            most = MOST_NEIGHBOURS if name.startswith('max_') else bounds.get(name, largest)
            if not 1 <= value <= most:
                raise ValueError(
                    f'{where}: {name}: expected a number from 1 to {most} as in the weights, found {value}'
                )
        elif type(value) is float and not 0 < value <= LARGEST_REAL[name]:
            raise ValueError(f'{where}: {name}: expected a number up to {LARGEST_REAL[name]:g}, found {value}')
    if isinstance(sizes, Ensemble.Hyperparameters):
        if sizes.member == architecture:
            raise ValueError(f'{where}: member: expected a single model, found an ensemble')
        check_hyperparameters(sizes.member, sizes.member_hyperparameters, weights, f'{within}{architecture} of ')


def build_model(
    architecture: str, hyperparameters: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> RelaxationModel:
    """Return a model with `weights`, without initial weights first, so that sizes that do not fit cost nothing.

    Raises ValueError where they are not the weights of such a model.
    """
    try:
        with torch.device('meta'), _Unfilled():
            model = make_model(architecture, dict(hyperparameters))
        for name, expected in model.state_dict().items():
            if name in weights and weights[name].is_floating_point() != expected.is_floating_point():
                raise ValueError(f'{name}: expected a tensor of {expected.dtype}, found {_describe(weights[name])}')
        model.load_state_dict(weights, assign=True)
    except Exception as error:  # sizes without sense fail anywhere
        raise ValueError(
            f'no weights of {architecture} with these sizes: {short(" ".join(str(error).split()), 300)}'
        ) from error
    return model


class _Unfilled(TorchFunctionMode):
    """Leaves new parameters uninitialised: initialising those without memory takes time, too."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, '__module__', None) == 'torch.nn.init':
            return args[0] if args else kwargs['tensor']
        return func(*args, **(kwargs or {}))


def _describe(value: Any) -> str:
    """Describe a value for a message."""
    if isinstance(value, Tensor):
        kind = str(value.layout).removeprefix('torch.')
        return f'a {value.device.type} tensor of {value.dtype}, {kind}, of shape {short(tuple(value.shape))}'
    return describe_value(value) if isinstance(value, str | int | float | bool | None) else f'a {type(value).__name__}'
