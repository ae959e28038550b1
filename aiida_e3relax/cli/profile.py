"""The AiiDA profile that a command works in."""

from __future__ import annotations

import click

NO_PROFILE = 'No AiiDA profile is there: make one with `verdi presto --use-zeromq`, then run this again.'

profile_option = click.option('-p', '--profile', help='The AiiDA profile to use instead of the default one.')
"""The option of a command whose argument goes to `use_profile`."""


def use_profile(name: str | None) -> str:
    """Load the profile `name`, or the default one if none is loaded, and return its name.

    Raises ClickException when there is none.
    """
    from aiida import load_profile
    from aiida.common import log
    from aiida.common.exceptions import ConfigurationError
    from aiida.manage import get_manager
    from aiida.manage.configuration import get_config

    loaded = get_manager().get_profile()
    if name is None and loaded:
        return loaded.name
    known = get_config(create=True).profile_names
    if not known:
        raise click.ClickException(NO_PROFILE)
    if name is not None and name not in known:
        raise click.ClickException(f'No AiiDA profile `{name}`: expected one of {", ".join(known)}.')
    log.CLI_ACTIVE = True  # reports as `verdi` prints them, and not as a log file
    try:
        return load_profile(name, allow_switch=True).name
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
