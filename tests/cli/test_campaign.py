"""`aiida-e3relax campaign` where nothing has to run: what it makes of words, and what it records."""

import ase.build
import ase.io
import pytest
from aiida import orm
from aiida.common.links import LinkType, validate_link_label
from ase.constraints import FixAtoms
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from plumpy.process_states import ProcessState

from aiida_e3relax.campaign.group import CampaignGroup, load_campaign
from aiida_e3relax.campaign.submission.daemon import Daemon
from aiida_e3relax.campaign.submission.lock import lock
from aiida_e3relax.cli.campaign.commands import campaign
from aiida_e3relax.cli.campaign.sources import read_sources


@pytest.fixture
def invoke(e3relax_code, standin_code, potential_family):
    """A function that runs `aiida-e3relax campaign` and returns the exit code and the output."""

    def run(command: str, *words: str) -> tuple[int, str]:
        codes = ['--vasp-code', str(standin_code.uuid)]
        if '--no-network' not in words:
            codes += ['--network-code', str(e3relax_code.uuid)]
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
    words += ['--max-running', '7', '--force-cutoff', '0.1', '--num-gpus', '0']
    code, output = invoke('create', 'recorded', *words)
    assert code == 0, output
    assert '4 structures, from network, 2 of them also from the raw crystals' in output.replace('\n', ' ')
    group = load_campaign('recorded')
    settings = group.settings
    assert list(settings.structures) == ['s_1_fixed', 'metals_0', 'metals_1', 'metals_2']
    assert settings.fixed == {'s_1_fixed': {'abc': [0]}}
    assert (len(settings.reference_sample), settings.seed, group.max_running) == (2, 3, 7)
    assert settings.guard['mode'] == 'warn'
    assert settings.chain['network_options'] == {'num_gpus': 0}
    assert settings.chain['overrides']['vasp']['relax_settings'] == {'force_cutoff': 0.1}
    batches = [orm.load_node(uuid=uuid) for uuid in settings.batches]
    assert [batch.labels for batch in batches] == [['s_1_fixed', 'metals_0', 'metals_1'], ['metals_2']]
    assert {node.uuid for node in group.nodes} == {*settings.structures.values(), group.settings_node.uuid}


def test_status_pause_and_resume_outlive_the_command(invoke, crystals):
    told = invoke('create', 'waiting', '--from', str(crystals / 'metals.extxyz'), '--no-network')[1]
    assert '3 structures, relaxed without a pre-relaxer; 0 left out' in told
    assert 'In all 3 relaxations by VASP (3 from raw crystals). Start:' in told
    assert invoke('pause', 'waiting')[0] == 0
    assert load_campaign('waiting').is_paused
    assert 'paused' in invoke('status', 'waiting')[1]
    invoke('resume', 'waiting')
    assert not load_campaign('waiting').is_paused


def test_groups_and_queries(invoke, crystals):
    assert '4 structures, from network, 1 of them also from' in invoke('create', 'source', '--from', str(crystals))[1]
    assert len(read_sources(['group:source']).structures) == 4
    silver = read_sources(['query:elements=Ag,Pd;atoms=2']).structures
    assert {node.get_formula() for node in silver.values()} == {'AgPd'}


def store(atoms, label: str = '') -> orm.StructureData:
    return orm.StructureData(ase=atoms, label=label).store()


def test_nodes_of_a_group_never_share_a_label(aiida_profile):
    nodes = [store(ase.build.bulk('Cu', a=a)) for a in (3.5, 3.6, 3.7, 3.8)]
    for node, label in zip(nodes, (f'Cu_{nodes[2].pk}', 'Cu', 'Cu', ''), strict=True):
        node.label = label
    group = orm.Group(label='collide').store()
    group.add_nodes([*nodes, orm.Int(1).store()])
    sources = read_sources(['group:collide'])
    assert {label: node.pk for label, node in sources.structures.items()} == {
        f'Cu_{nodes[2].pk}': nodes[0].pk,
        f'Cu_{nodes[1].pk}': nodes[1].pk,
        f'Cu_{nodes[2].pk}_2': nodes[2].pk,
        f'Cu_{nodes[3].pk}': nodes[3].pk,
    }
    assert sources.notes == {'node of the group is no StructureData, and is passed over': 1}


@pytest.fixture
def runs(tmp_path):
    """Folders of VASP runs, as they lie on a cluster."""
    for place, folder in enumerate(('a', 'b', 'deep/er')):
        (tmp_path / 'runs' / folder).mkdir(parents=True)
        for name in ('POSCAR', 'CONTCAR'):
            ase.io.write(tmp_path / 'runs' / folder / name, ase.build.bulk('Cu', a=3.6 + 0.1 * place), format='vasp')
        (tmp_path / 'runs' / folder / 'INCAR').write_text('NSW = 10\n')
        (tmp_path / 'runs' / folder / 'OUTCAR.gz').write_bytes(b'')
    (tmp_path / 'runs' / '.hidden').mkdir()
    (tmp_path / 'runs' / '.hidden' / 'POSCAR').write_text('none')
    return tmp_path / 'runs'


