"""The configuration file of a training run: training files, output folder and settings."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.fields import describe_value
from aiida_e3relax.common.messages import suggestion
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint
from aiida_e3relax.gnn.training.settings import TrainingSettings, hyperparameter_names, read_settings

_PLACES = ('data', 'output', 'preset')
_LONGEST = 2**20


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """A run: training files, output folder, settings. Paths start at the working folder."""

    data: list[Path]
    output: Path
    settings: TrainingSettings


def read_config(path: Path, changes: list[str], tuned_from: Checkpoint | None = None) -> TrainingConfig:
    """Return the run that the YAML or JSON file at `path` describes, after ``NAME=VALUE`` `changes`.

    Parameters
    ----------
    path
        Names and values: ``data``, ``output``, ``preset``, and those of `TrainingSettings`. JSON needs no PyYAML.
    changes
        Of anything in the file, or of a hyper-parameter by its own name; values are JSON, else text.
    tuned_from
        The checkpoint that training starts from: the model is its own, and the preset ``finetune`` unless another is
        named.

    Raises
    ------
    InputError
        For a file that cannot be read, names that are not known, values that cannot be, or missing places.
    """
    content = read_content(path)
    _change(content, changes)
    data, output = content.pop('data', None), content.pop('output', None)
    data = [data] if isinstance(data, str) else data
    if not isinstance(data, list) or not data or not all(isinstance(name, str) for name in data):
        raise InputError(
            f'{path}: data: expected training files that `e3relax data` wrote, found {describe_value(data)}'
        )
    if not isinstance(output, str):
        raise InputError(f'{path}: output: expected the folder for the run, found {describe_value(output)}')
    if tuned_from:
        content = _with_model_of(tuned_from, content, path)
    preset = str(content.pop('preset', 'finetune' if tuned_from else 'short'))
    return TrainingConfig([Path(name) for name in data], Path(output), read_settings(content, str(path), preset))


def read_content(path: Path) -> dict[str, Any]:
    """Return the names and values of the YAML or JSON file at `path`; raises InputError where it has none."""
    try:
        with path.open('rb') as handle:
            text = handle.read(_LONGEST + 1).decode('utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'{path}: cannot be read as YAML or JSON, which describe a run: {error}') from error
    if len(text) > _LONGEST:
        raise InputError(f'{path}: expected a file of some lines that describes a run, found one of megabytes')
    try:
        content = _json(text)
        if content is None:
            content = _yaml(text, path)
    except RecursionError as error:
        raise InputError(f'{path}: lists or names in each other, deeper than any setting is') from error
    except _RepeatedNameError as error:
        raise InputError(f'{path}: {error.args[0]!r} stands there twice: leave one out') from error
    if not isinstance(content, dict):
        raise InputError(f'{path}: expected names and values, such as `output: run`, found {describe_value(content)}')
    if not isinstance(sizes := content.get('hyperparameters', {}), dict):
        raise InputError(f'{path}: hyperparameters: expected names and values, found {describe_value(sizes)}')
    return content


class _RepeatedNameError(Exception):
    """A name that stands twice in a file, with two values."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return pairs of names and values as a mapping."""
    for index, (name, _) in enumerate(pairs):
        if any(name == other for other, _ in pairs[:index]):
            raise _RepeatedNameError(name)
    return dict(pairs)


def _json(text: str) -> Any:
    """Return what JSON `text` says, or None where it is none."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except ValueError:
        return None


def _yaml(text: str, path: Path) -> Any:
    """Return what YAML `text` says."""
    try:
        from aiida_e3relax.common.strict_yaml import load_yaml
    except ImportError as error:
        raise InputError(f'{path}: not JSON, and YAML needs PyYAML: pip install pyyaml, or write JSON') from error
    try:
        return load_yaml(text)
    except ValueError as error:
        raise InputError(f'{path}: {error}') from error


def _change(content: dict[str, Any], changes: list[str]) -> None:
    """Put ``NAME=VALUE`` `changes` into the content of a file."""
    settings = [*_PLACES, *(field.name for field in dataclasses.fields(TrainingSettings))]
    pairs = [change.partition('=') for change in changes]
    named = {name: text for name, _, text in pairs}
    architecture = named.get('architecture', content.get('architecture', TrainingSettings.architecture))
    sizes = hyperparameter_names(str(architecture))
    for name, separator, text in pairs:
        if not separator:
            raise InputError(f'--set {name}: expected NAME=VALUE')
        if name not in (*settings, *sizes):
            raise InputError(f'--set: unknown setting {name!r}{suggestion(name, [*settings, *sizes])}')
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if name in settings:
            content[name] = value
        else:
            content['hyperparameters'] = {**content.get('hyperparameters', {}), name: value}


def _with_model_of(checkpoint: Checkpoint, content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return `content` with the model of `checkpoint`; what it says of the model must be that."""
    sizes = dataclasses.asdict(checkpoint.model.hyperparameters)
    own = {'architecture': checkpoint.architecture, **sizes}
    asked = {**content.get('hyperparameters', {})}
    if 'architecture' in content:
        asked['architecture'] = content['architecture']
    for name, value in asked.items():
        if own.get(name) != value:
            raise InputError(
                f'{path}: {name}: {value!r}, but the checkpoint has {own.get(name)!r}: a model is tuned as it is; '
                'leave the line out, or train from scratch with `e3relax train`'
            )
    return {**content, 'architecture': checkpoint.architecture, 'hyperparameters': sizes}
