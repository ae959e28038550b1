"""What `aiida-e3relax setup --config` makes in a profile, and the scripts of the jobs that its codes run."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from aiida import orm
from aiida.engine import run_get_node

import aiida_e3relax.cli.setup_file
from aiida_e3relax.calculations.pre_relaxer import default_pre_relaxer
from aiida_e3relax.calculations.predict import E3RelaxCalculation
from aiida_e3relax.cli.resources import STANDIN_EXECUTABLE, STANDIN_FAMILY, _installed_script
from aiida_e3relax.cli.setup_file.plan import plan_setup
from aiida_e3relax.cli.setup_file.questions import LOCK, VASP_LOCK
from aiida_e3relax.cli.setup_file.run import run_setup
from aiida_e3relax.cli.setup_file.settings import SetupSettings, parse_setup

EXAMPLES = Path(aiida_e3relax.cli.setup_file.__file__).parent / 'examples'
RENAMED = {'cluster': 'setup-cluster', 'workstation': 'setup-workstation', 'localhost': 'setup-here'}
"""Other tests have computers of the examples' names in the same profile."""


def read_example(name: str, folder: Path) -> SetupSettings:
    """An example with a program that is there in the place of VASP."""
    text = (EXAMPLES / f'{name}.yaml').read_text(encoding='utf-8')
    text = text.replace('/opt/vasp/bin/vasp_std', '/bin/true')
    for old, new in RENAMED.items():
        text = text.replace(f'  {old}:\n', f'  {new}:\n').replace(f'@{old}:', f'@{new}:')
    return parse_setup(text, name, folder)


def make(settings: SetupSettings) -> dict[str, str]:
    """Do what is to be done, and return what that was by the name of the thing."""
    steps = plan_setup(settings)
    for step in steps:
        if step.todo:
            step.make()
    return {step.name.split(' <')[0]: step.todo for step in steps}


def parse(text: str) -> SetupSettings:
    return parse_setup(text, 'setup.yaml', Path('/somewhere'))


@pytest.fixture(scope='module')
def potentials(tmp_path_factory, aiida_profile) -> Path:
    """A folder with a folder of POTCARs as VASP's server has it, of the elements that the examples ask for."""
    folder = tmp_path_factory.mktemp('potentials')
    command = [_installed_script(STANDIN_EXECUTABLE), 'potentials', folder / 'potpaw_PBE.64', '--elements', 'Si,O']
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize('name', ['laptop', 'workstation', 'slurm', 'apptainer'])
def test_examples_are_made_and_found_again(name, potentials, potential_family, model):
    settings = read_example(name, potentials)
    made = make(settings)
    computer = next(iter(settings.computers))
    assert set(made) >= {computer, *settings.codes, *settings.potentials}
    of_two_examples = {'vasp@setup-cluster'}  # of SLURM with and without a container
    assert {made[label] for label in settings.codes if label not in of_two_examples} == {'created'}
    assert orm.load_code(next(label for label in settings.codes if label.startswith('vasp'))).is_stored
    stored = orm.Computer.collection.get(label=computer)
    assert stored.is_configured
    assert stored.get_configuration().items() >= settings.computers[computer].connection.items()
    again = plan_setup(settings)
    assert [step.name for step in again if step.todo] == []


def test_the_ssh_connection_is_as_verdi_makes_it(potentials, potential_family):
    make(read_example('slurm', potentials))
    stored = orm.Computer.collection.get(label='setup-cluster').get_configuration()
    assert stored['use_login_shell'] is False
    assert (stored['host'], stored['max_io_allowed'], stored['backend']) == ('cluster.example.org', 8, 'asyncssh')


HERE = """
computers:
  {computer}: {{hostname: localhost, transport: {transport}, scheduler: core.direct, work_dir: /tmp/jobs{more}}}
"""


