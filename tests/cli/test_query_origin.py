"""`aiida-e3relax query origin`: which network, potential and weights a result goes back to."""

import pytest
from aiida import orm
from aiida.common.links import LinkType
from click.testing import CliRunner

from aiida_e3relax.campaign.results.queries import trace_origin
from aiida_e3relax.cli import main
from aiida_e3relax.data.potential import E3RelaxPotentialData

FACTS = {'potential': 'mace', 'version': '0.3', 'weights': 'small.model', 'content_hash': 'sha256:0'}


@pytest.fixture
def predict(aiida_profile):
    """A function that stores a prediction and what VASP makes of it, and returns the latter."""

    def predict(report, given=None, **inputs):
        start = predicted = orm.Int(1)
        for process_type, nodes, outputs in (
            ('aiida.calculations:e3relax.predict', inputs, {'report': orm.Dict(report)}),
            ('aiida.calculations:vasp.vasp', {}, {}),
        ):
            job = orm.CalcJobNode(computer=orm.load_computer('localhost'), process_type=process_type)
            job.set_process_label(process_type.rpartition(':')[2])
            for port, node in {**nodes, 'structure': (predicted if start is not predicted else given) or start}.items():
                job.base.links.add_incoming(node if node.is_stored else node.store(), LinkType.INPUT_CALC, port)
            job.store()
            predicted = orm.Int(2)
            for link, node in {**outputs, 'structure': predicted}.items():
                node.base.links.add_incoming(job, LinkType.CREATE, link)
                node.store()
            job.seal()
        return predicted

    return predict


def ask(node):
    done = CliRunner().invoke(main, ['query', 'origin', node.uuid])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def weights(aiida_profile, tmp_path):
    (tmp_path / 'small.model').write_bytes(b'weights')
    return E3RelaxPotentialData.get_or_create(tmp_path / 'small.model', 'mace')[0]


def test_a_potential_alone_is_named(predict, weights, aiida_localhost):
    end = predict({'model': None, 'potential': FACTS}, potential_weights=weights)
    told = ask(end)
    assert 'It goes back to the potential mace (version 0.3, weights small.model, sha256:0, E3Rel' in told
    assert f'E3RelaxPotentialData<{weights.pk}>' in told.splitlines()[1]
    assert trace_origin(end).model is None


def test_network_and_potential_are_named_together(predict, model, aiida_localhost):
    told = ask(predict({'potential': {**FACTS, 'potential': 'chgnet'}}, model=model))
    assert f'the checkpoint {model.name}, {model.content_hash}, and the potential chgnet (' in told


def test_an_opinion_has_a_part_where_it_took_steps(predict, model, aiida_localhost):
    opinion = {'potential': 'chgnet', 'version': '0.4', 'weights': '0.3.0'}
    assert 'potential' not in ask(predict({'second_opinion': opinion | {'steps': 0}}, model=model))
    assert 'and the potential chgnet' in ask(predict({'second_opinion': opinion | {'steps': 3}}, model=model))


def test_the_nearest_prediction_counts(predict, model, aiida_localhost):
    """A campaign that starts from what another one has relaxed."""
    first = predict({}, model=model)
    assert trace_origin(first).model == model
    second = predict({'model': None, 'potential': FACTS}, given=first)
    assert (trace_origin(second).model, trace_origin(second).potential) == (None, FACTS)
