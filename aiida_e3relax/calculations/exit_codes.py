"""How a run of the network can fail, with what to do about it."""

from __future__ import annotations

from aiida.engine import CalcJobProcessSpec


def define_exit_codes(spec: CalcJobProcessSpec) -> None:
    """Define the exit codes of `E3RelaxCalculation`, which `E3RelaxBaseWorkChain` ends with, too.

    `detail` is what the program or its files say. Which words of the program's report lead to which code is in
    `aiida_e3relax.parsers.predict`.
    """
    spec.exit_code(
        310,
        'ERROR_BAD_INPUT',
        invalidates_cache=True,
        message='The network program could not use its structures or parameters ({detail}): do as it says, or check '
        'that the code runs the same version of aiida-e3relax as this plugin.',
    )
    spec.exit_code(
        311,
        'ERROR_BAD_CHECKPOINT',
        invalidates_cache=True,
        message='The network program could not load the checkpoint, or the weights of the potential ({detail}): pass a '
        'model made from an intact file with `E3RelaxModelData.get_or_create(<file>)`, or '
        '`E3RelaxModelData.default()`, and of a potential weights that `e3relax potentials check <name> --weights '
        '<file>` can load there.',
    )
    spec.exit_code(
        320,
        'ERROR_NO_DEVICE',
        invalidates_cache=True,
        message='The device asked for is not there ({detail}): set `device` in `parameters` to `auto` or `cpu`, or '
        'ask the scheduler for a GPU with `metadata.options.num_gpus` (SLURM, LSF) or `custom_scheduler_commands`.',
    )
    spec.exit_code(
        321,
        'ERROR_OUT_OF_MEMORY',
        invalidates_cache=True,
        message='The run had too little memory ({detail}): set a smaller `max_edges` in `parameters` for a network, or '
        '`device` to `cpu` for a potential alone and where not even one structure fits, or let `E3RelaxBaseWorkChain` '
        'do so.',
    )
    spec.exit_code(
        322,
        'ERROR_MISSING_PACKAGE',
        invalidates_cache=True,
        message='A package is missing where the code runs ({detail}): install it, or leave out what needs it, '
        '`potential` or `second_opinion` in `parameters`, or this model.',
    )
    spec.exit_code(
        330,
        'ERROR_PROGRAM_CRASHED',
        invalidates_cache=True,
        message='The network program stopped without a report ({detail}): read its last lines with `verdi calcjob '
        'outputcat <pk> e3relax.err` and test the code with `verdi code test <code>`.',
    )
    spec.exit_code(
        331,
        'ERROR_PROGRAM_FAILED',
        invalidates_cache=True,
        message='The network program reported an unexpected error ({detail}): read its last lines with `verdi '
        'calcjob outputcat <pk> e3relax.err`.',
    )
    spec.exit_code(
        340,
        'ERROR_OUTPUT_INVALID',
        invalidates_cache=True,
        message='The output files are incomplete or contradict the input ({detail}): run it again, and check that '
        'the code runs `e3relax` of the same version as this plugin.',
    )
    spec.exit_code(
        350,
        'ERROR_ALL_STRUCTURES_FAILED',
        message='No structure could be predicted ({detail}): mend the input structures as the output `report` '
        'says for each of them, or take another pre-relaxer.',
    )