def here(
    computer: str = 'setup-other', transport: str = 'core.local', more: str = '', codes: str = ''
) -> SetupSettings:
    return parse(HERE.format(computer=computer, transport=transport, more=more) + codes)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            here(transport='core.locl'),
            'transport: unknown key `core.locl`; did you mean `core.local`?; see `verdi plugin',
        ),
        (here(more=', connection: {safe_intervall: 1}'), 'core.local: unknown key `safe_intervall`; did you mean'),
        (here(more=', connection: {safe_interval: -1}'), 'connection: safe_interval:'),
        (here(more=', connection: {use_login_shell: 3}'), 'use_login_shell: expected true or false, found 3'),
        (here(more=', mpirun_command: "mpirun -np {cores}"'), 'unknown replacement field cores'),
        (here(codes='codes: {a@setup-othr: {plugin: vasp.vasp, executable: /bin/true}}'), 'no computer `setup-othr`'),
        (here(codes='codes: {a@setup-other: {plugin: vasp.vasp, executable: vasp_std}}'), 'found none at'),
        (here(codes='codes: {a@setup-other: {plugin: vasp.vasp, executable: /nowhere/vasp}}'), 'none at /nowhere/vasp'),
        (
            here(codes='codes: {a@setup-other: {plugin: vasp.vasp, executable: /bin/true, options: {queue: a}}}'),
            'options: unknown key `queue`',
        ),
        (
            here(
                codes='codes: {a@setup-other: {plugin: e3relax.predict, executable: /bin/true, '
                'options: {resources: {num_nodes: 1}}}}'
            ),
            'options: ',
        ),
        (
            here(
                codes='codes: {a@setup-other: {plugin: e3relax.predict, executable: /bin/true, '
                'options: {withmpi: true}}}'
            ),
            'options: withmpi: expected False, as `with_mpi` of the code is, found True; leave it out, or set '
            '`with_mpi: true` beside',
        ),
        (
            here(
                codes='codes: {a@setup-other: {plugin: e3relax.predict, executable: e3relax, image_name: /a.sif, '
                'engine_command: "apptainer exec --bind $PWD {image_name}"}}'
            ),
            'in which the shell sees no `$`; set `use_double_quotes: true` of the computer setup-other',
        ),
        (parse('potentials: {nothing: {}}'), 'there is none of this name in the profile'),
        (parse('potentials: {nothing: {path: nowhere}}'), 'expected a folder or tar archive of POTCARs'),
        (parse('models: [nowhere.pt]'), '/somewhere/nowhere.pt'),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_made(settings, message, aiida_profile):
    with pytest.raises(ValueError, match=r'^(computer|code|potential family|model)') as caught:
        plan_setup(settings)
    assert message in str(caught.value)
    assert orm.Computer.collection.find({'label': 'setup-other'}) == []


def test_all_faults_are_told_at_once(aiida_profile):
    with pytest.raises(ValueError, match='model') as caught:
        plan_setup(parse('models: [nowhere.pt]\npotentials: {nothing: {}}'))
    assert [line.partition(':')[0] for line in str(caught.value).splitlines()] == [
        'potential family nothing',
        'model nowhere.pt',
    ]


CODE = """
codes:
  e3relax@{computer}:
    {{plugin: e3relax.predict, executable: {executable}, prepend_text: {prepend}, pre_relaxer: {who}}}
"""


def test_what_differs_is_refused_with_what_to_do(aiida_profile):
    def settings(executable='/bin/true', prepend='echo a', who='chgnet', more='', connection=0.0):
        code = CODE.format(computer='setup-fixed', executable=executable, prepend=prepend, who=who)
        return here('setup-fixed', more=f', connection: {{safe_interval: {connection}}}{more}', codes=code)

    made = make(settings())
    assert made['chgnet of e3relax@setup-fixed'] == 'created'
    assert str(default_pre_relaxer(orm.load_code('e3relax@setup-fixed'))) == 'chgnet'
    assert {step.todo for step in plan_setup(settings())} == {''}
    for changed, message in (
        ({'executable': '/bin/false'}, "executable: expected '/bin/false', found '/bin/true'; a stored code cannot"),
        ({'prepend': 'echo b'}, '`verdi code relabel e3relax@setup-fixed e3relax-old`'),
        ({'who': 'network'}, 'found chgnet; write the file as it is, or change it with `aiida-e3relax pre-relaxer'),
        ({'connection': 2.0}, '`verdi computer configure core.local setup-fixed`'),
        ({'more': ', shebang: "#!/bin/zsh"'}, '`verdi computer relabel setup-fixed setup-fixed-old`'),
    ):
        with pytest.raises(ValueError, match='setup-fixed') as caught:
            plan_setup(settings(**changed))
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ('stored', 'asked', 'message'),
    [
        (False, False, None),
        (None, False, None),
        (None, True, None),
        (True, True, None),
        (True, False, 'withmpi: expected True'),
        (False, True, 'withmpi: expected False'),
    ],
)
def test_mpi_is_judged_by_the_code_that_is_stored(stored, asked, message, tmp_path, aiida_profile):
    make(here('setup-mpi'))
    label = f'mpi-{stored}-{asked}'
    orm.InstalledCode(
        label=label,
        computer=orm.load_computer('setup-mpi'),
        filepath_executable='/bin/true',
        default_calc_job_plugin='vasp.vasp',
        with_mpi=stored,
    ).store()
    settings = here(
        'setup-mpi',
        codes=f'codes: {{{label}@setup-mpi: {{plugin: vasp.vasp, executable: /bin/true, '
        f'options: {{withmpi: {str(asked).lower()}}}}}}}',
    )
    if message is None:
        assert [step.todo for step in plan_setup(settings)] == [''] * 2
        return
    with pytest.raises(ValueError, match=message):
        plan_setup(settings)


