"""The calculators behind the stand-in by name; imports none of them, so that a command line can offer them at once."""

ENGINES = {'emt': 'EMTEngine', 'ionic': 'IonicEngine', 'gpaw': 'GPAWEngine'}
"""Class of each engine, in the module of the engine's name; imported when asked for."""

GPAW_REMEDY = 'run `make demo` once in the checkout, or build GPAW as `gpaw_siteconfig.py` says'
"""What to do where GPAW is missing."""
