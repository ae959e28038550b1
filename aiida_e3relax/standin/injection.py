"""Injection of faults into a run: into its inputs, its engine and its files."""

import dataclasses
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from aiida_e3relax.standin.engines import Bands, Energies, Engine, Response
from aiida_e3relax.standin.faults import LAST_STEP, Fault
from aiida_e3relax.standin.geometry import FractionalGeometry
from aiida_e3relax.standin.inputs import Inputs
from aiida_e3relax.standin.relaxation import IonicStep, Reporter

MESSAGES = {
    Fault.ZBRENT: ' ZBRENT: fatal error in bracketing\n     please rerun with smaller EDIFF, or copy CONTCAR\n'
    '     to POSCAR and continue',
    Fault.ZPOTRF: ' LAPACK: Routine ZPOTRF failed!           1',
}
MISSING = {Fault.NO_CONTCAR: 'CONTCAR', Fault.NO_VASPRUN: 'vasprun.xml'}
EMPTY = {Fault.EMPTY_CONTCAR: 'CONTCAR', Fault.EMPTY_OUTCAR: 'OUTCAR', Fault.EMPTY_VASPRUN: 'vasprun.xml'}


def limit_steps(inputs: Inputs, fault: Fault | None) -> Inputs:
    """Return the inputs with the NSW of the fault."""
    if fault is not Fault.NSW or inputs.settings.static:
        return inputs
    return dataclasses.replace(inputs, settings=dataclasses.replace(inputs.settings, nsw=LAST_STEP))


class FaultyEngine:
    """An engine that says in every output file that a fault is injected, and never gets self-consistent if it is that.

    Parameters
    ----------
    engine
        The engine that computes.
    fault
        The fault.
    nelm
        The largest number of electronic iterations in an ionic step.
    """

    def __init__(self, engine: Engine, fault: Fault, nelm: int):
        self._engine, self._nelm = engine, nelm
        self._converges = fault is not Fault.SCF
        self.name, self.electronic, self.kpoints = engine.name, engine.electronic, engine.kpoints
        self.n_bands = engine.n_bands
        self.description = f'{engine.description}, and the fault `{fault}` is injected on purpose'

    def iterate(self, geometry: FractionalGeometry) -> Iterator[Energies]:
        """Yield the energies of the engine, the last ones again up to the limit of a run that is not to converge."""
        count = 0
        for count, energies in enumerate(self._engine.iterate(geometry), start=1):  # noqa: B007
            yield energies
        for _ in range(0 if self._converges else self._nelm - count):
            yield energies

    def response(self) -> Response:
        """Return forces and stress."""
        return self._engine.response()

    def bands(self) -> Bands | None:
        """Return the bands."""
        return self._engine.bands()


class FaultyReporter:
    """Hands the events of a run on, and cuts the run short if that is the fault.

    Parameters
    ----------
    reporter
        Receives the steps of the run.
    fault
        The fault.
    folder
        Where the run reads its STOPCAR, by which it ends in an orderly way.
    """

    def __init__(self, reporter: Reporter, fault: Fault, folder: Path):
        self._reporter, self._fault, self._folder = reporter, fault, folder

    def electronic_step(self, ionic: int, number: int, energies: Energies, previous: Energies | None) -> None:
        """Hand on the energies of an electronic iteration."""
        self._reporter.electronic_step(ionic, number, energies, previous)
        if self._fault is Fault.KILLED_EARLY:
            os.kill(os.getpid(), signal.SIGKILL)

    def ionic_step(self, step: IonicStep) -> None:
        """Hand on a finished ionic step."""
        self._reporter.ionic_step(step)
        if step.number != LAST_STEP:
            return
        if self._fault is Fault.KILLED_WRITING:
            _cut_geometry(self._folder / 'vasprun.xml')
        if self._fault in (Fault.KILLED, Fault.KILLED_WRITING):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault is Fault.UNFINISHED:
            sys.exit(1)
        if self._fault in MESSAGES:
            print(MESSAGES[self._fault], flush=True)
            (self._folder / 'STOPCAR').write_text(f'LSTOP = .TRUE. ! by the fault {self._fault}\n', encoding='utf-8')


def spoil_files(folder: Path, fault: Fault) -> None:
    """Do to the files of a finished run what the fault says."""
    if fault in MISSING:
        (folder / MISSING[fault]).unlink()
    if fault in EMPTY:
        (folder / EMPTY[fault]).write_bytes(b'')
    if fault is Fault.TRUNCATED_VASPRUN:
        vasprun = folder / 'vasprun.xml'
        os.truncate(vasprun, vasprun.stat().st_size // 2)


def _cut_geometry(vasprun: Path) -> None:
    """Cut a file amid the positions of its last geometry."""
    content = vasprun.read_bytes()
    begin = content.rindex(b'<varray name="positions"')
    end = content.index(b'</varray>', begin)
    os.truncate(vasprun, content.index(b'</v>', (begin + end) // 2) + len(b'</v>'))
