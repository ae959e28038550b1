"""The four input files of a run, read and checked against each other."""

from dataclasses import dataclass
from pathlib import Path

from aiida_e3relax.standin.errors import StandInError
from aiida_e3relax.standin.incar import Incar
from aiida_e3relax.standin.kpoints import KPoints, parse_kpoints, spacing_mesh
from aiida_e3relax.standin.poscar import Poscar
from aiida_e3relax.standin.potcar import Dataset, parse_potcar
from aiida_e3relax.standin.settings import Settings

LARGEST_FILE = 200_000_000
"""Bytes; a POSCAR of a million atoms has half of it."""


@dataclass(frozen=True)
class Inputs:
    """What INCAR, POSCAR, KPOINTS and POTCAR ask for; ``folder`` (existing) is where the run works."""

    folder: Path
    incar: Incar
    settings: Settings
    poscar: Poscar
    kpoints: KPoints
    datasets: tuple[Dataset, ...]

    @classmethod
    def read(cls, folder: Path) -> 'Inputs':
        """Read the inputs of a folder; without KPOINTS the mesh comes from KSPACING.

        Raises
        ------
        StandInError
            If a file is missing or unreadable, or two files contradict each other.
        """
        poscar = Poscar.parse(_text(folder, 'POSCAR'))
        incar = Incar(_text(folder, 'INCAR'))
        has_kpoints = (folder / 'KPOINTS').exists()
        inputs = cls(
            folder=folder,
            incar=incar,
            settings=Settings.from_incar(incar),
            poscar=poscar,
            kpoints=parse_kpoints(_text(folder, 'KPOINTS'), poscar.geometry)
            if has_kpoints
            else spacing_mesh(incar, poscar.geometry),
            datasets=parse_potcar(_text(folder, 'POTCAR')),
        )
        inputs._check()
        return inputs

    def _check(self) -> None:
        elements = tuple(dataset.element for dataset in self.datasets)
        if elements != self.poscar.species:
            raise StandInError(
                f'POTCAR has the elements {" ".join(elements)}, POSCAR {" ".join(self.poscar.species)}; '
                'put the potentials in the order of POSCAR'
            )
        moments, sites = self.settings.magmom, len(self.poscar.symbols)
        if self.settings.ispin == 2 and moments is not None and len(moments) != sites:
            raise StandInError(f'INCAR: MAGMOM needs {sites} values, one per atom, found {len(moments)}; correct it')
        if self.settings.hubbard and len(self.settings.hubbard) != len(elements):
            raise StandInError(
                f'INCAR: LDAUL, LDAUU and LDAUJ need {len(elements)} values, one per species of POSCAR, '
                f'found {len(self.settings.hubbard)}; correct them'
            )

    @property
    def encut(self) -> float:
        """Plane-wave cutoff in eV: ENCUT, or the largest ENMAX of the potentials."""
        return self.settings.encut or max(dataset.enmax for dataset in self.datasets)

    @property
    def n_electrons(self) -> float:
        """Valence electrons of the cell as the potentials count them."""
        return sum(dataset.zval * count for dataset, count in zip(self.datasets, self.poscar.counts, strict=True))


def _text(folder: Path, name: str) -> str:
    path = folder / name
    try:
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise StandInError(f'{name} has {size:,} bytes, expected {LARGEST_FILE:,} at most; write it anew')
        return path.read_text(encoding='utf-8')
    except FileNotFoundError:
        raise StandInError(f'{name} is not in {folder}; the stand-in needs INCAR, POSCAR and POTCAR there') from None
    except (UnicodeDecodeError, OSError) as error:
        raise StandInError(f'{name} is not a text file ({error}); write it anew') from None