def test_folders_of_runs_are_labelled_by_the_folder(aiida_profile, runs):
    for words in (['{}/*/POSCAR', '{}/deep'], ['{}/a/POSCAR', '{}/b/POSCAR', '{}/deep/er/POSCAR'], ['{}']):
        sources = read_sources([word.format(runs) for word in words])
        edges = {label: 2 * node.cell[0][1] for label, node in sources.structures.items()}
        assert edges == pytest.approx({'a': 3.6, 'b': 3.7, 'er': 3.8}), words
        assert not sources.left_out
    assert sources.notes == {'file of a VASP run other than its POSCAR is passed over': 9}


def test_files_and_nodes_with_one_name_are_all_there(aiida_profile, tmp_path):
    store(ase.build.bulk('Au'), 'Cu')
    for folder, a in (('x', 3.5), ('y', 3.6)):
        (tmp_path / folder).mkdir()
        ase.io.write(tmp_path / folder / 'Cu.vasp', ase.build.bulk('Cu', a=a))
    ase.io.write(tmp_path / 'Cu.extxyz', [ase.build.bulk('Cu', a=a) for a in (3.7, 3.8)])
    words = [str(tmp_path / 'x'), 'query:elements=Au;atoms=1', str(tmp_path / 'y'), str(tmp_path / 'Cu.extxyz')]
    structures = read_sources(words).structures
    edges = {label: 2 * node.cell[0][1] for label, node in structures.items() if node.get_formula() == 'Cu'}
    assert edges == pytest.approx({'x_Cu_vasp': 3.5, 'y_Cu_vasp': 3.6, 'Cu_extxyz_0': 3.7, 'Cu_extxyz_1': 3.8})
    assert 'Cu' in structures


NODE_LABELS = st.sampled_from(['Cu', 'Cu_1', 'Cu 1', 'Cu__1', '', '=1', 'é', 'x' * 254])


@pytest.fixture(scope='module')
def copper_group(aiida_profile) -> orm.Group:
    """A group of five crystals of copper."""
    group = orm.Group(label='deadbeef').store()  # which looks like the beginning of a UUID
    group.add_nodes([store(ase.build.bulk('Cu', a=3.5 + 0.1 * place)) for place in range(5)])
    return group


@settings(max_examples=20, deadline=None)
@given(labels=st.lists(NODE_LABELS, min_size=5, max_size=5))
def test_labels_of_nodes_are_link_labels_and_lose_none(copper_group, labels):
    nodes = list(copper_group.nodes)
    for node, label in zip(nodes, labels, strict=True):
        node.label = label
    structures = read_sources(['group:deadbeef']).structures
    assert {node.pk for node in structures.values()} == {node.pk for node in nodes}
    for label in structures:
        validate_link_label(label)
        assert label.isidentifier()
        assert len(label) < 255


def test_files_that_cannot_be_read_are_left_out_with_the_reason(invoke, crystals):
    (crystals / 'broken.cif').write_text('data_x\n_cell_length_a 4\n')
    (crystals / 'empty.vasp').write_text('')
    for name, words, expected in (('broken', (), 3), ('expected', ('--skip-refused',), 0)):
        code, output = invoke('create', name, '--from', str(crystals), '--no-network', *words)
        assert code == expected, output
        assert '2 cannot be used:' in output
        assert 'broken.cif' in output
        settings = load_campaign(name).settings
        assert len(settings.structures) == 4
        assert sorted(settings.left_out) == ['broken', 'empty']
        assert 'the file is empty' in settings.left_out['empty']
    code, output = invoke('create', 'nothing', '--from', str(crystals / 'empty.vasp'), '--no-network')
    assert (code, 'no structure is left' in output) == (1, True)


def test_odd_names(invoke, crystals):
    for name in ('../x', '/tmp/x', 'a/b', ''):
        code, output = invoke('create', name, '--from', str(crystals), '--no-network')
        assert (code, 'expected a name that a folder can have' in output) == (1, True), output


def test_a_group_renamed_by_hand_writes_no_file_elsewhere(invoke, crystals, tmp_path, monkeypatch):
    invoke('create', 'renamed', '--from', str(crystals / 'metals.extxyz'), '--no-network')
    group = load_campaign('renamed')
    group.label = '../outside'
    work = tmp_path / 'work'
    work.mkdir()
    monkeypatch.chdir(work)
    for command in ('report', 'export'):
        code, output = invoke(command, '../outside')
        assert (code, '--folder' in output) == (1, True), output
    assert not list(work.iterdir())
    assert not (tmp_path / 'outside').exists()
    code, output = invoke('report', '../outside', '--folder', 'there')
    assert code == 0, output
    assert (work / 'there' / 'report.html').is_file()


