"""CIF: the crystal of each data block, checked against all that the block says of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.messages import short
from aiida_e3relax.crystals.files.cif_symmetry import Operations, read_operations
from aiida_e3relax.crystals.files.content import read_text
from aiida_e3relax.crystals.files.elements import ISOTOPES, isotope_note, read_atomic_number
from aiida_e3relax.crystals.files.errors import CrystalFileError
from aiida_e3relax.crystals.files.occupancies import WHOLE, refuse_partial

if TYPE_CHECKING:
    from ase import Atoms

Read = Callable[[], tuple['Atoms', tuple[str, ...]]]

FEW_PLACES = 500
"""Sites whose pairs are looked at one by one."""

COINCIDENT = 0.3
"""Distance (A) below which two images are one atom on a special position, with rounded coordinates."""

_SYMBOL = re.compile(r'([A-Z][a-z]?)(\d*\.?\d*[+-]\d*)?')
_LABEL = re.compile(r'([A-Z][a-z]?)(?![a-z])')


def read_cif(path: Path) -> Iterator[tuple[str, Read]]:
    """Yield the name and the reader of each data block with a crystal; the others, such as ``data_global``, hold none.

    Raises CrystalFileError where the file is not in the syntax of CIF.
    """
    import gemmi

    try:
        document = gemmi.cif.read_string(read_text(path).encode('utf-8', 'surrogateescape').decode('latin-1'))
    except (ValueError, RuntimeError) as error:
        raise CrystalFileError(f'not in the syntax of CIF: {short(error, 200).removeprefix("string:")}') from error
    for block in document:
        values = _Values(block)
        if values.column('atom_site_label', 'atom_site_type_symbol'):
            yield block.name.strip(), partial(_read_block, values)


class _Values:
    """The values of a data block, by name without the first underscore; `.` and `_` between words are alike."""

    def __init__(self, block: Any):
        import gemmi

        self._plain = gemmi.cif.as_string
        self._items: dict[str, list[str]] = {}
        for item in block:
            if item.pair is not None:
                self._items[_key(item.pair[0])] = [item.pair[1]]
            elif item.loop is not None:
                width = len(item.loop.tags)
                for place, tag in enumerate(item.loop.tags):
                    self._items[_key(tag)] = item.loop.values[place::width]

    def has(self, *beginnings: str) -> bool:
        """Return whether any name begins with one of `beginnings`."""
        return any(name.startswith(beginnings) for name in self._items)

    def column(self, *names: str) -> list[str]:
        """Return the values of the first of `names` that is there, without quotes; ``.`` and ``?`` stay themselves."""
        found = next((self._items[name] for name in names if name in self._items), [])
        return [value if value in {'.', '?'} else self._plain(value) for value in found]

    def value(self, *names: str) -> str | None:
        """Return the one value of the first of `names` that has one; None for ``.`` and ``?``."""
        found = (self.column(name) for name in names)
        return next((v[0].strip() for v in found if len(v) == 1 and v[0].strip() not in {'.', '?', ''}), None)

    def number(self, name: str) -> float | None:
        """Return a value as a number, without its uncertainty; raises CrystalFileError where it is none."""
        text = self.value(name)
        return None if text is None else as_number(text, f'_{name}')


def _key(tag: str) -> str:
    return tag.lower().removeprefix('_').replace('.', '_')


def as_number(text: str, where: str) -> float:
    """Return a number of a CIF, such as ``5.43(2)``; raises CrystalFileError."""
    import gemmi

    number = gemmi.cif.as_number(text.strip())
    if not np.isfinite(number):
        raise CrystalFileError(f'{where}: expected a number, found {short(text)!r}')
    return float(number)


def _read_block(values: _Values) -> tuple[Atoms, tuple[str, ...]]:
    """Return the crystal of a data block, and notes; raises CrystalFileError."""
    from ase import Atoms

    _check_modulation(values)
    cell = _read_cell(values)
    labels, symbols, charged = _read_symbols(values)
    numbers = [read_atomic_number(symbol, label) for symbol, label in zip(symbols, labels, strict=True)]
    fractional = _read_coordinates(values, labels, cell)
    _check_occupancies(values, labels, symbols)
    operations = read_operations(values, cell)
    images = [operations.images(site, cell, COINCIDENT) for site in fractional]
    _check_distinct(labels, images, cell)
    atoms = Atoms(
        numbers=np.repeat(numbers, [len(sites) for sites in images]),
        scaled_positions=np.concatenate(images),
        cell=cell,
        pbc=True,
    )
    _check_formula(values, symbols, [len(sites) for sites in images], operations)
    left_out = ['oxidation states'] if charged or values.column('atom_type_oxidation_number') else []
    left_out += ['magnetic moments'] if values.column('atom_site_moment_label') else []
    notes = (f'{" and ".join(left_out)} of the file are not used',) if left_out else ()
    return atoms, (*isotope_note(symbols), *notes)


def _check_modulation(values: _Values) -> None:
    """Raise CrystalFileError for a modulated crystal: what its block gives as sites is an average."""
    dimension = values.number('cell_modulation_dimension') or 0
    if dimension > 0 or values.has('atom_site_displace_', 'atom_site_fourier_', 'space_group_ssg_'):
        raise CrystalFileError(
            'expected a crystal with three lattice vectors, found a modulated one (_cell_modulation_dimension), whose '
            'sites are those of an average: give a supercell that approximates it, as JANA can make'
        )


def _read_cell(values: _Values) -> NDArray[np.float64]:
    """Return the lattice vectors ``(3, 3)``, rows, in A."""
    from ase.geometry.cell import cellpar_to_cell

    names = ('length_a', 'length_b', 'length_c', 'angle_alpha', 'angle_beta', 'angle_gamma')
    parameters = [values.number(f'cell_{name}') for name in names]
    if missing := [f'_cell_{name}' for name, value in zip(names, parameters, strict=True) if value is None]:
        raise CrystalFileError(f'expected the parameters of the cell, {missing[0]} is missing')
    lengths, angles = np.array(parameters[:3], dtype=float), np.array(parameters[3:], dtype=float)
    cosines = np.cos(np.radians(angles))
    square = 1 - (cosines**2).sum() + 2 * cosines.prod()
    if (lengths <= 0).any() or (angles <= 0).any() or (angles >= 180).any() or square <= 1e-9:
        raise CrystalFileError(f'expected the parameters of a cell, found {" ".join(f"{p:g}" for p in parameters)}')
    stated, volume = values.number('cell_volume'), lengths.prod() * np.sqrt(square)
    if stated is not None and abs(stated - volume) > 0.01 * volume:
        raise CrystalFileError(f'_cell_volume is {stated:g}, but the parameters of the cell give {volume:g} A^3')
    return np.asarray(cellpar_to_cell(parameters), dtype=np.float64)


def _read_symbols(values: _Values) -> tuple[list[str], list[str], bool]:
    """Return the labels and the elements of the sites, D and T as such, and whether any is an ion."""
    types, labels = values.column('atom_site_type_symbol'), values.column('atom_site_label')
    labels = labels or types
    if not types:
        return labels, [_element_of_label(label) for label in labels], False
    if any(flag == 'dum' for flag in values.column('atom_site_calc_flag')):
        raise CrystalFileError('expected atoms, found dummy sites (_atom_site_calc_flag dum); remove them')
    symbols, charged = [], False
    for label, word in zip(labels, types, strict=True):
        match = _SYMBOL.fullmatch(word.strip().capitalize())
        if match is None:
            raise CrystalFileError(
                f"{short(label)}: expected an element's symbol in _atom_site_type_symbol, found {short(word)!r}"
            )
        symbols.append(match[1])
        charged |= bool(match[2])
    return labels, symbols, charged


def _element_of_label(label: str) -> str:
    """Return the element that a site's label such as ``Fe1`` or ``O1A`` begins with."""
    from ase.data import atomic_numbers

    match = _LABEL.match(label)
    two = label[:2].capitalize()
    ambiguous = label[:2].isalpha() and label[:2].isupper() and two in {*atomic_numbers, *ISOTOPES}
    if match is None or ambiguous:
        raise CrystalFileError(
            f'{short(label)}: expected a label that begins with an element, such as '
            f'{two if ambiguous else "Fe"}1; or give _atom_site_type_symbol'
        )
    return match[1]


