"""Where the raw leg comes from: each time, for a share of the structures, or out of the graph."""

import ase.build
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node

from aiida_e3relax.cli.relax_inputs import describe_relaxations
from aiida_e3relax.common.mappings import merge
from aiida_e3relax.workflows.comparison.reference import reason_against
from tests.workflows.crystals import copper_gold
from tests.workflows.vasp.test_chain import count_ionic_steps, links_of, vasp_jobs

HANDLERS = {'vasp': {'vasp': {'handler_overrides': {'handler_unfinished_calc_ionic': {'enabled': False}}}}}
POSITIONS = {'vasp': {'vasp': {'parameters': {'incar': {'ediff': 1e-4}}}}}


@pytest.mark.usefixtures('aiida_profile')
def test_a_sample_is_a_share_of_the_structures_and_the_same_again():
    crystals = [orm.StructureData(ase=ase.build.bulk('Cu', a=3.6 + 0.001 * step)) for step in range(400)]
    inside = [reason_against('sample', crystal, 0.25) is None for crystal in crystals]
    assert 70 < sum(inside) < 130
    assert [reason_against('sample', crystal.store(), 0.25) is None for crystal in crystals[:100]] == inside[:100]
    assert all(reason_against('sample', crystal, 1.0) is None for crystal in crystals)
    assert 'not in the sample of 0 %' in reason_against('sample', crystals[0], 0.0)


def test_the_raw_leg_of_an_earlier_chain_is_taken_and_stays_in_the_provenance(make_builder):
    raw_alone = run_get_node(make_builder(network_code=None)).node
    job_options = {'calc': {'metadata': {'options': {'prepend_text': 'export E3RELAX_OTHER=1'}}}}
    overrides = merge({'vasp': {'vasp': job_options}}, HANDLERS)
    builder = make_builder(reference_leg=raw_alone, overrides=overrides)
    assert f'one from the raw crystal has been run by E3RelaxVaspWorkChain<{raw_alone.pk}>.' in describe_relaxations(
        builder
    )
    results, chain = run_get_node(builder)
    assert chain.exit_status == 0, chain.exit_message
    called = links_of(chain)
    assert 'relax_raw' not in called
    comparison = results['comparison'].get_dict()
    (job,) = vasp_jobs(links_of(raw_alone)['relax_raw'], 'relax_01')
    assert comparison['raw'] == raw_alone.outputs.comparison['raw']
    assert comparison['raw']['ionic_steps'] == count_ionic_steps(job)
    assert comparison['ionic_steps_saved'] == count_ionic_steps(job) - comparison['predicted']['ionic_steps']
    assert comparison['same_minimum'] is True
    assert f'The raw leg is that of E3RelaxVaspWorkChain<{raw_alone.pk}>' in comparison['remarks']
    assert comparison['times_side_by_side'] is False
    raw, predicted = (comparison[leg]['core_time_s'] for leg in ('raw', 'predicted'))
    assert comparison['core_time_saved_s'] == pytest.approx(raw - predicted)
    assert any('had different `prepend_text`: steps and energies' in remark for remark in comparison['remarks'])
    assert any('That one had other `handler_overrides`' in remark for remark in comparison['remarks'])
    assert results['raw']['structure'] == raw_alone.outputs.raw.structure
    inputs = called['compare'].base.links.get_incoming(link_type=LinkType.INPUT_CALC).all_nodes()
    assert job.outputs.misc in inputs

    # Another chain with this one as its reference must name the one that ran VASP.
    with pytest.raises(ValueError, match=f'its `reference_leg` was {raw_alone.uuid}'):
        make_builder(reference_leg=chain)
    with pytest.raises(ValueError, match='had another `structure`; take the same'):
        make_builder(reference_leg=raw_alone, structure=orm.StructureData(ase=copper_gold()))
    with pytest.raises(ValueError, match=r'had another `vasp\.vasp\.parameters`'):
        make_builder(reference_leg=raw_alone, overrides=POSITIONS)
    with pytest.raises(ValueError, match='had another `freedom`'):
        make_builder(reference_leg=raw_alone, freedom='positions')


def test_what_is_no_reference_is_refused(make_builder, make_scripted_code):
    code = make_scripted_code('exit 1', 'e3relax-vasp-standin', 'vasp.vasp')
    overrides = {'vasp': {'vasp': {'max_iterations': 1}}}
    failed = run_get_node(make_builder(network_code=None, vasp_code=code, overrides=overrides)).node
    for reference, message in (
        (failed, 'has not finished well; name another chain'),
        (links_of(failed)['relax_raw'], 'expected an earlier E3RelaxVaspWorkChain, found uuid'),
        (
            'sometimes',
            "expected always, sample, never or the UUID of an earlier E3RelaxVaspWorkChain, found 'sometimes'",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make_builder(reference_leg=reference)
    with pytest.raises(ValueError, match=r'expected a number from 0 to 1, found 10\.0'):
        make_builder(overrides={'reference_share': 10.0})
    with pytest.raises(ValueError, match='reference_leg'):
        make_builder(overrides={'reference_leg': False})
