"""Whether the scheduler would take a job of a code: SLURM judges its script, and runs nothing."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common.datastructures import CodeRunMode
from aiida.schedulers.datastructures import JobTemplate

from aiida_e3relax.cli.chain_choices import ONE_PROCESS
from aiida_e3relax.cli.setup_file.checks import NOT_TESTED, CheckError, Outcome, check
from aiida_e3relax.common.mappings import merge
from aiida_e3relax.common.messages import short
from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain

KIND = 'scheduler'
SLURM = 'core.slurm'
WITHOUT_QUEUE = 'core.direct'
"""Takes every job at once."""
JUDGE = 'sbatch --test-only'
"""Reads a script from its standard input, and says when it would begin, or why it never does."""
SAID = 'sbatch: '
TAKEN = (
    *('queue_name', 'account', 'qos', 'priority', 'rerunnable', 'max_wallclock_seconds', 'custom_scheduler_commands'),
    'import_sys_environment',
)
"""The options that a template of a job has by the same names; others become something else, or are not for SLURM."""


def check_scheduler(code: orm.InstalledCode, options: Mapping[str, Any]) -> Outcome | None:
    """Return whether the scheduler takes VASP's jobs of a code with these options; None where nothing can refuse any.

    Of others than SLURM nothing is known before a job is submitted.
    """
    label, scheduler = code.full_label, code.computer.scheduler_type
    if scheduler == WITHOUT_QUEUE:
        return None
    if scheduler != SLURM:
        return Outcome(KIND, label, NOT_TESTED, f'{scheduler} tells only when a job is submitted')
    return check(KIND, label, lambda: ask_slurm(code, options))


def ask_slurm(code: orm.InstalledCode, options: Mapping[str, Any]) -> str:
    """Return what SLURM says of VASP's job with these options, without running it; raises CheckError where it refuses.

    `sbatch --test-only` refuses what nodes that are down or drained now would take later, too.
    """
    remedy = (
        f'mend `options` of {code.full_label} in the file: `queue_name`, `account`, `qos`, `resources`, '
        '`max_wallclock_seconds`; `sinfo` there lists the partitions, and nodes that are down or drained now'
    )
    try:
        script = write_script(code, options)
    except ValueError as error:
        raise CheckError(f'AiiDA makes no script of its jobs: {error}', remedy) from error
    with code.computer.get_transport() as transport:
        status, output, errors = transport.exec_command_wait(JUDGE, stdin=script)
    lines = [line.strip() for line in f'{output}\n{errors}'.splitlines() if line.strip()]
    told = short('; '.join(line.removeprefix(SAID) for line in lines) or f'exit status {status}', 300)
    if not status:
        return told
    raise CheckError(f'SLURM refuses its jobs: {told}', remedy)


def write_script(code: orm.InstalledCode, options: Mapping[str, Any]) -> str:
    """Return the script of a job of VASP without VASP, as the computer's scheduler has it for chains with `options`.

    Raises ValueError for options that contradict each other or those of chains.
    """
    computer, scheduler = code.computer, code.computer.get_scheduler()
    asked = merge(_default_options(), options)
    resources = copy.deepcopy(asked['resources'])
    scheduler.preprocess_resources(resources, computer.get_default_mpiprocs_per_machine())
    texts = (computer.get_prepend_text(), code.prepend_text, asked.get('prepend_text'))
    wanted = {name: asked[name] for name in TAKEN if name in asked}
    template = JobTemplate(
        wanted
        | {
            'shebang': computer.get_shebang(),
            'job_name': 'aiida-e3relax-setup',
            'job_resource': scheduler.create_job_resource(**resources),
            'max_memory_kb': asked.get('max_memory_kb') or computer.get_default_memory_per_machine(),
            'prepend_text': '\n\n'.join(text for text in texts if text),
            'codes_info': [],
            'codes_run_mode': CodeRunMode.SERIAL,
        }
    )
    return scheduler.get_submit_script(template)


def _default_options() -> dict[str, Any]:
    """Return the options of VASP's jobs that chains have where nothing else is said."""
    inputs = E3RelaxVaspWorkChain.get_protocol_inputs(overrides=ONE_PROCESS)
    return inputs['vasp']['vasp']['calc']['metadata']['options']
