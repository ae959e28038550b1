"""Ordered alloys of the metals that effective medium theory knows, as many as are asked for.

    python benchmarks/alloys.py FOLDER --count 36

`make learn` takes these through a campaign whose model learns: alloys on the face-centred lattice alone, so that a
dozen relaxations say something of the others. The alloys of other benchmarks, which import `draw_alloys`, have
body-centred lattices too, many of which do not hold with this potential, and are nearer to their ends in volume.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, reference_states
from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

ELEMENTS = ('Al', 'Cu', 'Ag', 'Au', 'Ni', 'Pd', 'Pt')
PROTOTYPES = {
    'AB_cP2_221_b_a': 'B2',
    'AB_tP2_123_a_d': 'L10',
    'AB_hR2_166_a_b': 'L11',
    'AB3_cP4_221_a_c': 'L12',
    'AB3_tP4_123_a_ce': 'L60',
    'AB3_cF16_225_a_bc': 'D03',
    'A3B_tI8_139_bd_a': 'D022',
    'A3B_hP8_194_h_c': 'D019',
    'AB2_tI6_139_a_e': 'C11b',
    'AB2C_cF16_225_a_c_b': 'L21',
}
"""Ordered alloys with 2 to 8 atoms in a cell: their names by AFLOW and in the Strukturbericht."""
SCALES = (0.97, 1.05)
"""Bounds of the factor by which edges differ from those by the atomic volumes of the elements."""
STRAIN = 0.02
RATTLE = 0.08  # A

FACE_CENTRED = ('L10', 'L12', 'L60', 'D022')
WIDE_SCALES = (0.93, 1.07)
SMALL_RATTLE = 0.04  # A
"""Of the alloys of `make learn`."""


def draw_alloys(
    count: int,
    prototypes: Collection[str] = tuple(PROTOTYPES.values()),
    scales: tuple[float, float] = SCALES,
    rattle: float = RATTLE,
) -> Iterator[tuple[str, Atoms]]:
    """Yield alloys that all differ, by name: the prototypes in turn, with elements, strain and shifts drawn."""
    wanted = [(aflow, name) for aflow, name in PROTOTYPES.items() if name in prototypes]
    rng = np.random.default_rng(0)
    library: dict[str, Any] = {entry['tags']['aflow']: entry['snl'].structure for entry in AFLOW_PROTOTYPE_LIBRARY}
    for place in range(count):
        aflow, prototype = wanted[place % len(wanted)]
        structure = library[aflow].copy()
        structure.remove_oxidation_states()
        donors = [element.symbol for element in structure.elements]
        structure.replace_species(dict(zip(donors, rng.permutation(ELEMENTS).tolist(), strict=False)))
        metals: list[Any] = [reference_states[atomic_numbers[site.specie.symbol]] for site in structure]
        structure.scale_lattice(sum(metal['a'] ** 3 / 4 for metal in metals))
        atoms: Any = structure.to_ase_atoms()
        strain = rng.normal(0.0, STRAIN, (3, 3))
        atoms.set_cell(atoms.cell @ (rng.uniform(*scales) * np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.rattle(rattle, rng=rng)
        yield f'{structure.reduced_formula}-{prototype}-{place:03}', atoms


@click.command()
@click.argument('folder', type=click.Path(file_okay=False, path_type=Path))
@click.option('--count', type=click.IntRange(min=1), default=36, show_default=True)
def main(folder: Path, count: int) -> None:
    """Write COUNT alloys into FOLDER, a POSCAR each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, atoms in draw_alloys(count, FACE_CENTRED, WIDE_SCALES, SMALL_RATTLE):
        atoms.write(folder / f'{name}.vasp')
    click.echo(f'{count} alloys in {folder}')


if __name__ == '__main__':
    main()
