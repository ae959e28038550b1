"""A campaign, and processes in the midst of it, that earlier releases left in the graph."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from aiida import orm
from aiida.engine.persistence import get_object_loader
from aiida.manage.configuration import profile_context
from aiida.orm.utils.serialize import deserialize_unsafe
from aiida.storage.sqlite_temp import SqliteTempBackend
from aiida.tools.archive import import_archive
from aiida_vasp.data.potcar import PotcarGroup
from click.testing import CliRunner
from plumpy.persistence import LoadSaveContext

from aiida_e3relax.campaign.personal import WORK_DIRECTORIES, find_personal
from aiida_e3relax.campaign.results.queries import find_chains, find_predictions, find_reference_legs, trace_origin
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.cli import main
from aiida_e3relax.data.batch import StructureBatchData
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.workflows.comparison.reference import find_raw_leg, find_reference_fault

RELEASES = sorted(path for path in Path(__file__).parent.iterdir() if (path / 'campaign.aiida').is_file())
PROCESSES = ('E3RelaxBaseWorkChain', 'E3RelaxVaspWorkChain', 'ResilientVaspRelaxWorkChain', 'ResilientVaspWorkChain')
MODEL_HASH = 'sha256:40156fcc75288c2e27c44752823551f15a314a81c150657e8905c95373735bb7'


@pytest.fixture(scope='module', params=RELEASES, ids=lambda path: path.name)
def stored(request) -> Iterator[Path]:
    """The folder of a release, with its campaign `stored` in a profile that holds nothing else."""
    with profile_context(SqliteTempBackend.create_profile('stored'), allow_switch=True):
        import_archive(request.param / 'campaign.aiida')
        PotcarGroup(label='standin-PBE').store()  # by its label aiida-vasp knows the potentials; archives have none
        yield request.param


@pytest.fixture
def chains(stored) -> dict[str, orm.WorkChainNode]:
    """The chain of each crystal by its label."""
    query = orm.QueryBuilder().append(
        orm.WorkChainNode, filters={'attributes.process_label': 'E3RelaxVaspWorkChain'}, project=['label', '*']
    )
    return dict(query.all())


@pytest.fixture
def run(stored) -> Callable[..., str]:
    """A function that runs `aiida-e3relax` and returns what it prints."""

    def run(*words: object) -> str:
        done = CliRunner().invoke(main, [str(word) for word in words], env={'COLUMNS': '120'})
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_the_table_of_the_campaign_is_as_it_was_exported(stored):
    frame = campaign_frame('stored')
    rows = frame.reset_index().astype(object).where(frame.reset_index().notna(), None).to_dict('records')
    then = pyarrow.parquet.read_table(stored / 'campaign.parquet').to_pylist()
    told = [{key: row[key] for key in before} for row, before in zip(rows, then, strict=True)]  # later columns beside
    assert [row | {'chain_pk': 0} for row in told] == [row | {'chain_pk': 0} for row in then]
    assert [row['verdict'] for row in rows] == [None, 'accepted', 'rejected']
    assert frame.loc['MgO', 'predicted_energy_final_eV_per_atom'] == pytest.approx(-20.10243717, abs=1e-9)
    assert frame['raw_ionic_steps'].to_dict() == {'KBr': 1, 'MgO': 3, 'NaCl': 7}


def test_the_status_and_the_list_of_campaigns(run):
    assert 'structures │       · │       · │        3 │' in run('campaign', 'status', 'stored')
    assert run('campaign', 'list').splitlines()[1].split()[:1] == ['stored']


def test_the_report_is_written(run, stored, tmp_path):
    run('campaign', 'report', 'stored', '--folder', tmp_path / 'report')
    report = json.loads((tmp_path / 'report' / 'campaign.json').read_text())
    assert report['settings']['created'] == '2026-11-28T20:36:37+00:00'
    assert report['summary']['outcomes']['compared'] == 1
    page = (tmp_path / 'report' / 'report.html').read_text(encoding='utf-8')
    personal = find_personal(stored / 'campaign.aiida')
    assert personal['people'] == ['aiida@localhost']
    paths = [word.rsplit(': ')[-1] for word in (*personal['executables'], *personal[WORK_DIRECTORIES])]
    assert len(paths) == 3
    for word in (*personal['people'], *paths):
        assert word not in page
        assert word not in json.dumps(report)


def test_a_chain_is_shown_as_it_was(run, stored, chains):
    then = (stored / 'show-MgO.txt').read_text(encoding='utf-8')
    now = run('show', chains['MgO'].uuid)
    for line in then.split('\nWhere to look next')[0].splitlines()[3:]:
        assert line.strip() in now
    for line in then.splitlines()[-4:]:
        assert line in now


def test_a_crystal_that_was_not_predicted_and_one_that_was_rejected_are_shown(run, chains):
    assert 'the model was not trained on Z=19, Z=35' in ' '.join(run('show', chains['KBr'].uuid).split())
    assert 'expects errors of 0.43 A in the lengths of bonds' in ' '.join(run('show', chains['NaCl'].uuid).split())


def test_the_nodes_of_a_comparison_and_of_a_verdict(chains):
    comparison, guard = chains['MgO'].outputs.comparison.get_dict(), chains['MgO'].outputs.guard.get_dict()
    assert comparison['schema'] == 1
    assert comparison['same_minimum'] is True
    assert comparison['predicted']['start_energy_error_meV_per_atom'] == pytest.approx(215.297335)
    assert guard['numbers']['contact_ratio'] == pytest.approx(0.97379940946512)
    assert guard['settings']['uncertainty_max_A'] == 0.4


def test_the_result_goes_back_to_the_model(run, chains):
    origin = trace_origin(chains['MgO'].outputs.predicted.misc)
    assert origin.model.content_hash == MODEL_HASH
    names = [getattr(node, 'process_label', None) or type(node).__name__ for node in origin.path]
    assert names[:5] == ['E3RelaxModelData', 'E3RelaxCalculation', 'Dict', 'guard_prediction', 'StructureData']
    assert MODEL_HASH in run('query', 'origin', chains['MgO'].uuid)


def test_the_graph_is_asked(chains):
    assert set(find_chains(elements=['Mg']).index) == {'MgO'}
    assert len(find_predictions(MODEL_HASH)) == 3
    structure = chains['MgO'].inputs.structure
    structure.base.caching.rehash()  # archives hold no hashes; this is `verdi node rehash`
    references = find_reference_legs(structure, chains['MgO'].get_builder_restart())
    assert references[['chain_uuid', 'ionic_steps', 'fault']].to_numpy().tolist() == [[chains['MgO'].uuid, 3, None]]


def test_a_raw_leg_serves_again(chains):
    """A chain with the inputs of the old one takes the raw leg from it."""
    old = chains['NaCl']
    builder = old.get_builder_restart()
    builder.reference_leg = orm.Str(old.uuid)
    assert builder.process_class.__name__ == 'E3RelaxVaspWorkChain'
    assert find_reference_fault(builder) is None
    assert find_raw_leg(old).process_label == 'ResilientVaspRelaxWorkChain'
    assert builder.process_class.spec().inputs.validate(builder._inputs(prune=True)) is None


def test_the_data_nodes(stored):
    (model,) = orm.QueryBuilder().append(E3RelaxModelData).all(flat=True)
    assert (model.name, model.architecture, model.content_hash) == ('ensemble', 'ensemble', MODEL_HASH)
    with model.open(mode='rb') as content:
        assert content.read() == (stored / 'networks' / 'ensemble.pt').read_bytes()
    batches = orm.QueryBuilder().append(StructureBatchData).all(flat=True)
    raw, predicted = sorted(batches, key=lambda batch: len(batch.labels), reverse=True)
    assert (raw.labels, predicted.labels) == (['KBr', 'MgO', 'NaCl'], ['MgO', 'NaCl'])
    assert raw.crystals.positions.sum() == pytest.approx(39.95247174903252)
    np.testing.assert_allclose(predicted.crystals.volumes, [16.381344836761183, 152.08001759042048])
    sodium_chloride = predicted.get_structure('NaCl')
    assert {kind.name for kind in sodium_chloride.kinds} == {'Na1', 'Cl'}
    assert sodium_chloride.get_formula() == 'Cl4Na4'


@pytest.mark.parametrize('name', PROCESSES)
def test_an_unfinished_process_is_taken_up_again(stored, name):
    """The daemon makes a process again out of such a checkpoint when it starts."""
    node = orm.QueryBuilder().append(orm.ProcessNode, filters={'attributes.process_label': name}).first(flat=True)
    checkpoint = deserialize_unsafe((stored / 'unfinished' / f'{name}.yaml').read_text())
    checkpoint['_pid'] = checkpoint['calc_id'] = node.pk  # PKs are others in each profile
    process = checkpoint.unbundle(LoadSaveContext(loader=get_object_loader()))
    assert type(process).__name__ == name
    assert process.node.uuid == node.uuid
    assert process.ctx


def test_processes_that_have_ended_know_their_classes(stored):
    """Those of work chains and jobs; of calculation functions AiiDA asks for no more than the name."""
    query = orm.QueryBuilder().append(orm.ProcessNode)
    for node in query.all(flat=True):
        if not isinstance(node, orm.CalcFunctionNode):
            assert node.process_class.__name__ == node.process_label
