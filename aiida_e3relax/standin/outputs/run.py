"""What the headers of the output files state about a run, and the base of their writers."""

import time
from dataclasses import dataclass

from aiida_e3relax.standin import VERSION
from aiida_e3relax.standin.engines import Energies, Engine
from aiida_e3relax.standin.inputs import Inputs
from aiida_e3relax.standin.relaxation import Ending, IonicStep


@dataclass(frozen=True)
class RunInfo:
    """A run's inputs, its engine, and when it began (seconds since the epoch)."""

    inputs: Inputs
    engine: Engine
    begin: float

    @property
    def version(self) -> str:
        """Version in all outputs: it names the stand-in and the engine."""
        return f'{VERSION}-{self.engine.name}'

    @property
    def disclaimer(self) -> str:
        """What the numbers are, in one line."""
        return f'This is not VASP: a stand-in that writes its files. Numbers are from {self.engine.description}.'

    @property
    def date(self) -> str:
        """When the run began."""
        return time.strftime('%Y.%m.%d  %H:%M:%S', time.localtime(self.begin))

    @property
    def ispin(self) -> int:
        """ISPIN, which is 1 without electrons."""
        return self.inputs.settings.ispin if self.engine.electronic else 1


class OutputFile:
    """A text file in the run's folder, flushed after every event; events that a file does not show do nothing.

    Parameters
    ----------
    run
        The run.
    name
        File name.
    """

    def __init__(self, run: RunInfo, name: str):
        self.run = run
        self._stream = (run.inputs.folder / name).open('w', encoding='utf-8')

    def write(self, text: str) -> None:
        """Append text."""
        self._stream.write(text)
        self._stream.flush()

    def electronic_step(self, ionic: int, number: int, energies: Energies, previous: Energies | None) -> None:
        """Take the energies of an electronic iteration."""

    def ionic_step(self, step: IonicStep) -> None:
        """Take a finished ionic step."""

    def finish(self, ending: Ending) -> None:
        """Take the end of the run."""

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
