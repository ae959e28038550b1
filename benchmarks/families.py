r"""Write the crystals of the campaigns that compare pre-relaxers with real PBE: eight families, four crystals each.

    python -m benchmarks.families crystals/                      # starts as the donors' cells are
    python -m benchmarks.families --scaled crystals-scaled/      # the same at the volume that pymatgen predicts

    settings='--protocol fast --kpoints-spacing 0.08 --vacuum none --max-running 1'
    arms='--vasp-code vasp-standin-gpaw@localhost --arms network chgnet sevennet-mf-0'
    arms="$arms network+sevennet-mf-0 dls-volume"
    aiida-e3relax campaign create soft --from crystals/soft $settings --overrides benchmarks/hypothetical.yaml $arms
    aiida-e3relax campaign create hard --from crystals/hard $settings --overrides benchmarks/families_hard.yaml $arms
    aiida-e3relax campaign run soft
    aiida-e3relax campaign run hard
    aiida-e3relax campaign compare soft,hard --classes crystals/classes.csv --output families-compared

Each is a prototype of pymatgen's AFLOW library with other elements put in, of at most 6 atoms; no formula is in a data
set that the default model was trained, validated or tested on (`--known` names files of pairs to check that against).
Crystals with O, N, F or H go to the folder `hard`, whose volumes need a cutoff of 500 eV (GPAW takes 800), others to
`soft`, for which 300 eV do: a campaign has one cutoff. `classes.csv` has the family of each by its label in a campaign.
Double perovskites have 10 atoms at least, and are left out.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from pymatgen.analysis.structure_prediction.volume_predictor import DLSVolumePredictor
from pymatgen.core import Composition, Structure

from aiida_e3relax.common.label_table import LABEL
from aiida_e3relax.crystals.datasets.pairs_file import read_pairs
from aiida_e3relax.crystals.files import make_label
from benchmarks.hypothetical import substitute

ROCK_SALT, NICKEL_ARSENIDE, LITHARGE = 'AB_cF8_225_a_b', 'AB_hP4_194_c_a', 'AB_tP4_129_a_c'
HALF_HEUSLER, CASWELLSILVERITE = 'ABC_cF12_216_b_c_a', 'ABC2_hR4_166_a_b_c'
MATLOCKITE, CADMIUM_IODIDE, BISMUTH_FLUORIDE = 'ABC_tP6_129_c_a_c', 'AB2_hP3_164_a_d', 'AB3_cF16_225_a_bc'
SODIUM_THALLIDE, BARIUM_ALUMINIDE, PEROVSKITE = 'AB_cF16_227_a_b', 'A4B_tI10_139_de_a', 'AB3C_cP5_221_a_c_b'

FAMILIES: dict[str, tuple[tuple[str, dict[str, str]], ...]] = {
    'oxides': (
        (CASWELLSILVERITE, {'Na': 'Na', 'Cr': 'Al', 'S': 'O'}),
        (CASWELLSILVERITE, {'Na': 'K', 'Cr': 'Al', 'S': 'O'}),
        (LITHARGE, {'Pb': 'Ge', 'O': 'O'}),
        (LITHARGE, {'Pb': 'Si', 'O': 'O'}),
    ),
    'halides': (
        (MATLOCKITE, {'Pb': 'Ca', 'Cl': 'I', 'F': 'Cl'}),
        (MATLOCKITE, {'Pb': 'Ba', 'Cl': 'I', 'F': 'Br'}),
        (CADMIUM_IODIDE, {'Cd': 'Ge', 'I': 'I'}),
        (BISMUTH_FLUORIDE, {'Bi': 'Al', 'F': 'Cl'}),
    ),
    'chalcogenides': (
        (ROCK_SALT, {'Na': 'Ca', 'Cl': 'Te'}),
        (LITHARGE, {'Pb': 'Ge', 'O': 'S'}),
        (LITHARGE, {'Pb': 'Si', 'O': 'Se'}),
        (NICKEL_ARSENIDE, {'Ni': 'Al', 'As': 'Te'}),
    ),
    'pnictides': (
        (HALF_HEUSLER, {'Mg': 'Na', 'Ag': 'Mg', 'As': 'P'}),
        (HALF_HEUSLER, {'Mg': 'K', 'Ag': 'Mg', 'As': 'As'}),
        (HALF_HEUSLER, {'Mg': 'Na', 'Ag': 'Ca', 'As': 'As'}),
        (HALF_HEUSLER, {'Mg': 'K', 'Ag': 'Ca', 'As': 'Sb'}),
    ),
    'intermetallics': (
        (SODIUM_THALLIDE, {'Na': 'Na', 'Tl': 'Al'}),
        (SODIUM_THALLIDE, {'Na': 'K', 'Tl': 'Ga'}),
        (BARIUM_ALUMINIDE, {'Ba': 'Sr', 'Al': 'Al'}),
        (HALF_HEUSLER, {'Mg': 'Li', 'Ag': 'Al', 'As': 'Sn'}),
    ),
    'layered': (
        (CADMIUM_IODIDE, {'Cd': 'Ge', 'I': 'S'}),
        (CADMIUM_IODIDE, {'Cd': 'Ge', 'I': 'Se'}),
        (CADMIUM_IODIDE, {'Cd': 'Si', 'I': 'Te'}),
        (CADMIUM_IODIDE, {'Cd': 'Sn', 'I': 'Te'}),
    ),
    'perovskites': (
        (PEROVSKITE, {'Ca': 'Na', 'Ti': 'Mg', 'O': 'Cl'}),
        (PEROVSKITE, {'Ca': 'K', 'Ti': 'Ca', 'O': 'Br'}),
        (PEROVSKITE, {'Ca': 'K', 'Ti': 'Mg', 'O': 'F'}),
        (PEROVSKITE, {'Ca': 'Br', 'Ti': 'O', 'O': 'Na'}),
    ),
    'hydrides and nitrides': (
        (PEROVSKITE, {'Ca': 'K', 'Ti': 'Mg', 'O': 'H'}),
        (PEROVSKITE, {'Ca': 'Sr', 'Ti': 'Li', 'O': 'H'}),
        (HALF_HEUSLER, {'Mg': 'Li', 'Ag': 'Mg', 'As': 'N'}),
        (HALF_HEUSLER, {'Mg': 'Na', 'Ag': 'Ca', 'As': 'N'}),
    ),
}
"""AFLOW's name of a prototype, and what is put in the place of each element, by family."""

