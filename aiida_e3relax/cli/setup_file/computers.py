"""Computers of a profile: found as a file has them, or made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from aiida import orm
from aiida.common.exceptions import ValidationError
from aiida.manage import get_manager
from aiida.manage.configuration import get_config
from aiida.orm.utils.builders.computer import ComputerBuilder
from aiida.plugins.entry_point import get_entry_point_names
from aiida.transports.cli import create_option, transport_option_default

from aiida_e3relax.cli.setup_file.settings import ComputerSettings
from aiida_e3relax.cli.setup_file.step import Step, list_differences
from aiida_e3relax.common.fields import describe_value
from aiida_e3relax.common.mappings import check_keys

LOCAL = 'core.local'
DEFAULTS: dict[str, Any] = {
    'mpirun_command': 'mpirun -np {tot_num_mpiprocs}',
    'shebang': '#!/bin/bash',
    'prepend_text': '',
    'append_text': '',
    'use_double_quotes': False,
}
"""As `verdi computer setup` has them."""


def find_computer(label: str) -> orm.Computer | None:
    """Return the computer of that label, and none whose PK or UUID it may be."""
    return next(iter(orm.Computer.collection.find({'label': label})), None)


def plan_computer(label: str, wanted: ComputerSettings) -> Step:
    """Return what is to be done for a computer.

    Raises ValueError for what cannot be, or where the stored computer differs, with what to do.
    """
    _check_plugin('transport', wanted.transport, 'aiida.transports')
    _check_plugin('scheduler', wanted.scheduler, 'aiida.schedulers')
    stored = find_computer(label)
    computer = stored or _make(label, wanted)
    connection = _convert(computer, wanted.connection)
    if stored is None:

        def create() -> None:
            computer.store()
            if wanted.poll_interval is not None:
                computer.set_minimum_job_poll_interval(wanted.poll_interval)
            computer.configure(**_complete(computer, connection))

        return Step('computer', label, 'created', create)
    _refuse_differences(stored, wanted)
    if not stored.is_configured:
        return Step('computer', label, 'configured', lambda: stored.configure(**_complete(stored, connection)))
    if different := list_differences(connection, stored.get_configuration()):
        raise ValueError(
            f'connection: {different}; write the file as it is, or change it with '
            f'`verdi computer configure {stored.transport_type} {label}`'
        )
    return Step('computer', label)


def _check_plugin(name: str, plugin: str, group: str) -> None:
    try:
        check_keys([plugin], get_entry_point_names(group))
    except ValueError as error:
        raise ValueError(f'{name}: {error}; see `verdi plugin list {group}`') from error


def _make(label: str, wanted: ComputerSettings) -> orm.Computer:
    """Return an unstored computer; raises ValueError for what AiiDA refuses."""
    given = dataclasses.asdict(wanted)
    del given['connection'], given['poll_interval']
    given |= {name: value for name, value in DEFAULTS.items() if given[name] is None}
    if given['work_dir'] is None:
        if wanted.transport != LOCAL:
            raise ValueError('work_dir: expected a folder of that computer, as `/scratch/{username}/aiida`, found none')
        profile = get_manager().get_profile_storage().profile.name
        given['work_dir'] = str(Path(get_config().dirpath) / 'scratch' / profile)
    try:
        computer = ComputerBuilder(label=label, **given).new()
        computer.validate()
    except (ValidationError, ComputerBuilder.ComputerValidationError) as error:
        raise ValueError(str(error)) from error
    return computer


def _refuse_differences(stored: orm.Computer, wanted: ComputerSettings) -> None:
    """Raise ValueError where a stored computer is not as a file has it."""
    asked = dataclasses.asdict(wanted)
    del asked['connection'], asked['description']
    found = ComputerBuilder.get_computer_spec(stored) | {'poll_interval': stored.get_minimum_job_poll_interval()}
    if different := list_differences(asked, found):
        raise ValueError(
            f'{different}; write the file as it is, or move the computer out of the way with '
            f'`verdi computer relabel {stored.label} {stored.label}-old`'
        )


def _convert(computer: orm.Computer, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file says of the connection, checked as `verdi computer configure` does.

    Raises ValueError for a name that the transport does not have, and for values that it refuses.
    """
    options = computer.get_transport_class().auth_options
    try:
        check_keys(given, list(options))
    except ValueError as error:
        raise ValueError(f'connection: {computer.transport_type}: {error}') from error
    return {name: _convert_one(name, options[name], value) for name, value in given.items()}


def _convert_one(name: str, option: Mapping[str, Any], value: Any) -> Any:
    """Return one value of a connection as its option on the command line makes it."""
    if not isinstance(value, bool if option.get('switch') else str | int | float):
        expected = 'true or false' if option.get('switch') else 'one value'
        raise ValueError(f'connection: {name}: expected {expected}, found {describe_value(value)}')
    (parameter,) = create_option(name, option)(lambda: None).__click_params__
    context = click.Context(click.Command('configure'))
    try:
        converted = parameter.type.convert(value, parameter, context)
        check = option.get('callback')
        return converted if check is None else check(context, parameter, converted)
    except click.UsageError as error:
        raise ValueError(f'connection: {name}: {error.message}') from error


def _complete(computer: orm.Computer, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole configuration of a connection, what is not given as `verdi computer configure` suggests it."""
    options = computer.get_transport_class().auth_options
    suggested = {name: transport_option_default(name, computer) for name in options.keys() - given.keys()}
    for name, value in suggested.items():
        if value is not None and options[name].get('switch'):
            suggested[name] = click.BOOL.convert(value, None, None)
        elif value not in (None, ''):
            suggested[name] = _convert_one(name, options[name], value)
    return {name: value for name, value in suggested.items() if value is not None} | dict(given)
