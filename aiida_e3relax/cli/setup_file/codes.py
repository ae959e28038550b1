"""Codes of a profile: found as a file has them, or made."""

from __future__ import annotations

import copy
import dataclasses
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.common.exceptions import EntryPointError
from aiida.plugins import CalculationFactory, SchedulerFactory

from aiida_e3relax.calculations.gpus import find_options_fault
from aiida_e3relax.calculations.mpi import WITH_MPI
from aiida_e3relax.calculations.pre_relaxer import NETWORK, PreRelaxer, default_pre_relaxer, set_default_pre_relaxer
from aiida_e3relax.cli.setup_file.computers import LOCAL, find_computer
from aiida_e3relax.cli.setup_file.settings import VASP, CodeSettings, ComputerSettings
from aiida_e3relax.cli.setup_file.step import Step, list_differences
from aiida_e3relax.common.mappings import check_keys

GIVEN = ('prepend_text', 'append_text', 'use_double_quotes')
OF_CONTAINER = ('image_name', 'engine_command', 'wrap_cmdline_params')
"""What AiiDA has a default of, by the same names."""


@dataclasses.dataclass(frozen=True)
class Place:
    """What a code must know of its computer, which may not be there yet."""

    transport: str
    scheduler: str
    use_double_quotes: bool
    mpiprocs_per_machine: int | None


def find_place(label: str, computers: Mapping[str, ComputerSettings]) -> Place:
    """Return the computer of that label, of the file or of the profile; raises ValueError where there is none."""
    stored = find_computer(label)
    if stored is not None:
        return Place(
            stored.transport_type,
            stored.scheduler_type,
            stored.get_use_double_quotes(),
            stored.get_default_mpiprocs_per_machine(),
        )
    if label not in computers:
        raise ValueError(f'no computer `{label}` is in the profile or under `computers` of the file; add it there')
    wanted = computers[label]
    return Place(wanted.transport, wanted.scheduler, bool(wanted.use_double_quotes), wanted.mpiprocs_per_machine)


def find_code(full_label: str) -> orm.InstalledCode | None:
    """Return the code of that label; raises ValueError where there are several."""
    label, _, computer = full_label.partition('@')
    query = orm.QueryBuilder().append(orm.Computer, filters={'label': computer}, tag='computer')
    found = query.append(orm.AbstractCode, filters={'label': label}, with_computer='computer').all(flat=True)
    if len(found) > 1:
        raise ValueError(f'several codes are called `{full_label}`; `verdi code relabel` all but one')
    return found[0] if found else None


def plan_code(full_label: str, wanted: CodeSettings, computers: Mapping[str, ComputerSettings]) -> Step:
    """Return what is to be done for a code.

    Raises ValueError for what cannot be, or where the stored code differs, with what to do.
    """
    computer = full_label.partition('@')[2]
    place = find_place(computer, computers)
    executable = _executable(wanted, place)
    if '$' in f'{wanted.engine_command}{wanted.image_name}' and not place.use_double_quotes:
        raise ValueError(
            'engine_command: AiiDA puts each part of it into single quotes, in which the shell sees no `$`; set '
            f'`use_double_quotes: true` of the computer {computer}, or do without, as with '
            '`export APPTAINER_BIND="$PWD"` in `prepend_text`'
        )
    stored = find_code(full_label)
    if stored is not None:
        _refuse_differences(stored, wanted, executable)
        _check_options(wanted, place, computer, stored.with_mpi)
        return Step('code', full_label)
    _check_options(wanted, place, computer, _runs_by_mpi(wanted))
    return Step('code', full_label, 'created', partial(_create, full_label, wanted, executable))


def plan_pre_relaxer(full_label: str, who: str) -> Step:
    """Return what is to be done for the default pre-relaxer of a code, which `plan_code` has checked."""
    name = f'{who} of {full_label}'
    if find_code(full_label) is not None:
        return Step('pre-relaxer', name)
    return Step(
        'pre-relaxer',
        name,
        'created',
        lambda: set_default_pre_relaxer(orm.load_code(full_label), PreRelaxer.parse(who)),
    )


