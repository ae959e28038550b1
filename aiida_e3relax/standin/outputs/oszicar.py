"""OSZICAR: one line per electronic iteration, one per ionic step."""

from aiida_e3relax.standin.engines import Energies
from aiida_e3relax.standin.outputs.run import OutputFile, RunInfo
from aiida_e3relax.standin.relaxation import IonicStep

_HEADER = '       N       E                     dE             d eps       ncg     rms          rms(c)\n'


def electronic_line(number: int, energies: Energies, previous: Energies | None) -> str:
    """Return the line of an electronic iteration: its number, the free energy and the change (eV)."""
    change = energies.free - (previous.free if previous else 0.0)
    return f'DAV: {number:3d}    {energies.free:19.12E}   {change:12.5E}   {0.0:12.5E}  {0:4d}   0.000E+00\n'


def ionic_line(step: IonicStep) -> str:
    """Return the line of an ionic step: free energy, extrapolated energy, change (eV) and moment."""
    energies, moment = step.energies[-1], step.response.magnetisation
    spin = '' if moment is None else f'  mag= {moment:10.4f}'
    return (
        f'{step.number:4d} F= {energies.free:.8E} E0= {energies.extrapolated:.8E}  '
        f'd E ={step.energy_change:.6E}{spin}\n'
    )


class Oszicar(OutputFile):
    """Writer of OSZICAR."""

    def __init__(self, run: RunInfo):
        super().__init__(run, 'OSZICAR')

    def electronic_step(self, ionic: int, number: int, energies: Energies, previous: Energies | None) -> None:
        """Write the iteration's line, under a header if it is the first of an ionic step."""
        self.write((_HEADER if number == 1 else '') + electronic_line(number, energies, previous))

    def ionic_step(self, step: IonicStep) -> None:
        """Write the step's line."""
        self.write(ionic_line(step))
