"""The faults that a run can be told to have, so that what restarts VASP can be tested."""

from enum import StrEnum
from pathlib import Path


class Fault(StrEnum):
    """A fault, by its name on the command line."""

    UNFINISHED = 'unfinished'
    KILLED = 'killed'
    KILLED_EARLY = 'killed-early'
    KILLED_WRITING = 'killed-writing'
    SCF = 'scf'
    NSW = 'nsw'
    ZBRENT = 'zbrent'
    ZPOTRF = 'zpotrf'
    NO_CONTCAR = 'no-contcar'
    NO_VASPRUN = 'no-vasprun'
    EMPTY_CONTCAR = 'empty-contcar'
    EMPTY_OUTCAR = 'empty-outcar'
    EMPTY_VASPRUN = 'empty-vasprun'
    TRUNCATED_VASPRUN = 'truncated-vasprun'


LAST_STEP = 2
"""The ionic step after which a run that is cut short ends; a shorter run has no such fault."""

DESCRIPTIONS = {
    Fault.UNFINISHED: f'ends by itself after ionic step {LAST_STEP}, without the last parts of its files',
    Fault.KILLED: f'is killed by SIGKILL after ionic step {LAST_STEP}',
    Fault.KILLED_EARLY: 'is killed by SIGKILL in the first electronic iteration',
    Fault.KILLED_WRITING: f'is killed by SIGKILL while it writes the geometry of ionic step {LAST_STEP} to vasprun.xml',
    Fault.SCF: 'does not reach self-consistency: NELM electronic iterations in each ionic step',
    Fault.NSW: f'reaches NSW, which is {LAST_STEP} whatever the INCAR says',
    Fault.ZBRENT: f"ends after ionic step {LAST_STEP} with ZBRENT's error on stdout and complete files",
    Fault.ZPOTRF: f"ends after ionic step {LAST_STEP} with ZPOTRF's error on stdout and complete files",
    Fault.NO_CONTCAR: 'leaves no CONTCAR',
    Fault.NO_VASPRUN: 'leaves no vasprun.xml',
    Fault.EMPTY_CONTCAR: 'leaves an empty CONTCAR',
    Fault.EMPTY_OUTCAR: 'leaves an empty OUTCAR',
    Fault.EMPTY_VASPRUN: 'leaves an empty vasprun.xml',
    Fault.TRUNCATED_VASPRUN: 'leaves the first half of vasprun.xml',
}


def due_fault(fault: str | None, mark: Path | None) -> Fault | None:
    """Return the fault of this run: none if `mark`, a file made by the first run that asks, is there already."""
    if fault is None:
        return None
    if mark is not None:
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return None
    return Fault(fault)
