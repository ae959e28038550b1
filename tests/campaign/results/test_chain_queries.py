"""What queries find of a chain that really ran."""

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node

from aiida_e3relax.campaign.group import CampaignGroup, load_campaign
from aiida_e3relax.campaign.results.queries import find_predictions, find_references_of, trace_origin
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.campaign.results.trajectories import campaign_trajectories, read_trajectories
from benchmarks.synthetic_campaign import make_settings
from tests.workflows.crystals import rattled_copper_gold


@pytest.fixture
def settings(aiida_profile, model, tmp_path) -> orm.Dict:
    """Of a campaign with two labels for one crystal."""
    structure = orm.StructureData(ase=rattled_copper_gold()).store()
    record = make_settings(tmp_path.name, dict.fromkeys(('first', 'second'), structure.uuid), model)
    node = record.to_node().store()
    CampaignGroup(label=tmp_path.name).store().add_nodes([structure, node])
    return node


def refer_to(chain: orm.WorkChainNode, label: str) -> orm.WorkChainNode:
    """Return a chain as it is before its first step, with the inputs of `chain`, which it takes its raw leg from."""
    referring = orm.WorkChainNode(label=label, process_type=chain.process_type)
    referring.base.attributes.set_many({'process_label': chain.process_label, 'process_state': 'created'})
    for link in chain.base.links.get_incoming().all():
        node = orm.Str(chain.uuid).store() if link.link_label == 'reference_leg' else link.node
        referring.base.links.add_incoming(node, link.link_type, link.link_label)
    return referring.store()


def test_a_run_that_failed_as_a_whole_has_no_predictions(aiida_localhost, model):
    before = len(find_predictions(model.content_hash))
    job = orm.CalcJobNode(computer=aiida_localhost, process_type='aiida.calculations:e3relax.predict')
    job.base.links.add_incoming(model, LinkType.INPUT_CALC, 'model')
    job.store()
    report = orm.Dict({'error': {'code': 'no_device', 'message': 'no GPU'}})
    report.base.links.add_incoming(job, LinkType.CREATE, 'report')
    report.store()
    assert len(find_predictions(model.content_hash)) == before


def test_a_real_chain_is_found_with_its_trajectory_its_origin_and_its_references(make_builder, settings, model):
    name = settings['name']
    structure = orm.load_node(load_campaign(name).settings.structures['first'])
    builder = make_builder(structure=structure, campaign=settings, reference_leg='always')
    builder.metadata.label = 'first'
    chain = run_get_node(builder).node
    assert chain.is_finished_ok, chain.exit_message
    referring = refer_to(chain, 'second')

    frame = campaign_frame(name)
    row = frame.loc['first']
    assert frame['chain_uuid'].tolist() == [chain.uuid, referring.uuid]
    assert frame['state'].tolist() == ['finished', 'running']
    assert (row['raw_stand_in'], row['verdict'], row['elements']) == ('emt', 'accepted', ['Au', 'Cu'])
    assert row['raw_ionic_steps'] == chain.outputs.comparison['raw']['ionic_steps']

    trajectories = campaign_trajectories(name)
    for leg, trajectory in read_trajectories(chain).items():
        assert len(trajectory.energies) == row[f'{leg}_ionic_steps']
        np.testing.assert_array_equal(trajectories['first'][leg].energies, trajectory.energies)
        np.testing.assert_array_equal(trajectories['first'][leg].max_forces, trajectory.max_forces)
    assert trajectories['first']['predicted'].energies[0] == row['predicted_energy_first_step_eV_per_atom']
    assert list(trajectories['second']) == ['raw']
    np.testing.assert_array_equal(trajectories['second']['raw'].energies, trajectories['first']['raw'].energies)

    assert trace_origin(chain.outputs.structure).model == model
    assert trace_origin(chain.outputs.predicted.misc).model == model
    assert trace_origin(chain.outputs.raw.structure).model is None
    predictions = find_predictions(model.content_hash)
    assert chain.outputs.predicted_structure.uuid in set(predictions['predicted'])

    references = find_references_of(referring).set_index('chain_uuid')  # other tests may have left some, too
    assert references['fault'][chain.uuid] is None
