"""Folders with VASP's inputs, made from ASE prototypes, and runs of the stand-in in them."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixScaled
from ase.io.vasp import write_vasp
from click.testing import CliRunner, Result

from aiida_e3relax.standin.cli import main
from aiida_e3relax.standin.potentials import potential_text


@pytest.fixture
def write_inputs(tmp_path) -> Callable[..., Path]:
    """Write POSCAR, INCAR, KPOINTS and POTCAR of a crystal to a new folder and return it.

    ``fixed`` is (n_atoms, 3) booleans in the order of the POSCAR, where species are grouped.
    """

    def write(
        atoms: Atoms,
        incar: Mapping[str, object],
        kpoints: tuple[int, int, int] = (2, 2, 2),
        fixed: np.ndarray | None = None,
        name: str = 'run',
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        atoms = atoms[np.argsort(atoms.numbers, kind='stable')]
        if fixed is not None:
            atoms.set_constraint([FixScaled(k, row) for k, row in enumerate(fixed) if row.any()])
        write_vasp(folder / 'POSCAR', atoms, direct=True)
        (folder / 'INCAR').write_text(''.join(f'{tag} = {value}\n' for tag, value in incar.items()))
        (folder / 'KPOINTS').write_text(f'mesh\n0\nGamma\n{" ".join(map(str, kpoints))}\n0 0 0\n')
        species = dict.fromkeys(atoms.get_chemical_symbols())
        (folder / 'POTCAR').write_text(''.join(potential_text(symbol) for symbol in species))
        return folder

    return write


@pytest.fixture
def run_standin(monkeypatch) -> Callable[..., Result]:
    """Run the console script's function in a folder; a run that should end well is checked for it."""

    def run(folder: Path, engine: str | None, succeeds: bool = True) -> Result:
        monkeypatch.chdir(folder)
        monkeypatch.delenv('E3RELAX_STANDIN_ENGINE', raising=False)
        result = CliRunner().invoke(main, [] if engine is None else ['--engine', engine])
        if succeeds:
            assert result.exit_code == 0, result.output
        return result

    return run


@pytest.fixture
def run_script() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the installed console script in a process of its own, which sets the number of threads."""

    def run(folder: Path, engine: str, succeeds: bool = True) -> subprocess.CompletedProcess[str]:
        script = Path(sys.executable).with_name('e3relax-vasp-standin')
        process = subprocess.run([script, '--engine', engine], cwd=folder, text=True, capture_output=True, check=False)
        if succeeds:
            assert process.returncode == 0, process.stdout + process.stderr
        return process

    return run
