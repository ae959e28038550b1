"""Whether a job and its code agree on MPI: AiiDA finds out when it writes the script, and the job stops there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPTION = 'withmpi'


def find_mpi_fault(inputs: Mapping[str, Any], options: Mapping[str, Any], default: bool | None = None) -> str | None:
    """Return why a job with these `options` cannot run the code among its `inputs`, or None.

    `default` is what its port says where the options do not; None leaves it to the code.
    """
    code, asked = inputs.get('code'), options.get(OPTION, default)
    if code is None or code.with_mpi is None or asked is None or code.with_mpi is asked:
        return None
    if asked:
        return (
            f'`{OPTION}`: found True, as --mpi-processes and --machines above 1 ask for it, but the code '
            f'{code.full_label} runs without MPI (`with_mpi` is False): leave them out, or give a code made with '
            '`with_mpi: true`; one that starts MPI itself gets its processes by `resources` in the overrides'
        )
    return (
        f'`{OPTION}`: found False, but the code {code.full_label} runs by MPI (`with_mpi` is True): give a code made '
        f'with `with_mpi: false`, or set `{OPTION}: true` among the options'
    )
