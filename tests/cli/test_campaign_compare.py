"""`aiida-e3relax campaign compare`, and the arms in the report of a campaign, on graphs whose figures are drawn."""

import re

import numpy as np
import pandas as pd
import pytest
from aiida import orm
from click.testing import CliRunner

from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.report import files
from aiida_e3relax.campaign.report.gather import gather_contents
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.cli.campaign.commands import campaign
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.pairs import E3RelaxPairsData
from aiida_e3relax.data.structures import structures_to_crystals
from benchmarks.synthetic_campaign import fill_campaign

FATES = ['compared'] * 6 + ['rejected', 'predicted failed', 'waiting']


def invoke(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(campaign, ['compare', *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.fixture(scope='module')
def _campaigns(aiida_profile, model_of_module) -> None:
    """A base campaign, two arms of it, and two campaigns of other crystals, one of them with a label of theirs."""
    fill_campaign('base', FATES, model_of_module)
    uuid = load_campaign('base').settings_node.uuid
    arm = ['compared'] * 5 + ['rejected'] + ['compared'] * 3
    fill_campaign('base-chgnet', arm, model_of_module, pre_relaxer='chgnet', raw_legs_of=uuid)
    fill_campaign('second', FATES, model_of_module, pre_relaxer='chgnet', raw_legs_of=uuid, stand_in='emt')
    fill_campaign('apart', ['compared'], model_of_module, seed=5)
    fill_campaign('alone', ['compared'], model_of_module, seed=6, prefix='alone')


@pytest.fixture(scope='module')
def model_of_module(aiida_profile):
    """The checkpoint that comes with the package."""
    return E3RelaxModelData.default()


@pytest.mark.usefixtures('_campaigns')
def test_a_base_stands_for_itself_and_its_arms(tmp_path):
    code, output = invoke('base', '--output', str(tmp_path / 'out'))
    assert code == 0, output
    # Two arms have one pre-relaxer, and so go by their names.
    for start in ('network', 'base-chgnet', 'second'):
        assert re.search(rf'^{start}  .*of [89]  ', output, re.MULTILINE), output
    assert 'On the 8 crystals that all 3 arms have' in output
    assert 'network: 1 of 9 structures are waiting or running' in output
    assert 'Computed by the VASP stand-in (VASP and emt), not by VASP.' in output
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {
        f'compare.{end}' for end in ('md', 'csv', 'png', 'pdf')
    }
    table = pd.read_csv(tmp_path / 'out' / 'compare.csv', index_col='label')
    frame = campaign_frame('base-chgnet')
    compared = frame.index[:5]
    found = table.loc[compared, 'base-chgnet: ionic_steps']
    assert found.tolist() == frame.loc[compared, 'predicted_ionic_steps'].tolist()
    assert table.loc[frame.index[5], 'base-chgnet: ionic_steps'] == frame['raw_ionic_steps'].iloc[5]
    assert not table['in_all'].iloc[8]
    assert (tmp_path / 'out' / 'compare.md').read_text().startswith('# Arms of base\n')


@pytest.mark.usefixtures('_campaigns')
def test_arms_alone_and_what_cannot_be_compared():
    code, output = invoke('base-chgnet', 'second', 'second')
    assert code == 0, output
    assert 'both arms have' in output
    code, output = invoke('base', 'apart')
    assert (code, 'expected one crystal under the label `crystal-0000`, found two' in output) == (1, True)
    code, output = invoke('base', 'alone')
    assert (code, 'campaigns `base`, `alone`: expected arms of the same crystals, found none' in output) == (1, True)
    assert 'as in A,B' in output
    code, output = invoke('nothing')
    assert (code, 'campaign `nothing`: not in this profile' in output) == (1, True)


@pytest.mark.usefixtures('_campaigns')
def test_crystals_that_a_model_learnt_from_are_told(model_of_module):
    group = load_campaign('base')
    structures = {label: orm.load_node(uuid) for label, uuid in sorted(group.settings.structures.items())[:2]}
    starts = structures_to_crystals(structures)
    pairs = E3RelaxPairsData.from_pairs(Pairs(starts, starts, np.full(2, 'train'), np.full(2, 'base'))).store()
    card = {**model_of_module.card, 'name': 'tuned', 'made_of': {'pairs': {'divided': {'uuid': pairs.uuid}}}}
    with model_of_module.as_path() as path:
        tuned = E3RelaxModelData(path, card).store()
    fill_campaign('tuned', FATES, tuned, raw_legs_of=group.settings_node.uuid)
    code, output = invoke('base', 'tuned')
    assert code == 0, output
    told = 'tuned: 2 of the 8 crystals compared (crystal-0000, crystal-0001) are among those that its model has learnt'
    assert (told in output, output.count('has learnt from')) == (True, 1)
    group.backend.groups.delete(load_campaign('tuned').pk)


def test_the_base_of_an_arm_says_where_vasp_failed_from_the_raw_crystal(model_of_module):
    fill_campaign('weak', ['compared', 'raw failed'], model_of_module, seed=9, prefix='weak')
    uuid = load_campaign('weak').settings_node.uuid
    for name in ('weak-chgnet', 'weak-mace'):
        fill_campaign(name, ['compared'] * 2, model_of_module, seed=9, prefix='weak', raw_legs_of=uuid)
    code, output = invoke('weak-chgnet', 'weak-mace')
    assert code == 0, output
    assert 'On 1 crystal VASP failed from the raw crystal (weak-0001); it finished' in output


def test_nothing_but_that_is_said_where_no_crystal_has_been_compared(model_of_module):
    fill_campaign('begun', ['running', 'waiting'], model_of_module, seed=3)
    code, output = invoke('begun')
    assert code == 0, output
    assert output.startswith('No crystal has been relaxed from the raw crystal and from all arms so far')
    assert 'crystal-0000' not in output
    assert len(output.splitlines()) <= 5, output


def test_an_arm_of_which_nothing_has_ended_does_not_empty_the_comparison(model_of_module):
    fill_campaign('early', ['compared'] * 2, model_of_module, seed=4, prefix='early')
    uuid = load_campaign('early').settings_node.uuid
    for name, fates in (('chgnet', ['compared'] * 2), ('mace', ['running', 'waiting'])):
        arm = {'pre_relaxer': name, 'raw_legs_of': uuid}
        fill_campaign(f'early-{name}', fates, model_of_module, seed=4, prefix='early', **arm)
    code, output = invoke('early')
    assert code == 0, output
    assert 'On the 2 crystals that both arms have' in output
    assert 'mace: 2 of 2 structures are waiting or running, and in no figure yet.' in output
    assert not re.search('^mace  ', output, re.MULTILINE), output


@pytest.fixture(scope='module')
def _parts(aiida_profile, model_of_module) -> None:
    """Two campaigns of different crystals, with an arm each."""
    for seed, (name, n) in enumerate((('soft', 4), ('hard', 3))):
        fill_campaign(name, ['compared'] * n, model_of_module, seed=seed, prefix=name)
        arm = {'pre_relaxer': 'chgnet', 'raw_legs_of': load_campaign(name).settings_node.uuid}
        fill_campaign(f'{name}-chgnet', ['compared'] * n, model_of_module, seed=seed, prefix=name, **arm)


@pytest.mark.usefixtures('_parts')
def test_campaigns_of_different_crystals_are_taken_as_one(tmp_path):
    labels = [label for name in ('soft', 'hard') for label in campaign_frame(name).index]
    (tmp_path / 'classes.csv').write_text(
        'label,class\n' + ''.join(f'{label},{"hydrides" if "hard" in label else "layered"}\n' for label in labels)
    )
    classes = ('--classes', str(tmp_path / 'classes.csv'))
    code, output = invoke('soft,hard', *classes)
    assert code == 0, output
    assert 'On the 7 crystals that both arms have' in output
    for start in ('network', 'chgnet'):
        assert re.search(rf'^{start}  .*7 of 7  ', output, re.MULTILINE), output
    assert re.search('^hydrides +3 ', output, re.MULTILINE)
    assert re.search('^layered +4 ', output, re.MULTILINE)
    assert invoke('soft,hard', 'soft-chgnet,hard-chgnet', *classes) == (code, output)
    assert invoke('soft,hard', *classes, '--output', str(tmp_path / 'out'))[0] == 0
    table = pd.read_csv(tmp_path / 'out' / 'compare.csv')
    assert [name for name in table if name.endswith(': ionic_steps')] == [
        f'{start}: ionic_steps' for start in ('raw', 'network', 'chgnet')
    ]
    assert table['label'].tolist() == sorted(labels)
    code, output = invoke('soft,hard-chgnet')
    assert code == 0, output
    assert 'On the 7 crystals that the arm has' in output
    assert 'soft is in no figure: not each of soft,hard-chgnet has an arm by the same pre-relaxer' in output
    code, output = invoke('soft,soft')
    assert (code, 'expected other campaigns in each part, found `soft` in two' in output) == (1, True)
    code, output = invoke('soft,nothing')
    assert (code, 'campaign `nothing`: not in this profile' in output) == (1, True)
    code, output = invoke('base', *classes)
    assert (code, 'classes: expected one for each crystal' in output) == (1, True)


@pytest.mark.usefixtures('_parts')
@pytest.mark.parametrize('words', [('compare', 'soft', '--output'), ('report', 'soft', '--folder')])
def test_no_table_replaces_the_classes(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ('compare.csv' if words[0] == 'compare' else 'campaign.csv')
    path.write_text('label,class\n' + ''.join(f'{label},layered\n' for label in campaign_frame('soft').index))
    before = path.read_bytes()
    done = CliRunner().invoke(campaign, [*words, '.', '--classes', str(path)])
    assert done.exit_code == 1
    assert 'would replace it: rename it' in done.output
    assert [file.read_bytes() for file in tmp_path.iterdir() if file.is_file()] == [before]


@pytest.mark.usefixtures('_parts')
def test_a_name_of_old_may_have_a_comma(model_of_module):
    fill_campaign('soft,old', ['compared'], model_of_module, seed=7, prefix='old')
    code, output = invoke('soft,old')
    assert code == 0, output
    assert 'On the 1 crystal that the arm has' in output


@pytest.mark.usefixtures('_parts')
def test_the_report_tells_the_classes_that_are_given(tmp_path):
    contents = gather_contents('soft', dict.fromkeys(campaign_frame('soft').index, 'layered'))
    assert [group.name for group in contents.summary.by_class] == ['layered']
    assert [part.name for part in contents.arms.classes] == ['layered']
    with pytest.raises(ValueError, match='classes: expected one for each crystal, found none for 4 of 4'):
        files.write_report('soft', tmp_path / 'report', {'other': 'layered'})


@pytest.mark.usefixtures('_campaigns')
def test_the_report_of_a_base_has_its_arms(tmp_path, monkeypatch):
    monkeypatch.setattr(files, 'draw_figures', lambda *_: None)
    page = files.write_report('base', tmp_path).read_text()
    assert '<section id="arms"' in page
    assert 'instead of' in page
    assert 'data:image/png;base64,' in page
    assert {path.name for path in (tmp_path / 'figures').iterdir()} == {'arms.png', 'arms.pdf'}
    assert gather_contents('second').arms is None
