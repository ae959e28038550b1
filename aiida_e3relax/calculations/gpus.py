"""GPUs that a job asks the scheduler for. AiiDA's schedulers have no word for them, so a job gets a line of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import CalcJob, CalcJobProcessSpec
from aiida.engine.processes.calcjobs.calcjob import validate_calc_job
from aiida.engine.processes.ports import PortNamespace

OPTION = 'num_gpus'
LINES = 'custom_scheduler_commands'
REQUESTS = {'core.slurm': '#SBATCH --gres=gpu:{count}', 'core.lsf': '#BSUB -gpu num={count}'}
"""By scheduler the line that asks for so many GPUs on each node, where one holds on every cluster."""
ASKED = re.compile(r'--gres[= ]|gres/gpu|--gpus|(?<=\s)-G\s*\d|(?<=\s)-gpu\b|\bngpus')
"""What asks for GPUs, or for other generic resources, in lines that a person writes for a scheduler."""


class GpuJob(CalcJob):
    """A job that can ask for GPUs by the option `num_gpus`; they go into its script as the scheduler words them."""

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the option."""
        super().define(spec)
        spec.input(
            f'metadata.options.{OPTION}',
            valid_type=int,
            required=False,
            validator=validate_num_gpus,
            help='How many GPUs the job gets on its node, by SLURM and LSF; a job computes on the first of them. For '
            f'others, and for a GPU of one kind, `{LINES}` takes the line of your cluster.',
        )

    def _setup_metadata(self, metadata: dict[str, Any]) -> None:
        """Store the options, with the line that asks for GPUs among those for the scheduler."""
        options = metadata.get('options') or {}
        if count := options.get(OPTION):
            computer = find_computer(self.inputs)
            assert computer is not None, 'validated before'
            lines = [options.get(LINES), REQUESTS[computer.scheduler_type].format(count=count)]
            metadata = {**metadata, 'options': {**options, LINES: '\n'.join(filter(None, lines))}}
        super()._setup_metadata(metadata)


def find_computer(inputs: Mapping[str, Any]) -> orm.Computer | None:
    """Return the computer of a job, by its inputs or those in a builder; None while it has none."""
    named = (inputs.get('metadata') or {}).get('computer')
    return named or getattr(inputs.get('code'), 'computer', None)


def find_gpu_fault(inputs: Mapping[str, Any]) -> str | None:
    """Return why the scheduler of a job cannot be asked for the GPUs that its inputs name, or None."""
    computer = find_computer(inputs)
    options = (inputs.get('metadata') or {}).get('options') or {}
    return None if computer is None else find_options_fault(options, computer.scheduler_type, computer.label)


def find_options_fault(options: Mapping[str, Any], scheduler: str, computer: str) -> str | None:
    """Return why the `scheduler` of a computer of that label cannot be asked for GPUs by `options`, or None."""
    if not options.get(OPTION):
        return None
    if scheduler == 'core.direct':
        return (
            f'`{OPTION}`: nothing hands out GPUs on {computer}, whose scheduler is core.direct: leave it out, and let '
            'each job take a free one by a lock in the `prepend_text` of its code, as `aiida-e3relax setup --example '
            'workstation` shows'
        )
    if scheduler not in REQUESTS:
        return (
            f'`{OPTION}`: expected {" or ".join(REQUESTS)}, found {scheduler} on {computer}, which asks for GPUs '
            f'differently on each cluster: leave it out, and give `{LINES}` the line of yours'
        )
    if found := ASKED.search(str(options.get(LINES) or '')):
        return (
            f'`{OPTION}`: `{LINES}` asks for GPUs or other resources, too, by {found[0].strip("= ")}, of which the '
            f'scheduler takes one line alone: leave `{OPTION}` out, and ask for all of them there'
        )
    return None


def validate_num_gpus(value: Any, _: Any) -> str | None:
    """Return why this is no number of GPUs, or None."""
    if value is not None and (isinstance(value, bool) or value < 0):
        return f'`{OPTION}`: expected an integer from 0 on, found {value!r}'
    return None


def validate_gpu_job(inputs: Mapping[str, Any], namespace: PortNamespace) -> str | None:
    """Return what is wrong with the inputs of a `GpuJob` as AiiDA's own jobs have them, or None."""
    return find_gpu_fault(inputs) or validate_calc_job(inputs, namespace)
