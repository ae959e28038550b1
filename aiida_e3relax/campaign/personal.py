"""What an AiiDA archive says of the people and machines that made it: for whoever is about to publish it."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from aiida import orm
from aiida.tools.archive.abstract import get_format

WORK_DIRECTORIES = 'computers, with their work directories'
JOB_OPTIONS = ('account', 'queue_name', 'qos', 'custom_scheduler_commands')
"""Options of jobs that name people, projects or parts of a cluster."""
LEVELS = 3
"""Folders of a job below the work directory of its computer, such as ``0a/1b/2c3d-...``."""


def find_personal(archive: Path) -> dict[str, list[str]]:
    """Return by kind, in the order of a text, what an archive names; kinds of which there is nothing are left out.

    Job scripts are stored with each job, too, with all that `prepend_text` sets, and so are messages of errors and
    comments; they are not read here.
    """
    with get_format().open(archive, 'r') as reader:
        ask = reader.querybuilder
        found = {
            'people': _users(ask()),
            WORK_DIRECTORIES: _computers(ask()),
            'executables': _executables(ask()),
            'folders of jobs': _job_folders(ask()),
            'accounts, queues and owners of jobs': _job_words(ask()),
        }
    return {kind: sorted(set(words)) for kind, words in found.items() if words}


def _users(query: orm.QueryBuilder) -> list[str]:
    query.append(orm.User, project=['email', 'first_name', 'last_name', 'institution'])
    return [', '.join(filter(None, row)) for row in query.iterall()]


def _computers(query: orm.QueryBuilder) -> list[str]:
    query.append(orm.Computer, project=['label', 'hostname', 'metadata'])
    return [
        f'{label} ({hostname}): {metadata.get("workdir", "no work directory")}'
        for label, hostname, metadata in query.iterall()
    ]


def _executables(query: orm.QueryBuilder) -> list[str]:
    query.append(orm.Code, project=['label', 'attributes.filepath_executable', 'attributes.image_name'])
    return [f'{label}: {" in ".join(filter(None, places))}' for label, *places in query.iterall()]


def _job_folders(query: orm.QueryBuilder) -> list[str]:
    """Return where jobs ran: the work directory of a computer may have a place for the name of a user."""
    query.append(orm.CalcJobNode, project='attributes.remote_workdir')
    folders = (PurePosixPath(folder) for (folder,) in query.iterall(batch_size=1000) if folder)
    return [str(folder.parents[LEVELS - 1]) for folder in folders if len(folder.parents) >= LEVELS]


def _job_words(query: orm.QueryBuilder) -> list[str]:
    query.append(orm.CalcJobNode, project=[*(f'attributes.{name}' for name in JOB_OPTIONS), 'attributes.last_job_info'])
    return [
        f'{name}: {" ".join(value.split())}'
        for *options, info in query.iterall(batch_size=1000)
        for name, value in [*zip(JOB_OPTIONS, options, strict=True), ('owner', _owner(info))]
        if value
    ]


def _owner(info: Any) -> str | None:
    """Return who owned a job, by what the scheduler last said of it."""
    told = json.loads(info) if isinstance(info, str) else info
    return (told or {}).get('job_owner')


def format_personal(found: dict[str, list[str]]) -> str:
    """Return what `find_personal` found as lines."""
    return '\n'.join(f'- {kind}: {"; ".join(words)}' for kind, words in found.items())
