"""What VASP sees and what comes back, for the structures that people relax: both legs of the real chain."""

import re

import ase.build
import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node

from aiida_e3relax.campaign.results.outcomes import find_outcomes
from aiida_e3relax.campaign.results.table import make_frame, make_row
from aiida_e3relax.common.mappings import merge
from aiida_e3relax.workflows.comparison.reference import find_raw_leg
from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain
from tests.workflows.crystals import copper_gold
from tests.workflows.magnetic import magnetite, manganese_nitride

IONIC = 'export E3RELAX_STANDIN_ENGINE=ionic'


@pytest.fixture
def run_chain(make_builder, make_scripted_code):
    """A factory of chain runs, with lines of shell before VASP."""

    def run(structure, lines='', **changes):
        code = make_scripted_code(lines, 'e3relax-vasp-standin', 'vasp.vasp')
        quick = {'guard': {'mode': 'off'}, 'vasp': {'relax_settings': {'force_cutoff': 0.2}}}
        overrides = merge(quick, changes.pop('overrides', {}))
        inputs = {'structure': structure, 'vasp_code': code, 'overrides': overrides, 'reference_leg': 'always'}
        builder = make_builder(**inputs, **changes)
        return run_get_node(builder).node

    return run


def first_jobs(chain):
    """The first VASP job of each leg."""
    legs = {link.link_label: link.node for link in chain.base.links.get_outgoing(link_type=LinkType.CALL_WORK).all()}
    jobs = {}
    for label in ('relax_raw', 'relax_predicted'):
        called = [node for node in legs[label].called_descendants if isinstance(node, orm.CalcJobNode)]
        jobs[label] = min(called, key=lambda job: job.pk)
    return jobs


def read_incar(job):
    lines = job.base.repository.get_object_content('INCAR').splitlines()
    return {tag.strip(): value.strip() for tag, value in (line.split('=') for line in lines if '=' in line)}


def read_poscar(job):
    """Lines of species, of counts and, where there is one, of selective dynamics; lattice; flags."""
    lines = job.base.repository.get_object_content('POSCAR').splitlines()
    lattice = np.array([[float(word) for word in line.split()] for line in lines[2:5]])
    selective = lines[7].startswith('S')
    flags = [line.split()[3:6] for line in lines[9 if selective else 8 :] if line.strip()]
    return lines[5].split(), [int(word) for word in lines[6].split()], lattice, flags


def kinds_of(structure):
    return [site.kind_name for site in structure.sites]


@pytest.mark.slow
def test_ferrimagnetic_oxide(run_chain):
    raw = magnetite()
    raw.base.extras.set('source', 'published')
    overrides = {
        'vasp': {
            'vasp': {
                'magmom_mapping': {'Fe1': -4.0, 'Fe2': 4.0, 'default': 0.0},
                'ldau_mapping': {'mapping': {'Fe': ['d', 3.8]}},
            }
        }
    }
    freedom = {'moves': 'cell', 'keep_symmetry': True}
    chain = run_chain(raw, IONIC, overrides=overrides, freedom=freedom, protocol='fast')
    assert chain.is_finished_ok, chain.exit_message
    moments = {'Fe1': -4.0, 'Fe2': 4.0, 'O': 0.0}
    for job in first_jobs(chain).values():
        incar = read_incar(job)
        assert [float(word) for word in incar['MAGMOM'].split()] == [moments[kind] for kind in kinds_of(raw)]
        assert incar['ISPIN'] == '2'
        species, counts, *_ = read_poscar(job)
        assert (species, counts) == (['Fe', 'O'] * 3, [1, 2, 2, 3, 3, 3])
        assert [float(word) for word in incar['LDAUU'].split()] == [3.8, 0.0] * 3
        assert incar['LDAUL'].split() == ['2', '-1'] * 3
        assert incar['ISIF'] == '3'
    assert chain.outputs.guard['freedom'] == freedom
    outputs = chain.outputs
    for structure in (
        outputs.structure,
        outputs.raw.structure,
        outputs.predicted.structure,
        outputs.predicted_structure,
    ):
        assert kinds_of(structure) == kinds_of(raw)
        assert structure.base.extras.get('source') == 'published'


@pytest.mark.slow
def test_antiferromagnetic_nitride_with_two_hubbard_corrections(run_chain):
    raw = manganese_nitride()
    vasp = {
        'magmom_mapping': {'Mn1': 3.0, 'Mn2': -3.0, 'default': 0.0},
        'ldau_mapping': {'mapping': {'Mn1': ['d', 3.9], 'Mn2': ['d', 3.5]}},
    }
    chain = run_chain(raw, IONIC, overrides={'vasp': {'vasp': vasp}})
    assert chain.is_finished_ok, chain.exit_message
    for job in first_jobs(chain).values():
        incar = read_incar(job)
        assert [float(word) for word in incar['MAGMOM'].split()] == [3.0, 0.0, -3.0, 0.0]
        species, counts, *_ = read_poscar(job)
        assert (species, counts) == (['Mn', 'N'] * 2, [1] * 4)
        assert [float(word) for word in incar['LDAUU'].split()] == [3.9, 0.0, 3.5, 0.0]
    for leg in ('raw', 'predicted'):
        assert kinds_of(chain.outputs[leg]['structure']) == ['Mn1', 'N', 'Mn2', 'N']


