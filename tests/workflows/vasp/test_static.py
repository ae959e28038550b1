"""The energy of a crystal as it is."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.engine import ProcessBuilder, run_get_node
from ase.calculators.emt import EMT

from aiida_e3relax.data.batch import StructureBatchData
from aiida_e3relax.validation.creation import vasp_inputs
from aiida_e3relax.workflows.protocols.protocol import fill_builder
from aiida_e3relax.workflows.vasp.choices import ChainChoices
from aiida_e3relax.workflows.vasp.static import E3RelaxStaticWorkChain
from tests.workflows.crystals import rattled_copper_gold

MESH = [3, 3, 3]


@pytest.fixture
def choices(standin_code, potential_family) -> ChainChoices:
    """How the chain would compute, with a mesh of its own."""
    return ChainChoices(
        standin_code,
        None,
        potential_family,
        'positions',
        protocol='fast',
        overrides={'vasp': {'vasp': {'kpoints': MESH}}},
    )


def make_builder(choices: ChainChoices, like: orm.StructureData, **inputs) -> ProcessBuilder:
    builder = E3RelaxStaticWorkChain.get_builder()
    fill_builder(builder, {'vasp': vasp_inputs(choices, like), **inputs})
    return builder


def test_the_energy_is_that_of_the_given_geometry_and_nothing_moves(choices):
    atoms = rattled_copper_gold()
    structure = orm.StructureData(ase=atoms)
    batch = StructureBatchData({'crystal': structure}).store()
    node = run_get_node(make_builder(choices, structure, batch=batch, label='crystal')).node
    assert node.is_finished_ok, node.exit_message
    atoms.calc = EMT()
    energy = node.outputs.misc['total_energies']['energy_extrapolated']
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    job = next(called for called in node.called_descendants if isinstance(called, orm.CalcJobNode))
    assert job.inputs.kpoints.get_kpoints_mesh()[0] == MESH
    incar = job.inputs.parameters.get_dict()
    assert (incar['nsw'], incar['ibrion'], incar['encut']) == (0, -1, 400)
    assert node.outputs.structure.get_ase().positions == pytest.approx(atoms.positions, abs=1e-12)
    assert node.outputs.structure.creator.inputs.batch == batch


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ((), 'found none of them'),
        (('structure', 'batch', 'label'), 'found `batch`, `label`, `structure`'),
        (('batch',), 'found `batch`'),
        (('batch', 'other'), 'holds no crystal `nowhere`'),
    ],
)
def test_the_crystal_is_named_in_one_way(choices, given, message):
    structure = orm.StructureData(ase=rattled_copper_gold())
    everything = {
        'structure': structure,
        'batch': StructureBatchData({'crystal': structure}),
        'label': orm.Str('crystal'),
        'other': orm.Str('nowhere'),
    }
    inputs = {name.replace('other', 'label'): everything[name] for name in given}
    with pytest.raises(ValueError, match=message):
        run_get_node(make_builder(choices, structure, **inputs))
