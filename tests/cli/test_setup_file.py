"""The file of `aiida-e3relax setup --config`: what it may say, and what is refused before a profile is looked at."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from aiida_e3relax.cli.setup import EXAMPLES, setup
from aiida_e3relax.cli.setup_file.overrides import write_overrides
from aiida_e3relax.cli.setup_file.run import check_overrides
from aiida_e3relax.cli.setup_file.settings import parse_setup
from aiida_e3relax.common.errors import InputError

COMPUTER = 'computers: {gpu: {hostname: gpu, transport: core.local, scheduler: core.direct}}\n'
CONTAINER = 'image_name: /home/me/e3relax.sif, engine_command: apptainer exec --nv {image_name}'


def parse(text: str):
    return parse_setup(text, 'setup.yaml', Path('/somewhere'))


def of_code(fields: str, label: str = 'e3relax@gpu'):
    lines = ['plugin: e3relax.predict', 'executable: /usr/bin/e3relax', *fields.split(', ')]
    return parse(f'codes:\n  "{label}":\n' + ''.join(f'    {line}\n' for line in lines))


@pytest.mark.parametrize('name', [name for name, file in EXAMPLES.items() if file.endswith('.yaml')])
def test_examples_are_printed_and_can_be_read(name):
    printed = CliRunner().invoke(setup, ['--example', name])
    assert printed.exit_code == 0
    settings = parse(printed.output)
    assert settings.models == ['default']
    assert any(code.plugin == 'e3relax.predict' for code in settings.codes.values())


def test_the_image_has_all_that_its_definition_copies():
    printed = CliRunner().invoke(setup, ['--example', 'apptainer-image']).output
    root = Path(__file__).parents[2]
    copied = [line.split() for line in printed.split('%files')[1].split('%post')[0].strip().splitlines()]
    assert {'aiida_e3relax', 'pyproject.toml', 'setup.py', 'setup.json'} <= {source for source, _ in copied}
    assert all((root / source).exists() for source, _ in copied)


def test_paths_are_relative_to_the_file():
    settings = parse('models: [best.pt, /data/best.pt]')
    assert [str(settings.path(model)) for model in settings.models] == ['/somewhere/best.pt', '/data/best.pt']


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'setup.yaml: expected names and values, found None'),
        ('{}', 'expected computers, codes, potentials or models, found none'),
        ('codse: {}', "unknown setting 'codse': did you mean 'codes'?"),
        ('computers: [a]', 'computers: expected names and values'),
        (
            'computers: {gpu: {hostname: gpu, transport: core.local}}',
            "gpu: expected the setting 'scheduler', found none",
        ),
        (COMPUTER.replace('hostname', 'hostnam'), "unknown setting 'hostnam': did you mean 'hostname'?"),
        (COMPUTER.replace('gpu:', 'a b:'), 'expected a label without spaces'),
        (COMPUTER.replace('core.direct', 'core.direct, mpiprocs_per_machine: 0'), 'expected a number at least 1'),
        ('models: [3]', 'models: expected paths or `default`'),
        ('potentials: {PBE: {elements: [NO]}}', 'potentials: PBE: elements: expected symbols, found False; put NO'),
        ('models: [default]\nmodels: [default]', "'models' stands there twice"),
    ],
)
def test_what_no_file_may_say(text, message):
    with pytest.raises(InputError) as caught:
        parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ('plugins: a', "did you mean 'plugin'?"),
        ('device: gpu', "device: expected auto, cpu, cuda or cuda:<n>, found 'gpu'"),
        ('pre_relaxer: sevenet-0', 'did you mean `sevennet-0`?'),
        ('pre_relaxer: mace', 'expected a potential whose package brings its weights'),
        ('image_name: a.sif', 'expected `image_name` and `engine_command` together'),
        ('wrap_cmdline_params: true', 'wrap_cmdline_params: expected `image_name`'),
        ('image_name: a.sif, engine_command: apptainer exec', 'expected {image_name} in it'),
        ('image_name: a.sif, engine_command: x {image_name} {home}', 'no other braces than {image_name}'),
        (CONTAINER.replace('e3relax.sif', 'my image.sif'), 'image_name: expected a path without spaces'),
        (CONTAINER.replace('/home/me', '~'), 'image_name: AiiDA quotes it, so that the shell does not see `~`'),
        (CONTAINER.replace('--nv', '--bind ~/data'), 'engine_command: AiiDA quotes it'),
        (CONTAINER.replace('--nv', "--env 'A=b c'"), "so that ' reaches the program as it is; put shell commands"),
        (CONTAINER.replace('apptainer', 'module load apptainer && apptainer'), 'so that & reaches the program'),
    ],
)
def test_what_no_code_may_be(fields, message):
    with pytest.raises(InputError) as caught:
        of_code(fields)
    assert str(caught.value).startswith('setup.yaml: codes: e3relax@gpu')
    assert message in str(caught.value)


@pytest.mark.parametrize('label', ['e3relax', '@gpu', 'a b@gpu', 'a@b@c'])
def test_labels_of_codes_name_the_computer(label):
    with pytest.raises(InputError, match='expected a label such as `e3relax@cluster`'):
        of_code('device: cpu', label)


@pytest.mark.parametrize(('executable', 'message'), [('~/e3relax', '`~`'), ('$HOME/e3relax', 'sees no `\\$`')])
def test_executables_that_the_shell_would_have_to_write_out(executable, message):
    with pytest.raises(InputError, match=message):
        parse(f'codes: {{e3relax@gpu: {{plugin: e3relax.predict, executable: {executable}}}}}')


def test_vasp_has_neither_device_nor_pre_relaxer():
    for fields in ('device: cuda', 'pre_relaxer: network'):
        with pytest.raises(InputError, match='found one for'):
            parse(f'codes: {{vasp@gpu: {{plugin: vasp.vasp, executable: /bin/vasp, {fields}}}}}')


class TestOverrides:
    CODE = '  {label}: {{plugin: {plugin}, executable: /bin/true, options: {{queue_name: {queue}}}}}\n'

    def write(self, *codes: tuple[str, str, str]) -> str:
        lines = (self.CODE.format(label=label, plugin=plugin, queue=queue) for label, plugin, queue in codes)
        return write_overrides(parse('codes:\n' + ''.join(lines)))

    def test_those_of_network_and_vasp_stand_together(self):
        text = self.write(
            ('e3relax@c', 'e3relax.predict', 'gpu'), ('train@c', 'e3relax.train', 'gpu'), ('vasp@c', 'vasp.vasp', 'cpu')
        )
        assert yaml.safe_load(text) == {
            'network': {'predict': {'metadata': {'options': {'queue_name': 'gpu'}}}},
            'vasp': {'vasp': {'calc': {'metadata': {'options': {'queue_name': 'cpu'}}}}},
        }

    def test_those_of_codes_of_one_kind_stand_apart(self):
        text = self.write(('vasp@a', 'vasp.vasp', 'short'), ('vasp@b', 'vasp.vasp', 'long'))
        assert [part['vasp']['vasp']['calc']['metadata']['options'] for part in yaml.safe_load_all(text)] == [
            {'queue_name': 'short'},
            {'queue_name': 'long'},
        ]
        assert '# for vasp@b' in text

    def test_a_file_that_chains_cannot_read_is_refused(self, tmp_path):
        text = self.write(('vasp@a', 'vasp.vasp', 'short'), ('vasp@b', 'vasp.vasp', 'long'))
        with pytest.raises(click.ClickException, match='expected one code of a plugin with `options`, found several'):
            check_overrides(tmp_path / 'overrides.yaml', text)
        with pytest.raises(click.ClickException, match=r'expected a folder .* that is there, found none'):
            check_overrides(tmp_path / 'none' / 'overrides.yaml', self.write(('vasp@a', 'vasp.vasp', 'short')))

    def test_no_options_are_no_overrides(self):
        assert write_overrides(parse('models: [default]')) == ''


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--no-test'], '--test: give --config or --interactive beside it'),
        (['--config', 'FILE', '--engine', 'emt'], '--engine: write it into the file'),
        (['--config', 'FILE', '--interactive'], 'expected one of the two'),
        (['--config', 'nowhere.yaml'], 'does not exist'),
        (['--example', 'desktop'], "'desktop' is not one of"),
    ],
)
def test_options_that_do_not_go_together(words, message, tmp_path):
    path = tmp_path / 'setup.yaml'
    path.write_text('models: [default]', encoding='utf-8')
    done = CliRunner().invoke(setup, [str(path) if word == 'FILE' else word for word in words])
    assert done.exit_code == 2
    assert message in done.output
