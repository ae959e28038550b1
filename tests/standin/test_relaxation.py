"""Relaxations with EMT and the ionic potential: minima, constraints, and how runs end."""

from functools import cache

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import UnitCellFilter
from ase.optimize import BFGS
from pymatgen.io.vasp import Oszicar

from aiida_e3relax.standin.poscar import Poscar

TIGHT = {'NSW': 300, 'EDIFFG': -0.001, 'IBRION': 2}


def strained(atoms, scale=1.05, rattle=0.08, seed=1):
    """Return the crystal with a scaled and sheared lattice and displaced atoms."""
    noise = np.random.default_rng(seed).normal(scale=0.015, size=(3, 3))
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell @ (scale * np.eye(3) + (noise + noise.T) / 2), scale_atoms=True)
    atoms.rattle(rattle, seed=seed)
    return atoms


def start_and_end(folder):
    return [Poscar.parse((folder / name).read_text()).geometry for name in ('POSCAR', 'CONTCAR')]


def last_energy(folder):
    return float(Oszicar(folder / 'OSZICAR').ionic_steps[-1]['F'])


@cache
def relaxed_by_ase(element):
    atoms = strained(bulk(element, cubic=True))
    atoms.calc = EMT()
    BFGS(UnitCellFilter(atoms), logfile=None).run(fmax=2e-3, steps=500)
    return atoms


@pytest.mark.parametrize('ibrion', [1, 2, 3])
@pytest.mark.parametrize('element', ['Cu', 'Al'])
def test_metals_reach_the_minimum_that_ase_finds(write_inputs, run_standin, element, ibrion):
    folder = write_inputs(strained(bulk(element, cubic=True)), {**TIGHT, 'IBRION': ibrion, 'ISIF': 3})
    assert 'reached required accuracy' in run_standin(folder, 'emt').output

    reference = relaxed_by_ase(element)
    _, end = start_and_end(folder)
    assert last_energy(folder) == pytest.approx(reference.get_potential_energy(), abs=4e-4)
    assert end.volume == pytest.approx(reference.get_volume(), rel=1e-3)


def test_ionic_crystal_relaxes_to_a_symmetric_cell(write_inputs, run_standin):
    folder = write_inputs(strained(bulk('MgO', 'rocksalt', a=4.212)), {**TIGHT, 'ISIF': 3})
    run_standin(folder, 'ionic')
    _, end = start_and_end(folder)
    lengths = np.linalg.norm(end.cell, axis=1)
    assert np.ptp(lengths) < 2e-3
    np.testing.assert_allclose((end.scaled[1] - end.scaled[0]) % 1, 0.5, atol=1e-3)


@pytest.mark.parametrize('isif', range(9))
def test_isif_keeps_what_it_should(write_inputs, run_standin, isif):
    folder = write_inputs(strained(bulk('Cu', cubic=True)), {**TIGHT, 'ISIF': isif, 'EDIFFG': -0.005})
    run_standin(folder, 'emt')
    start, end = start_and_end(folder)
    keeps_positions, keeps_shape, keeps_volume = isif in (5, 6, 7), isif in (0, 1, 2, 7, 8), isif in (0, 1, 2, 4, 5)
    moved = np.abs(end.scaled - start.scaled).max()
    assert moved == 0.0 if keeps_positions else moved > 1e-3
    metric = [g.cell @ g.cell.T / g.volume ** (2 / 3) for g in (start, end)]
    sheared = np.abs(metric[1] - metric[0]).max()
    assert sheared < 1e-12 if keeps_shape else sheared > 1e-3
    expanded = abs(end.volume / start.volume - 1)
    assert expanded < 1e-12 if keeps_volume else expanded > 1e-3


@pytest.mark.parametrize('isif', [2, 3])
def test_selective_dynamics_fixes_components_exactly(write_inputs, run_standin, isif):
    fixed = np.zeros((4, 3), bool)
    fixed[0], fixed[1] = True, [False, False, True]
    folder = write_inputs(strained(bulk('Cu', cubic=True)), {**TIGHT, 'ISIF': isif, 'EDIFFG': -0.005}, fixed=fixed)
    assert 'reached required accuracy' in run_standin(folder, 'emt').output  # forces on fixed atoms do not count
    start, end = start_and_end(folder)
    moved = np.abs(end.scaled - start.scaled)
    assert moved[fixed].max() < 1e-10
    assert moved[~fixed].min() > 1e-6


def test_partly_fixed_atom_in_an_oblique_cell_stops_at_a_stationary_point(write_inputs, run_standin):
    atoms = bulk('Cu') * (2, 1, 1)
    atoms.positions[1] += [0.15, 0.05, -0.1]
    fixed = np.array([[True] * 3, [True, False, False]])
    folder = write_inputs(atoms, {**TIGHT, 'ISIF': 2}, fixed=fixed)
    run_standin(folder, 'emt')
    _, end = start_and_end(folder)
    atoms.positions = end.positions
    atoms.calc = EMT()
    along = atoms.cell.array @ atoms.get_forces()[1] / np.linalg.norm(atoms.cell.array, axis=1)
    assert np.abs(along[1:]).max() < 1e-3
    assert abs(along[0]) > 0.01


