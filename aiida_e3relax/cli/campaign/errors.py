"""What can go wrong with a campaign, as a line for a person."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator

import click
from aiida.common.exceptions import NotExistent
from sqlalchemy.exc import SQLAlchemyError

from aiida_e3relax.campaign.submission.lock import CampaignLockedError, LockLostError, describe_lost_database
from aiida_e3relax.common.messages import printable


@contextlib.contextmanager
def plain_errors(name: str) -> Iterator[None]:
    """Turn what can go wrong with the campaign `name` into a line; raises ClickException."""
    try:
        yield
    except CampaignLockedError as error:
        raise click.ClickException(
            f'campaign `{printable(name)}` is being run by another process ({printable(str(error))}); see how far: '
            f'`aiida-e3relax campaign status {shell_quote(name)}`'
        ) from error
    except (LockLostError, SQLAlchemyError) as error:
        raise click.ClickException(describe_lost_database(error)) from error
    except (ValueError, NotExistent) as error:
        raise click.ClickException(printable(str(error))) from error
    except OSError as error:
        where = f'{printable(error.filename)}: ' if error.filename else ''
        raise click.ClickException(f'{where}cannot be written: {printable(error.strerror or str(error))}') from error


def shell_quote(name: str) -> str:
    """Return a name as it stands in a command."""
    return shlex.quote(printable(name))
