"""`aiida-e3relax campaign create` with arms: what it makes of words, what it refuses, and what it tells."""

import ase.build
import ase.io
import pytest
from aiida import orm
from click.testing import CliRunner

from aiida_e3relax.campaign import creation
from aiida_e3relax.campaign.arms import find_arms, find_other_settings
from aiida_e3relax.campaign.group import CampaignGroup, load_campaign
from aiida_e3relax.cli.campaign.commands import campaign
from aiida_e3relax.data.potential import E3RelaxPotentialData


@pytest.fixture
def invoke(e3relax_code, standin_code, potential_family):
    """A function that runs `aiida-e3relax campaign` and returns the exit code and the output."""

    def run(command: str, *words: str) -> tuple[int, str]:
        codes = ['--vasp-code', str(standin_code.uuid)]
        if '--no-network' not in words:
            codes += ['--network-code', str(e3relax_code.uuid)]
        more = [*codes, '--potential-family', potential_family] if '--from' in words else []
        done = CliRunner().invoke(campaign, [command, *words, *more])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output.replace('\n', ' ')

    return run


@pytest.fixture
def crystals(tmp_path) -> str:
    """A file of two crystals."""
    ase.io.write(tmp_path / 'metals.extxyz', [ase.build.bulk('Cu', a=a) for a in (3.5, 3.7)])
    return str(tmp_path / 'metals.extxyz')


def test_arms_are_campaigns_beside_the_first(invoke, crystals):
    arms = ('--arms', 'network', 'chgnet', 'network+chgnet')
    words = ('three arms', '--from', crystals, '--freedom', 'positions', *arms)
    code, output = invoke('create', *words)
    assert code == 0, output
    assert 'In all 8 relaxations by VASP (2 from raw crystals, 6 from predictions)' in output
    assert 'a raw leg that failed runs again in an arm whose prediction is of no use' in output
    assert 'Arm three arms-chgnet: the same from chgnet, with the raw legs of the former.' in output
    base = load_campaign('three arms')
    arms = find_arms(base)
    assert [arm.label for arm in arms] == ['three arms-chgnet', 'three arms-network+chgnet']
    chosen = [arm.settings.chain for arm in (base, *arms)]
    assert [chain['pre_relaxer'] for chain in chosen] == ['network', 'chgnet', 'network+chgnet']
    assert [bool(chain['model']) for chain in chosen] == [True, False, True]
    assert '2 structures are waiting for raw legs of three arms' in invoke('status', 'three arms-chgnet')[1]
    rows = [row.split('\t') for row in CliRunner().invoke(campaign, ['list', '--raw']).output.splitlines()]
    remarks = {row[0]: row[-1] for row in rows}
    assert {remarks[arm.label] for arm in arms} == {'waiting for raw legs of three arms'}
    code, output = invoke('create', *words)
    assert (code, 'there is one of this name already' in output) == (1, True)

    def paused() -> list[bool]:
        return [group.is_paused for group in (base, *arms)]

    assert 'Paused, with three arms-chgnet, three arms-network+chgnet.' in invoke('pause', 'three arms')[1]
    assert paused() == [True, True, True]
    invoke('resume', 'three arms', '--this-arm')
    assert paused() == [False, True, True]
    assert 'No longer paused, with three arms-chgnet' in invoke('resume', 'three arms')[1]
    invoke('pause', 'three arms', '--this-arm')
    invoke('pause', 'three arms-chgnet')
    assert paused() == [True, True, False]