def test_a_file_in_the_place_of_the_folder_is_a_line(invoke, crystals, tmp_path, monkeypatch):
    invoke('create', 'occupied', '--from', str(crystals / 'metals.extxyz'), '--no-network')
    monkeypatch.chdir(tmp_path)
    for command, file in (('report', 'occupied'), ('export', 'occupied-export')):
        (tmp_path / file).write_text('mine')
        code, output = invoke(command, 'occupied')
        assert code == 1
        assert output == f'Error: {file}: cannot be written: File exists\n'
        assert (tmp_path / file).read_text() == 'mine'


def test_campaigns_are_listed(invoke, crystals):
    invoke('create', 'listed one', '--from', str(crystals / 'metals.extxyz'), '--no-network')
    invoke('pause', 'listed one')
    rows = [line.split('\t') for line in invoke('list', '--raw')[1].splitlines()]
    (row,) = [row for row in rows if row[0] == 'listed one']
    assert row[2:] == ['3', '0', '0', '0', 'paused']
    assert row[1] == load_campaign('listed one').settings.created
    drawn = invoke('list')[1]
    assert 'created (UTC)' in drawn
    (line,) = [line for line in drawn.splitlines() if line.startswith('listed one')]
    assert row[1][:16].replace('T', ' ') in line  # to the minute, on one line
    group = load_campaign('listed one')
    group.remove_nodes(group.settings_node)
    assert 'expected a Dict with its settings in the group' in invoke('list', '--raw')[1]
    assert invoke('list')[0] == 0


def test_messages_cannot_steer_a_terminal(invoke, crystals):
    invoke('create', 'hostile', '--from', str(crystals / 'metals.extxyz'), '--no-network')
    group = load_campaign('hostile')
    chain = orm.WorkChainNode(label='metals_0')
    chain.set_process_label('E3RelaxVaspWorkChain')
    chain.base.links.add_incoming(group.settings_node, LinkType.INPUT_WORK, 'campaign')
    structure = orm.load_node(uuid=group.settings.structures['metals_0'])
    chain.base.links.add_incoming(structure, LinkType.INPUT_WORK, 'structure')
    chain.store().set_process_state(ProcessState.FINISHED)
    chain.set_exit_status(410)
    chain.set_exit_message('[/red] \x1b[31m \u202e=1+1')
    code, output = invoke('status', 'hostile')
    assert code == 0, output
    assert r'[/red] \x1b[31m \u202e=1+1' in output.replace('\n', ' ')
    assert '\x1b' not in output


def test_a_campaign_is_run_by_one_at_a_time(invoke, crystals, monkeypatch):
    monkeypatch.setattr(Daemon, 'count_workers', lambda _: 1)
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
        (['--from', 'query:atoms=8-2'], 'expected the smaller number of sites first, as 2-8'),
        (['--from', 'query:size=3'], 'expected conditions such as elements=Cu,Au'),
        (['--from', '{crystals}', '--reference', 'some'], 'expected all, none or a share'),
        (['--from', '{crystals}', '--from', '{crystals}'], 'is in two of the sources'),
        (['--from', '{crystals}', '--freedom', 'in-plane'], 'the chain refuses 4 of 4 structures'),
    ],
)
def test_mistakes(invoke, crystals, words, message):
    code, output = invoke('create', 'mistaken', *(word.format(crystals=crystals) for word in words))
    assert (code, message in output.replace('\n', ' ')) == (1, True), output


def test_no_campaign_is_made_that_a_code_without_mpi_could_not_run(
    crystals, standin_code, e3relax_code, potential_family
):
    vasp = orm.InstalledCode(
        computer=standin_code.computer,
        filepath_executable=str(standin_code.filepath_executable),
        label=f'alone-{crystals.name}',
        default_calc_job_plugin='vasp.vasp',
        with_mpi=False,
    ).store()
    words = ['create', 'by-mpi', '--from', str(crystals), '--vasp-code', vasp.full_label, '--mpi-processes', '2']
    words += ['--network-code', e3relax_code.uuid, '--potential-family', potential_family]
    done = CliRunner().invoke(campaign, words)
    assert done.exit_code == 1, done.output
    assert f'but the code {vasp.full_label} runs without MPI' in ' '.join(done.output.split())
    assert not orm.QueryBuilder().append(CampaignGroup, filters={'label': 'by-mpi'}).count()


def test_names_that_are_taken_or_unknown(invoke, crystals):
    invoke('create', 'taken', '--from', str(crystals))
    assert 'there is one of this name already' in invoke('create', 'taken', '--from', str(crystals))[1]
    code, output = invoke('status', 'takn')
    assert (code, 'campaigns here: ' in output) == (1, True)
