"""`aiida-e3relax campaign` where nothing has to run: what it makes of words, and what it records."""

import ase.build
import ase.io
import pytest
from aiida import orm
from ase.constraints import FixAtoms
from click.testing import CliRunner

from aiida_e3relax.campaign.controller import lock
from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.cli.campaign import campaign
from aiida_e3relax.cli.campaign_sources import read_sources


@pytest.fixture
def invoke(e3relax_code, standin_code, potential_family):
    """A function that runs `aiida-e3relax campaign` and returns the exit code and the output."""
    codes = ['--vasp-code', str(standin_code.uuid), '--network-code', str(e3relax_code.uuid)]

    def run(command: str, *words: str) -> tuple[int, str]:
        more = [*codes, '--potential-family', potential_family] if command == 'create' else []
        done = CliRunner().invoke(campaign, [command, *words, *more])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return run


@pytest.fixture
def crystals(tmp_path):
    """A folder with a file of three crystals, and one with a crystal whose first atom is fixed."""
    metals = [ase.build.bulk('CuAu', 'rocksalt', a=a) for a in (5.4, 5.5, 5.6)]
    ase.io.write(tmp_path / 'metals.extxyz', metals)
    fixed = ase.build.bulk('AgPd', 'rocksalt', a=5.6)
    fixed.set_constraint(FixAtoms([0]))
    ase.io.write(tmp_path / '1-fixed.vasp', fixed)
    return tmp_path


def test_settings_say_everything_and_the_sample_is_drawn_once(invoke, crystals):
    words = ['--from', str(crystals), '--reference', '0.5', '--seed', '3', '--batch-size', '3', '--guard', 'warn']
    code, output = invoke('create', 'recorded', *words, '--max-running', '7', '--force-cutoff', '0.1')
    assert code == 0, output
    assert '4 structures, 2 of them also relaxed without the network' in output.replace('\n', ' ')
    group = load_campaign('recorded')
    settings = group.settings
    assert list(settings.structures) == ['s_1_fixed', 'metals_0', 'metals_1', 'metals_2']
    assert settings.fixed == {'s_1_fixed': {'abc': [0]}}
    assert (len(settings.reference_sample), settings.seed, group.max_running) == (2, 3, 7)
    assert settings.guard['mode'] == 'warn'
    assert settings.chain['overrides']['vasp']['relax_settings'] == {'force_cutoff': 0.1}
    batches = [orm.load_node(uuid=uuid) for uuid in settings.batches]
    assert [batch.labels for batch in batches] == [['s_1_fixed', 'metals_0', 'metals_1'], ['metals_2']]
    assert {node.uuid for node in group.nodes} == {*settings.structures.values(), group.settings_node.uuid}


def test_status_pause_and_resume_outlive_the_command(invoke, crystals):
    invoke('create', 'waiting', '--from', str(crystals / 'metals.extxyz'), '--no-network')
    assert invoke('pause', 'waiting')[0] == 0
    assert load_campaign('waiting').is_paused
    assert 'paused' in invoke('status', 'waiting')[1]
    invoke('resume', 'waiting')
    assert not load_campaign('waiting').is_paused


def test_groups_and_queries(invoke, crystals):
    invoke('create', 'source', '--from', str(crystals))
    assert len(read_sources(['group:source']).structures) == 4
    silver = read_sources(['query:elements=Ag,Pd;atoms=2']).structures
    assert {node.get_formula() for node in silver.values()} == {'AgPd'}


def test_a_campaign_is_run_by_one_at_a_time(invoke, crystals, started_daemon_client):
    invoke('create', 'locked', '--from', str(crystals))
    with lock(load_campaign('locked')):
        code, output = invoke('run', 'locked')
    assert (code, 'is being run by another process' in output) == (1, True)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--from', 'nowhere/*.cif'], 'expected a file, a folder with files, a pattern'),
        (['--from', 'group:nothing'], 'no group has this label'),
        (['--from', 'query:atoms=few'], 'expected a number of sites'),
        (['--from', 'query:size=3'], 'expected conditions such as elements=Cu,Au'),
        (['--from', '{crystals}', '--reference', 'some'], 'expected all, none or a share'),
        (['--from', '{crystals}', '--from', '{crystals}'], 'another source gave the label'),
        (['--from', '{crystals}', '--freedom', 'in-plane'], 'the chain refuses 4 of 4 structures'),
    ],
)
def test_mistakes(invoke, crystals, words, message):
    code, output = invoke('create', 'mistaken', *(word.format(crystals=crystals) for word in words))
    assert (code, message in output.replace('\n', ' ')) == (1, True), output


def test_names_that_are_taken_or_unknown(invoke, crystals):
    invoke('create', 'taken', '--from', str(crystals))
    assert 'there is one of this name already' in invoke('create', 'taken', '--from', str(crystals))[1]
    code, output = invoke('status', 'takn')
    assert (code, 'campaigns here: ' in output) == (1, True)
