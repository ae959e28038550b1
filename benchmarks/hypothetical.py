"""Write hypothetical crystals: prototypes of pymatgen's AFLOW library with other elements put in.

    python benchmarks/hypothetical.py crystals/

No formula is in a data set that the default model was trained, validated or tested on. The starts are the cells of the
prototypes as they are: nothing about the new compound is put into them but its elements.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY
from pymatgen.core import Structure

SUBSTITUTIONS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ('AB_cF8_216_c_a', 'zincblende', {'Zn': 'Si', 'S': 'Ge'}),
    ('AB_hP4_186_b_b', 'wurtzite', {'Zn': 'Ge', 'S': 'Sn'}),
    ('ABC_cF12_216_b_c_a', 'half-Heusler', {'Mg': 'Na', 'Ag': 'Mg', 'As': 'P'}),
    ('ABC_cF12_216_b_c_a', 'half-Heusler', {'Mg': 'Li', 'Ag': 'Ga', 'As': 'Ge'}),
    ('ABC_cF12_216_b_c_a', 'half-Heusler', {'Mg': 'K', 'Ag': 'Mg', 'As': 'As'}),
    ('AB2_cF12_225_a_c', 'fluorite', {'Ca': 'Mg', 'F': 'F'}),
    ('AB2_cF12_225_a_c', 'antifluorite', {'Ca': 'C', 'F': 'Mg'}),
    ('AB2_hP3_164_a_d', 'cadmium iodide', {'Cd': 'Ge', 'I': 'S'}),
    ('AB2_hP3_164_a_d', 'cadmium iodide', {'Cd': 'Si', 'I': 'Te'}),
    ('AB2_hP3_164_a_d', 'cadmium iodide', {'Cd': 'Zn', 'I': 'I'}),
    ('AB2_hP3_191_a_d', 'aluminium diboride', {'Al': 'Sr', 'B': 'B'}),
    ('AB2_hP3_191_a_d', 'aluminium diboride', {'Al': 'Ca', 'B': 'Ga'}),
    ('AB_cF16_227_a_b', 'sodium thallide', {'Na': 'Na', 'Tl': 'Al'}),
    ('AB_cF16_227_a_b', 'sodium thallide', {'Na': 'K', 'Tl': 'Ga'}),
    ('AB_hP4_194_c_a', 'nickel arsenide', {'Ni': 'Ca', 'As': 'Te'}),
    ('AB_tP4_129_a_c', 'litharge', {'Pb': 'Ge', 'O': 'O'}),
    ('AB_tP4_129_a_c', 'litharge', {'Pb': 'Si', 'O': 'S'}),
    ('ABC2_hR4_166_a_b_c', 'caswellsilverite', {'Na': 'Li', 'Cr': 'Y', 'S': 'S'}),
    ('ABC2_hR4_166_a_b_c', 'caswellsilverite', {'Na': 'Na', 'Cr': 'In', 'S': 'S'}),
    ('ABC2_hR4_166_a_b_c', 'caswellsilverite', {'Na': 'Li', 'Cr': 'Al', 'S': 'Se'}),
    ('A4B_tI10_139_de_a', 'barium aluminide', {'Ba': 'Sr', 'Al': 'Al'}),
    ('AB3C_cP5_221_a_c_b', 'perovskite', {'Ca': 'Na', 'Ti': 'Mg', 'O': 'Cl'}),
    ('ABC_tP6_129_c_a_c', 'matlockite', {'Pb': 'Sr', 'Cl': 'Cl', 'F': 'F'}),
    ('ABC_tP6_129_c_a_c', 'matlockite', {'Pb': 'Ca', 'Cl': 'Br', 'F': 'F'}),
    ('ABC_hP6_194_c_d_a', 'lithium borocarbide', {'Li': 'Li', 'B': 'Al', 'C': 'C'}),
    ('ABC2_tI16_122_a_b_d', 'chalcopyrite', {'Fe': 'Si', 'Cu': 'Mg', 'S': 'P'}),
)
"""AFLOW's name of a prototype, ours, and what is put in the place of each element."""


def hypothetical_crystals() -> dict[str, Structure]:
    """Return the crystals, primitive cells, by formula and prototype."""
    library = {entry['tags']['aflow']: entry['snl'].structure for entry in AFLOW_PROTOTYPE_LIBRARY}
    crystals = {}
    for aflow, name, elements in SUBSTITUTIONS:
        structure = library[aflow].copy()
        structure.remove_oxidation_states()
        structure.replace_species(elements)
        crystals[f'{structure.composition.reduced_formula}-{name.replace(" ", "-")}'] = structure
    return crystals


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
