"""What the guides of the documentation tell people to write: files for `verdi`, and overrides of the chain."""

from __future__ import annotations

import re
from pathlib import Path

import ase.build
import pytest
import yaml
from aiida import orm
from aiida.cmdline.commands.cmd_code import code_create
from aiida.cmdline.commands.cmd_computer import computer_configure, computer_setup
from aiida.common.extendeddicts import AttributeDict
from click.testing import CliRunner

from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain

DOCS = Path(__file__).parents[1] / 'docs'
CLUSTER = DOCS / 'examples' / 'cluster'
GUIDES = sorted((DOCS / 'how_to').glob('*.md'))


def blocks(language: str, guide: Path) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```$', guide.read_text(encoding='utf-8'), re.MULTILINE | re.DOTALL)


OVERRIDES = [
    pytest.param(text, id=f'{guide.stem}-{place}')
    for guide in GUIDES
    for place, text in enumerate(blocks('yaml', guide))
    if text.startswith('# overrides.yaml')
]


@pytest.fixture
def nickel_oxide() -> orm.StructureData:
    """The crystal of the guide to magnetism, by the code that stands there."""
    names: dict[str, object] = {}
    (code,) = blocks('python', DOCS / 'how_to' / 'magnetism.md')
    exec(code, names)
    return names['nickel_oxide']


@pytest.fixture
def make_builder(e3relax_code, make_code, potential_family, model):
    """A factory of chains with overrides; nothing is run."""
    vasp_code = make_code(Path('/bin/true'), 'vasp', 'vasp.vasp')

    def make(structure, text, network_code=e3relax_code):
        return E3RelaxVaspWorkChain.get_builder_from_protocol(
            structure, vasp_code, network_code, potential_family=potential_family, overrides=yaml.safe_load(text)
        )

    return make


def test_files_of_the_cluster_are_what_verdi_takes(aiida_profile, aiida_config):
    def run(command, *arguments):
        words = ['--non-interactive', *map(str, arguments)]
        context = AttributeDict({'config': aiida_config, 'profile': aiida_profile})
        done = CliRunner().invoke(command, words, obj=context, catch_exceptions=False)
        assert done.exit_code == 0, done.output

    run(computer_setup, '--config', CLUSTER / 'computer.yaml')
    ssh = computer_configure.get_command(None, 'core.ssh_async')
    run(ssh, '--host', 'cluster.example.org', 'cluster')
    for name in ('e3relax', 'vasp'):
        run(code_create.get_command(None, 'core.code.installed'), '--config', CLUSTER / f'{name}.yaml')
    computer = orm.load_computer('cluster')
    assert computer.is_configured
    assert computer.scheduler_type == 'core.slurm'
    assert orm.load_code('e3relax@cluster').default_calc_job_plugin == 'e3relax.predict'
    assert 'module load vasp' in orm.load_code('vasp@cluster').prepend_text


def test_jobs_ask_for_what_the_overrides_say(make_builder, aiida_computer):
    structure = orm.StructureData(ase=ase.build.bulk('Cu'))
    computer = aiida_computer(label='how-to-slurm', scheduler_type='core.slurm')
    code = orm.InstalledCode(
        computer=computer, filepath_executable='/e3relax', label='e3relax', default_calc_job_plugin='e3relax.predict'
    )
    overrides = (CLUSTER / 'overrides.yaml').read_text(encoding='utf-8')
    builder = make_builder(structure, overrides, code.store())
    network = builder.network.predict.metadata.options
    assert (network.queue_name, network.num_gpus) == ('gpu', 1)
    vasp = builder.vasp.vasp.calc.metadata.options
    assert (vasp.queue_name, vasp.account) == ('cpu', 'my-project')
    with pytest.raises(ValueError, match='nothing hands out GPUs on localhost'):
        make_builder(structure, overrides)


@pytest.mark.parametrize('text', OVERRIDES)
def test_overrides_of_the_guides_are_taken(text, make_builder, nickel_oxide):
    builder = make_builder(nickel_oxide, text)
    asked = yaml.safe_load(text)['vasp']['vasp']
    for name in asked.keys() - {'parameters'}:
        assert builder.vasp.vasp[name].get_dict().items() >= asked[name].items()
    for tag, value in asked.get('parameters', {}).get('incar', {}).items():
        assert builder.vasp.vasp.parameters['incar'][tag] == value


def test_there_are_guides_with_overrides():
    assert len(OVERRIDES) >= 4