def test_locked_axis_keeps_its_length_and_stays_normal(write_inputs, run_standin):
    slab = bulk('Al', cubic=True)
    slab.set_cell(np.diag([3.9, 4.3, 4.4]), scale_atoms=True)
    folder = write_inputs(slab, {**TIGHT, 'ISIF': 3, 'LATTICE_CONSTRAINTS': 'T T F'})
    run_standin(folder, 'emt')
    _, end = start_and_end(folder)
    np.testing.assert_allclose(end.cell[2], [0, 0, 4.4], atol=1e-12)
    assert np.abs(end.cell[:2, 2]).max() < 1e-12
    assert abs(end.cell[0, 0] - 3.9) > 0.05


def test_locked_axis_that_cannot_be_kept_is_refused(write_inputs, run_standin):
    folder = write_inputs(bulk('Al'), {**TIGHT, 'ISIF': 3, 'LATTICE_CONSTRAINTS': 'T T F'})
    result = run_standin(folder, 'emt', succeeds=False)
    assert result.exit_code == 1
    assert 'LATTICE_CONSTRAINTS locks z' in result.output
    assert not (folder / 'OUTCAR').exists()


def test_pressure_compresses(write_inputs, run_standin):
    volumes, pressures = [], []
    for pstress in (0, 100):
        folder = write_inputs(bulk('Cu'), {**TIGHT, 'ISIF': 3, 'PSTRESS': pstress}, name=f'p{pstress}')
        run_standin(folder, 'emt')
        volumes.append(start_and_end(folder)[1].volume)
        line = [line for line in (folder / 'OUTCAR').read_text().splitlines() if 'external pressure' in line][-1]
        pressures.append(float(line.split()[3]))
    assert volumes[1] < 0.95 * volumes[0]
    assert np.abs(pressures).max() < 1.0  # PSTRESS is taken off


def test_positive_ediffg_ends_on_the_energy_change(write_inputs, run_standin):
    folder = write_inputs(strained(bulk('Cu', cubic=True)), {'NSW': 100, 'EDIFFG': 1e-3, 'IBRION': 2, 'ISIF': 3})
    assert 'reached required accuracy' in run_standin(folder, 'emt').output
    energies = [float(step['F']) for step in Oszicar(folder / 'OSZICAR').ionic_steps]
    changes = np.abs(np.diff(energies))
    assert changes[-1] < 1e-3
    assert (changes[:-1] >= 1e-3).all()


def test_nsw_ends_the_run(write_inputs, run_standin):
    folder = write_inputs(strained(bulk('Cu', cubic=True)), {**TIGHT, 'NSW': 3})
    assert 'NSW ionic steps were computed' in run_standin(folder, 'emt').output
    assert len(Oszicar(folder / 'OSZICAR').ionic_steps) == 3


@pytest.mark.parametrize('incar', [{}, {'NSW': 0, 'IBRION': 2}, {'NSW': 5, 'IBRION': -1}])
def test_static_runs_compute_one_step(write_inputs, run_standin, incar):
    folder = write_inputs(strained(bulk('Cu', cubic=True)), {**incar, 'ISIF': 3})
    run_standin(folder, 'emt')
    start, end = start_and_end(folder)
    np.testing.assert_array_equal(start.scaled, end.scaled)
    assert len(Oszicar(folder / 'OSZICAR').ionic_steps) == 1


@pytest.mark.parametrize(('tag', 'words'), [('LSTOP', 'soft stop'), ('LABORT', 'hard stop')])
def test_stopcar_ends_the_run_after_the_step(write_inputs, run_standin, tag, words):
    folder = write_inputs(strained(bulk('Cu', cubic=True)), TIGHT)
    (folder / 'STOPCAR').write_text(f'{tag} = .TRUE.\n')
    assert words in run_standin(folder, 'emt').output
    assert len(Oszicar(folder / 'OSZICAR').ionic_steps) == 1


def test_an_unreadable_stopcar_does_not_end_the_run(write_inputs, run_standin):
    folder = write_inputs(strained(bulk('Cu', cubic=True)), {**TIGHT, 'NSW': 3})
    (folder / 'STOPCAR').write_bytes(b'LSTOP \xff maybe')
    run_standin(folder, 'emt')
    assert len(Oszicar(folder / 'OSZICAR').ionic_steps) == 3


def test_steps_follow_potim(write_inputs, run_standin):
    moves = []
    for potim in (0.1, 0.2):
        folder = write_inputs(
            strained(bulk('Cu', cubic=True), rattle=0.03), {'NSW': 2, 'IBRION': 2, 'POTIM': potim}, name=f'p{potim}'
        )
        run_standin(folder, 'emt')
        start, end = start_and_end(folder)
        moves.append(np.abs(end.positions - start.positions).max())
    assert moves[1] == pytest.approx(2 * moves[0], rel=1e-6)
