"""A scheduler that starts jobs at once and tells of their end as SLURM's accounting does."""

from __future__ import annotations

from aiida.schedulers.plugins.direct import DirectScheduler
from aiida.schedulers.plugins.slurm import SlurmScheduler


class AccountingScheduler(DirectScheduler):
    """`core.direct` that reads how a job ended as `core.slurm` does, from the file that ACCOUNTS names.

    The file has the word that SLURM's `sacct` has for it, such as NODE_FAIL.
    """

    def _get_detailed_job_info_command(self, job_id: str) -> str:
        return 'printf "State|\\n%s|\\n" $(cat "$ACCOUNTS")'

    parse_output = SlurmScheduler.parse_output
