"""The chain of the network and VASP."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Return `E3RelaxVaspWorkChain`, whose old place this is: unfinished processes look for it here.

    It is imported when it is asked for, since modules that the chain needs live in this package themselves.
    """
    if name == 'E3RelaxVaspWorkChain':
        from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain

        return E3RelaxVaspWorkChain
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
