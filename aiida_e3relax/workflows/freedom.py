"""The old place of `workflows/vasp/inputs/freedom.py`."""

from aiida_e3relax.workflows.vasp.inputs.freedom import Freedom, Moves, freedom_value, read_freedom

__all__ = ['Freedom', 'Moves', 'freedom_value', 'read_freedom']
