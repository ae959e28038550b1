"""Experiments as files and command lines say them: `benchmark`, `ablate` and `sweep`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.fields import describe_value, read_fields
from aiida_e3relax.common.messages import suggestion
from aiida_e3relax.gnn.evaluation.evaluate import DUMMY
from aiida_e3relax.gnn.experiments.ablations import ABLATIONS
from aiida_e3relax.gnn.experiments.plan import (
    SETTINGS,
    Experiment,
    Measurement,
    Shared,
    Variant,
    complete,
    make_experiment,
    settings_of,
    value_text,
)
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.registry import MODELS
from aiida_e3relax.gnn.training.config import read_content
from aiida_e3relax.gnn.training.settings import TrainingSettings

MOST_SEEDS = 1000
EQUAL = ('steps', 'batch_size', 'training_share', 'seed')
"""What all models of a benchmark have alike."""


@dataclasses.dataclass(frozen=True)
class ExperimentFile:
    """The names in the file of an experiment.

    Attributes
    ----------
    data, output
        Training files, each a data set of its own, and the folder of all that is written.
    preset, settings, hyperparameters
        Of all trainings; a hyper-parameter is given to the models that have it.
    seeds
        How many (from 0), or which.
    splits, match, inference_batches
        See `Measurement`.
    reference
        The row whose improvement over the best other one is stated; by default the first.
    models
        Of a benchmark: names, or names with what is changed for each; ``seeds`` there takes only so many of the seeds.
    model, variants
        Of an ablation: the model, or what is changed for all of its variants, and these: names of `ABLATIONS`, or names
        with what is changed; by default all that the model has.
    sweep
        Of a sweep: names of settings or hyper-parameters, and a list of values for each.
    """

    data: list = dataclasses.field(default_factory=list)
    output: str = ''
    preset: str = 'short'
    settings: dict = dataclasses.field(default_factory=dict)
    hyperparameters: dict = dataclasses.field(default_factory=dict)
    seeds: int | list = 3
    splits: list = dataclasses.field(default_factory=lambda: ['test'])
    match: bool = True
    inference_batches: list = dataclasses.field(default_factory=lambda: [1, 32])
    reference: str | None = None
    models: list | dict = dataclasses.field(default_factory=list)
    model: str | dict = 'e3relax-h2'
    variants: list | dict = dataclasses.field(default_factory=list)
    sweep: dict = dataclasses.field(default_factory=dict)


_OWN = {'benchmark': ('models',), 'ablate': ('model', 'variants'), 'sweep': ('model', 'sweep')}


def read_experiment(kind: str, path: Path | None, given: Mapping[str, Any], changes: list[str]) -> Experiment:
    """Return the experiment of the YAML or JSON file at `path`, or of what the command line alone says.

    Parameters
    ----------
    kind
        ``benchmark``, ``ablate`` or ``sweep``.
    path
        The file, if there is one; its names are those of `ExperimentFile`.
    given
        The same names from the command line, which count more.
    changes
        ``NAME=VALUE`` of settings or hyper-parameters of all trainings.

    Raises
    ------
    InputError
        For a file that cannot be read, names that are not known, values that cannot be, and what is missing.
    """
    where = f'e3relax {kind}' if path is None else str(path)
    content = {} if path is None else read_content(path)
    if isinstance(content.get('data'), str):
        content['data'] = [content['data']]
    content |= given
    for other in set(_OWN) - {kind}:
        for name in set(_OWN[other]) - set(_OWN[kind]):
            if name in content:
                raise InputError(f'{where}: {name}: is for `e3relax {other}`, this is `e3relax {kind}`')
    file = read_fields(ExperimentFile, content, where)
    if not file.data or not all(isinstance(name, str) for name in file.data):
        raise InputError(
            f'{where}: data: expected training files that `e3relax data` wrote, found {describe_value(file.data)}'
        )
    if not file.output:
        raise InputError(f'{where}: output: expected the folder for all that is written (--output FOLDER)')
    shared = _shared(file, changes, where)
    variants = {'benchmark': _models, 'ablate': _ablation, 'sweep': _sweep}[kind](file, shared, where)
    reference = file.reference or (variants[0].name if len(variants) > 1 and kind != 'sweep' else None)
    return make_experiment(
        kind,
        where,
        [Path(name) for name in file.data],
        Path(file.output),
        variants,
        shared,
        _seeds(file.seeds, where),
        _measurement(file, where),
        reference,
    )


def _models(file: ExperimentFile, shared: Shared, where: str) -> list[Variant]:
    """Return the variants of a benchmark; the Dummy stands beside them anyway."""
    if not file.models:
        raise InputError(f'{where}: models: expected names of models (--models painn egnn), found none')
    named = _named(file.models, f'{where}: models')
    variants = []
    for name, changes in named.items():
        if name == DUMMY:
            continue
        for equal in EQUAL:
            if equal in changes:
                raise InputError(
                    f'{where}: models: {name}: {equal}: all models have the same: write it below `settings:`'
                )
        seeds = changes.pop('seeds', None)
        if seeds is not None and (type(seeds) is not int or seeds < 1):
            raise InputError(
                f'{where}: models: {name}: seeds: expected how many of them, found {describe_value(seeds)}'
            )
        variants.append(Variant(name, {'architecture': name, **changes}, seeds=seeds))
    return variants


def _ablation(file: ExperimentFile, shared: Shared, where: str) -> list[Variant]:
    """Return the variants of an ablation, after the model itself."""
    base = _model(file.model, f'{where}: model')
    whole = Variant(str(base['architecture']), base)
    if file.variants:
        named = _named(file.variants, f'{where}: variants', ABLATIONS)
        return [whole, *(Variant(name, base | changes) for name, changes in named.items() if name != whole.name)]
    settings = complete(settings_of(whole, shared, 0, where))
    known = {*SETTINGS, *settings.hyperparameters}
    variants = [Variant(name, {**base, **changes}) for name, changes in ABLATIONS.items() if known.issuperset(changes)]
    return [whole, *(variant for variant in variants if _differs(variant, shared, settings))]


def _differs(variant: Variant, shared: Shared, settings: TrainingSettings) -> bool:
    """Whether a variant trains otherwise than with these settings."""
    own_loss = MODELS[settings.architecture].loss is not RelaxationModel.loss  # those of DeepRelax
    if own_loss and not {'loss', 'layer_weights'}.isdisjoint(variant.changes):
        return False
    return complete(settings_of(variant, shared, 0, variant.name)) != settings


def _sweep(file: ExperimentFile, shared: Shared, where: str) -> list[Variant]:
    """Return the variants of a sweep: one name after the other, the rest as in the model itself."""
    base = _model(file.model, f'{where}: model')
    if not file.sweep:
        raise InputError(f'{where}: sweep: expected names and values (layers=1,2,3), found none')
    variants = []
    for name, values in file.sweep.items():
        if name == 'seed':
            raise InputError(f'{where}: sweep: seed: every value has the same seeds: write `seeds:` (--seeds)')
        if not isinstance(values, list) or not values:
            raise InputError(f'{where}: sweep: {name}: expected a list of values, found {describe_value(values)}')
        for value in values:
            variants.append(Variant(f'{name}={value_text(value)}', base | {name: value}, (str(name), value)))
    return variants


def _model(model: str | Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return what is changed for all variants; its architecture is always among it."""
    changes = {'architecture': model} if isinstance(model, str) else dict(model)
    if not isinstance(changes.get('architecture'), str):
        raise InputError(f'{where}: expected the name of a model, or names and values with `architecture`')
    return changes


