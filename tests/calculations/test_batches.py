"""Batches of structures: into and out of one node on the record, and through the network in one job."""

import json
import time

import ase.build
import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.manage.caching import enable_caching

from aiida_e3relax.calculations.batches import gather_structures, take_structure
from aiida_e3relax.calculations.predict import E3RelaxCalculation
from aiida_e3relax.crystals.structures import make_crystals
from aiida_e3relax.data.batch import StructureBatchData


def run(code, model, **inputs) -> orm.CalcJobNode:
    return run_get_node(E3RelaxCalculation, code=code, model=model, parameters={'device': 'cpu'}, **inputs)[1]


@pytest.mark.usefixtures('aiida_profile')
def test_the_way_of_a_structure_through_a_batch_is_on_record(make_structure):
    structures = {name: make_structure(name).store() for name in ('Cu', 'MgO')}
    batch = gather_structures(**structures)
    assert batch.labels == ['Cu', 'MgO']
    assert batch.creator.inputs.MgO == structures['MgO']
    taken = take_structure(batch, orm.Str('MgO'))
    assert taken.get_formula() == 'MgO'
    assert taken.creator.inputs.batch == batch
    assert taken.creator.inputs.label == 'MgO'


def test_batch_goes_in_and_comes_out_without_the_failed_ones(e3relax_code, model, make_structure):
    iron = orm.StructureData(cell=(2.87 * np.eye(3)).tolist())
    for name, place in (('Fe1', 0.0), ('Fe2', 0.5 * 2.87)):
        iron.append_atom(symbols='Fe', name=name, position=(place, place, place))
    on_top = ase.build.bulk('Cu', 'fcc', a=3.615, cubic=True)
    on_top.positions[1] = on_top.positions[0]
    structures = {
        'mgo-1': make_structure('MgO'),
        'on top': make_structure(on_top),
        'fe': iron,
        'empty': orm.StructureData(cell=(4 * np.eye(3)).tolist()),
    }
    batch = StructureBatchData(structures)
    with enable_caching():
        node = run(e3relax_code, model, batch=batch)
        again = run(e3relax_code, model, batch=StructureBatchData(structures))
        other = run(e3relax_code, model, batch=StructureBatchData({'fe': iron}))
    assert node.is_finished_ok, node.exit_message
    assert node.outputs.batch.labels == ['mgo-1', 'fe']
    assert node.outputs.batch.get_structure('fe').get_site_kindnames() == ['Fe1', 'Fe2']
    assert 'structures' not in node.outputs
    statuses = {row['label']: row['status'] for row in node.outputs.report['structures']}
    assert statuses == {'mgo-1': 'ok', 'on top': 'overlapping_atoms', 'fe': 'ok', 'empty': 'empty'}

    assert again.base.caching.get_cache_source() == node.uuid
    assert again.outputs.batch.labels == ['mgo-1', 'fe']
    assert not other.base.caching.is_created_from_cache
    cells = [of_batch.outputs.batch.get_structure('fe').cell for of_batch in (node, other)]
    np.testing.assert_allclose(*cells, rtol=0, atol=1e-5)


def test_job_over_a_thousand_structures_costs_little(make_code, model, tmp_path):
    """The program only copies its input, so that the processor time is that of AiiDA."""
    program = tmp_path / 'copy.sh'
    rows = [{'label': f's{i}', 'status': 'ok', 'message': '', 'n_atoms': 2} for i in range(1000)]
    facts = {'model': {'content_hash': 'of no model'}, 'device': {'used': 'cpu'}, 'timings_s': {'total': 1.0}}
    report = tmp_path / 'report.json'
    report.write_text(json.dumps({'schema': 1, 'error': None, 'structures': rows} | facts))
    program.write_text(f'#!/bin/bash\ncp structures.npz predictions.npz\ncp {report} report.json\n')
    program.chmod(0o755)
    code = make_code(program, 'copy', 'e3relax.predict')
    cell, places = 4.2 * np.eye(3), np.array([[0, 0, 0], [2.1, 0, 0]])
    crystals = make_crystals([[12, 8]] * 1000, [places] * 1000, [cell] * 1000, [f's{i}' for i in range(1000)])
    start = time.process_time()
    node = run(code, model, batch=StructureBatchData(crystals))
    spent = time.process_time() - start
    assert node.is_finished_ok, node.exit_message
    assert len(node.outputs.batch) == 1000
    assert spent / 1000 < 0.02


class TestRefused:
    def test_neither_and_both(self, e3relax_code, model, make_structure):
        with pytest.raises(ValueError, match='found neither `structures` nor `batch`, expected one of them'):
            run(e3relax_code, model)
        structures = {'cu': make_structure('Cu')}
        with pytest.raises(ValueError, match='found `structures` and `batch`, expected one of them'):
            run(e3relax_code, model, structures=structures, batch=StructureBatchData(structures))

    def test_batch_in_which_nothing_can_be_predicted(self, e3relax_code, model):
        molecule = make_crystals([[8]], [np.zeros((1, 3))], [4 * np.eye(3)], ['o'], [[False] * 3])
        with pytest.raises(ValueError, match=r'`batch`: no structure can be predicted: structure `o`: .*no direction'):
            run(e3relax_code, model, batch=StructureBatchData(molecule))
