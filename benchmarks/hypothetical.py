"""Write the crystals of the campaign with real PBE: prototypes of pymatgen's AFLOW library with other elements put in.

    python benchmarks/hypothetical.py crystals/

No formula is in a data set that the default model was trained, validated or tested on. The starts are the cells of the
prototypes as they are: nothing about the new compound is put into them but its elements.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path

from pymatgen.core import Structure

SUBSTITUTIONS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ('AB_cF8_216_c_a', 'zincblende', {'Zn': 'Si', 'S': 'Ge'}),
    ('AB_cF8_216_c_a', 'zincblende', {'Zn': 'Sn', 'S': 'Si'}),
    ('ABC_cF12_216_b_c_a', 'half-Heusler', {'Mg': 'Na', 'Ag': 'Mg', 'As': 'P'}),
    ('ABC_cF12_216_b_c_a', 'half-Heusler', {'Mg': 'Li', 'Ag': 'Ga', 'As': 'Si'}),
    ('ABC_cF12_216_b_c_a', 'half-Heusler', {'Mg': 'K', 'Ag': 'Mg', 'As': 'As'}),
    ('ABC_cF12_216_b_c_a', 'half-Heusler', {'Mg': 'Li', 'Ag': 'Al', 'As': 'Sn'}),
    ('ABC_cF12_216_b_c_a', 'half-Heusler', {'Mg': 'Na', 'Ag': 'Ca', 'As': 'As'}),
    ('AB2_cF12_225_a_c', 'antifluorite', {'Ca': 'Ge', 'F': 'Sr'}),
    ('AB2_hP3_164_a_d', 'cadmium iodide', {'Cd': 'Ge', 'I': 'S'}),
    ('AB2_hP3_164_a_d', 'cadmium iodide', {'Cd': 'Si', 'I': 'Te'}),
    ('AB2_hP3_164_a_d', 'cadmium iodide', {'Cd': 'Ge', 'I': 'Se'}),
    ('AB_cF16_227_a_b', 'sodium thallide', {'Na': 'Na', 'Tl': 'Al'}),
    ('AB_cF16_227_a_b', 'sodium thallide', {'Na': 'K', 'Tl': 'Al'}),
    ('AB_cF16_227_a_b', 'sodium thallide', {'Na': 'K', 'Tl': 'Ga'}),
    ('AB_tP4_129_a_c', 'litharge', {'Pb': 'Si', 'O': 'S'}),
    ('AB_tP4_129_a_c', 'litharge', {'Pb': 'Si', 'O': 'Se'}),
    ('AB_tP4_129_a_c', 'litharge', {'Pb': 'Ge', 'O': 'S'}),
    ('AB_cF8_225_a_b', 'rock salt', {'Na': 'Ca', 'Cl': 'Te'}),
    ('AB3C_cP5_221_a_c_b', 'perovskite', {'Ca': 'Na', 'Ti': 'Mg', 'O': 'Cl'}),
    ('AB3C_cP5_221_a_c_b', 'perovskite', {'Ca': 'K', 'Ti': 'Ca', 'O': 'Br'}),
    ('A4B_tI10_139_de_a', 'barium aluminide', {'Ba': 'Sr', 'Al': 'Al'}),
    ('A4B_tI10_139_de_a', 'barium aluminide', {'Ba': 'K', 'Al': 'Al'}),
    ('ABC2_hR4_166_a_b_c', 'caswellsilverite', {'Na': 'Na', 'Cr': 'Al', 'S': 'S'}),
    ('ABC2_hR4_166_a_b_c', 'caswellsilverite', {'Na': 'Li', 'Cr': 'Al', 'S': 'Se'}),
    ('ABC_tP6_129_c_a_c', 'matlockite', {'Pb': 'Ca', 'Cl': 'Br', 'F': 'Cl'}),
    ('ABC_tP6_129_c_a_c', 'matlockite', {'Pb': 'Sr', 'Cl': 'I', 'F': 'Br'}),
)
"""AFLOW's name of a prototype, ours, and what is put in the place of each element."""


def hypothetical_crystals() -> dict[str, Structure]:
    """Return the crystals, primitive cells, by formula and prototype."""
    crystals = {}
    for aflow, name, elements in SUBSTITUTIONS:
        structure = substitute(aflow, elements)
        crystals[f'{structure.composition.reduced_formula}-{name.replace(" ", "-")}'] = structure
    return crystals


@functools.cache
def _library() -> dict[str, Structure]:
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY  # takes ten seconds

    return {entry['tags']['aflow']: entry['snl'].structure for entry in AFLOW_PROTOTYPE_LIBRARY}


def substitute(aflow: str, elements: Mapping[str, str]) -> Structure:
    """Return the primitive cell of a prototype, by its name of AFLOW, with others in the places of its elements."""
    structure = _library()[aflow].copy()
    structure.remove_oxidation_states()
    structure.replace_species(elements)
    return structure


def main() -> None:
    """Write one POSCAR for each crystal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for label, structure in hypothetical_crystals().items():
        structure.to_file(str(options.folder / f'{label}.vasp'), fmt='poscar')
        print(f'{label}: {len(structure)} atoms, {structure.volume:.1f} A^3')


if __name__ == '__main__':
    main()
