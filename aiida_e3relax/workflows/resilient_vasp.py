"""The old place of the work chains in `workflows/vasp/restarts.py`, where unfinished processes look for them."""

from aiida_e3relax.workflows.vasp.restarts import ResilientVaspRelaxWorkChain, ResilientVaspWorkChain

__all__ = ['ResilientVaspRelaxWorkChain', 'ResilientVaspWorkChain']
