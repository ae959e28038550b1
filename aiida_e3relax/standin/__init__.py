"""An executable that reads and writes VASP's files and relaxes crystals with a licence-free calculator.

It is not VASP: every output file names the stand-in and its engine. It exists so that the plugin's workflows run for
real, with the real aiida-vasp, where no VASP licence is.
"""

VERSION = '6.4.2-standin'
"""Prefix of the version in all outputs; parsers read the energies of generators that are not 6.x differently."""
