"""Partial occupancies, which are refused: which crystal stands for them is a person's choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from aiida_e3relax.common.messages import name_some, short
from aiida_e3relax.crystals.files.errors import CrystalFileError

if TYPE_CHECKING:
    from ase import Atoms

WHOLE = 1e-3
"""How far an occupancy may be from 1: what rounding leaves."""

ADVICE = (
    'order it first, for example with OrderDisorderedStructureTransformation of pymatgen, or as a special quasi-random '
    'structure with icet or mcsqs of ATAT'
)

_ARRAYS = ('occupancy', 'occupancies', 'occ', 'site_occupancy')


def refuse_partial(sites: Mapping[str, Mapping[str, float]]) -> None:
    """Raise CrystalFileError unless each site holds one whole atom; `sites` are occupancies by element, by site."""
    partial = {
        site: shares
        for site, shares in sites.items()
        if len(shares) != 1 or not abs(next(iter(shares.values())) - 1) <= WHOLE
    }
    if partial:
        found = [
            f'{site} ({" + ".join(f"{e} {share:g}" for e, share in shares.items())})'
            for site, shares in partial.items()
        ]
        raise CrystalFileError(
            f'expected one whole atom on each site, found partial occupancies: {short(name_some(found, 6), 330)}; '
            f'{ADVICE}'
        )


def refuse_partial_atoms(atoms: Atoms) -> None:
    """Raise CrystalFileError where a structure of ASE comes with occupancies that are not whole.

    ASE keeps them beside the atoms and goes on as if each site held its first element: those of CIF in ``info``, those
    of other formats as an array.
    """
    held = atoms.info.get('occupancy')
    if isinstance(held, Mapping):
        refuse_partial({f'kind {kind}': shares for kind, shares in held.items() if isinstance(shares, Mapping)})
    for name in _ARRAYS:
        values = atoms.arrays.get(name)
        if values is not None and values.shape == (len(atoms),) and values.dtype.kind in 'iuf':
            symbols = atoms.get_chemical_symbols()
            wrong = np.flatnonzero(~(np.abs(values - 1) <= WHOLE))
            refuse_partial({f'site {site}': {symbols[site]: float(values[site])} for site in wrong.tolist()})
