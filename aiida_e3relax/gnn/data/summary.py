"""Statistics of a data set: for the data card, and as text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.gnn.data.repair import rotation_angles

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclasses.dataclass(frozen=True)
class Changes:
    """How relaxation changes each pair, in the frame of the unrelaxed crystal: arrays ``(S,)``.

    Attributes
    ----------
    displacement_A
        Mean length of the atoms' displacements at fixed fractional coordinates of the cell, drift removed.
    volume_percent
        Change of the volume.
    strain
        Largest principal strain of the cell by magnitude.
    rotation_degrees
        Angle between the frames of the two files.
    """

    displacement_A: NDArray[np.float64]  # noqa: N815 - a unit
    volume_percent: NDArray[np.float64]
    strain: NDArray[np.float64]
    rotation_degrees: NDArray[np.float64]

    @classmethod
    def of(cls, pairs: Pairs) -> Changes:
        """Return the changes of `pairs`."""
        before, after = pairs.unrelaxed, aligned(pairs).relaxed
        moved = np.einsum('ac,acx->ax', after.fractional() - before.fractional(), after.cell[before.structure_index])
        stretches = np.linalg.svd(np.linalg.inv(before.cell) @ after.cell, compute_uv=False) - 1
        return cls(
            before.mean_over_atoms(np.sqrt((moved**2).sum(axis=1, keepdims=True)))[:, 0],
            100 * (np.abs(after.volumes / before.volumes) - 1),
            stretches[np.arange(len(before)), np.abs(stretches).argmax(axis=1)],
            rotation_angles(before.cell, pairs.as_filed.cell),
        )


def summary(pairs: Pairs) -> dict[str, Any]:
    """Return counts, kinds and what is fixed, if any, elements, sizes, and quantiles of what relaxation changes."""
    from ase.data import chemical_symbols

    crystals, changes = pairs.unrelaxed, Changes.of(pairs)
    owner = np.unique(np.stack([crystals.numbers, crystals.structure_index]), axis=1)[0]
    elements, counts = np.unique(owner, return_counts=True)
    fixed = {}
    if pairs.fixed is not None:
        fixed['atoms_fixed'] = int(pairs.fixed.all(axis=1).sum())
        fixed['atoms_fixed_in_part'] = int(pairs.fixed.any(axis=1).sum()) - fixed['atoms_fixed']
    if pairs.fixed_cell is not None:
        fixed['cells_fixed'] = int(pairs.fixed_cell.sum())
    kinds = {'pairs_of_kind': found} if (found := pairs.count(pairs.kinds)) else {}
    return {
        'pairs': len(pairs),
        'atoms': int(crystals.n_atoms.sum()),
        **fixed,
        'pairs_of_split': pairs.count(pairs.source),
        **kinds,
        'pairs_with_element': {chemical_symbols[z]: int(n) for z, n in zip(elements, counts, strict=True)},
        'quantiles': {
            'of': list(QUANTILES),
            'atoms': _quantiles(crystals.n_atoms),
            **{field.name: _quantiles(getattr(changes, field.name)) for field in dataclasses.fields(changes)},
        },
    }


def _quantiles(values: NDArray) -> list[float]:
    return [float(f'{np.round(q, 9):.4g}') for q in np.quantile(values, QUANTILES)]


def text(facts: Mapping[str, Any]) -> str:
    """Return a `summary` as text."""
    lines = [f'{facts["pairs"]} pairs, {facts["atoms"]} atoms']
    if fixed := [f'{facts[name]} {name.replace("_", " ")}' for name in _FIXED if name in facts]:
        lines.append(f'  {", ".join(fixed)}')
    for source, counts in facts['pairs_of_split'].items():
        lines.append(f'  {source}: {_counted(counts)}')
    lines += [f'    {kind}: {_counted(counts)}' for kind, counts in facts.get('pairs_of_kind', {}).items()]
    elements = facts['pairs_with_element']
    common = sorted(elements, key=lambda s: -elements[s])
    lines.append(f'{len(elements)} elements: {" ".join(common[:20])}{" ..." if len(common) > 20 else ""}')
    quantiles = dict(facts['quantiles'])
    lines.append(f'{"quantiles":<28}' + ''.join(f'{f"{100 * q:.0f} %":>9}' for q in quantiles.pop('of')))
    for name, values in quantiles.items():
        lines.append(f'  {_TITLES[name]:<26}' + ''.join(f'{value:>9.3g}' for value in values))
    return '\n'.join(lines)


def _counted(counts: Mapping[str, int]) -> str:
    return ', '.join(f'{n} {split}' for split, n in counts.items())


_FIXED = ('atoms_fixed', 'atoms_fixed_in_part', 'cells_fixed')

_TITLES = {
    'atoms': 'atoms a cell',
    'displacement_A': 'mean displacement (A)',
    'volume_percent': 'volume change (%)',
    'strain': 'largest strain',
    'rotation_degrees': 'rotation of frames (deg)',
}