def test_an_arm_of_a_campaign_that_is_there(invoke, crystals):
    assert invoke('create', 'raw alone', '--from', crystals, '--no-network', '--freedom', 'positions')[0] == 0
    code_uuid = orm.QueryBuilder().append(orm.InstalledCode, filters={'label': 'e3relax'}, project='uuid').first()[0]
    words = ('--raw-legs-of', 'raw alone', '--pre-relaxer', 'chgnet', '--network-code', code_uuid)
    code, output = invoke('create', 'late', *words, '--max-running', '2')
    assert code == 0, output
    assert 'Arm late of raw alone: 2 structures from chgnet' in output
    assert 'In all 2 relaxations by VASP (2 from predictions)' in output
    arm = load_campaign('late')
    assert (arm.max_running, len(arm.settings.batches)) == (2, 1)
    sampled = [
        (group.settings.reference_share, group.settings.reference_sample) for group in (load_campaign('raw alone'), arm)
    ]
    assert sampled == [(1.0, 'all'), (1.0, 'all')]
    assert arm.settings.raw_legs_of == load_campaign('raw alone').settings_node.uuid
    assert invoke('create', 'diis', *words, '--predicted-algo', 'rd')[0] == 0
    assert load_campaign('diis').settings.chain['overrides'] == {
        **load_campaign('raw alone').settings.chain['overrides'],
        'predicted_algo': 'rd',
    }
    assert invoke('create', 'no legs', '--from', crystals, '--reference', 'none', '--freedom', 'positions')[0] == 0
    code, output = invoke('create', 'later', '--raw-legs-of', 'no legs', '--pre-relaxer', 'chgnet')
    assert (code, 'nothing to compare an arm with' in output) == (1, True)
    code, output = invoke('create', 'later', '--raw-legs-of', 'late')
    assert (code, 'name the campaign that does: `raw alone`' in output) == (1, True)
    code, output = invoke('create', 'later', '--raw-legs-of', 'raw alone')
    assert (code, 'expected what makes the starts of the arm; give --pre-relaxer' in output) == (1, True)


def test_weights_go_to_the_potential_that_brings_none(invoke, crystals, tmp_path):
    (tmp_path / 'mace.model').write_bytes(b'weights')
    arms = ('--from', crystals, '--arms', 'chgnet', 'mace', 'network')
    code, output = invoke('create', 'weighed', *arms, '--potential-weights', str(tmp_path / 'mace.model'))
    assert code == 0, output
    base = load_campaign('weighed')
    mace, network = find_arms(base)
    weights = orm.load_node(uuid=mace.settings.chain['potential_weights'])
    assert isinstance(weights, E3RelaxPotentialData)
    assert (weights.potential, base.settings.chain['potential_weights']) == ('mace', None)
    assert network.settings.chain['potential_weights'] is None
    code, output = invoke('create', 'lighter', *arms)
    assert (code, 'mace brings no weights' in output) == (1, True)
    assert invoke('create', 'heavier', '--raw-legs-of', 'weighed', '--pre-relaxer', 'network+mace')[0] == 1


@pytest.mark.parametrize(
    ('words', 'code', 'message'),
    [
        (['--arms', 'network'], 1, 'expected two pre-relaxers at least'),
        (['--arms', 'network', 'chgnte'], 1, 'did you mean `chgnet`'),
        (['--arms', 'chgnet', 'chgnet'], 1, 'chgnet is named twice'),
        (['--arms', 'network', 'chgnet', '--no-network'], 1, '--no-network: found --arms beside it'),
        (['--arms', 'network', 'chgnet', '--pre-relaxer', 'chgnet'], 1, '--pre-relaxer: found --arms beside it'),
        (['--arms', 'chgnet', 'sevennet-0', '--model', 'default'], 1, 'none of the --arms has a network'),
        (['--arms', 'network', 'chgnet', '--reference', 'none'], 1, 'arms are compared with the relaxations of raw'),
        (['--no-network', '--reference', 'none'], 1, '--reference none: with --no-network VASP relaxes every raw'),
        (['--no-network', '--reference', '0.5'], 1, '--reference 0.5: with --no-network VASP relaxes every raw'),
        (['--raw-legs-of', 'nothing'], 2, 'an arm has this of the campaign nothing'),
    ],
)
def test_mistakes(invoke, crystals, words, code, message):
    found, output = invoke('create', 'mistaken', '--from', crystals, *words)
    assert (found, message in output) == (code, True), output
    assert not orm.QueryBuilder().append(CampaignGroup, filters={'label': {'like': 'mistaken%'}}).count()


