"""The file of `aiida-e3relax setup --config`: its fields, checked as far as that needs no profile."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, TypeVar

from aiida_e3relax.calculations.pre_relaxer import PreRelaxer
from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.fields import describe_value, number, read_fields
from aiida_e3relax.common.strict_yaml import load_yaml
from aiida_e3relax.gnn.potentials.registry import PRE_RELAXERS

T = TypeVar('T')

PREDICT = 'e3relax.predict'
TRAIN = 'e3relax.train'
VASP = 'vasp.vasp'
DEFAULT_MODEL = 'default'
"""In the place of a checkpoint: the model that comes with the package."""

LABEL = re.compile(r'[^\s@]+')
IMAGE_FIELD = '{image_name}'
FOR_THE_SHELL = re.compile(r'[;&|<>`\'"\\]')
"""What AiiDA's quotes keep from the shell, or what cuts a quoted word in two."""


@dataclasses.dataclass(frozen=True)
class ComputerSettings:
    """A computer, in the words of `verdi computer setup`; what is None is as AiiDA has it, and not compared.

    Attributes
    ----------
    hostname
        Its name in the network.
    transport
        How AiiDA reaches it: `core.local` for this machine, `core.ssh_async`, `core.ssh`.
    scheduler
        What starts jobs there: `core.direct` where nothing does, `core.slurm`, `core.pbspro`, `core.sge`, ...
    description
        For people; not compared.
    work_dir
        Where jobs run, absolute, `{username}` is that of there; on this machine by default a folder of AiiDA's.
    mpirun_command
        What starts MPI programs, such as `srun -n {tot_num_mpiprocs}`.
    mpiprocs_per_machine
        MPI processes a node where a job asks for no number.
    default_memory_per_machine
        Memory a node where a job asks for none, in kB.
    shebang, prepend_text, append_text
        First line of each job's script, and what stands before and after the programs.
    use_double_quotes
        Whether the shell sees variables in `mpirun_command` and `engine_command`.
    poll_interval
        Least time between two looks at the queue, in s.
    connection
        What `verdi computer configure` asks of this transport, such as `host` or `safe_interval`.
    """

    hostname: str
    transport: str
    scheduler: str
    description: str = ''
    work_dir: str | None = None
    mpirun_command: str | None = None
    mpiprocs_per_machine: int | None = number(None, 1)
    default_memory_per_machine: int | None = number(None, 1)
    shebang: str | None = None
    prepend_text: str | None = None
    append_text: str | None = None
    use_double_quotes: bool | None = None
    poll_interval: float | None = number(None, 0)
    connection: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class CodeSettings:
    """A code, in the words of `verdi code create`; what is None is as AiiDA has it, and not compared.

    Attributes
    ----------
    plugin
        What it is for: `e3relax.predict`, `e3relax.train` or `vasp.vasp`.
    executable
        The absolute path there, or of a container the program in it. On this machine a bare name such as `e3relax` is
        that in the Python environment of this command.
    description
        For people; not compared.
    prepend_text, append_text
        What stands before and after it in the script of a job.
    with_mpi
        Whether it is started by the computer's `mpirun_command`; by default VASP is.
    use_double_quotes
        Whether the shell sees variables in the program's own words.
    image_name, engine_command
        Of a container: the image, and what runs a program in it, as `apptainer exec --nv {image_name}`.
    wrap_cmdline_params
        Whether program and words go to the engine as one word, as `docker run ... sh -c` needs it.
    pre_relaxer
        What makes VASP's start where nothing else is named, see `aiida-e3relax pre-relaxer`.
    device
        Where the live test must find the network: `auto`, `cpu`, `cuda` or `cuda:<n>`.
    options
        What a job asks the scheduler for: `queue_name`, `account`, `resources`, `num_gpus`,
        `custom_scheduler_commands`, ... They count for the live test, and for chains by `--overrides`.
    """

    plugin: str = dataclasses.field(metadata={'options': (PREDICT, TRAIN, VASP)})
    executable: str
    description: str = ''
    prepend_text: str | None = None
    append_text: str | None = None
    with_mpi: bool | None = None
    use_double_quotes: bool | None = None
    image_name: str | None = None
    engine_command: str | None = None
    wrap_cmdline_params: bool | None = None
    pre_relaxer: str | None = None
    device: str = 'auto'
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_container(self) -> bool:
        """Whether it runs in a container."""
        return self.image_name is not None


@dataclasses.dataclass(frozen=True)
class FamilySettings:
    """A family of VASP's potentials.

    Attributes
    ----------
    path
        The folder or archive of POTCARs that aiida-vasp uploads where the profile has no such family.
    description
        For people.
    elements
        Which must have a potential.
    """

    path: str | None = None
    description: str | None = None
    elements: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class SetupSettings:
    """All that a profile is to hold.

    Attributes
    ----------
    computers
        By label.
    codes
        By `LABEL@COMPUTER`.
    potentials
        By the label of the family.
    models
        Checkpoints, or `default`.
    folder
        That relative paths are relative to.
    """

    computers: dict[str, ComputerSettings]
    codes: dict[str, CodeSettings]
    potentials: dict[str, FamilySettings]
    models: list[str]
    folder: Path

    def path(self, text: str) -> Path:
        """Return the absolute path that stands in the file as `text`."""
        return self.folder / Path(text).expanduser()


@dataclasses.dataclass(frozen=True)
class _Content:
    computers: dict = dataclasses.field(default_factory=dict)
    codes: dict = dataclasses.field(default_factory=dict)
    potentials: dict = dataclasses.field(default_factory=dict)
    models: list = dataclasses.field(default_factory=list)


