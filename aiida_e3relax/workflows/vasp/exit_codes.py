"""How the chain can fail, with what to do about it."""

from __future__ import annotations

from aiida.engine.processes.workchains.workchain import WorkChainSpec


def define_exit_codes(spec: WorkChainSpec) -> None:
    """Define how the chain can fail."""
    spec.exit_code(
        400,
        'ERROR_NETWORK_FAILED',
        message='The network failed and `on_network_failure` is `error` ({detail}): find its last job with `verdi '
        'process status <pk>` and do what its exit message says, or set `on_network_failure` to `raw`.',
    )
    spec.exit_code(
        410,
        'ERROR_RELAXATION_FAILED',
        message='No VASP relaxation finished ({detail}): find its last job with `verdi process status <pk>`, read '
        'what VASP wrote, where it ran, with `verdi calcjob outputcat <pk of the job> vasp_output`, mend the inputs '
        'in `vasp` and run again.',
    )
    spec.exit_code(
        420,
        'ERROR_COMPARISON_FAILED',
        message='The relaxed crystal is there, in `structure`, but the legs could not be compared ({detail}): find '
        'where it failed with `verdi process report <pk>`, and take the figures of each leg from `raw.misc` and '
        '`predicted.misc`.',
    )