def names_with(text: str) -> list[str]:
    """Return the names of the campaigns that begin with a text."""
    return (
        orm.QueryBuilder()
        .append(CampaignGroup, filters={'label': {'like': f'{text}%'}}, project='label')
        .all(flat=True)
    )


@pytest.mark.parametrize(
    ('words', 'overrides', 'arm', 'reason'),
    [
        (['--freedom', 'positions', '--arms', 'network', 'dls-volume'], '', 'dls-volume', 'which `positions` does not'),
        (
            ['--keep-symmetry', '--arms', 'network', 'chgnet'],
            'network: {predict: {parameters: {candidates: 4}}}',
            'chgnet',
            'candidates break the symmetry that `keep_symmetry` keeps',
        ),
    ],
)
def test_an_arm_that_is_refused_stops_the_creation(invoke, crystals, tmp_path, words, overrides, arm, reason):
    (tmp_path / 'overrides.yaml').write_text(overrides or '{}')
    words = [*words, '--overrides', str(tmp_path / 'overrides.yaml')]
    for more in ([], ['--skip-refused']):
        code, output = invoke('create', 'refused', '--from', crystals, *words, *more)
        told = f'arm refused-{arm}: the chain refuses 2 of 2 structures'
        assert (code, told in output, reason in output) == (1, True, True), output
    assert names_with('refused') == []


def test_an_arm_leaves_out_what_it_refuses(invoke, crystals, monkeypatch):
    usual = creation.find_refusals

    def refuse_first(structures, choices, *arguments):
        usual(structures, choices, *arguments)
        return {next(iter(structures)): 'odd'} if choices.pre_relaxer == 'chgnet' else {}

    monkeypatch.setattr(creation, 'find_refusals', refuse_first)
    words = ('--from', crystals, '--freedom', 'positions', '--arms', 'network', 'chgnet')
    code, output = invoke('create', 'fewer', *words)
    told = 'arm fewer-chgnet: the chain refuses 1 of 2 structures; mend them, or give --skip-refused:'
    assert (code, told in output, names_with('fewer')) == (1, True, []), output
    code, output = invoke('create', 'fewer', *words, '--skip-refused')
    assert (code, 'with the raw legs of the former; 1 more left out.' in output) == (0, True), output
    (arm,) = find_arms(load_campaign('fewer'))
    left_out = arm.settings.left_out
    assert list(left_out.values()) == ['odd']
    assert arm.settings.structures.keys() == load_campaign('fewer').settings.structures.keys() - left_out.keys()
    (batch,) = (orm.load_node(uuid=uuid) for uuid in arm.settings.batches)
    assert set(batch.labels) == arm.settings.structures.keys()


def test_a_run_of_the_network_that_is_refused_stops_the_creation(invoke, crystals, monkeypatch):
    monkeypatch.setattr(creation, 'find_refusals', lambda *_: {})
    words = ('--freedom', 'positions', '--arms', 'network', 'dls-volume')
    code, output = invoke('create', 'odd', '--from', crystals, *words)
    told = 'arm `odd-dls-volume`: a run of the network is refused: `parameters`: dls-volume scales crystals'
    assert (code, told in output, names_with('odd')) == (1, True, []), output
    assert invoke('create', 'even', '--from', crystals, '--freedom', 'positions', '--reference', 'all')[0] == 0
    code, output = invoke('create', 'late odd', '--raw-legs-of', 'even', '--pre-relaxer', 'dls-volume')
    assert (code, 'arm `late odd`: a run of the network' in output, names_with('late odd')) == (1, True, []), output


