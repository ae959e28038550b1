"""What is exported to be published: everything but the content of potentials."""

from __future__ import annotations

import importlib.metadata
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.manage.configuration import profile_context
from aiida.schedulers.datastructures import JobInfo
from aiida.storage.sqlite_temp import SqliteTempBackend
from aiida.tools.archive import import_archive
from aiida_vasp.data.potcar import PotcarData, PotcarFileData
from click.testing import CliRunner
from plumpy.process_states import ProcessState

from aiida_e3relax.campaign.archive import ARCHIVE, README, TABLE, export_campaign
from aiida_e3relax.campaign.creation import create_campaign
from aiida_e3relax.campaign.group import CampaignGroup, load_campaign
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.cli.campaign.commands import campaign
from aiida_e3relax.workflows.comparison.ledger import compare_legs
from aiida_e3relax.workflows.vasp.choices import ChainChoices
from tests.workflows.comparison.test_ledger import PREDICTED, RAW
from tests.workflows.crystals import copper_gold

POTCAR = 'PAW_PBE Cu X\nparameters from PSCTR are:\n'


@pytest.fixture
def group(standin_code, potential_family, tmp_path) -> CampaignGroup:
    """A campaign of three structures, none of which has a chain yet."""
    choices = ChainChoices(standin_code, None, potential_family, 'cell')
    structures = {label: orm.StructureData(ase=copper_gold()) for label in ('good', 'bad', 'waiting')}
    return create_campaign(tmp_path.name, structures, choices, reference_share=1.0)


@pytest.fixture
def add_chain(group) -> Callable[..., orm.CalcJobNode]:
    """A function that stores a chain with a job of VASP as the engine leaves them, and returns the job."""

    def add(label: str, files: dict[str, str], exit_status: int = 0, **inputs: orm.Data) -> orm.CalcJobNode:
        chain = orm.WorkChainNode(label=label)
        chain.set_process_label('E3RelaxVaspWorkChain')
        chain.base.links.add_incoming(group.settings_node, LinkType.INPUT_WORK, 'campaign')
        structure = orm.load_node(uuid=group.settings.structures[label])
        chain.base.links.add_incoming(structure, LinkType.INPUT_WORK, 'structure')
        chain.store()
        job = orm.CalcJobNode(computer=orm.load_computer('localhost'))
        job.set_option('account', 'project-17')
        job.set_option('custom_scheduler_commands', '#SBATCH --mail-user=curie@example.org')
        job.set_remote_workdir('/scratch/curie/aiida/0a/1b/2c3d')
        potential = orm.QueryBuilder().append(PotcarData, filters={'attributes.element': 'Cu'}).first(flat=True)
        for link, node in {'structure': structure, 'potential__Cu': potential, **inputs}.items():
            job.base.links.add_incoming(node, LinkType.INPUT_CALC, link)
        job.base.links.add_incoming(chain, LinkType.CALL_CALC, 'vasp')
        job.store()
        retrieved = orm.FolderData()
        for path, content in files.items():
            retrieved.base.repository.put_object_from_filelike(io.BytesIO(content.encode()), path)
        comparison = orm.Dict(
            {'guard': None, 'network': None, 'remarks': ['No network was given'], **compare_legs(RAW, PREDICTED)}
        )
        for link, node in {'retrieved': retrieved, 'comparison': comparison}.items():
            node.base.links.add_incoming(job, LinkType.CREATE, link)
            node.store()
        if not exit_status:
            comparison.base.links.add_incoming(chain, LinkType.RETURN, 'comparison')
        chain.set_exit_status(exit_status)
        job.set_last_job_info(JobInfo({'job_owner': 'curie'}))
        for process in (job, chain):
            process.set_process_state(ProcessState.FINISHED)
            process.seal()
        return job

    return add


@pytest.fixture
def harmless(group, add_chain, tmp_path) -> CampaignGroup:
    """The campaign with a chain that finished and one that failed, exported into the folder `export`."""
    add_chain('good', {'OUTCAR': ' vasp.6.4.3', 'potentials.txt': 'PAW_PBE Cu'})
    add_chain('bad', {'OUTCAR': ' vasp.6.4.3'}, exit_status=410)
    export_campaign(group.label, tmp_path / 'export')
    return group


