"""A small prediction as a real job: where a code computes, how fast, and whether its potential is installed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import ase.build
import numpy as np
from aiida import orm
from aiida.manage import get_manager
from aiida.manage.caching import disable_caching
from aiida.manage.configuration import get_config
from ase import Atoms
from plumpy import run_with_portal
from plumpy.exceptions import KilledError

from aiida_e3relax.calculations.pre_relaxer import PreRelaxer
from aiida_e3relax.calculations.predict import E3RelaxCalculation
from aiida_e3relax.cli.setup_file.checks import CheckError
from aiida_e3relax.common.messages import short
from aiida_e3relax.data.batch import StructureBatchData
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.gnn.potentials.registry import PRE_RELAXERS

CODES = E3RelaxCalculation.exit_codes
CRYSTALS = 32
REMEDIES = {
    CODES.ERROR_NO_DEVICE.status: 'let `options` of the code ask for a GPU, and have a PyTorch with CUDA in its '
    'environment; or write `device: auto` into the file',
    CODES.ERROR_PROGRAM_CRASHED.status: 'see `verdi calcjob outputcat {pk} e3relax.err`',
}
"""By the exit status of a job."""

RETRIES = {'transport.task_maximum_attempts': 2, 'transport.task_retry_initial_interval': 5}
"""Of AiiDA's options: by default it tries five minutes long to submit what no scheduler takes, then waits for ever."""


def predict_crystals(code: orm.InstalledCode, device: str, options: Mapping[str, Any]) -> str:
    """Predict a few dozen crystals with the default model, and return where and how fast; raises CheckError."""
    node = _run(code, make_crystals(CRYSTALS), {'device': device}, options, E3RelaxModelData.default())
    report = node.outputs.report.get_dict()
    failed = [row for row in report['structures'] if row['status'] != 'ok']
    if failed:
        raise CheckError(
            f'{len(failed)} of {CRYSTALS} crystals have failed, the first one with {failed[0]["status"]}: '
            f'{failed[0]["message"]}',
            f'see `verdi calcjob outputcat {node.pk} e3relax.err`',
        )
    seconds = report['timings_s']
    busy = seconds['graph'] + seconds['forward']
    return (
        f'{_describe_device(report["device"])}: {CRYSTALS} crystals in {busy:.2f} s of {seconds["total"]:.1f} s, '
        f'{CRYSTALS / busy:.1f} crystals/s'
    )


def try_potential(code: orm.InstalledCode, pre_relaxer: PreRelaxer, device: str, options: Mapping[str, Any]) -> str:
    """Take a step with the potential of a pre-relaxer, and return where and how fast; raises CheckError."""
    model = E3RelaxModelData.default() if pre_relaxer.has_network else None
    parameters = {'device': device, 'steps': 1, **pre_relaxer.parameters()}
    node = _run(code, make_crystals(2), parameters, options, model, _remedy(code, pre_relaxer))
    report = node.outputs.report.get_dict()
    if failed := [row for row in report['structures'] if row['status'] != 'ok' or 'error' in row['potential']]:
        told = (
            failed[0]['potential'].get('error', failed[0]['message'])
            if 'potential' in failed[0]
            else failed[0]['message']
        )
        raise CheckError(f'{pre_relaxer.potential} has failed: {told}', _remedy(code, pre_relaxer))
    return f'{pre_relaxer} is installed there: a step of 2 crystals in {report["timings_s"]["total"]:.1f} s'


def _remedy(code: orm.InstalledCode, pre_relaxer: PreRelaxer) -> str:
    package = PRE_RELAXERS[str(pre_relaxer.potential)].package
    return (
        f'`pip install {package}` in the environment of {code.get_executable()}, or '
        f'`aiida-e3relax pre-relaxer {code.full_label} network`'
    )


def make_crystals(count: int) -> list[Atoms]:
    """Return crystals of 4 to 8 atoms, strained so that each is another."""
    kinds = (
        ase.build.bulk('MgO', 'rocksalt', a=4.212, cubic=True),
        ase.build.bulk('GaAs', 'zincblende', a=5.653, cubic=True),
        ase.build.bulk('NaCl', 'rocksalt', a=5.640, cubic=True),
        ase.build.bulk('Cu', 'fcc', a=3.615, cubic=True),
    )
    crystals = []
    for place, strain in enumerate(np.linspace(0.97, 1.03, count)):
        atoms = kinds[place % len(kinds)].copy()
        atoms.set_cell(atoms.cell * [strain, strain, 2 - strain], scale_atoms=True)
        crystals.append(atoms)
    return crystals