def test_a_campaign_and_its_arms_are_made_all_or_none(invoke, crystals, monkeypatch):
    words = ('--from', crystals, '--freedom', 'positions', '--arms', 'network', 'chgnet', 'network+chgnet')
    usual = CampaignGroup.add_nodes

    def break_off(group, nodes):
        if group.label == 'whole-network+chgnet':
            raise ValueError('killed')
        usual(group, nodes)

    with monkeypatch.context() as broken:
        broken.setattr(CampaignGroup, 'add_nodes', break_off)
        code, output = invoke('create', 'whole', *words)
        assert (code, 'killed' in output, names_with('whole')) == (1, True, []), output
    assert invoke('create', 'whole', *words)[0] == 0
    assert names_with('whole') == ['whole', 'whole-chgnet', 'whole-network+chgnet']


def test_a_bound_that_an_arm_can_never_keep_is_refused(invoke, crystals, tmp_path):
    (tmp_path / 'bound.yaml').write_text('guard: {uncertainty_max_A: 0.3}')
    bounded = ('--from', crystals, '--overrides', str(tmp_path / 'bound.yaml'))
    refused = '`guard`: `uncertainty_max_A` would reject every prediction by chgnet, since only a network states'
    code, output = invoke('create', 'bounded', *bounded, '--arms', 'network', 'chgnet')
    assert (code, refused in output) == (1, True), output
    assert not orm.QueryBuilder().append(CampaignGroup, filters={'label': {'like': 'bounded%'}}).count()
    assert invoke('create', 'bounded', *bounded, '--pre-relaxer', 'network')[0] == 0
    code, output = invoke('create', 'bounded-chgnet', '--raw-legs-of', 'bounded', '--pre-relaxer', 'chgnet')
    assert (code, refused in output) == (1, True), output
    assert invoke('create', 'warned', *bounded, '--guard', 'warn', '--arms', 'network', 'chgnet')[0] == 0


def test_an_arm_has_all_else_of_its_base(invoke):
    code, output = invoke('create', 'other', '--raw-legs-of', 'nothing', '--force-cutoff', '0.1')
    assert (code, '--force-cutoff: an arm has this of the campaign nothing' in output) == (2, True)
    code, output = invoke('create', 'other', '--raw-legs-of', 'nothing')
    assert (code, 'campaign `nothing`: not in this profile' in output) == (1, True)
    code, output = invoke('create', 'other')
    assert (code, 'give --from, or --raw-legs-of' in output) == (2, True)
    code, output = invoke('create', 'one,other', '--raw-legs-of', 'nothing')
    assert (code, 'expected a name without a comma' in output) == (1, True)


def test_arms_differ_in_how_far_a_potential_goes(invoke, crystals):
    words = ('--from', crystals, '--freedom', 'positions', '--potential-force-max', '0.1')
    assert invoke('create', 'loose', *words, '--arms', 'chgnet', 'network')[0] == 0
    base = load_campaign('loose')
    (network,) = find_arms(base)

    def parameters(group: CampaignGroup) -> dict:
        return group.settings.chain['overrides'].get('network', {}).get('predict', {}).get('parameters', {})

    assert (parameters(base), parameters(network)) == ({'force_max_eV_per_A': 0.1}, {})
    of_arm = ('--raw-legs-of', 'loose', '--pre-relaxer')
    bounds = ('--potential-force-max', '0.005', '--potential-steps', '500', '--potential-stress-max', '0.5')
    assert invoke('create', 'tight', *of_arm, 'chgnet', *bounds)[0] == 0
    arm = load_campaign('tight')
    assert parameters(arm) == {'force_max_eV_per_A': 0.005, 'steps': 500, 'stress_max_kB': 0.5}
    assert find_other_settings(base.settings.chain, arm.settings.chain) == []
    for words in (
        ('create', 'mistaken', *of_arm, 'network', *bounds),
        ('create', 'mistaken', '--from', crystals, '--arms', 'network', 'dls-volume', *bounds),
    ):
        code, output = invoke(*words)
        told = '--potential-steps 500: expected a pre-relaxer with an interatomic potential, found network'
        assert (code, told in output) == (1, True), output