def _read_coordinates(values: _Values, labels: list[str], cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the fractional coordinates ``(N, 3)`` of the sites."""
    for kind in ('fract', 'Cartn'):
        columns = [values.column(f'atom_site_{kind}_{axis}'.lower()) for axis in 'xyz']
        if all(columns):
            break
    else:
        raise CrystalFileError('expected coordinates in _atom_site_fract_x, _y and _z, found none')
    rows = [
        [as_number(word, f'{short(label)}, coordinates') for word in row]
        for label, *row in zip(labels, *columns, strict=True)
    ]
    coordinates = np.array(rows, dtype=np.float64)
    if kind == 'fract':
        return coordinates
    if values.column('atom_sites_cartn_transform_axes', 'atom_sites_cartn_tran_matrix_11'):
        raise CrystalFileError('expected fractional coordinates, found Cartesian ones with axes of their own')
    return coordinates @ np.linalg.inv(cell)


def _check_occupancies(values: _Values, labels: list[str], symbols: list[str]) -> None:
    """Raise CrystalFileError unless each site holds one whole atom, and all of its hydrogen atoms are sites too."""
    occupancies = values.column('atom_site_occupancy')
    if '?' in occupancies:
        raise CrystalFileError(
            f'{short(labels[occupancies.index("?")])}: expected its occupancy, found `?`: write 1 where the site holds '
            'a whole atom, or leave _atom_site_occupancy out where all do'
        )
    shares = [1.0 if word == '.' else as_number(word, '_atom_site_occupancy') for word in occupancies]
    if not all(abs(share - 1) <= WHOLE for share in shares):
        refuse_partial(
            {short(label): {symbol: share} for label, symbol, share in zip(labels, symbols, shares, strict=True)}
        )
    if any(word not in {'.', '?', '0', ''} for word in values.column('atom_site_disorder_group')):
        raise CrystalFileError('expected one place for each atom, found alternative ones (_atom_site_disorder_group)')
    for label, word in zip(labels, values.column('atom_site_attached_hydrogens'), strict=False):
        if word not in {'.', '?', '0'}:
            raise CrystalFileError(
                f'{short(label)}: {short(word)} hydrogen atoms without coordinates belong to it: add them'
            )


def _check_distinct(labels: list[str], images: list[NDArray[np.float64]], cell: NDArray[np.float64]) -> None:
    """Raise CrystalFileError where two sites are at one place."""
    reach = COINCIDENT / np.linalg.svd(cell, compute_uv=False).min()
    if reach >= 0.5:
        raise CrystalFileError(f'expected a cell wider than {2 * COINCIDENT} A in each direction')
    of_site = np.repeat(np.arange(len(images)), [len(sites) for sites in images])
    places = np.concatenate(images)
    if len(places) <= FEW_PLACES:
        pairs = np.column_stack(np.triu_indices(len(places), 1))
    else:
        from scipy.spatial import cKDTree  # takes longer to load than small cells to read

        pairs = cKDTree(places, boxsize=1.0).query_pairs(reach, output_type='ndarray')
    difference = places[pairs[:, 0]] - places[pairs[:, 1]]
    distance = np.linalg.norm((difference - np.round(difference)) @ cell, axis=1)
    if (distance < COINCIDENT).any():
        a, b = of_site[pairs[int(distance.argmin())]]
        raise CrystalFileError(
            f'{short(labels[a])} and {short(labels[b])} are {distance.min():.2g} A apart: expected one whole '
            'atom at a place'
        )


def _check_formula(values: _Values, symbols: list[str], counts: list[int], operations: Operations) -> None:
    """Raise CrystalFileError where the block's own formula, or its number of formula units, is of another crystal."""
    formula, units = values.value('chemical_formula_sum'), values.number('cell_formula_units_z')
    if units is not None and units < 1:
        raise CrystalFileError(f'_cell_formula_units_Z: expected 1 or more, found {units:g}')
    stated: dict[str, float] = {}
    for word in (formula or '').replace(',', ' ').split():
        match = re.fullmatch(r'([A-Z][a-z]?)(\d*\.?\d*)', word)
        if match is None:
            return
        element = ISOTOPES.get(match[1], match[1])
        stated[element] = stated.get(element, 0.0) + float(match[2] or 1)
    if not stated or min(stated.values()) <= 0:
        return
    found: dict[str, float] = {}
    for symbol, count in zip(symbols, counts, strict=True):
        element = ISOTOPES.get(symbol, symbol)
        found[element] = found.get(element, 0) + count
    ratios = [found.get(element, 0.0) / number for element, number in stated.items()]
    # pymatgen writes the formula of the whole cell, beside the number of units in it.
    of_cell = units is not None and all(number % units == 0 for number in stated.values())
    whole = units is None or any(abs(ratios[0] - n) <= 0.01 * n for n in (units, *([1.0] if of_cell else [])))
    if found.keys() != stated.keys() or max(ratios) - min(ratios) > 0.01 * max(ratios) or not whole:
        cell = ' '.join(f'{element}{count:g}' for element, count in sorted(found.items()))
        expected = f'{formula!r}' if units is None else f'{units:g} units of {formula!r}'
        raise CrystalFileError(
            f'the sites and {operations.source} give {cell} in the cell, but the file states {expected}: '
            'one of them is wrong'
        )