HARD = {'O', 'N', 'F', 'H'}


def family_crystals(scaled: bool = False) -> Iterator[tuple[str, str, Structure]]:
    """Yield family, label and primitive cell of each crystal, with `scaled` at the volume that pymatgen predicts."""
    for family, crystals in FAMILIES.items():
        for aflow, elements in crystals:
            structure = substitute(aflow, elements)
            if scaled:
                structure = DLSVolumePredictor().get_predicted_structure(structure)
            formula = structure.composition.reduced_formula
            yield family, f'{family.split()[0]}-{formula}-{aflow.split("_")[1]}', structure


def known_formulas(path: Path) -> set[str]:
    """Return the reduced formulas in a file of pairs."""
    crystals = read_pairs(path).unrelaxed
    found = set()
    for numbers in np.split(crystals.numbers, crystals.offsets[1:-1]):
        kinds, counts = np.unique(numbers, return_counts=True)
        amounts = {chemical_symbols[kind]: int(count) for kind, count in zip(kinds, counts, strict=True)}
        found.add(Composition(amounts).reduced_formula)
    return found


def main() -> None:
    """Write one POSCAR for each crystal, and the file of their families."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--scaled', action='store_true', help='at the volume that pymatgen predicts from bond lengths')
    parser.add_argument(
        '--known', type=Path, nargs='*', default=[], help='files of pairs that hold none of the formulas'
    )
    options = parser.parse_args()
    known = set().union(*map(known_formulas, options.known))
    families = {}
    for family, label, structure in family_crystals(options.scaled):
        formula = structure.composition.reduced_formula
        if formula in known:
            raise SystemExit(f'{formula} is in {", ".join(map(str, options.known))}')
        kind = 'hard' if HARD & {str(element) for element in structure.composition.elements} else 'soft'
        folder = options.folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        structure.to_file(str(folder / f'{label}.vasp'), fmt='poscar')
        families[make_label(label)] = family
        print(f'{kind}: {family}: {label}: {len(structure)} atoms, {structure.volume:.1f} A^3')
    with (options.folder / 'classes.csv').open('w', newline='', encoding='utf-8') as handle:
        csv.writer(handle).writerows([(LABEL, 'class'), *families.items()])


if __name__ == '__main__':
    main()
