"""Questions to the graph, asked of graphs whose answers are known."""

from __future__ import annotations

import contextlib
import io
import json
import re

import pandas as pd
import pytest
from aiida import orm
from click.testing import CliRunner

from aiida_e3relax.campaign.results import queries
from aiida_e3relax.campaign.results.queries import (
    find_chains,
    find_predictions,
    find_reference_legs,
    trace_origin,
)
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.cli import main
from aiida_e3relax.cli.query import find_hash
from aiida_e3relax.cli.query_output import REFERENCE_TITLES, print_frame
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.gnn.checkpoints.checkpoint import save_checkpoint
from aiida_e3relax.gnn.checkpoints.model_card import write_card
from aiida_e3relax.gnn.models.registry import make_model
from benchmarks.synthetic_campaign import fill_campaign
from workflows import provenance_queries

FATES = ['compared'] * 6 + ['rejected', 'network failed', 'running']


@pytest.fixture(scope='module')
def frame(aiida_profile) -> pd.DataFrame:
    """The table of a campaign, beside which there is another one in a clean profile."""
    aiida_profile.reset_storage()
    model = E3RelaxModelData.default()
    fill_campaign('asked', FATES, model)
    fill_campaign('other', ['compared'], model, seed=5)
    return campaign_frame('asked')


def query(*arguments: str) -> str:
    done = CliRunner().invoke(main, ['query', *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_chains_by_what_they_have(frame, model):
    assert len(find_chains()) == len(FATES) + 1
    assert find_chains(campaign='asked')['chain_uuid'].tolist() == frame['chain_uuid'].tolist()
    assert len(find_chains(verdict='rejected', campaign='asked')) == 1
    assert len(find_chains(model=model.content_hash[:16], campaign='asked')) == 7
    assert len(find_chains(device='cuda')) == 8
    assert len(find_chains(device='cpu')) == 0
    element = frame['elements'].iloc[0][0]
    having = [label for label, elements in frame['elements'].items() if element in elements]
    assert find_chains(elements=[element], campaign='asked').index.tolist() == having
    small = frame[frame['n_atoms'] <= 2].index.tolist()
    assert find_chains(n_atoms=(1, 2), campaign='asked').index.tolist() == small
    assert find_chains(elements=element, campaign='asked').index.tolist() == having
    pairs = frame[frame['n_atoms'] == 2].index.tolist()
    assert find_chains(n_atoms=2, campaign='asked').index.tolist() == pairs
    with pytest.raises(ValueError, match='campaign `nothing`: not in this profile'):
        find_chains(campaign='nothing')


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ({'model': '0000'}, 'model: no checkpoint in this profile has a content hash that begins with 0000'),
        ({'device': 'gpu'}, 'device: expected cpu, cuda or cuda:<n>, found gpu'),
        ({'verdict': 'acepted'}, "verdict: found acepted: did you mean 'accepted'?"),
        ({'n_atoms': (8, 2)}, 'atoms: expected .* the smaller one first, found 8-2'),
        ({'n_atoms': 0}, 'atoms: expected a number from 1 on'),
    ],
)
def test_what_no_chain_can_have_is_refused(frame, words, message):
    with pytest.raises(ValueError, match=message):
        find_chains(**words)


def test_a_result_goes_back_to_its_checkpoint(frame, model):
    chain = orm.load_node(frame['chain_uuid'].iloc[0])
    links = {link.link_label: link.node for link in chain.base.links.get_outgoing().all()}
    origin = trace_origin(links['predicted__misc'])
    assert origin.model == model
    told = [getattr(node, 'process_label', None) for node in origin.path]
    assert [label for label in told if label] == [
        'E3RelaxCalculation',
        'take_structure',
        'guard_prediction',
        'VaspCalculation',
    ]
    assert trace_origin(links['raw__misc']).model is None
    assert model.content_hash in query('origin', str(links['predicted__misc'].pk))
    assert 'no network had a part in it' in query('origin', links['raw__misc'].uuid)


def test_predictions_of_a_checkpoint(frame, model):
    found = find_predictions(model.content_hash.removeprefix('sha256:')[:12])
    assert len(found) == len(FATES) + 1
    failed = found.iloc[7]
    assert (failed['status'], failed['predicted']) == ('failed', None)
    assert orm.load_node(found['predicted'].iloc[0]).creator.pk == found['job_pk'].iloc[0]
    assert found['uncertainty_A'].notna().all()
    with pytest.raises(ValueError, match='no checkpoint in this profile'):
        find_predictions('0000')
    told = query('predictions', 'default', '--csv')
    digest = model.content_hash.removeprefix('sha256:')
    for word in (str(model.pk), model.uuid, model.content_hash, digest[:20], model.content_hash[:12]):
        assert query('predictions', word, '--csv') == told
    assert len(told.splitlines()) == len(FATES) + 2
    assert len(query('predictions', 'default').splitlines()) == len(FATES) + 3


