"""Output files, read back by pymatgen and by the parser of aiida-vasp; what a killed run leaves."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.io.vasp import Oszicar, Outcar, Poscar, Vasprun, Xdatcar

RELAX = {'NSW': 60, 'EDIFFG': -0.01, 'IBRION': 2, 'ISIF': 3, 'SYSTEM': 'copper & <more>', 'LREAL': 'Auto', 'ENCUT': 300}


@pytest.fixture
def finished(write_inputs, run_standin):
    """The folder and stdout of a relaxation of strained copper with EMT."""
    atoms = bulk('Cu', cubic=True)
    atoms.set_cell(1.04 * atoms.cell, scale_atoms=True)
    atoms.rattle(0.05, seed=2)
    folder = write_inputs(atoms, RELAX)
    return folder, run_standin(folder, 'emt').output


def test_pymatgen_reads_every_file(finished):
    folder, _ = finished
    vasprun = Vasprun(folder / 'vasprun.xml', parse_potcar_file=False)
    outcar, oszicar = Outcar(folder / 'OUTCAR'), Oszicar(folder / 'OSZICAR')
    assert vasprun.converged
    n_steps = len(vasprun.ionic_steps)
    assert len(oszicar.ionic_steps) == len(Xdatcar(folder / 'XDATCAR').structures) == n_steps
    assert float(vasprun.final_energy) == pytest.approx(outcar.final_energy, abs=1e-7)
    contcar = Poscar.from_file(folder / 'CONTCAR').structure
    assert vasprun.final_structure.volume == pytest.approx(contcar.volume, rel=1e-8)
    row = r'\s+'.join([r'(-?\d+\.\d+)'] * 6)
    header, footer = r'TOTAL-FORCE \(eV/Angst\)\n\s*-+\n', r'\n?\s*-+'
    table = np.array(outcar.read_table_pattern(header, row, footer, postprocess=float))
    np.testing.assert_allclose(table[:, :3], contcar.cart_coords, atol=1e-5)
    np.testing.assert_allclose(table[:, 3:], vasprun.ionic_steps[-1]['forces'], atol=1e-6)


@pytest.mark.parametrize(('value', 'cores'), [('1', 1), ('2', 2), ('3,1', 3), ('', os.cpu_count())])
def test_outcar_counts_the_threads_as_cores(write_inputs, run_standin, monkeypatch, value, cores):
    monkeypatch.setenv('OMP_NUM_THREADS', value)
    folder = write_inputs(bulk('Cu'), {})
    run_standin(folder, 'emt')
    assert f' running on {cores:4d} total cores\n' in (folder / 'OUTCAR').read_text()


def test_every_ionic_step_is_countable(finished):
    folder, _ = finished
    n_steps = len(Oszicar(folder / 'OSZICAR').ionic_steps)
    lines = [line for line in (folder / 'OUTCAR').read_text().splitlines() if 'Iteration' in line]
    assert lines[-1].split('Iteration')[1].split('(')[0].strip() == str(n_steps)
    assert (folder / 'vasprun.xml').read_text().count('<calculation>') == n_steps


def test_stress_has_the_sign_of_vasp(finished):
    folder, _ = finished
    first = Vasprun(folder / 'vasprun.xml', parse_potcar_file=False).ionic_steps[0]['stress']
    assert np.trace(first) < 0  # the cell is too large: VASP says negative pressure


def test_nobody_takes_it_for_vasp(finished):
    folder, output = finished
    assert Vasprun(folder / 'vasprun.xml', parse_potcar_file=False).vasp_version == '6.999.0-standin-emt'
    assert (folder / 'OUTCAR').read_text().startswith(' vasp.6.999.0-standin-emt\n')
    for text in (output, (folder / 'OUTCAR').read_text(), (folder / 'vasprun.xml').read_text()):
        assert 'This is not VASP' in text
        assert 'effective medium theory' in text
    assert 'without effect here: ENCUT LREAL' in output


def test_species_may_come_again(write_inputs, run_standin):
    folder = write_inputs(bulk('Cu', cubic=True), {})
    text = (folder / 'POSCAR').read_text().splitlines()
    text[5], text[6] = 'Cu Al Cu', '1 2 1'
    (folder / 'POSCAR').write_text('\n'.join(text) + '\n')
    copper = (folder / 'POTCAR').read_text()
    (folder / 'POTCAR').write_text(copper + copper.replace('Cu', 'Al') + copper)
    run_standin(folder, 'emt')
    vasprun = Vasprun(folder / 'vasprun.xml', parse_potcar_file=False)
    assert vasprun.atomic_symbols == ['Cu', 'Al', 'Al', 'Cu']


def test_a_killed_run_leaves_truncated_files(write_inputs):
    atoms = bulk('Cu', cubic=True) * (4, 4, 4)
    atoms.rattle(0.1, seed=1)
    folder = write_inputs(atoms, {'NSW': 10000, 'EDIFFG': -1e-9, 'IBRION': 3})
    script = Path(sys.executable).with_name('e3relax-vasp-standin')
    process = subprocess.Popen([script, '--engine', 'emt'], cwd=folder, stdout=subprocess.DEVNULL)
    deadline, oszicar = time.monotonic() + 60, folder / 'OSZICAR'
    while time.monotonic() < deadline and not (oszicar.exists() and 'F=' in oszicar.read_text()):
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert '</modeling>' not in (folder / 'vasprun.xml').read_text()
    assert 'General timing' not in (folder / 'OUTCAR').read_text()
    assert 'Iteration' in (folder / 'OUTCAR').read_text()