def test_a_family_is_uploaded_wholly_or_not_at_all(tmp_path, aiida_profile):
    folder = tmp_path / 'broken' / 'Si'
    folder.mkdir(parents=True)
    (folder / 'POTCAR').write_text('no potential\n', encoding='utf-8')
    path = tmp_path / 'setup.yaml'
    path.write_text('potentials: {setup-broken: {path: broken}}', encoding='utf-8')
    with pytest.raises(click.ClickException, match='aiida-vasp cannot upload'):
        run_setup(path, 'test', is_dry=False, is_tested=False, overrides=None)
    assert orm.QueryBuilder().append(orm.Group, filters={'label': 'setup-broken'}).count() == 0


def test_a_dry_run_makes_nothing(tmp_path, aiida_profile, capsys):
    path = tmp_path / 'setup.yaml'
    path.write_text(HERE.format(computer='setup-dry', transport='core.local', more=''), encoding='utf-8')
    assert run_setup(path, 'test', is_dry=True, is_tested=True, overrides=None)
    assert 'would be created' in capsys.readouterr().out
    assert orm.Computer.collection.find({'label': 'setup-dry'}) == []


# ------------------------------------------------------------------------------------------- the scripts of the jobs


@pytest.fixture
def write_script(tmp_path, monkeypatch, model, make_structure):
    """A function that returns the script of a job of the network, as AiiDA would submit it."""
    monkeypatch.chdir(tmp_path)

    def write(settings: SetupSettings, label: str) -> Path:
        make(settings)
        metadata = {'dry_run': True, 'store_provenance': False, 'options': settings.codes[label].options}
        _, node = run_get_node(
            E3RelaxCalculation,
            code=orm.load_code(label),
            model=model,
            structures={'cu': make_structure('Cu')},
            metadata=metadata,
        )
        return Path(node.dry_run_info['folder']) / node.dry_run_info['script_filename']

    return write


def lines_of(script: Path) -> list[str]:
    return [line.strip() for line in script.read_text(encoding='utf-8').splitlines() if line.strip()]


def test_the_script_of_slurm_asks_for_the_gpu(write_script, potentials, potential_family):
    settings = read_example('slurm', potentials)
    lines = lines_of(write_script(settings, 'e3relax@setup-cluster'))
    assert {
        '#SBATCH --partition=gpu',
        '#SBATCH --account=my-project',
        '#SBATCH --gres=gpu:1',
        '#SBATCH --nodes=1',
        '#SBATCH --ntasks-per-node=1',
        '#SBATCH --cpus-per-task=8',
        '#SBATCH --time=01:00:00',
    } <= set(lines)
    assert lines[0] == '#!/bin/bash'
    assert lines[-1].startswith("'/home/me/e3relax/bin/e3relax' 'predict' 'structures.npz' '--output'")
    assert lines[-1].endswith("> 'e3relax.out' 2> 'e3relax.err'")


def test_the_script_of_a_container_runs_the_program_in_it(write_script, potentials):
    settings = read_example('apptainer', potentials)
    script = write_script(settings, 'e3relax-container@setup-cluster')
    lines = lines_of(script)
    assert 'export APPTAINER_BIND="$PWD"' in lines
    assert lines[-1].startswith(
        "'apptainer' 'exec' '--nv' '/home/me/e3relax.sif' 'e3relax' 'predict' 'structures.npz' '--output'"
    )
    told = run_with_fake(script, 'apptainer')
    assert told[:6] == [str(script.parent), 'exec', '--nv', '/home/me/e3relax.sif', 'e3relax', 'predict']


def test_variables_of_the_engine_are_seen_between_double_quotes(write_script, aiida_profile):
    codes = (
        'codes: {e3relax@setup-quotes: {plugin: e3relax.predict, executable: e3relax, image_name: /home/me/a.sif, '
        'engine_command: "apptainer exec --bind $PWD:/work {image_name}"}}'
    )
    settings = here('setup-quotes', more=', use_double_quotes: true', codes=codes)
    script = write_script(settings, 'e3relax@setup-quotes')
    assert run_with_fake(script, 'apptainer')[1:4] == ['exec', '--bind', f'{script.parent}:/work']


def test_docker_takes_program_and_words_as_one(write_script, aiida_profile):
    codes = (
        'codes: {e3relax@setup-docker: {plugin: e3relax.predict, executable: e3relax, image_name: me/e3relax, '
        'engine_command: "docker run -i -v $PWD:/work -w /work {image_name} sh -c", wrap_cmdline_params: true}}'
    )
    settings = here('setup-docker', more=', use_double_quotes: true', codes=codes)
    script = write_script(settings, 'e3relax@setup-docker')
    *engine, words = run_with_fake(script, 'docker')[1:]
    assert engine == ['run', '-i', '-v', f'{script.parent}:/work', '-w', '/work', 'me/e3relax', 'sh', '-c']
    assert words.startswith("'e3relax' 'predict' 'structures.npz'")
    assert words.endswith('> "e3relax.out" 2> "e3relax.err"')


