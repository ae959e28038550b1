"""The GPAW engine: energies, electronic convergence, spin, Hubbard U, and a relaxation with real PBE."""

import re

import numpy as np
import pytest
from ase.build import bulk
from ase.dft.kpoints import monkhorst_pack
from parsevasp.outcar import Outcar as ParsevaspOutcar
from pymatgen.io.vasp import Oszicar, Outcar, Vasprun

from aiida_e3relax.standin.engines import GPAW_REMEDY

pytest.importorskip('gpaw', reason=f'GPAW is not installed: {GPAW_REMEDY}')

COARSE = {'ENCUT': 150, 'ISMEAR': 0, 'SIGMA': 0.05, 'EDIFF': 1e-5}


def vasprun_of(folder):
    return Vasprun(folder / 'vasprun.xml', parse_potcar_file=False)


def test_static_run_is_named_and_has_bands(write_inputs, run_script):
    folder = write_inputs(bulk('Si', a=5.43), COARSE)
    output = run_script(folder, 'gpaw').stdout
    assert 'This is not VASP' in output
    assert 'GPAW: PBE, plane waves up to 240 eV' in output
    vasprun, outcar = vasprun_of(folder), Outcar(folder / 'OUTCAR')
    assert vasprun.vasp_version == '6.999.0-standin-gpaw'
    assert vasprun.converged
    (eigenvalues,) = vasprun.eigenvalues.values()
    assert len(eigenvalues) == len(vasprun.actual_kpoints) == 3  # 2 x 2 x 2 of diamond, reduced by symmetry
    assert eigenvalues[:, :, 1].sum(axis=1) == pytest.approx(4.0, abs=1e-3)
    assert eigenvalues[:, :4, 0].max() < outcar.efermi < eigenvalues[:, 4:, 0].min()
    assert (folder / 'gpaw.txt').stat().st_size > 0
    assert len(Oszicar(folder / 'OSZICAR').electronic_steps[0]) == vasprun.nionic_steps * len(
        vasprun.ionic_steps[0]['electronic_steps']
    )


@pytest.mark.parametrize(('ismear', 'weight'), [(0, 1 / 2), (1, 1 / 3), (-1, 1 / 2)])
def test_energies_mean_what_vasp_says(write_inputs, run_script, ismear, weight):
    folder = write_inputs(bulk('Al', a=4.05), {**COARSE, 'ISMEAR': ismear, 'SIGMA': 0.8}, kpoints=(3, 3, 3))
    run_script(folder, 'gpaw')
    step = vasprun_of(folder).ionic_steps[0]
    free, without_entropy, extrapolated = (step[key] for key in ('e_fr_energy', 'e_wo_entrp', 'e_0_energy'))
    assert abs(without_entropy - free) > 1e-3
    assert extrapolated == pytest.approx(free + weight * (without_entropy - free), abs=1e-6)


def test_nelm_is_reached_and_the_run_goes_on(write_inputs, run_script):
    atoms = bulk('Si', a=5.43)
    atoms.positions[0] += 0.1
    folder = write_inputs(atoms, {**COARSE, 'NELM': 3, 'NSW': 2, 'IBRION': 2, 'EDIFFG': -0.01})
    run_script(folder, 'gpaw')
    steps = vasprun_of(folder).ionic_steps
    assert [len(step['electronic_steps']) for step in steps] == [3, 3]
    assert 'Iteration      2(   3)' in (folder / 'OUTCAR').read_text()


def test_labort_ends_the_electronic_iterations(write_inputs, run_script):
    folder = write_inputs(bulk('Si', a=5.43), {**COARSE, 'NSW': 5, 'IBRION': 2})
    (folder / 'STOPCAR').write_text('LABORT = .TRUE.\n')
    assert 'hard stop' in run_script(folder, 'gpaw').stdout
    (step,) = vasprun_of(folder).ionic_steps
    assert len(step['electronic_steps']) == 1


@pytest.mark.parametrize(
    ('incar', 'message'),
    [
        ({'GGA': 'PS'}, 'engine gpaw has the functionals PE, RP, RE, found PS'),
        ({'ISMEAR': -2}, 'ISMEAR must be'),
    ],
)
def test_what_gpaw_cannot_do_is_refused(write_inputs, run_script, incar, message):
    result = run_script(write_inputs(bulk('Si'), {**COARSE, **incar}), 'gpaw', succeeds=False)
    assert result.returncode == 1
    assert message in result.stdout


def test_an_element_without_setup_is_refused(write_inputs, run_script):
    result = run_script(write_inputs(bulk('Th'), COARSE), 'gpaw', succeeds=False)
    assert result.returncode == 1
    assert 'lacks a setup' in result.stdout
    assert 'Th' in result.stdout


def test_a_listed_mesh_equals_the_automatic_one(write_inputs, run_script):
    energies = []
    for name in ('mesh', 'list'):
        folder = write_inputs(bulk('Si', a=5.43), COARSE, name=name)
        if name == 'list':
            points = ''.join(f'{a} {b} {c} 1\n' for a, b, c in monkhorst_pack((2, 2, 2)) + 0.25)
            (folder / 'KPOINTS').write_text(f'list\n8\nReciprocal\n{points}')
        run_script(folder, 'gpaw')
        energies.append(float(vasprun_of(folder).final_energy))
    assert energies[0] == pytest.approx(energies[1], abs=1e-6)


