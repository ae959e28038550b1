"""CIF and POSCAR of crystals, character by character as ASE writes them.

ASE's own writers load all of its formats first, and scipy, which takes longer than the prediction for a small crystal.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aiida_e3relax.crystals.files.suffixes import format_of_suffix, without_compression

if TYPE_CHECKING:
    from ase import Atoms

_CELL = ('length_a', 'length_b', 'length_c', 'angle_alpha', 'angle_beta', 'angle_gamma')
_CIF_SITES = """
_space_group_name_H-M_alt    "P 1"
_space_group_IT_number       1

loop_
  _space_group_symop_operation_xyz
  'x, y, z'

loop_
  _atom_site_type_symbol
  _atom_site_label
  _atom_site_symmetry_multiplicity
  _atom_site_fract_x
  _atom_site_fract_y
  _atom_site_fract_z
  _atom_site_occupancy
"""


def cif_text(frames: Sequence[Atoms]) -> str:
    """Return crystals as the data blocks of a CIF, without symmetry."""
    return ''.join(_cif_block(place, atoms) for place, atoms in enumerate(frames))


def poscar_text(frames: Sequence[Atoms]) -> str:
    """Return one crystal without constraints as a POSCAR with Cartesian coordinates."""
    (atoms,) = frames
    runs = [(symbol, len(list(sites))) for symbol, sites in itertools.groupby(atoms.symbols)]
    lines = [' '.join(f'{symbol:2s}' for symbol, _ in runs), f'{1.0:19.16f}']
    lines += ['  ' + ' '.join(f'{x:21.16f}' for x in vector) for vector in atoms.cell.array]
    lines += [' ' + ' '.join(f'{symbol:3s}' for symbol, _ in runs), ' ' + ' '.join(f'{n:3d}' for _, n in runs)]
    lines += ['Cartesian', *(''.join(f' {x:19.16f}' for x in position) for position in atoms.positions), '']
    return '\n'.join(lines)


TEXTS: dict[str, Callable[[Sequence[Atoms]], str]] = {'cif': cif_text, 'vasp': poscar_text}
"""By ASE's names of the formats."""


def plain_format(path: Path) -> str | None:
    """Return the one of `TEXTS` that a file's name says beyond doubt; None where ASE has to look at it."""
    name = 'vasp' if without_compression(path).name in {'POSCAR', 'CONTCAR'} else format_of_suffix(path)
    return name if name in TEXTS else None


def _cif_block(place: int, atoms: Atoms) -> str:
    elements = ' '.join(f'{symbol}{count}' for symbol, count in atoms.symbols.formula.count().items())
    lines = [
        f'data_image{place}',
        f'_chemical_formula_structural       {atoms.symbols}',
        f'_chemical_formula_sum              "{elements}"',
        *(f'_cell_{name:14} {value}' for name, value in zip(_CELL, atoms.cell.cellpar(), strict=True)),
    ]
    seen: Counter[str] = Counter()
    rows = []
    for symbol, (x, y, z) in zip(atoms.symbols, atoms.get_scaled_positions(), strict=True):
        seen[symbol] += 1
        rows.append(f'  {symbol:<2s}  {f"{symbol}{seen[symbol]}":<8s}  1.0  {x}  {y}  {z}  1.0000\n')
    return '\n'.join(lines) + '\n' + _CIF_SITES + ''.join(rows)