def _describe_device(device: Mapping[str, Any]) -> str:
    memory = device.get('memory_mb')
    parts = [device['used'], device['name'], f'{memory / 1e3:.0f} GB' if memory else '']
    parts += [f'{word} {device[key]}' for word, key in (('driver', 'driver'), ('CUDA', 'cuda')) if device.get(key)]
    return ', '.join(part for part in parts if part)


def _run(
    code: orm.InstalledCode,
    crystals: list[Atoms],
    parameters: Mapping[str, Any],
    options: Mapping[str, Any],
    model: E3RelaxModelData | None,
    remedy: str = '',
) -> orm.CalcJobNode:
    """Run a job here, without a daemon, and return its node; raises CheckError where it fails."""
    structures = {f'crystal_{place}': orm.StructureData(ase=atoms) for place, atoms in enumerate(crystals)}
    inputs = {
        'code': code,
        'batch': StructureBatchData(structures),
        'parameters': dict(parameters),
        'metadata': {'label': 'live test of aiida-e3relax setup', 'options': dict(options)},
        **({'model': model} if model is not None else {}),
    }
    runner = get_manager().create_runner(communicator=None)
    interrupts: list[int] = []
    with disable_caching(), _giving_up_early(), _only_into_the_node():
        process = runner.instantiate_process(E3RelaxCalculation, **inputs)
        watcher = runner.loop.create_task(_end_early(process, interrupts))
        try:
            with contextlib.suppress(KilledError):
                runner.run_get_node(process)
            runner.loop.run_until_complete(watcher)
        except Exception:  # of parts that wait for each other, where the process is broken off
            if not interrupts:
                raise
    if interrupts:
        raise KeyboardInterrupt
    node = process.node
    if not node.is_finished_ok:
        known = {**REMEDIES, **({CODES.ERROR_MISSING_PACKAGE.status: remedy} if remedy else {})}
        told = known.get(node.exit_status, 'see `verdi process report {pk}`')
        raise CheckError(_describe_end(node), told.replace('{pk}', str(node.pk)))
    return node


async def _end_early(process: Any, interrupts: list[int]) -> None:
    """End a process at Ctrl+C, or where AiiDA pauses it as scheduler or connection fail again and again.

    No one would play a paused one. AiiDA's own answer to Ctrl+C breaks into whatever the database does at that moment.
    A second Ctrl+C does not wait for the scheduler.
    """

    def interrupt(number: int, _: object) -> None:
        if interrupts:
            raise KeyboardInterrupt
        interrupts.append(number)

    signal.signal(signal.SIGINT, interrupt)
    while not process.has_terminated():
        if process.paused:
            process.play()
            process.kill('paused', force_kill=True)
        elif interrupts:
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # those that it waited for break off
            await run_with_portal(process.kill, 'interrupted')
            return
        await asyncio.sleep(0.2)


@contextlib.contextmanager
def _only_into_the_node() -> Iterator[None]:
    """Keep what AiiDA logs off the terminal; the node has it."""
    handlers = [handler for handler in logging.getLogger('aiida').handlers if handler.get_name() in ('cli', 'console')]
    for handler in handlers:
        handler.addFilter(_nothing)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False


@contextlib.contextmanager
def _giving_up_early() -> Iterator[None]:
    """Let AiiDA give up a connection early, in this process alone."""
    config = get_config()
    profile = config.get_profile(get_manager().get_profile_storage().profile.name)
    before = dict(profile.options)
    for name, value in RETRIES.items():
        config.set_option(name, value, scope=profile.name)
    try:
        yield
    finally:
        for name in RETRIES:
            if name in before:
                config.set_option(name, before[name], scope=profile.name)
            else:
                config.unset_option(name, scope=profile.name)


def _describe_end(node: orm.CalcJobNode) -> str:
    """Return how a job failed."""
    if node.is_finished:
        return f'[{node.exit_status}] {node.exit_message}'
    logs = [log.message.strip() for log in orm.Log.collection.get_logs_for(node)]
    errors = [message.splitlines()[-1] for message in logs if 'Traceback' in message]
    last = errors[-1] if errors else node.exception or (logs[-1].splitlines()[-1] if logs else 'no reason is known')
    return f'the job {node.pk} did not run: {short(last.splitlines()[-1], 300)}'
