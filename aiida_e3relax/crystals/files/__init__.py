"""Crystals from files: each is the crystal that the file states, or it is refused with the reason."""

from aiida_e3relax.crystals.files.errors import CrystalFileError
from aiida_e3relax.crystals.files.labels import UniqueLabels, labels_of, make_label
from aiida_e3relax.crystals.files.reader import Entry, iterate_crystals, read_crystals

__all__ = [
    'CrystalFileError',
    'Entry',
    'UniqueLabels',
    'iterate_crystals',
    'labels_of',
    'make_label',
    'read_crystals',
]