def _named(
    given: list[Any] | Mapping[Any, Any], where: str, known: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, dict[str, Any]]:
    """Return names with their changes; a plain list takes those of `known`, or none."""
    if isinstance(given, list):
        if repeated := next((name for name in given if given.count(name) > 1), None):
            raise InputError(f'{where}: {repeated!r} stands there twice')
        for name in given:
            if not isinstance(name, str):
                raise InputError(f'{where}: expected a name, found {describe_value(name)}')
            if known is not None and name not in known:
                raise InputError(f'{where}: {name!r} is not known{suggestion(name, list(known))}')
        given = {name: known[name] if known else {} for name in given}
    for name, changes in given.items():
        if not isinstance(name, str) or not isinstance(changes or {}, Mapping):
            raise InputError(
                f'{where}: {name}: expected names and values that are changed, found {describe_value(changes)}'
            )
    return {name: dict(changes or {}) for name, changes in given.items()}


def _shared(file: ExperimentFile, changes: list[str], where: str) -> Shared:
    """Return what all trainings have in common, after ``NAME=VALUE`` `changes`."""
    settings, hyperparameters = dict(file.settings), dict(file.hyperparameters)
    if isinstance(inner := settings.pop('hyperparameters', {}), Mapping):
        hyperparameters = {**inner, **hyperparameters}
    for change in changes:
        name, separator, text = change.partition('=')
        if not separator:
            raise InputError(f'--set {name}: expected NAME=VALUE')
        (settings if name in SETTINGS else hyperparameters)[name] = parsed(text)
    for name in settings:
        if name not in SETTINGS:
            raise InputError(f'{where}: settings: unknown setting {name!r}{suggestion(str(name), list(SETTINGS))}')
    if 'seed' in settings:
        raise InputError(f'{where}: settings: seed: write `seeds:` (--seeds), how many or which')
    return Shared(file.preset, settings, hyperparameters)


def parsed(text: str) -> Any:
    """Return the value that `text` of a command line stands for: JSON, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def parsed_values(text: str) -> list[Any]:
    """Return the values that `text` of a command line lists, with commas between them; lists are JSON."""
    try:
        return json.loads(f'[{text}]')
    except ValueError:
        return [parsed(part) for part in text.split(',')]


def _seeds(given: int | list[Any], where: str) -> list[int]:
    """Return the seeds that a number, or a list, stands for."""
    seeds = list(range(min(given, MOST_SEEDS + 1))) if isinstance(given, int) else given
    whole = all(type(seed) is int and seed >= 0 for seed in seeds)
    if not whole or not 1 <= len(seeds) <= MOST_SEEDS or len(set(seeds)) != len(seeds):
        raise InputError(
            f'{where}: seeds: expected how many, or a list of different ones, found {describe_value(given)}'
        )
    return seeds


def _measurement(file: ExperimentFile, where: str) -> Measurement:
    """Return what is measured."""
    if not file.splits or not all(isinstance(name, str) for name in file.splits):
        raise InputError(f'{where}: splits: expected names such as `test`, found {describe_value(file.splits)}')
    batches = file.inference_batches
    if not all(type(size) is int and 1 <= size <= 100_000 for size in batches):
        raise InputError(f'{where}: inference_batches: expected numbers of crystals, found {describe_value(batches)}')
    return Measurement(tuple(dict.fromkeys(file.splits)), file.match, tuple(sorted(set(batches))))
