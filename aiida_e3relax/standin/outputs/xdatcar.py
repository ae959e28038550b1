"""XDATCAR: the geometries of all ionic steps."""

from aiida_e3relax.standin.outputs.columns import columns
from aiida_e3relax.standin.outputs.run import OutputFile, RunInfo
from aiida_e3relax.standin.relaxation import IonicStep


class Xdatcar(OutputFile):
    """Writer of XDATCAR; the lattice comes again with every step, as in VASP's runs with a free cell."""

    def __init__(self, run: RunInfo):
        super().__init__(run, 'XDATCAR')

    def ionic_step(self, step: IonicStep) -> None:
        """Write lattice and fractional coordinates."""
        poscar = self.run.inputs.poscar
        lines = [poscar.comment or 'unknown system', '           1']
        lines += ['  ' + columns(vector, '15.8f') for vector in step.geometry.cell]
        lines += [''.join(f'   {symbol:<4s}' for symbol in poscar.species)]
        lines += [''.join(f'{count:6d}' for count in poscar.counts), f'Direct configuration= {step.number:5d}']
        lines += [' ' + columns(site, '14.8f') for site in step.geometry.scaled]
        self.write('\n'.join(lines) + '\n')
