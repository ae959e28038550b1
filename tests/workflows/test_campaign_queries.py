"""What queries find of a chain that really ran."""

import numpy as np
from aiida import orm
from aiida.engine import run_get_node

from aiida_e3relax.campaign.course import campaign_courses, read_courses
from aiida_e3relax.campaign.frame import campaign_frame
from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.queries import find_predictions, find_references_of, trace_origin
from benchmarks.synthetic_campaign import make_settings
from tests.workflows.crystals import rattled_copper_gold


def test_a_real_chain_is_found_with_its_course_its_origin_and_its_references(make_builder, model, tmp_path):
    structure = orm.StructureData(ase=rattled_copper_gold()).store()
    name = tmp_path.name
    settings = make_settings(name, dict.fromkeys(('first', 'second'), structure.uuid), model).to_node().store()
    CampaignGroup(label=name).store().add_nodes([structure, settings])
    chains = []
    for label in ('first', 'second'):  # the second one compares with the raw leg of the first one
        builder = make_builder(structure=structure, campaign=settings, reference_leg=chains[0] if chains else 'always')
        builder.metadata.label = label
        chains.append(run_get_node(builder).node)
    first, chain = chains
    assert chain.is_finished_ok, chain.exit_message

    frame = campaign_frame(name)
    row = frame.loc['second']
    assert frame['chain_uuid'].tolist() == [first.uuid, chain.uuid]
    assert (row['state'], row['raw_stand_in'], row['verdict'], row['elements']) == (
        'finished',
        'emt',
        'accepted',
        ['Au', 'Cu'],
    )
    assert row['raw_ionic_steps'] == first.outputs.comparison['raw']['ionic_steps']

    courses = campaign_courses(name)
    for node in chains:
        for leg, course in read_courses(node).items():
            assert len(course.energies) == frame.loc[node.label, f'{leg}_ionic_steps']
            np.testing.assert_array_equal(courses[node.label][leg].energies, course.energies)
            np.testing.assert_array_equal(courses[node.label][leg].max_forces, course.max_forces)
    assert courses['second']['predicted'].energies[0] == row['predicted_energy_first_step_eV_per_atom']

    assert trace_origin(chain.outputs.structure).model == model
    assert trace_origin(chain.outputs.predicted.misc).model == model
    assert trace_origin(first.outputs.raw.structure).model is None
    predictions = find_predictions(model.content_hash)
    assert chain.outputs.predicted_structure.uuid in set(predictions['predicted'])

    references = find_references_of(chain)
    assert references['chain_uuid'].tolist() == [first.uuid]
    assert references['fault'].tolist() == [None]
