"""All steps that a file asks for: checked before the first of them is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from aiida_e3relax.cli.setup_file.codes import plan_code, plan_pre_relaxer
from aiida_e3relax.cli.setup_file.computers import plan_computer
from aiida_e3relax.cli.setup_file.nodes import FAMILY, plan_family, plan_model
from aiida_e3relax.cli.setup_file.settings import SetupSettings
from aiida_e3relax.cli.setup_file.step import Step


def plan_setup(settings: SetupSettings) -> list[Step]:
    """Return the steps, in the order of dependence.

    Raises ValueError, with a line for each thing that cannot be as the file has it.
    """
    steps, faults = [], []
    for name, plan in _list_plans(settings):
        try:
            steps.append(plan())
        except ValueError as error:
            faults.append(f'{name}: {error}')
    if faults:
        raise ValueError('\n'.join(faults))
    return steps


def _list_plans(settings: SetupSettings) -> Iterator[tuple[str, Callable[[], Step]]]:
    """Yield what each thing is called in messages, and what plans it."""
    for label, computer in settings.computers.items():
        yield f'computer {label}', partial(plan_computer, label, computer)
    for label, code in settings.codes.items():
        yield f'code {label}', partial(plan_code, label, code, settings.computers)
        if code.pre_relaxer is not None:
            yield f'pre-relaxer of {label}', partial(plan_pre_relaxer, label, code.pre_relaxer)
    for label, family in settings.potentials.items():
        yield f'{FAMILY} {label}', partial(plan_family, label, family, settings)
    for model in settings.models:
        yield f'model {model}', partial(plan_model, model, settings)