def test_slab_with_fixed_layers_relaxes_in_its_plane(run_chain):
    atoms = ase.build.fcc100('Cu', (1, 1, 4), a=3.55, vacuum=6.0)  # compressed
    atoms.positions[3, 2] += 0.15
    atoms.pbc = (True, True, False)
    raw = orm.StructureData(ase=atoms)
    chain = run_chain(raw, freedom={'moves': 'in-plane', 'fixed': {'abc': [0, 1], 'ab': [2]}})
    assert chain.is_finished_ok, chain.exit_message
    for job in first_jobs(chain).values():
        assert re.fullmatch(r'\.?T.* \.?T.* \.?F.*', read_incar(job)['LATTICE_CONSTRAINTS'])
        assert job.inputs.parameters['isif'] == 3
        *_, lattice, flags = read_poscar(job)
        assert lattice[2] == pytest.approx(atoms.cell[2], abs=1e-9)
        assert flags == [['F', 'F', 'F']] * 2 + [['F', 'F', 'T'], ['T', 'T', 'T']]
        assert job.inputs.kpoints.get_kpoints_mesh()[0][2] == 1
    legs = chain.outputs
    for relaxed in (legs.raw.structure, legs.predicted.structure):
        assert relaxed.pbc == raw.pbc
        assert relaxed.cell[2] == pytest.approx(raw.cell[2], abs=1e-6)
        assert abs(relaxed.cell[0][0] - raw.cell[0][0]) > 1e-3
        end = relaxed.get_ase()
        assert end.get_scaled_positions()[:2] == pytest.approx(atoms.get_scaled_positions()[:2], abs=1e-7)


@pytest.mark.slow
def test_defect_supercell_keeps_its_cell_and_its_sites(run_chain):
    atoms = copper_gold().repeat((2, 2, 2))
    del atoms[9]  # of gold
    atoms.numbers[20] = 47  # silver for gold, the one as far from the vacancy as can be
    raw = orm.StructureData(ase=atoms)
    raw.base.extras.set('defect', 'v_Au')
    chain = run_chain(raw, freedom={'moves': 'positions', 'fixed': {'abc': [20]}, 'keep_symmetry': True})
    assert chain.is_finished_ok, chain.exit_message
    for job in first_jobs(chain).values():
        species, counts, lattice, flags = read_poscar(job)
        names = [name for name, count in zip(species, counts, strict=True) for _ in range(count)]
        assert names == atoms.get_chemical_symbols()
        assert lattice == pytest.approx(atoms.cell.array, abs=1e-9)
        assert [number for number, flag in enumerate(flags) if flag != ['T'] * 3] == [20]
        assert job.inputs.parameters['isif'] == 2
    relaxed = chain.outputs.structure
    assert kinds_of(relaxed) == kinds_of(raw)
    assert relaxed.base.extras.get('defect') == 'v_Au'
    assert relaxed.cell == pytest.approx(np.array(raw.cell), abs=1e-7)


def test_the_energy_that_is_compared_is_read_beside_others_that_are_asked_for(run_chain):
    vasp = {'vasp': {'settings': {'parser_settings': {'energy_type': ['energy_free']}}}}
    raw = orm.StructureData(ase=copper_gold())
    chain = run_chain(raw, overrides={'vasp': vasp}, freedom='positions', network_code=None)
    assert chain.is_finished_ok, chain.exit_message
    assert chain.outputs.comparison['raw']['vasp_runs'] == 1
    (job,) = (node for node in chain.called_descendants if isinstance(node, orm.CalcJobNode))
    assert {'energy_free', 'energy_extrapolated'} <= set(job.outputs.trajectory.get_arraynames())
    assert {'energy_free', 'energy_extrapolated'} <= set(job.outputs.misc['total_energies'])


def test_a_vasp_that_does_not_know_lattice_constraints_is_found_out(run_chain):
    atoms = ase.build.fcc100('Cu', (1, 1, 2), a=3.6, vacuum=6.0)
    atoms.pbc = (True, True, False)
    old = 'sed -i /LATTICE_CONSTRAINTS/d INCAR'
    chain = run_chain(orm.StructureData(ase=atoms), old, freedom='in-plane')
    assert chain.exit_status == E3RelaxVaspWorkChain.exit_codes.ERROR_RELAXATION_FAILED.status
    assert chain.exit_message.count('of no use: the vacuum vector c changed by') == 2
    assert 'does not take LATTICE_CONSTRAINTS' in chain.exit_message
    assert 'structure' not in chain.outputs
    comparison = chain.outputs.comparison.get_dict()
    for leg in ('raw', 'predicted'):
        assert set(chain.outputs[leg]) == {'misc'}
        assert not comparison[leg]['finished']
        assert comparison[leg]['vasp_runs'] == 1
    assert not any('saved' in key for key in comparison)
    row = make_row({'label': 'slab', 'state': 'failed'}, comparison)
    assert find_outcomes(make_frame([row])).tolist() == ['both failed']
    with pytest.raises(ValueError, match='has not finished well'):
        find_raw_leg(chain)
