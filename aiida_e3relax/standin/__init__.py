"""An executable that reads and writes VASP's files and relaxes crystals with a licence-free calculator.

It is not VASP: every output file names the stand-in and its engine. It exists so that the plugin's workflows run for
real, with the real aiida-vasp, where no VASP licence is.
"""

VERSION = '6.999.0-standin'
"""Beginning of the version in all outputs; the engine's name follows.

No VASP has this number, and it is what is left in aiida-vasp's ``misc``, whose parser keeps the digits only. It begins
with 6 because parsers read the energies of other generators differently.
"""

ENGINE_VARIABLE = 'E3RELAX_STANDIN_ENGINE'
"""The environment variable that chooses the engine where no option does."""