def read_setup(path: Path) -> SetupSettings:
    """Return what the file at `path` says; raises InputError for what cannot be."""
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'{path}: expected a YAML file, found {error}') from error
    return parse_setup(text, str(path), path.absolute().parent)


def parse_setup(text: str, where: str, folder: Path) -> SetupSettings:
    """Return what YAML `text` says; raises InputError, which begins with `where`, for what cannot be."""
    try:
        content = load_yaml(text)
    except ValueError as error:
        raise InputError(f'{where}: {error}') from error
    found = read_fields(_Content, content, where)
    if not any((found.computers, found.codes, found.potentials, found.models)):
        raise InputError(f'{where}: expected computers, codes, potentials or models, found none of them')
    for model in found.models:
        if not isinstance(model, str) or not model:
            raise InputError(f'{where}: models: expected paths or `{DEFAULT_MODEL}`, found {describe_value(model)}')
    settings = SetupSettings(
        _read_each(ComputerSettings, found.computers, f'{where}: computers'),
        _read_each(CodeSettings, found.codes, f'{where}: codes'),
        _read_each(FamilySettings, found.potentials, f'{where}: potentials'),
        found.models,
        folder,
    )
    for label in settings.computers:
        if not LABEL.fullmatch(label):
            raise InputError(f'{where}: computers: expected a label without spaces and @, found {label!r}')
    for label, code in settings.codes.items():
        try:
            _check_code(label, code)
        except ValueError as error:
            raise InputError(f'{where}: codes: {label}: {error}') from error
    for label, family in settings.potentials.items():
        if wrong := [one for one in family.elements if not isinstance(one, str)]:
            raise InputError(
                f'{where}: potentials: {label}: elements: expected symbols, found {describe_value(wrong[0])}; '
                'put NO and similar in quotes'
            )
    return settings


def _read_each(cls: type[T], content: dict[Any, Any], where: str) -> dict[str, T]:
    """Return an instance of the dataclass `cls` for each label in `content`."""
    read: dict[str, T] = {}
    for label, fields in content.items():
        if not isinstance(label, str) or not label.strip():
            raise InputError(f'{where}: expected a label, found {describe_value(label)}')
        read[label] = read_fields(cls, {} if fields is None else fields, f'{where}: {label}')
    return read


def _check_code(full_label: str, code: CodeSettings) -> None:
    """Raise ValueError for a code that could never run."""
    label, _, computer = full_label.partition('@')
    if not LABEL.fullmatch(label) or not LABEL.fullmatch(computer):
        raise ValueError('expected a label such as `e3relax@cluster`, the name of the code and that of its computer')
    if code.plugin == VASP and code.device != 'auto':
        raise ValueError('device: expected it of a code of the network, found one for VASP; leave it out')
    if not re.fullmatch(r'auto|cpu|cuda(:\d{1,3})?', code.device):
        raise ValueError(f'device: expected auto, cpu, cuda or cuda:<n>, found {code.device!r}')
    if code.pre_relaxer is not None:
        _check_pre_relaxer(code)
    if '~' in code.executable or not code.executable.strip():
        raise ValueError(f'executable: expected an absolute path, found {code.executable!r}; AiiDA quotes it, so that '
                         'the shell does not see `~`')  # fmt: skip
    if '$' in code.executable and not code.use_double_quotes:
        raise ValueError(
            'executable: AiiDA puts it into single quotes, in which the shell sees no `$`; write the path out'
        )
    _check_container(code)


def _check_pre_relaxer(code: CodeSettings) -> None:
    if code.plugin != PREDICT:
        raise ValueError(f'pre_relaxer: expected it of a code for {PREDICT}, found one for {code.plugin}')
    try:
        named = PreRelaxer.parse(str(code.pre_relaxer))
    except ValueError as error:
        raise ValueError(f'pre_relaxer: {error}') from error
    if named.potential is not None and PRE_RELAXERS[named.potential].needs_weights:
        raise ValueError(
            f'pre_relaxer: expected a potential whose package brings its weights; those of {named.potential} are named '
            'with each run'
        )


def _check_container(code: CodeSettings) -> None:
    """Raise ValueError for a container that AiiDA's quotes would break.

    AiiDA puts the image into the engine's command, cuts that at spaces, and quotes each part.
    """
    if (code.image_name is None) != (code.engine_command is None):
        raise ValueError('expected `image_name` and `engine_command` together, found one of them')
    if code.engine_command is None or code.image_name is None:
        if code.wrap_cmdline_params:
            raise ValueError('wrap_cmdline_params: expected `image_name` and `engine_command` beside it, found none')
        return
    if IMAGE_FIELD not in code.engine_command:
        raise ValueError(
            f'engine_command: expected {IMAGE_FIELD} in it, as in `apptainer exec --nv {IMAGE_FIELD}`, found '
            f'{code.engine_command!r}'
        )
    try:
        code.engine_command.format(image_name=code.image_name)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f'engine_command: expected no other braces than {IMAGE_FIELD}, found {code.engine_command!r}; write '
            'others twice, `{{` and `}}`'
        ) from error
    if re.search(r'\s', code.image_name) or not code.image_name:
        raise ValueError(f'image_name: expected a path without spaces, at which AiiDA cuts, found {code.image_name!r}')
    for name, text in (('engine_command', code.engine_command), ('image_name', code.image_name)):
        if '~' in text:
            raise ValueError(f'{name}: AiiDA quotes it, so that the shell does not see `~`; write the path out')
        if odd := FOR_THE_SHELL.search(text):
            raise ValueError(
                f'{name}: AiiDA cuts it at spaces and quotes each part, so that {odd[0]} reaches the program as it is; '
                'put shell commands and values with spaces into `prepend_text`, as `export APPTAINER_BIND="$PWD"`'
            )
