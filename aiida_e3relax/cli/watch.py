"""Run the chain in the foreground and show how far its jobs are."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcJobState
from aiida.common.links import LinkType
from aiida.engine.processes.builder import ProcessBuilder
from aiida.manage import get_manager
from rich.console import Console

from aiida_e3relax.calculations.pre_relaxer import NETWORK, PreRelaxer
from aiida_e3relax.workflows.vasp.messages import describe_failure

SECONDS_BETWEEN = 1.0
NETWORK_STAGE = 'network'
STAGE_TITLES = {
    NETWORK_STAGE: NETWORK,
    'relax_predicted': 'VASP from the prediction',
    'relax_raw': 'VASP from the raw structure',
}
IONIC_STEP = re.compile(r'^\s*(\d+) F=\s*([-+]?\d*\.\d+(?:E[-+]\d+)?)\s+E0=', re.MULTILINE)


def run_watched(builder: ProcessBuilder, console: Console) -> orm.ProcessNode:
    """Run an `E3RelaxVaspWorkChain` to its end and return its node.

    A line is printed for each change of a job's state and for each ionic step, and the chain's own report; those of
    the work chains below it are not, they are in the nodes. The state of child processes is looked up each second,
    not each minute as profiles have it by default: a chain waits for five of them, one after the other.
    """
    runner = get_manager().create_runner(communicator=None, poll_interval=SECONDS_BETWEEN)
    process = runner.instantiate_process(builder)
    chain = process.node
    console.print(
        f'Running E3RelaxVaspWorkChain<{chain.pk}>; follow it elsewhere with `verdi process status -c {chain.pk}`'
    )
    handlers = [handler for handler in logging.getLogger('aiida').handlers if handler.get_name() == 'cli']
    only_of_chain = _ChainReports(chain.pk)
    for handler in handlers:
        handler.addFilter(only_of_chain)
    watcher = runner.loop.create_task(_watch(chain, console))
    try:
        return runner.run_get_node(process).node
    finally:
        watcher.cancel()
        for handler in handlers:
            handler.removeFilter(only_of_chain)


class _ChainReports(logging.Filter):
    """Lets through errors and what the chain itself reports."""

    def __init__(self, pk: int | None):
        super().__init__()
        self._pk = pk

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or getattr(record, 'dbnode_id', None) == self._pk


async def _watch(chain: orm.ProcessNode, console: Console) -> None:
    start, shown = time.monotonic(), set()
    while True:
        for line in _describe_jobs(chain):
            if line not in shown:
                shown.add(line)
                console.print(f'{time.monotonic() - start:6.0f} s  {line}', highlight=False)
        await asyncio.sleep(SECONDS_BETWEEN)


def _describe_jobs(chain: orm.ProcessNode) -> Iterator[str]:
    """Yield a line for each job under the chain that has something to say."""
    for label, stage in _called(chain):
        for title, job in _find_jobs(stage, _title(label, stage)) if label in STAGE_TITLES else ():
            if state := _describe_state(job):
                yield f'{title}: {state}'


def _title(label: str, stage: orm.ProcessNode) -> str:
    """Return what a stage is called in the lines on its jobs: the network's by the pre-relaxer that it runs."""
    if label != NETWORK_STAGE:
        return STAGE_TITLES[label]
    predict = stage.inputs.predict
    return str(PreRelaxer.of_parameters(predict.parameters.get_dict() if 'parameters' in predict else {}))


def _called(process: orm.ProcessNode) -> list[tuple[str, Any]]:
    """Return what a process called, with the labels of the links."""
    links = process.base.links.get_outgoing(link_type=(LinkType.CALL_WORK, LinkType.CALL_CALC)).all()
    return [(link.link_label, link.node) for link in links]


def _find_jobs(process: orm.ProcessNode, title: str) -> Iterator[tuple[str, orm.CalcJobNode]]:
    for label, child in _called(process):
        if isinstance(child, orm.CalcJobNode):
            yield title, child
        else:
            yield from _find_jobs(child, f'{title}, static run' if label == 'singlepoint' else title)


def _describe_state(job: orm.CalcJobNode) -> str | None:
    if job.is_finished_ok:
        return 'done'
    if job.is_terminated:
        return describe_failure(job)
    if job.get_state() is not CalcJobState.WITHSCHEDULER:
        return None
    step = _read_last_step(job)
    return f'ionic step {step[1]}, F = {float(step[2]):.4f} eV' if step else 'handed to the scheduler'


def _read_last_step(job: orm.CalcJobNode) -> re.Match | None:
    """Return the last ionic step in OSZICAR of a running job; None where it is not on this machine or has none yet."""
    folder = job.get_remote_workdir()
    if folder is None or job.computer is None or job.computer.transport_type != 'core.local':
        return None
    try:
        text = (Path(folder) / 'OSZICAR').read_text(encoding='utf-8', errors='replace')
    except OSError:  # not written yet, or cleaned away with its folder
        return None
    steps = list(IONIC_STEP.finditer(text))
    return steps[-1] if steps else None