def _create(full_label: str, wanted: CodeSettings, executable: str) -> None:
    """Store a code, its computer being there."""
    label, _, computer = full_label.partition('@')
    kind: type[orm.InstalledCode] = orm.ContainerizedCode if wanted.is_container else orm.InstalledCode
    names = [*GIVEN, *(OF_CONTAINER if wanted.is_container else ())]
    kind(
        label=label,
        computer=orm.Computer.collection.get(label=computer),
        filepath_executable=executable,
        default_calc_job_plugin=wanted.plugin,
        with_mpi=_runs_by_mpi(wanted),
        description=wanted.description,
        **{name: getattr(wanted, name) for name in names if getattr(wanted, name) is not None},
    ).store()


def _runs_by_mpi(wanted: CodeSettings) -> bool:
    """Return what the code says of MPI: VASP runs by it, the programs of this package do not."""
    return wanted.plugin == VASP if wanted.with_mpi is None else wanted.with_mpi


def _executable(wanted: CodeSettings, place: Place) -> str:
    """Return the path of the program; raises ValueError for one that is not there, or stands for none."""
    path = Path(wanted.executable)
    if wanted.is_container:
        return wanted.executable
    if place.transport != LOCAL:
        if not path.is_absolute() and '$' not in wanted.executable:
            raise ValueError(f'executable: expected an absolute path on that computer, found {wanted.executable!r}')
        return wanted.executable
    if len(path.parts) == 1:
        path = Path(sys.executable).with_name(wanted.executable)
    if not path.is_absolute() or not path.is_file() or not os.access(path, os.X_OK):
        raise ValueError(f'executable: expected a program at an absolute path, found none at {path}')
    return str(path)


def _check_options(wanted: CodeSettings, place: Place, computer: str, by_mpi: bool | None) -> None:
    """Raise ValueError for options that jobs of the plugin, the scheduler or the code do not have.

    The code runs `by_mpi` or not, or by what the options say where that is None.
    """
    plugin: Any = CalculationFactory(wanted.plugin)
    ports = plugin.spec().inputs.get_port('metadata.options')
    try:
        check_keys(wanted.options, list(ports))
        for name, value in wanted.options.items():
            if fault := ports[name].validate(value):
                raise ValueError(fault.message)
        if fault := find_options_fault(wanted.options, place.scheduler, computer):
            raise ValueError(fault)
        if by_mpi is not None and wanted.options.get(WITH_MPI, by_mpi) is not by_mpi:
            raise ValueError(
                f'{WITH_MPI}: expected {by_mpi}, as `with_mpi` of the code is, found {not by_mpi}; leave it out, or '
                f'set `with_mpi: {str(not by_mpi).lower()}` beside `plugin`'
            )
        if 'resources' in wanted.options:
            scheduler = SchedulerFactory(place.scheduler)
            resources = copy.deepcopy(wanted.options['resources'])
            scheduler.preprocess_resources(resources, place.mpiprocs_per_machine)
            scheduler.validate_resources(**resources)
    except (TypeError, ValueError, EntryPointError) as error:
        raise ValueError(f'options: {error}') from error


def _refuse_differences(stored: orm.InstalledCode, wanted: CodeSettings, executable: str) -> None:
    """Raise ValueError where a stored code is not as a file has it: it can never change."""
    asked = dataclasses.asdict(wanted) | {'executable': executable, 'container': wanted.is_container}
    for name in ('description', 'device', 'options', 'pre_relaxer'):
        del asked[name]
    found = {
        **{name: getattr(stored, name, None) for name in asked},
        'executable': str(stored.get_executable()),
        'plugin': stored.default_calc_job_plugin,
        'container': isinstance(stored, orm.ContainerizedCode),
    }
    if different := list_differences(asked, found):
        raise ValueError(
            f'{different}; a stored code cannot change: write the file as it is, or move the code out of the way with '
            f'`verdi code relabel {stored.full_label} {stored.label}-old`'
        )
    if wanted.pre_relaxer is not None and (there := str(default_pre_relaxer(stored) or NETWORK)) != wanted.pre_relaxer:
        raise ValueError(
            f'pre_relaxer: expected {wanted.pre_relaxer}, found {there}; write the file as it is, or change it with '
            f'`aiida-e3relax pre-relaxer {stored.full_label} {wanted.pre_relaxer}`'
        )
