"""One reporter that hands the run's events to all output files."""

import time
from types import TracebackType

from aiida_e3relax.standin.engines import Energies, Engine
from aiida_e3relax.standin.inputs import Inputs
from aiida_e3relax.standin.outputs.console import Console
from aiida_e3relax.standin.outputs.contcar import Contcar
from aiida_e3relax.standin.outputs.oszicar import Oszicar
from aiida_e3relax.standin.outputs.outcar import Outcar
from aiida_e3relax.standin.outputs.run import RunInfo
from aiida_e3relax.standin.outputs.vasprun import VasprunWriter
from aiida_e3relax.standin.outputs.xdatcar import Xdatcar
from aiida_e3relax.standin.relaxation import Ending, IonicStep


class Outputs:
    """OUTCAR, OSZICAR, vasprun.xml, XDATCAR, CONTCAR and stdout of one run; a context manager that closes them.

    Parameters
    ----------
    inputs
        The run's inputs; files are written to their folder.
    engine
        The calculator; named in every file.
    """

    def __init__(self, inputs: Inputs, engine: Engine):
        run = RunInfo(inputs, engine, time.time())
        self._vasprun = VasprunWriter(run)
        self._files = (Outcar(run), Oszicar(run), Xdatcar(run), Contcar(run), self._vasprun, Console(run))

    def electronic_step(self, ionic: int, number: int, energies: Energies, previous: Energies | None) -> None:
        """Write the energies of an electronic iteration."""
        for file in self._files:
            file.electronic_step(ionic, number, energies, previous)

    def ionic_step(self, step: IonicStep) -> None:
        """Write a finished ionic step."""
        for file in self._files:
            file.ionic_step(step)

    def finish(self, ending: Ending) -> None:
        """Write what ends the files of a run that came to its end."""
        for file in self._files:
            file.finish(ending)

    def __enter__(self) -> 'Outputs':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()
