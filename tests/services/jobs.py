"""Print what AiiDA and its jobs say of where they ran, as JSON: `verdi -p PROFILE run tests/services/jobs.py`."""

from __future__ import annotations

import json

from aiida import orm


def main() -> None:
    """Print a row for each job of the profile."""
    jobs = orm.QueryBuilder().append(orm.CalcJobNode).order_by({orm.CalcJobNode: 'id'}).all(flat=True)
    rows = [
        {
            'pk': job.pk,
            'process': job.process_label,
            'computer': job.computer.label,
            'job_id': job.get_job_id(),
            'exit_status': job.exit_status,
            'stdout': job.get_scheduler_stdout(),
        }
        for job in jobs
    ]
    print(json.dumps(rows))


if __name__ == '__main__':
    main()