def test_the_archive_brings_the_campaign_into_another_profile(harmless, tmp_path):
    name, settings, frame = harmless.label, harmless.settings, campaign_frame(harmless.label)
    with profile_context(SqliteTempBackend.create_profile('another'), allow_switch=True):
        import_archive(tmp_path / 'export' / ARCHIVE)
        there, there_settings = campaign_frame(name), load_campaign(name).settings
        (job,) = orm.load_node(uuid=there.loc['good', 'chain_uuid']).called
        file = job.outputs.retrieved.get_object_content('OUTCAR')
    assert there_settings == settings
    assert there['state'].to_dict() == {'good': 'finished', 'bad': 'failed', 'waiting': 'waiting'}
    pd.testing.assert_frame_equal(there.drop(columns='chain_pk'), frame.drop(columns='chain_pk'))
    assert file == ' vasp.6.4.3'


def test_potentials_are_in_the_archive_by_name_and_hash_alone(harmless, tmp_path):
    (archive,) = (tmp_path / 'export').glob('*.aiida')
    contents = [potcar.get_content() for potcar in orm.QueryBuilder().append(PotcarFileData).all(flat=True)]
    assert contents
    with zipfile.ZipFile(archive) as files:
        assert not {files.read(name) for name in files.namelist()} & set(contents)
    with profile_context(SqliteTempBackend.create_profile('another'), allow_switch=True):
        import_archive(archive)
        potentials = [(node.element, len(node.sha512)) for node in orm.QueryBuilder().append(PotcarData).all(flat=True)]
        n_files = orm.QueryBuilder().append(PotcarFileData).count()
    assert (potentials, n_files) == ([('Cu', 128)], 0)


def test_the_table_and_what_is_said_about_it(harmless, tmp_path):
    frame = campaign_frame(harmless.label).reset_index()
    rows = pyarrow.parquet.read_table(tmp_path / 'export' / TABLE).to_pylist()
    assert rows == frame.astype(object).where(frame.notna(), None).to_dict('records')
    readme = (tmp_path / 'export' / README).read_text()
    for package in ('aiida-core', 'aiida-vasp'):
        version = importlib.metadata.version(package)
        assert f'| {package} | {version} | {version} |' in readme
    assert '2 work chains' in readme
    assert 'arXiv:2511.12243' in readme


def test_a_person_is_told_whom_and_what_the_archive_names(group, add_chain, standin_code, tmp_path):
    add_chain('good', {'OUTCAR': ' vasp.6.4.3'}, code=standin_code)
    done = CliRunner().invoke(campaign, ['export', group.label, '--folder', str(tmp_path / 'export')])
    assert done.exit_code == 0, done.output
    assert [Path(line).name for line in done.stdout.splitlines()] == [ARCHIVE, TABLE, README]
    told = done.stderr
    user, computer = orm.User.collection.get_default(), standin_code.computer
    assert f'- people: {user.email}' in told
    assert f'localhost ({computer.hostname}): {computer.get_workdir()}' in told
    assert f'{standin_code.label}: {standin_code.filepath_executable}' in told
    assert '- folders of jobs: /scratch/curie/aiida\n' in told
    assert 'account: project-17; custom_scheduler_commands: #SBATCH --mail-user=curie@example.org; owner: curie' in told
    assert 'curie' not in (tmp_path / 'export' / README).read_text()


@pytest.mark.parametrize('place', ['a retrieved file', 'a folder in it', 'an input', 'a potential with its content'])
def test_the_content_of_a_potential_is_refused_and_its_node_is_named(group, add_chain, tmp_path, place):
    if place == 'an input':
        node = orm.SinglefileData(io.BytesIO(POTCAR.encode()), filename='POTCAR').store()
        add_chain('good', {}, file=node)
    elif place == 'a potential with its content':
        node = orm.QueryBuilder().append(PotcarFileData).first(flat=True)
        add_chain('good', {}, file=node)
    else:
        path = 'POTCAR.Cu' if place == 'a retrieved file' else 'inputs/potcar'
        node = add_chain('good', {'OUTCAR': '', path: POTCAR}).outputs.retrieved
    folder = tmp_path / 'export'
    with pytest.raises(ValueError, match=f'may not be passed on: {node.uuid}; nothing was exported'):
        export_campaign(group.label, folder)
    assert not folder.exists()


def test_nothing_is_exported_while_processes_run(group):
    chain = orm.WorkChainNode(label='good')
    chain.set_process_label('E3RelaxVaspWorkChain')
    chain.base.links.add_incoming(group.settings_node, LinkType.INPUT_WORK, 'campaign')
    chain.store().set_process_state(ProcessState.RUNNING)
    with pytest.raises(ValueError, match='1 of its processes run; export it when they have ended'):
        export_campaign(group.label, None)
