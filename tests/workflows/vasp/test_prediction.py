"""The chain on a prediction out of a batch, for real: network, aiida-vasp and the stand-in."""

import ase.build
import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node

from aiida_e3relax.data.batch import StructureBatchData
from aiida_e3relax.workflows.network.base import E3RelaxBaseWorkChain
from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain
from tests.workflows.crystals import rattled_copper_gold
from tests.workflows.vasp.test_chain import links_of, vasp_jobs


@pytest.fixture(scope='module')
def runs_of_the_network() -> list[orm.WorkChainNode]:
    """The run of `predicted`, once there is one."""
    return []


@pytest.fixture
def predicted(e3relax_code, model, make_structure, runs_of_the_network) -> orm.WorkChainNode:
    """A run of the network over Cu3Au, copper, and a crystal that cannot be predicted."""
    if runs_of_the_network:
        return runs_of_the_network[0]
    on_top = ase.build.bulk('Cu', 'fcc', a=3.615, cubic=True)
    on_top.positions[1] = on_top.positions[0]
    batch = StructureBatchData(
        {
            'Cu3Au-1': make_structure(rattled_copper_gold()),
            'Cu': make_structure('Cu'),
            'on-top': make_structure(on_top),
        }
    )
    inputs = {'code': e3relax_code, 'model': model, 'batch': batch, 'parameters': {'device': 'cpu'}}
    campaign = orm.Dict({'name': 'metals'})
    _, node = run_get_node(E3RelaxBaseWorkChain, predict=inputs, campaign=campaign)
    assert node.is_finished_ok, node.exit_message
    assert node.inputs.campaign['name'] == 'metals'
    runs_of_the_network.append(node)
    return node


@pytest.fixture
def make_prediction(predicted):
    """A factory of the input `prediction` for a label of that run."""

    def make(label: str) -> dict[str, object]:
        return {'batch': predicted.outputs.batch, 'label': label, 'report': predicted.outputs.report}

    return make


def test_chain_goes_on_from_a_structure_of_the_batch(make_builder, make_prediction, predicted):
    campaign = orm.Dict({'name': 'metals'})
    inputs = {'prediction': make_prediction('Cu3Au-1'), 'campaign': campaign, 'reference_leg': 'always'}
    inputs |= {'freedom': 'positions'}  # no static run
    builder = make_builder(network_code=None, **inputs)
    results, chain = run_get_node(builder)
    assert chain.exit_status == 0, chain.exit_message
    called = links_of(chain)
    assert set(called) == {'kpoints', 'take_prediction', 'guard', 'relax_predicted', 'relax_raw', 'compare'}
    assert results['predicted_structure'].creator.inputs.batch == predicted.outputs.batch
    places = [site.position for site in results['predicted_structure'].sites]
    crystals = predicted.outputs.batch.crystals
    np.testing.assert_allclose(places, crystals.positions[:4], rtol=0, atol=1e-12)  # AiiDA keeps 14 digits
    assert results['guard']['verdict'] == 'accepted'

    report, network = predicted.outputs.report, results['comparison']['network']
    assert network['content_hash'] == report['model']['content_hash']
    assert network['device'] == 'cpu'
    assert network['structures_in_run'] == 3
    assert network['wall_time_s'] == pytest.approx(4 / 9 * report['timings_s']['total'])
    assert results['comparison']['remarks'] == []

    query = orm.QueryBuilder().append(orm.Dict, filters={'id': campaign.pk}, tag='campaign')
    query.append(orm.WorkChainNode, with_incoming='campaign', edge_filters={'label': 'campaign'})
    assert query.all(flat=True) == [chain]


def test_the_static_run_is_left_out_where_nothing_is_compared(make_builder, make_prediction):
    inputs = {'prediction': make_prediction('Cu3Au-1'), 'overrides': {'static_run': 'with-reference'}}
    results, chain = run_get_node(make_builder(network_code=None, reference_leg='never', **inputs))
    assert chain.exit_status == 0, chain.exit_message
    leg = links_of(chain)['relax_predicted']
    (job,) = vasp_jobs(leg, 'relax_01')
    assert set(links_of(leg)) == {'relax_01'}
    assert job.inputs.parameters['isif'] == 3
    figures = results['comparison']['predicted']
    assert figures['static_wall_time_s'] is None
    assert figures['finished']
    assert figures['energy_final_eV_per_atom'] == job.outputs.trajectory.get_array('energy_extrapolated')[-1] / 4
    assert results['structure'] == job.outputs.structure


