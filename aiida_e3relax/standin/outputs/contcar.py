"""CONTCAR: the geometry of the last finished ionic step; empty before the first."""

from aiida_e3relax.standin.outputs.run import OutputFile, RunInfo
from aiida_e3relax.standin.relaxation import IonicStep


class Contcar(OutputFile):
    """Writer of CONTCAR."""

    def __init__(self, run: RunInfo):
        super().__init__(run, 'CONTCAR')

    def ionic_step(self, step: IonicStep) -> None:
        """Write the file anew."""
        self._stream.seek(0)
        self._stream.truncate()
        self.write(self.run.inputs.poscar.format(step.geometry))
