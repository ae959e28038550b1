"""VASP's output files, written while the run goes on: a killed run leaves truncated files, as VASP does."""

from aiida_e3relax.standin.outputs.writer import Outputs

__all__ = ['Outputs']