def run_with_fake(script: Path, program: str) -> list[str]:
    """What a program in a script was told: `APPTAINER_BIND` and its words, by running the script with another one."""
    fakes = script.parent / 'fakes'
    fakes.mkdir()
    fake = fakes / program
    fake.write_text('#!/bin/bash\nprintf "%s\\n" "$APPTAINER_BIND" "$@" > told\n', encoding='utf-8')
    fake.chmod(0o755)
    environment = os.environ | {'PATH': f'{fakes}:{os.environ["PATH"]}'}
    subprocess.run(['bash', script.name], cwd=script.parent, env=environment, check=True)
    return (script.parent / 'told').read_text(encoding='utf-8').splitlines()


def test_jobs_of_a_workstation_take_turns(potentials, tmp_path):
    settings = read_example('workstation', potentials)
    lock = settings.codes['e3relax@setup-workstation'].prepend_text
    assert lock == LOCK
    assert settings.codes['vasp@setup-workstation'].prepend_text == VASP_LOCK
    line = f'{VASP_LOCK}echo start >> log; sleep 0.2; echo end >> log\n'
    jobs = [subprocess.Popen(['bash', '-c', line], cwd=tmp_path, env={'HOME': str(tmp_path)}) for _ in range(3)]
    assert [job.wait() for job in jobs] == [0, 0, 0]
    assert (tmp_path / 'log').read_text(encoding='utf-8').split() == ['start', 'end'] * 3


@pytest.fixture
def with_gpus(tmp_path) -> Callable[[str], dict[str, str]]:
    """A function that returns the environment of a machine whose `nvidia-smi` runs a line of shell."""

    def make(line: str) -> dict[str, str]:
        (tmp_path / 'nvidia-smi').write_text(f'#!/bin/bash\n{line}\n', encoding='utf-8')
        (tmp_path / 'nvidia-smi').chmod(0o755)
        return {'HOME': str(tmp_path), 'PATH': f'{tmp_path}:/usr/bin:/bin', 'CUDA_VISIBLE_DEVICES': 'of another'}

    return make


def test_each_job_takes_a_gpu_that_no_other_has(with_gpus, tmp_path):
    environment = with_gpus('[[ "$*" == *--query-gpu=uuid* ]] && printf "GPU-%s\\n" a-1 b-2')
    log = '"log-$CUDA_VISIBLE_DEVICES"'
    line = f'{LOCK}echo start >> {log}; sleep 0.5; echo end >> {log}\n'
    jobs = [subprocess.Popen(['bash', '-c', line], cwd=tmp_path, env=environment) for _ in range(4)]
    assert [job.wait() for job in jobs] == [0] * 4
    logs = {path.name: path.read_text(encoding='utf-8').split() for path in tmp_path.glob('log-*')}
    assert logs.keys() == {'log-GPU-a-1', 'log-GPU-b-2'}
    assert all(lines == ['start', 'end'] * (len(lines) // 2) for lines in logs.values())
    assert sum(map(len, logs.values())) == 8


def test_a_gpu_is_free_again_however_its_job_ends(with_gpus, tmp_path):
    environment = with_gpus('echo GPU-a')
    command = ['bash', '-c', f'{LOCK}touch began; exec sleep 60']
    job = subprocess.Popen(command, cwd=tmp_path, env=environment)
    while not (tmp_path / 'began').exists():
        time.sleep(0.05)
    job.kill()
    job.wait()
    subprocess.run(['bash', '-c', f'{LOCK}touch second'], cwd=tmp_path, env=environment, check=True, timeout=20)
    assert (tmp_path / 'second').exists()


@pytest.mark.parametrize(
    'line', ['exit 9', 'true', 'echo "NVIDIA-SMI has failed"; exit 9', 'rm -r "$HOME"; echo GPU-a']
)
def test_a_job_without_its_lock_ends(line, with_gpus, tmp_path):
    """Without a GPU, without a driver, and without a folder for the lock."""
    environment = with_gpus(line) | {'HOME': str(tmp_path / 'home')}
    (tmp_path / 'home').mkdir()
    done = subprocess.run(['bash', '-c', f'{LOCK}touch ran'], cwd=tmp_path, env=environment, check=False, timeout=20)
    assert done.returncode == 1
    assert not (tmp_path / 'ran').exists()


def test_the_family_of_the_stand_in_needs_no_files(potential_family):
    assert [step.todo for step in plan_setup(parse(f'potentials: {{{STANDIN_FAMILY}: {{}}}}'))] == ['']
