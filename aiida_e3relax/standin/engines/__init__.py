"""The calculators behind the stand-in."""

import importlib
from types import ModuleType

from aiida_e3relax.standin.engine_names import ENGINES, GPAW_REMEDY
from aiida_e3relax.standin.engines.base import Bands, Energies, Engine, Response
from aiida_e3relax.standin.errors import StandInError
from aiida_e3relax.standin.inputs import Inputs

__all__ = ['ENGINES', 'GPAW_REMEDY', 'Bands', 'Energies', 'Engine', 'Response', 'check_elements', 'create_engine']


def create_engine(name: str, inputs: Inputs) -> Engine:
    """Make the engine for a crystal and settings.

    Raises
    ------
    StandInError
        If the engine is not installed, does not know an element, or cannot do what the INCAR asks for.
    """
    try:
        module = _import(name)
    except ModuleNotFoundError as error:
        raise StandInError(
            f'engine {name} needs the package {error.name}, which is not installed; {GPAW_REMEDY}'
        ) from error
    return getattr(module, ENGINES[name])(inputs)


def check_elements(name: str, symbols: list[str]) -> None:
    """Check before a run that an engine knows the elements of its atoms; not those of GPAW, which asks its setups.

    Raises
    ------
    StandInError
        If there is no such engine or it does not know them.
    """
    if name != 'gpaw':
        _import(name).check_elements(symbols)


def _import(name: str) -> ModuleType:
    if name not in ENGINES:
        raise StandInError(f'engine {name!r} is not one of {", ".join(ENGINES)}; choose one of them')
    return importlib.import_module(f'aiida_e3relax.standin.engines.{name}')
