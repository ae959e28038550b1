"""GPUs that jobs ask for: what stands in their scripts, and what is refused."""

from pathlib import Path

import pytest
from aiida import orm
from aiida.engine import run_get_node

from aiida_e3relax.calculations.gpus import find_options_fault
from aiida_e3relax.calculations.predict import E3RelaxCalculation
from aiida_e3relax.calculations.train import E3RelaxTrainCalculation


@pytest.fixture
def run_dry(aiida_computer, model, make_structure, tmp_path, monkeypatch):
    """A function that returns the node of a job for a scheduler, and the lines of its script."""
    monkeypatch.chdir(tmp_path)

    def run(scheduler: str, **options: object) -> tuple[orm.CalcJobNode, list[str]]:
        computer = aiida_computer(label=f'gpus-{scheduler}', scheduler_type=scheduler, transport_type='core.local')
        computer.configure()
        code = orm.InstalledCode(
            label='e3relax',
            computer=computer,
            filepath_executable='/bin/true',
            default_calc_job_plugin='e3relax.predict',
        ).store()
        resources = {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
        if scheduler in ('core.lsf', 'core.sge'):
            resources = {'tot_num_mpiprocs': 1, 'parallel_env': 'mpi'}
            resources = resources if scheduler == 'core.sge' else {'tot_num_mpiprocs': 1}
        metadata = {
            'dry_run': True,
            'store_provenance': False,
            'options': {'resources': resources, **options},
        }
        structures = {'cu': make_structure('Cu')}
        _, node = run_get_node(E3RelaxCalculation, code=code, model=model, structures=structures, metadata=metadata)
        script = Path(node.dry_run_info['folder']) / node.dry_run_info['script_filename']
        return node, [line.strip() for line in script.read_text(encoding='utf-8').splitlines()]

    return run


@pytest.mark.parametrize(
    ('scheduler', 'count', 'line'),
    [
        ('core.slurm', 1, '#SBATCH --gres=gpu:1'),
        ('core.slurm', 4, '#SBATCH --gres=gpu:4'),
        ('core.lsf', 2, '#BSUB -gpu num=2'),
    ],
)
def test_the_script_asks_for_gpus(run_dry, scheduler, count, line):
    _, lines = run_dry(scheduler, num_gpus=count)
    assert lines.count(line) == 1
    mark = line.split()[0]
    first_command = next(place for place, text in enumerate(lines) if text and not text.startswith('#'))
    assert lines.index(line) < first_command, f'the scheduler reads {mark} above all commands alone'


def test_own_lines_stay_and_the_option_is_recorded_as_it_was_given(run_dry):
    node, lines = run_dry('core.slurm', num_gpus=1, custom_scheduler_commands='#SBATCH --constraint=a100')
    assert {'#SBATCH --constraint=a100', '#SBATCH --gres=gpu:1'} <= set(lines)
    given = node.get_metadata_inputs()['metadata']['options']
    assert (given['num_gpus'], given['custom_scheduler_commands']) == (1, '#SBATCH --constraint=a100')
    assert node.get_option('num_gpus') == 1


@pytest.mark.parametrize('options', [{}, {'num_gpus': 0}])
def test_none_are_asked_for_by_default(run_dry, options):
    node, lines = run_dry('core.slurm', **options)
    assert not any('gpu' in line.lower() for line in lines if line.startswith('#SBATCH --g'))
    assert node.get_option('custom_scheduler_commands') == ''


@pytest.mark.parametrize(
    ('scheduler', 'options', 'message'),
    [
        ('core.direct', {'num_gpus': 1}, 'nothing hands out GPUs on gpus-core.direct'),
        ('core.pbspro', {'num_gpus': 1}, 'expected core.slurm or core.lsf, found core.pbspro'),
        ('core.slurm', {'num_gpus': -1}, 'expected an integer from 0 on, found -1'),
        ('core.slurm', {'num_gpus': True}, 'expected an integer from 0 on, found True'),
        ('core.slurm', {'num_gpus': 1, 'custom_scheduler_commands': '#SBATCH --gpus=2'}, 'too, by --gpus, of which'),
    ],
)
def test_what_cannot_be_asked_for_is_refused(run_dry, scheduler, options, message):
    with pytest.raises(ValueError, match=message):
        run_dry(scheduler, **options)


@pytest.mark.parametrize(
    'line',
    [
        '#SBATCH --gres=gpu:a100:1',
        '#SBATCH --gres nvme:100',
        '#SBATCH --gpus-per-node=1',
        '#SBATCH --tres-per-node=gres/gpu:1',
        '#SBATCH -G 1',
        '#SBATCH -G1',
        '#BSUB -gpu num=1',
        '#BSUB -R "rusage[ngpus_physical=1]"',
    ],
)
def test_gpus_are_asked_for_once(line):
    assert 'leave `num_gpus` out' in find_options_fault(
        {'num_gpus': 1, 'custom_scheduler_commands': line}, 'core.slurm', 'a'
    )


def test_how_gpus_are_bound_is_no_second_request():
    bound = {'num_gpus': 1, 'custom_scheduler_commands': '#SBATCH --gpu-bind=closest'}
    assert find_options_fault(bound, 'core.slurm', 'a') is None


def test_trainings_and_predictions_have_the_option():
    for job in (E3RelaxCalculation, E3RelaxTrainCalculation):
        assert 'num_gpus' in job.spec().inputs['metadata']['options']
