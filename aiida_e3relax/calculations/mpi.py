"""Whether a job and its code agree on MPI: AiiDA finds out when it writes the script, and the job stops there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm

WITH_MPI = 'withmpi'


def mpi_of(code: orm.AbstractCode | None) -> dict[str, bool]:
    """Return the option by which a job runs `code` as that says, none where it does not say."""
    return {} if code is None or code.with_mpi is None else {WITH_MPI: code.with_mpi}


def find_mpi_fault(inputs: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
    """Return why a job with these `options` cannot run the code among its `inputs`, or None."""
    code, asked = inputs.get('code'), options.get(WITH_MPI)
    if code is None or code.with_mpi is None or asked is None or code.with_mpi is asked:
        return None
    if asked:
        return (
            f'`{WITH_MPI}`: found True, but the code {code.full_label} runs without MPI (`with_mpi` is False): give '
            'one made with `with_mpi: true`, or leave the option out (on the command line: --mpi-processes and '
            '--machines above 1). A code that starts MPI itself gets its processes by `resources` in the overrides'
        )
    return (
        f'`{WITH_MPI}`: found False, but the code {code.full_label} runs by MPI (`with_mpi` is True): give a code made '
        f'with `with_mpi: false`, or set `{WITH_MPI}: true` among the options'
    )
