"""Write the crystals of a family for a network to learn from real PBE, and others of it that judge what was learnt.

    python -m benchmarks.layered_family crystals/

    settings='--protocol fast --kpoints-spacing 0.08 --vacuum none --overrides benchmarks/hypothetical.yaml'
    code='--vasp-code vasp-standin-gpaw@localhost'
    aiida-e3relax campaign create layers --from crystals/learn $settings $code --no-network
    aiida-e3relax campaign create layers-judge --from crystals/judge $settings $code --arms network sevennet-mf-0
    aiida-e3relax campaign run layers
    aiida-e3relax campaign run layers-judge
    aiida-e3relax data --from campaign:layers --split random --output layers.npz
    e3relax finetune default tune.yaml       # with `data: layers.npz` and `output: tuned`
    aiida-e3relax campaign create layers-judge-tuned --raw-legs-of layers-judge --model tuned/best.pt
    aiida-e3relax campaign run layers-judge
    aiida-e3relax campaign compare layers-judge --output layers-compared

Layers of the cadmium iodide structure with three atoms, two anions alike or one of each of two kinds (Janus layers),
in the cell of cadmium iodide as it is. No formula is in a data set that the default model was trained, validated or
tested on (`--known` names files of pairs: what they hold is left out). Forty are learnt from and twenty judge, drawn by
`--seed`, no chemical system in both.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from benchmarks.families import CADMIUM_IODIDE, known_formulas
from benchmarks.hypothetical import substitute

CHALCOGENIDES = (('Si', 'Ge', 'Sn', 'Pb', 'Ti', 'Zr', 'Hf'), ('S', 'Se', 'Te'))
HALIDES = (('Mg', 'Ca', 'Sr', 'Zn', 'Cd', 'Ge', 'Sn', 'Si'), ('Cl', 'Br', 'I'))
N_LEARN, N_JUDGE = 40, 20


def layered_crystals() -> Iterator[tuple[str, Structure]]:
    """Yield label and cell of each crystal, 90 before what is known is left out."""
    for metals, anions in (CHALCOGENIDES, HALIDES):
        for metal, (below, above) in itertools.product(metals, itertools.combinations_with_replacement(anions, 2)):
            structure = substitute(CADMIUM_IODIDE, {'Cd': metal, 'I': below})
            lower = next(place for place, site in enumerate(structure) if site.specie.symbol == below)
            structure.replace(lower, above)
            yield f'{structure.composition.reduced_formula}-hP3', structure


def draw_judges(crystals: Mapping[str, Structure], seed: int) -> list[str]:
    """Return the labels of those that judge, at least `N_JUDGE`: all of chemical systems that are drawn."""
    by_system: dict[str, list[str]] = {}
    for label, structure in crystals.items():
        by_system.setdefault(structure.composition.chemical_system, []).append(label)
    judges: list[str] = []
    for system in np.random.default_rng(seed).permutation(sorted(by_system)):
        if len(judges) < N_JUDGE:
            judges += by_system[system]
    return judges


def main() -> None:
    """Write one POSCAR for each crystal, into `learn` or `judge`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--known', type=Path, nargs='*', default=[], help='files of pairs whose formulas are left out')
    options = parser.parse_args()
    known = set().union(*map(known_formulas, options.known))
    crystals = {
        label: structure
        for label, structure in layered_crystals()
        if structure.composition.reduced_formula not in known
    }
    judges = draw_judges(crystals, options.seed)
    learnt = [label for label in crystals if label not in judges][:N_LEARN]
    for kind, labels in (('learn', learnt), ('judge', judges)):
        folder = options.folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        for label in labels:
            crystals[label].to_file(str(folder / f'{label}.vasp'), fmt='poscar')
        print(f'{kind}: {len(labels)} of {len(crystals)}: {", ".join(labels)}')


if __name__ == '__main__':
    main()
