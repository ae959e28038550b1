"""Sentences about a chain, for its process report and for its exit message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm

from aiida_e3relax.common.messages import short
from aiida_e3relax.workflows.vasp.job_output import find_last_lines, find_missing_files

LONGEST_EXCEPTION = 500
LEG_NAMES = {'predicted': 'the prediction', 'raw': 'the raw structure'}


def describe_failure(process: orm.ProcessNode) -> str:
    """Return how a process that is not finished well ended, to follow its name."""
    if process.is_killed:
        return f'was killed (<{process.pk}>)'
    if process.is_excepted:
        return f'stopped with an exception (<{process.pk}>): {_on_one_line(process.exception)}'
    told = f'failed with exit code {process.exit_status} (<{process.pk}>): {(process.exit_message or "").rstrip(".")}'
    job = _last_job(process)
    if job is None or job.is_finished_ok:
        return told
    if job.is_killed or job.is_excepted:
        return f'{told}; its last job {describe_failure(job)}'
    if job.exit_message and job.exit_message != process.exit_message:
        told = f'{told}; its last job <{job.pk}>: {job.exit_message}'
    found = (find_missing_files(job), _known_errors(job), find_last_lines(job))
    words = [word for word in found if word and word not in told]
    return '; '.join([told, *words])


def _on_one_line(exception: str | None) -> str:
    """Return what AiiDA has recorded of an exception without its line breaks."""
    return short(' '.join((exception or 'unknown').split()), LONGEST_EXCEPTION)


def _known_errors(job: orm.CalcJobNode) -> str | None:
    """Return the errors of VASP that aiida-vasp knows and found in the output of a job, or None."""
    notes = job.outputs.misc.get_dict().get('notifications', []) if 'misc' in job.outputs else []
    errors = dict.fromkeys(f'{note["name"]}: {note["message"]}' for note in notes if note.get('kind') == 'ERROR')
    return f'known errors of VASP in it: {", ".join(errors)}' if errors else None


def _last_job(process: orm.ProcessNode) -> orm.CalcJobNode | None:
    """Return the job that a work chain called last, directly or below."""
    jobs = [node for node in process.called_descendants if isinstance(node, orm.CalcJobNode)]
    return max(jobs, key=lambda job: job.pk or 0, default=None)


def describe_comparison(comparison: Mapping[str, Any]) -> str:
    """Return in a sentence what a `comparison` says."""
    steps = [
        f'{_format_count(comparison[leg]["ionic_steps"])} ionic steps from {name}'
        for leg, name in LEG_NAMES.items()
        if comparison[leg] and comparison[leg]['finished']
    ]
    told = f'VASP took {" and ".join(steps)}' if steps else 'No relaxation finished'
    if 'same_minimum' not in comparison:
        return told
    where = 'in the same minimum' if comparison['same_minimum'] else 'NOT in the same minimum'
    return f'{told}; they end {comparison["energy_difference_final_meV_per_atom"]:+.1f} meV/atom apart, {where}'


def _format_count(count: int | None) -> str:
    return 'an unknown number of' if count is None else str(count)
