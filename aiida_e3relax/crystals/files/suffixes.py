"""What the name of a file says of its format: a suffix that is known says more than any word before it."""

from __future__ import annotations

from pathlib import Path

from aiida_e3relax.crystals.files.content import OPENERS

OF_SUFFIX = {
    **{'.cif': 'cif', '.vasp': 'vasp', '.poscar': 'vasp', '.extxyz': 'extxyz', '.xyz': 'extxyz', '.traj': 'traj'},
    **{'.db': 'db', '.json': 'json', '.xsf': 'xsf', '.cube': 'cube', '.gen': 'gen', '.res': 'res'},
    **{'.cell': 'castep-cell', '.pwi': 'espresso-in', '.pwo': 'espresso-out'},
}
"""ASE's names of formats; others, such as ``.in`` and ``.out``, are those of several programs."""


def without_compression(path: Path) -> Path:
    """Return the name that a file has once it is decompressed."""
    return path.with_suffix('') if path.suffix.lower() in OPENERS else path


def format_of_suffix(path: Path) -> str | None:
    """Return ASE's name of the format that the suffix of a file says, compressed or not; None for no known one."""
    return OF_SUFFIX.get(without_compression(path).suffix.lower())


def is_npz(path: Path) -> bool:
    """Return whether a file is named as one of arrays, whatever the case, as ASE takes suffixes too."""
    return path.suffix.lower() == '.npz'
