"""The calculators behind the stand-in."""

import importlib

from aiida_e3relax.standin.engines.base import Bands, Energies, Engine, Response
from aiida_e3relax.standin.errors import InputError
from aiida_e3relax.standin.inputs import Inputs

__all__ = ['ENGINES', 'GPAW_REMEDY', 'Bands', 'Energies', 'Engine', 'Response', 'create_engine']

ENGINES = {'emt': 'EMTEngine', 'ionic': 'IonicEngine', 'gpaw': 'GPAWEngine'}
"""Class of each engine, in the module of the engine's name; imported when asked for."""

GPAW_REMEDY = 'run `make demo` once in the checkout, or build GPAW as `gpaw_siteconfig.py` says'
"""What to do where GPAW is missing."""


def create_engine(name: str, inputs: Inputs) -> Engine:
    """Make the engine for a crystal and settings.

    Raises
    ------
    InputError
        If the engine is not installed, does not know an element, or cannot do what the INCAR asks for.
    """
    if name not in ENGINES:
        raise InputError(f'engine {name!r} is not one of {", ".join(ENGINES)}; choose one of them')
    try:
        module = importlib.import_module(f'aiida_e3relax.standin.engines.{name}')
    except ModuleNotFoundError as error:
        raise InputError(
            f'engine {name} needs the package {error.name}, which is not installed; {GPAW_REMEDY}'
        ) from error
    return getattr(module, ENGINES[name])(inputs)