def test_symmetry_saves_points_and_changes_nothing(write_inputs, run_script):
    energies = []
    # All points of a 2 x 2 x 2 mesh are their own mirror images, so that time reversal saves none.
    for isym, n_points in ((2, 3), (0, 8), (-1, 8)):
        folder = write_inputs(bulk('Si', a=5.43), {**COARSE, 'ISYM': isym}, name=f'isym {isym}')
        run_script(folder, 'gpaw')
        vasprun = vasprun_of(folder)
        assert len(vasprun.actual_kpoints) == n_points
        energies.append(float(vasprun.final_energy))
    assert np.ptp(energies) < 1e-4


def test_spin_is_reported(write_inputs, run_script):
    incar = {**COARSE, 'ENCUT': 200, 'ISPIN': 2, 'MAGMOM': 3.0}
    folder = write_inputs(bulk('Fe', a=2.87), incar, kpoints=(4, 4, 4))
    run_script(folder, 'gpaw')
    assert float(Oszicar(folder / 'OSZICAR').ionic_steps[0]['mag']) == pytest.approx(2.5, abs=0.4)
    assert Outcar(folder / 'OUTCAR').total_mag == pytest.approx(2.5, abs=0.4)
    assert Outcar(folder / 'OUTCAR').magnetization == ()  # without LORBIT
    assert len(vasprun_of(folder).eigenvalues) == 2


def test_moments_of_the_sites_are_told_where_lorbit_asks(write_inputs, run_script):
    incar = {**COARSE, 'ENCUT': 150, 'ISPIN': 2, 'MAGMOM': '2 -2', 'LORBIT': 11}
    folder = write_inputs(bulk('Fe', a=2.87, cubic=True), incar)
    run_script(folder, 'gpaw')
    up, down = Outcar(folder / 'OUTCAR').magnetization
    assert up['tot'] == pytest.approx(-down['tot'], abs=2e-3)
    assert up['tot'] == pytest.approx(sum(up[orbital] for orbital in 'spd'), abs=2e-3)
    assert up['d'] > 0.9 * up['tot'] > 0.5
    of_gpaw = re.findall(r'([-.\d]+) \|  # Fe', (folder / 'gpaw.txt').read_text())[-2:]
    assert [up['tot'], down['tot']] == pytest.approx([float(moment) for moment in of_gpaw], abs=1e-3)
    sphere = ParsevaspOutcar(file_path=str(folder / 'OUTCAR')).get_magnetization()['sphere']['x']
    assert [sphere['site_moment'][site] for site in (1, 2)] == [up, down]
    assert sphere['total_magnetization']['tot'] == pytest.approx(0.0, abs=2e-3)
    assert vasprun_of(folder).parameters['LORBIT'] == 11


def test_hubbard_u_acts_on_the_species_it_names(write_inputs, run_script):
    energies = []
    # Species come in the order of the atomic number: O, then Ni. Dudarev's term is U/2 Tr(n - n^2), never negative.
    for name, tags in {
        'pbe': {},
        'u on nothing': {'LDAU': 'T', 'LDAUL': '-1 2', 'LDAUU': '6 0'},
        'u on nickel': {'LDAU': 'T', 'LDAUL': '-1 2', 'LDAUU': '0 6'},
    }.items():
        incar = {**COARSE, 'ENCUT': 250, 'ISPIN': 2, 'MAGMOM': '0 2', **tags}
        folder = write_inputs(bulk('NiO', 'rocksalt', a=4.17), incar, name=name)
        run_script(folder, 'gpaw')
        energies.append(float(vasprun_of(folder).final_energy))
    assert vasprun_of(folder).hubbards == {'O': 0, 'Ni': 6}
    assert energies[1] == pytest.approx(energies[0], abs=1e-5)
    assert energies[2] > energies[0] + 1.0


def test_forces_are_the_derivative_of_the_free_energy(write_inputs, run_script):
    step, steps = 0.02, []
    for shift in (0.0, step, -step):
        atoms = bulk('AlP', 'zincblende', a=5.46)
        atoms.positions[1] += [0.1, -0.05, 0.15 + shift]
        folder = write_inputs(atoms, {**COARSE, 'EDIFF': 1e-7}, name=f'shift {shift}')
        run_script(folder, 'gpaw')
        steps.append(vasprun_of(folder).ionic_steps[0])
    start, up, down = steps
    assert start['forces'][1][2] == pytest.approx(-(up['e_fr_energy'] - down['e_fr_energy']) / (2 * step), abs=0.01)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # two minutes of a quiet core
def test_aluminium_arsenide_relaxes_with_pbe(write_inputs, run_script):
    atoms = bulk('AlAs', 'zincblende', a=5.66)
    atoms.set_cell(1.05 * atoms.cell, scale_atoms=True)
    atoms.rattle(0.1, seed=1)
    incar = {**COARSE, 'ENCUT': 300, 'IBRION': 2, 'ISIF': 3, 'NSW': 40, 'EDIFFG': -0.02}
    folder = write_inputs(atoms, incar, kpoints=(4, 4, 4))
    assert 'reached required accuracy' in run_script(folder, 'gpaw').stdout
    structure = vasprun_of(folder).final_structure
    # PBE's lattice constant: 5.73 A
    assert (4 * structure.volume) ** (1 / 3) == pytest.approx(5.73, abs=0.03)
    assert structure.get_distance(0, 1) == pytest.approx(np.sqrt(3) / 4 * 5.73, abs=0.02)
