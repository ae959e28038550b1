"""What an experiment is: variants of a training, by name, on each data set with each seed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida_e3relax.common.errors import InputError, MissingPackageError
from aiida_e3relax.common.messages import suggestion
from aiida_e3relax.gnn.evaluation.evaluate import DUMMY
from aiida_e3relax.gnn.models.registry import MODELS
from aiida_e3relax.gnn.training.settings import TrainingSettings, hyperparameter_names, read_settings

SETTINGS = tuple(field.name for field in dataclasses.fields(TrainingSettings))


@dataclasses.dataclass(frozen=True)
class Variant:
    """A row of a table.

    Attributes
    ----------
    name
        As tables have it.
    changes
        Settings of the training, and hyper-parameters of the model by their own names, beside those that all share.
    place
        What a sweep changes, and to what; None elsewhere.
    seeds
        How many of the seeds it is trained with, the first ones; None takes all.
    """

    name: str
    changes: Mapping[str, Any]
    place: tuple[str, Any] | None = None
    seeds: int | None = None

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return re.sub(r'[^\w.+-]+', '-', self.name).strip('-.')


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What is measured of a trained model.

    Attributes
    ----------
    splits
        The splits to measure on.
    match
        Whether StructureMatcher is asked.
    inference_batches
        Crystals a batch for which the time of a prediction is measured.
    """

    splits: tuple[str, ...] = ('test',)
    match: bool = True
    inference_batches: tuple[int, ...] = (1, 32)


@dataclasses.dataclass(frozen=True)
class Run:
    """A training and what is measured after it; the Dummy's has no training.

    Attributes
    ----------
    variant, data, seed
        Names of the row and of the data set, and the seed.
    file
        The training file.
    folder
        Of the run.
    settings
        Of the training; None where they cannot be had.
    fault
        Why not.
    """

    variant: str
    data: str
    seed: int
    file: Path
    folder: Path
    settings: TrainingSettings | None
    fault: str = ''

    @property
    def title(self) -> str:
        """What a line about it begins with."""
        return f'{self.variant}, {self.data}' + ('' if self.variant == DUMMY else f', seed {self.seed}')


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Runs that make a table, in the order in which they are started: all of the first seed come first.

    Attributes
    ----------
    kind
        ``benchmark``, ``ablate`` or ``sweep``.
    output
        Folder of all that is written.
    variants
        The rows.
    reference
        The row whose improvement over the best other one is stated; None states none.
    measurement
        What is measured.
    runs
        What is run. Rows of equal settings share a run, so that it may stand here more than once.
    """

    kind: str
    output: Path
    variants: tuple[Variant, ...]
    reference: str | None
    measurement: Measurement
    runs: tuple[Run, ...]

    @property
    def folders(self) -> list[Path]:
        """The folders of the runs, each once."""
        return list(dict.fromkeys(run.folder for run in self.runs))


@dataclasses.dataclass(frozen=True)
class Shared:
    """What all variants of an experiment have in common: preset, settings, and hyper-parameters of who has them."""

    preset: str = 'short'
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def value_text(value: Any) -> str:
    """Return a value that a sweep sets as rows and axes name it: JSON, but a text without quotes."""
    return value if isinstance(value, str) else json.dumps(value)


def settings_of(variant: Variant, shared: Shared, seed: int, where: str) -> TrainingSettings:
    """Return the settings of a training of `variant`.

    A hyper-parameter of `shared` that the model does not have is left out.

    Raises
    ------
    InputError
        For a change that is neither a setting nor a hyper-parameter of the model, and values that cannot be.
    MissingPackageError
        For a model of which a package is not installed.
    """
    content: dict[str, Any] = {**shared.settings, 'seed': seed}
    architecture = str(variant.changes.get('architecture', content.get('architecture', TrainingSettings.architecture)))
    if architecture not in MODELS:
        raise InputError(f'{where}: unknown model {architecture!r}{suggestion(architecture, list(MODELS))}')
    sizes = hyperparameter_names(architecture)
    hyperparameters = {name: value for name, value in shared.hyperparameters.items() if name in sizes}
    for name, value in variant.changes.items():
        if name == 'hyperparameters' and isinstance(value, Mapping):
            hyperparameters |= value
        elif name in SETTINGS:
            content[name] = value
        elif name in sizes:
            hyperparameters[name] = value
        else:
            raise InputError(
                f'{where}: {name!r} is neither a setting of the training nor a size of {architecture}'
                f'{suggestion(name, [*SETTINGS, *sizes])}'
            )
    return read_settings({**content, 'hyperparameters': hyperparameters}, where, shared.preset)


def make_experiment(
    kind: str,
    where: str,
    data: list[Path],
    output: Path,
    variants: list[Variant],
    shared: Shared,
    seeds: list[int],
    measurement: Measurement,
    reference: str | None,
) -> Experiment:
    """Return the runs of all `variants` on each data set with each seed, after the Dummy's.

    Messages begin with `where`.

    Raises
    ------
    InputError
        For names that repeat, and settings that cannot be. A model that lacks a package is a run with a fault.
    """
    names = [path.stem for path in data]
    _check_unique(names, 'data', 'the name of a data set is that of its file')
    _check_unique([variant.folder for variant in variants], where, 'each row has a name and a folder of its own')
    if reference is not None and reference not in (rows := [variant.name for variant in variants]):
        raise InputError(f'reference: {reference!r} is no row of the table{suggestion(reference, rows)}')
    _check_some_model_has(shared, variants, where)
    runs = [
        Run(DUMMY, name, 0, file, output / 'runs' / name / DUMMY, TrainingSettings(architecture=DUMMY))
        for name, file in zip(names, data, strict=True)
    ]
    known: dict[str, Path] = {}
    for turn, seed in enumerate(seeds):
        for (name, file), variant in itertools.product(zip(names, data, strict=True), variants):
            if variant.seeds is None or turn < variant.seeds:
                folder = output / 'runs' / name / variant.folder / f'seed-{seed}'
                try:
                    settings = settings_of(variant, shared, seed, f'{where}: {variant.name}')
                except MissingPackageError as error:
                    runs.append(Run(variant.name, name, seed, file, folder, None, str(error)))
                    continue
                folder = known.setdefault(f'{name} {complete(settings)}', folder)
                runs.append(Run(variant.name, name, seed, file, folder, settings))
    return Experiment(kind, output, tuple(variants), reference, measurement, tuple(runs))


def complete(settings: TrainingSettings) -> TrainingSettings:
    """Return `settings` with all hyper-parameters of the model, by which equal ones are found."""
    sizes = MODELS[settings.architecture].Hyperparameters(**settings.hyperparameters)
    return dataclasses.replace(settings, hyperparameters=dataclasses.asdict(sizes))


def _check_unique(names: list[str], where: str, why: str) -> None:
    for name in names:
        if not name or names.count(name) > 1:
            raise InputError(f'{where}: {name!r} stands there {"twice" if name else "without a letter"}: {why}')


def _check_some_model_has(shared: Shared, variants: list[Variant], where: str) -> None:
    """Raise InputError for a hyper-parameter of all that no model has."""
    default = str(shared.settings.get('architecture', TrainingSettings.architecture))
    known: set[str] = set()
    for variant in variants:
        try:
            known |= set(hyperparameter_names(str(variant.changes.get('architecture', default))))
        except MissingPackageError:
            return
    for name in shared.hyperparameters:
        if name not in known:
            raise InputError(f'{where}: hyperparameters: no model here has {name!r}{suggestion(name, sorted(known))}')
