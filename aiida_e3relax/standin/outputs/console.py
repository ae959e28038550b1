"""Standard output: says what this is and follows the run."""

from aiida_e3relax.standin.engines import Energies
from aiida_e3relax.standin.outputs.oszicar import ionic_line
from aiida_e3relax.standin.outputs.run import RunInfo
from aiida_e3relax.standin.relaxation import Ending, IonicStep
from aiida_e3relax.standin.tags import without_effect


class Console:
    """Writer of stdout."""

    def __init__(self, run: RunInfo):
        poscar = run.inputs.poscar
        inert = without_effect(run.inputs.incar, run.engine.electronic)
        self._say(f' {run.disclaimer}')
        if inert:
            self._say(f' INCAR tags without effect here: {" ".join(inert)}')
        self._say(f' POSCAR found :  {len(poscar.species)} types and {len(poscar.symbols):7d} ions')
        self._say(' entering main loop')

    def electronic_step(self, ionic: int, number: int, energies: Energies, previous: Energies | None) -> None:
        """Say nothing: OSZICAR has it."""

    def ionic_step(self, step: IonicStep) -> None:
        """Print the step's energies."""
        self._say(ionic_line(step).rstrip())

    def finish(self, ending: Ending) -> None:
        """Print why the run ended."""
        self._say(f' {ending.value}')

    def close(self) -> None:
        """Leave stdout open: it belongs to the process."""

    @staticmethod
    def _say(text: str) -> None:
        print(text, flush=True)
