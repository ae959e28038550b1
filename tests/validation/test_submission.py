"""What a validation submits, what it finds, and what it leaves out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from plumpy.process_states import ProcessState

from aiida_e3relax.campaign.results.queries import trace_origin
from aiida_e3relax.campaign.submission import daemon
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.engine.accelerate import accelerate
from aiida_e3relax.gnn.prediction.predict import predict
from aiida_e3relax.validation.creation import create_validation, find_same
from aiida_e3relax.validation.draw import Draw, draw_pairs
from aiida_e3relax.validation.group import ValidationGroup, find_validation
from aiida_e3relax.validation.report import write_report
from aiida_e3relax.validation.results import DIFFERENCE, ENERGY, validation_frame
from aiida_e3relax.validation.submission import ValidationController
from aiida_e3relax.workflows.vasp.choices import ChainChoices
from tests.validation.crystals import FAILING, metal_pairs

REQUEST = {'pairs': 'metals.npz', 'content_hash': 'sha256:0', 'split': 'test', 'draw': 1, 'seed': 0, 'unmatched': False}


def make_validation(name: str, count: int, choices: ChainChoices) -> ValidationGroup:
    return create_validation(
        name, draw_pairs(metal_pairs(count), None, 0, False), choices, REQUEST | {'static': choices.record()}
    )


@pytest.fixture
def group(standin_code, e3relax_code, potential_family, tmp_path) -> ValidationGroup:
    """A validation of two crystals of which nothing has run."""
    choices = ChainChoices(standin_code, e3relax_code, potential_family, 'positions', protocol='fast')
    return make_validation(tmp_path.name, 2, choices)


def test_crystals_that_start_as_the_same_are_told(standin_code, e3relax_code, potential_family, tmp_path):
    choices = ChainChoices(standin_code, e3relax_code, potential_family, 'positions', protocol='fast')
    assert make_validation(tmp_path.name, 7, choices).settings.same_starts == [['NiPt_0', 'NiPt_6']]


def add(group: ValidationGroup, process_label: str, label: str, status: int, **inputs: orm.Data) -> orm.WorkChainNode:
    """Store a process as the engine leaves it."""
    node = orm.WorkChainNode(label=label)
    node.set_process_label(process_label)
    for name, data in {'campaign': group.settings_node, **inputs}.items():
        node.base.links.add_incoming(data, LinkType.INPUT_WORK, name)
    node.store()
    node.set_process_state(ProcessState.FINISHED)
    node.set_exit_status(status)
    return node


def test_predictions_come_before_their_energies_and_failures_stay_until_someone_asks(group, model):
    controller = ValidationController(group, {'good': model, 'bad': model})
    references = [('NiPt_0', 'relaxed'), ('NiPt_0', 'unrelaxed'), ('CuAu_1', 'relaxed'), ('CuAu_1', 'unrelaxed')]
    due = controller.find_due(controller.read())
    assert (due.networks, due.static) == (['good', 'bad'], references)
    add(group, 'E3RelaxBaseWorkChain', 'bad', 331, predict__model=model)
    run = add(group, 'E3RelaxBaseWorkChain', 'good', 0, predict__model=model)
    batch = orm.load_node(uuid=group.settings.batch)
    first = batch.moved(batch.crystals.select([0])).store()  # the network failed for the second crystal
    first.base.links.add_incoming(run, LinkType.RETURN, 'batch')
    add(group, 'E3RelaxStaticWorkChain', 'NiPt_0.relaxed', 0)
    add(group, 'E3RelaxStaticWorkChain', 'NiPt_0.unrelaxed', 410)
    add(group, 'E3RelaxStaticWorkChain', 'by hand', 0)
    due = controller.find_due(controller.read())
    assert (due.networks, due.static) == ([], [('NiPt_0', 'good'), *references[2:]])
    assert controller.count(controller.read()) == {'finished': 1, 'failed': 1, 'waiting': 3}
    assert controller.retry_failed() == 2
    due = controller.find_due(controller.read())
    assert (due.networks, due.static) == (['bad'], [references[1], ('NiPt_0', 'good'), *references[2:]])


def test_the_table_says_why_an_energy_is_missing(group, model):
    add(group, 'E3RelaxBaseWorkChain', 'bad', 331, predict__model=model)
    run = add(group, 'E3RelaxBaseWorkChain', 'good', 0, predict__model=model)
    rows = [{'label': 'NiPt_0', 'status': 'ok'}, {'label': 'CuAu_1', 'status': 'no_neighbours', 'message': 'too far'}]
    orm.Dict({'structures': rows}).store().base.links.add_incoming(run, LinkType.RETURN, 'report')
    add(group, 'E3RelaxStaticWorkChain', 'NiPt_0.relaxed', 410).set_exit_message('out of walltime')
    frame = validation_frame(group).set_index(['crystal', 'geometry'])
    told = frame[['state', 'reason']].apply(tuple, axis=1).to_dict()
    assert told == {
        ('NiPt 0', 'relaxed'): ('failed', 'out of walltime'),
        ('NiPt 0', 'unrelaxed'): ('waiting', ''),
        ('NiPt 0', 'bad'): ('not predicted', told[('NiPt 0', 'bad')][1]),
        ('NiPt 0', 'good'): ('waiting', ''),
        ('CuAu 1', 'relaxed'): ('waiting', ''),
        ('CuAu 1', 'unrelaxed'): ('waiting', ''),
        ('CuAu 1', 'bad'): ('not predicted', told[('CuAu 1', 'bad')][1]),
        ('CuAu 1', 'good'): ('not predicted', 'the network failed: no_neighbours: too far'),
    }
    assert told[('NiPt 0', 'bad')][1].startswith('the run of the network failed')
    assert frame.loc[('CuAu 1', 'good'), 'checkpoint'] == model.content_hash


def test_a_name_stays_with_its_model(group, model, tmp_path):
    other = model.clone().store()
    add(group, 'E3RelaxBaseWorkChain', 'mine', 0, predict__model=model)
    ValidationController(group, {'mine': model})
    with pytest.raises(ValueError, match='model `mine`: this validation has sha256'):
        ValidationController(group, {'mine': other})
    with pytest.raises(ValueError, match='model `relaxed`: expected a name other than'):
        ValidationController(group, {'relaxed': model})


def test_a_validation_is_found_by_its_name_and_refused_for_another_request(group):
    request = group.settings.request
    assert find_validation('nowhere') is None
    assert find_same('nowhere', request) is None
    assert find_same(group.label, request).uuid == group.uuid
    with pytest.raises(ValueError, match='seed: 0 there, 1 now'):
        find_same(group.label, request | {'seed': 1})
    with pytest.raises(ValueError, match='protocol: fast there, balanced now'):
        find_same(group.label, request | {'static': request['static'] | {'protocol': 'balanced'}})


def held_pairs(cells: tuple[bool, bool]) -> Pairs:
    """Two pairs whose first site does not move, and whose cells are fixed where `cells` says so."""
    pairs, fixed = metal_pairs(2), np.array([[True] * 3, [False] * 3] * 2)
    start = pairs.unrelaxed.replace(pairs.unrelaxed.positions + 0.3 * ~fixed * [1.0, 0.5, 0.2], pairs.unrelaxed.cell)
    return dataclasses.replace(pairs, unrelaxed=start, fixed=fixed, fixed_cell=np.array(cells))


@pytest.mark.parametrize(('cells', 'moves'), [((True, True), 'positions'), ((False, False), 'cell')])
def test_the_network_moves_what_the_pairs_do_not_hold(
    standin_code, e3relax_code, potential_family, model, tmp_path, monkeypatch, cells, moves
):
    """VASP moves nothing in a static run, whatever the network moved."""
    choices = ChainChoices(standin_code, e3relax_code, potential_family, 'positions', protocol='fast')
    group = create_validation(tmp_path.name, Draw(held_pairs(cells)), choices, REQUEST | {'static': choices.record()})
    started = []
    monkeypatch.setattr(daemon, 'submit', lambda builder: started.append(builder) or builder)
    controller = ValidationController(group, {'default': model})
    monkeypatch.setattr(controller.daemon, 'count_workers', lambda: 1)
    controller.advance(1, 1)
    parameters = started[0].predict.parameters.get_dict()
    assert parameters['freedom'] == {'moves': moves, 'vacuum': 'none', 'keep_symmetry': False}
    assert list(parameters['fixed'].values()) == [{'abc': [0]}] * 2


@pytest.mark.slow
@pytest.mark.parametrize('cells', [(True, True), (False, False)])
def test_what_pairs_hold_is_held_as_where_models_are_evaluated(
    standin_code, e3relax_code, potential_family, model, tmp_path, monkeypatch, cells
):
    choices = ChainChoices(standin_code, e3relax_code, potential_family, 'positions', protocol='fast')
    pairs = held_pairs(cells)
    group = create_validation(tmp_path.name, Draw(pairs), choices, REQUEST | {'static': choices.record()})
    started = []
    monkeypatch.setattr(daemon, 'submit', lambda builder: started.append(run_get_node(builder).node))
    controller = ValidationController(group, {'default': model})
    monkeypatch.setattr(controller.daemon, 'count_workers', lambda: 1)
    controller.advance(1, 1)
    (tmp_path / 'model.pt').write_bytes(model.get_content('rb'))
    checkpoint, masks = load_checkpoint(tmp_path / 'model.pt'), (pairs.fixed, pairs.fixed_cell)
    network, cpu = accelerate(checkpoint.model), torch.device('cpu')
    expected = predict(network, pairs.unrelaxed, checkpoint.elements, cpu, torch.float64, fixed=masks).crystals
    found = started[0].outputs.batch.crystals
    np.testing.assert_allclose(found.cell, expected.cell, atol=1e-6)
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-6)
    moved = found.fractional() - pairs.unrelaxed.fractional()
    assert abs(moved[::2]).max() < 1e-9
    assert abs(moved[1::2]).max() > 1e-3
    assert np.array_equal(found.cell, pairs.unrelaxed.cell) == all(cells)


def test_one_freedom_holds_for_all_crystals(standin_code, e3relax_code, potential_family, tmp_path):
    choices = ChainChoices(standin_code, e3relax_code, potential_family, 'positions', protocol='fast')
    with pytest.raises(ValueError, match='expected all pairs to have one or none, found 1 of 2'):
        create_validation(tmp_path.name, Draw(held_pairs((True, False))), choices, REQUEST)
    assert find_validation(tmp_path.name) is None


@pytest.mark.slow
def test_all_energies_of_a_crystal_are_traced_and_one_that_failed_is_a_hole(
    make_scripted_code, e3relax_code, potential_family, model, tmp_path, monkeypatch
):
    """The whole of it in this process: no daemon."""
    lines = f"if grep -q ' {FAILING:.4f}' POSCAR; then echo 'no such luck' >&2; exit 1; fi"
    code = make_scripted_code(lines, 'e3relax-vasp-standin', 'vasp.vasp')
    once = {'vasp': {'vasp': {'max_iterations': 1}}}
    choices = ChainChoices(code, e3relax_code, potential_family, 'positions', protocol='fast', overrides=once)
    group = make_validation(tmp_path.name, 1, choices)
    started = []
    monkeypatch.setattr(daemon, 'submit', lambda builder: started.append(run_get_node(builder).node))
    controller = ValidationController(group, {'default': model})
    monkeypatch.setattr(controller.daemon, 'count_workers', lambda: 1)
    while not controller.is_done(controller.read()):
        assert controller.advance(2, 1)
    assert [node.label for node in started] == ['default', 'NiPt_0.relaxed', 'NiPt_0.unrelaxed', 'NiPt_0.default']

    frame = validation_frame(group).set_index('geometry')
    assert frame['state'].to_dict() == {'relaxed': 'finished', 'unrelaxed': 'failed', 'default': 'finished'}
    assert 'no such luck' in frame.loc['unrelaxed', 'reason']
    assert np.isnan(frame.loc['unrelaxed', DIFFERENCE])
    assert frame.loc['default', DIFFERENCE] == frame.loc['default', ENERGY] - frame.loc['relaxed', ENERGY] != 0.0
    assert frame.loc['relaxed', DIFFERENCE] == 0.0
    assert set(frame['stand_in'].dropna()) == {'emt'}
    assert frame['kpoints'].nunique() == 1
    predicted = frame.loc['default']
    assert trace_origin(orm.load_node(predicted['structure_uuid'])).model.uuid == predicted['model_uuid'] == model.uuid
    job = orm.load_node(predicted['vasp_uuid'])
    assert predicted['checkpoint'] == model.content_hash
    assert trace_origin(job.outputs.misc).model == model
    energy = job.outputs.misc['total_energies']['energy_extrapolated']
    assert predicted[ENERGY] == energy / 2
    meshes = {orm.load_node(uuid).inputs.kpoints.uuid for uuid in frame['vasp_uuid']}
    assert len(meshes) == 1

    text = write_report(group, tmp_path / 'report').read_text(encoding='utf-8')
    assert 'computed by the stand-in for VASP (emt), not by VASP' in text
    assert 'NiPt 0, unrelaxed: ' in text
    assert model.content_hash in text
    assert {path.name for path in (tmp_path / 'report').rglob('*') if path.is_file()} == {
        'validation.csv',
        'validation.md',
        'energy_differences.png',
        'energy_differences.pdf',
    }

    again = ValidationController(group, {'default': model})
    assert again.is_done(again.read())
    more = ValidationController(group, {'more': model})
    due = more.find_due(more.read())
    assert (due.networks, due.static) == (['more'], [])


def test_settings_of_another_version_are_refused(group):
    content = group.settings_node.get_dict() | {'schema': 99}
    with pytest.raises(ValueError, match='expected schema 1, found 99'):
        type(group.settings).from_node(orm.Dict(content))
    assert dataclasses.asdict(group.settings)['order'] == ['NiPt_0', 'CuAu_1']