@pytest.mark.parametrize('has_batch', [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_structure_that_the_network_failed_for_is_relaxed_from_the_raw_one(
    make_builder, make_prediction, predicted, has_batch
):
    prediction = make_prediction('on-top')
    if not has_batch:
        del prediction['batch']
    results, chain = run_get_node(make_builder(network_code=None, prediction=prediction, freedom='positions'))
    assert chain.exit_status == 0, chain.exit_message
    assert set(links_of(chain)) == {'kpoints', 'relax_raw', 'compare'}
    (remark,) = results['comparison']['remarks']
    assert remark.startswith('The network failed for `on-top`: overlapping_atoms: the sites 0 (Z=29) and 1 (Z=29)')
    took = results['comparison']['network']['wall_time_s']  # its share of the run is a cost like any other
    assert took == pytest.approx(4 / 9 * predicted.outputs.report['timings_s']['total'])


def test_a_run_of_the_network_that_left_no_report_is_named(make_builder):
    prediction = {'label': 'Cu3Au-1', 'failure': 'was killed (<12>)'}
    results, chain = run_get_node(make_builder(network_code=None, prediction=prediction, freedom='positions'))
    assert chain.exit_status == 0, chain.exit_message
    assert results['comparison']['remarks'] == ['The run of the pre-relaxer for the batch was killed (<12>)']
    assert set(links_of(chain)) == {'kpoints', 'relax_raw', 'compare'}


def test_a_failed_prediction_ends_the_chain_if_that_is_asked_for(make_builder, make_prediction):
    builder = make_builder(
        network_code=None, prediction=make_prediction('on-top'), overrides={'on_network_failure': 'error'}
    )
    results, chain = run_get_node(builder)
    assert chain.exit_status == E3RelaxVaspWorkChain.exit_codes.ERROR_NETWORK_FAILED.status
    assert 'overlapping_atoms' in chain.exit_message
    assert 'structure' not in results


def test_a_prediction_of_another_crystal_is_rejected(make_builder, make_prediction):
    results, chain = run_get_node(
        make_builder(network_code=None, prediction=make_prediction('Cu'), freedom='positions')
    )
    assert chain.exit_status == 0, chain.exit_message
    assert 'the prediction has other sites than the raw structure' in results['comparison']['remarks'][0]


class TestRefused:
    def test_network_and_prediction(self, make_builder, make_prediction):
        with pytest.raises(ValueError, match='found `network_code` and `prediction`, expected one of them at most'):
            make_builder(prediction=make_prediction('Cu'))
        builder = make_builder()
        builder.prediction = make_prediction('Cu')
        with pytest.raises(ValueError, match='found `network` and `prediction`, expected one of them at most'):
            run_get_node(builder)

    def test_label_that_the_run_does_not_know(self, make_builder, make_prediction):
        with pytest.raises(ValueError, match='tells of 3 structures, and of none labelled `Cu3Au`; give the label'):
            make_builder(network_code=None, prediction=make_prediction('Cu3Au'))

    def test_neither_report_nor_failure_or_both(self, make_builder):
        both = {'report': orm.Dict({'structures': []}), 'failure': 'was killed'}
        for given, found in (({}, 'neither'), (both, '`report` and `failure`')):
            with pytest.raises(ValueError, match=f'where the run of the network left none, found {found}'):
                make_builder(network_code=None, prediction={'label': 'Cu', **given})

    def test_another_dict_than_a_report(self, make_builder, make_prediction):
        prediction = make_prediction('Cu') | {'report': orm.Dict({'energy': 1.0})}
        with pytest.raises(ValueError, match="expected the output `report` of a run of the network, found no 'struct"):
            make_builder(network_code=None, prediction=prediction)