def test_a_label_counts_before_a_hash_that_begins_so_and_a_question_stores_nothing(model, monkeypatch, tmp_path):
    monkeypatch.setattr(queries, 'has_model', lambda _: True)
    monkeypatch.setattr(model, 'label', 'bad')
    assert find_hash('bad') == model.content_hash
    count = orm.QueryBuilder().append(type(model)).count()
    save_checkpoint(tmp_path / 'new.pt', 'painn', make_model('painn', {'features': 8, 'layers': 1}), [1], {})
    write_card(tmp_path / 'new.pt', {'name': 'new', 'architecture': 'painn', 'version': 1, 'atomic_numbers': [1]})
    assert find_hash(str(tmp_path / 'new.pt')) != model.content_hash
    assert orm.QueryBuilder().append(type(model)).count() == count


def test_reference_legs_of_a_structure_are_found_by_its_content(frame):
    structure = orm.load_node(frame['structure_uuid'].iloc[0])
    copy = orm.StructureData(ase=structure.get_ase()).store()
    found = find_reference_legs(copy)
    assert found['chain_uuid'].tolist() == [frame['chain_uuid'].iloc[0]]
    assert found['ionic_steps'].tolist() == [frame['raw_ionic_steps'].iloc[0]]
    assert query('references', copy.uuid, '--csv').splitlines()[1].startswith('crystal-0000,')


def test_why_a_reference_cannot_be_taken_stands_below_a_table_that_fits():
    found = pd.DataFrame(
        {
            'chain_pk': [7, 305],
            'ended': pd.to_datetime(['2026-11-30T05:01:13.123456+00:00'] * 2),
            'ionic_steps': [12, 9],
            'energy_final_eV_per_atom': [-3.4, -3.4],
            'fault': [None, 'E3RelaxVaspWorkChain<305> had another `vasp.vasp.parameters`; take the same, or `always`'],
        },
        index=pd.Index(['GaAs', 'GaAs'], name='label'),
    )
    with contextlib.redirect_stdout(io.StringIO()) as told:
        print_frame(found, None, REFERENCE_TITLES)
    lines = told.getvalue().splitlines()
    assert re.fullmatch(r'GaAs +7 +\d{4}-\d\d-\d\d \d\d:\d\d +12 +-3\.4', lines[1].strip())
    assert lines[3:] == ['2 rows.', f'GaAs, chain 305: {found["fault"].iloc[1]}']


def test_tables_for_people_and_programs(frame):
    assert f'{len(FATES)} rows' in query('campaign', 'asked')
    rows = json.loads(query('campaign', 'asked', '--json'))
    assert [entry['label'] for entry in rows] == frame.index.tolist()
    assert rows[-1]['raw_ionic_steps'] is None
    assert len(query('chains', '--atoms', '1-8', '--csv').splitlines()) == len(FATES) + 2


def test_the_walk_through_the_graph_prints_python_that_works(frame, model):
    done = CliRunner().invoke(provenance_queries.main, ['asked'])
    assert done.exit_code == 0, done.output
    names = {}
    lines = [line.removeprefix('>>> ') for line in done.output.splitlines() if line.startswith('>>> ')]
    questions = [line for line in lines if ' import ' not in line]
    for line in lines:
        if line not in questions:
            exec(line, names)
    headline, table, chains, origin, predictions, references = (eval(line, names) for line in questions)
    assert headline in done.output
    assert table.to_string() in done.output
    assert {len(chains), len(predictions)} <= {int(count) for count in re.findall(r'\d+', done.output)}
    assert origin.model == model
    assert f'--reference-leg {references["chain_uuid"].iloc[0]}' in done.output


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['campaign', 'nothing'], 'campaign `nothing`: not in this profile; campaigns here: asked, other'),
        (['chains', '--atoms', 'few'], "expected a number of atoms, such as 4 or 2-8, found 'few'"),
        (['chains', '--atoms', '8-2'], 'expected the smaller number of atoms first, as 2-8'),
        (['chains', '--device', 'gpu'], 'device: expected cpu, cuda or cuda:<n>, found gpu'),
        (['chains', '--model', 'nonsense'], 'nonsense: expected `default`, a checkpoint file that is there'),
        (['predictions', 'nonsense'], 'nonsense: expected `default`, a checkpoint file that is there'),
        (['predictions', 'sha256:0000'], 'no checkpoint in this profile has a content hash that begins with sha256:0'),
        (['chains', '--element', 'o'], 'element: expected symbols such as O or Fe, found o'),
        (['origin', '987654'], '987654: no node has this PK or UUID'),
        (['references', 'MODEL'], 'expected a structure or an E3RelaxVaspWorkChain, found E3RelaxModelData'),
    ],
)
def test_what_cannot_be_answered_is_told(frame, model, arguments, message):
    arguments = [word.replace('MODEL', str(model.pk)) for word in arguments]
    done = CliRunner().invoke(main, ['query', *arguments])
    assert done.exit_code != 0
    assert message in done.output


def test_the_walk_tells_what_is_missing(frame, model, aiida_profile):
    """The last test, as it adds a campaign."""
    done = CliRunner().invoke(provenance_queries.main, ['nothing'])
    assert done.exit_code == 1
    assert f'campaigns here: asked, other (profile `{aiida_profile.name}`; --profile takes' in done.output
    fill_campaign('new', ['waiting', 'running'], model, seed=6)
    done = CliRunner().invoke(provenance_queries.main, ['new'])
    assert done.exit_code == 0, done.output
    assert 'No structure has been relaxed from a prediction so far' in done.output
