"""The old place of `E3RelaxBaseWorkChain`, where unfinished processes look for it."""

from aiida_e3relax.workflows.network.base import E3RelaxBaseWorkChain

__all__ = ['E3RelaxBaseWorkChain']
