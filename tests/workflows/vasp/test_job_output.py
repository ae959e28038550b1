"""What a person is told of a VASP job's last words: made jobs with files as VASP, shells and schedulers write them."""

import io

import pytest
from aiida import orm
from aiida.common.links import LinkType

from aiida_e3relax.workflows.vasp.job_output import find_last_lines, find_missing_files
from aiida_e3relax.workflows.vasp.messages import describe_failure

BOX = """ running on    4 total cores
 vasp.6.4.2 20Jul23 (build Oct 10 2023) complex
 -----------------------------------------------------------------------------
|                                                                             |
|     EEEEEEE  RRRRRR   RRRRRR   OOOOOOO  RRRRRR      ###     ###     ###     |
|     E        R     R  R     R  O     O  R     R     ###     ###     ###     |
|                                                                             |
|     Error reading item 'ENCUT' from file INCAR.                             |
|                                                                             |
|       ---->  I REFUSE TO CONTINUE WITH THIS SICK JOB ... BYE!!! <----       |
|                                                                             |
 -----------------------------------------------------------------------------
"""
SYMMETRY = (
    ' entering main loop\n VERY BAD NEWS! internal error in subroutine SGRCON:\n Found some non-integer element\n'
)
KILLED = 'DAV:   1     0.1E+02\nDAV:   2    -0.2E+02\n'
OUT_OF_MEMORY = 'slurmstepd: error: Detected 1 oom-kill event(s) in StepId=1.0.\n'


@pytest.fixture
def make_job(aiida_computer_local):
    """A finished VASP job that left these files."""

    def make(label='VaspCalculation', notifications=(), caller=None, **files: bytes | str) -> orm.CalcJobNode:
        job = orm.CalcJobNode(computer=aiida_computer_local(), process_type='aiida.calculations:vasp.vasp')
        job.set_process_label(label)
        job.set_options({'resources': {'num_machines': 1}, 'scheduler_stderr': '_scheduler-stderr.txt'})
        job.set_process_state('finished')
        job.set_exit_status(352)
        job.set_exit_message('an object that is marked by the parser as critical is missing.')
        if caller:
            job.base.links.add_incoming(caller, LinkType.CALL_CALC, 'iteration_01')
        job.store()
        retrieved = orm.FolderData()
        for name, content in files.items():
            raw = content if isinstance(content, bytes) else content.encode()
            path = '_scheduler-stderr.txt' if name == 'stderr' else name
            retrieved.base.repository.put_object_from_filelike(io.BytesIO(raw), path)
        retrieved.base.links.add_incoming(job, LinkType.CREATE, 'retrieved')
        retrieved.store()
        if notifications:
            misc = orm.Dict({'notifications': list(notifications)})
            misc.base.links.add_incoming(job, LinkType.CREATE, 'misc')
            misc.store()
        return job

    return make


@pytest.mark.parametrize(
    ('files', 'words'),
    [
        (
            {'vasp_output': BOX},
            "VASP wrote `Error reading item 'ENCUT' from file INCAR. / ----> I REFUSE TO CONTINUE WITH THIS SICK JOB "
            '... BYE!!! <----`',
        ),
        (
            {'vasp_output': SYMMETRY},
            'VASP wrote `VERY BAD NEWS! internal error in subroutine SGRCON: / Found some non-integer element`',
        ),
        (
            {'vasp_output': KILLED, 'stderr': OUT_OF_MEMORY},
            'VASP wrote `DAV: 1 0.1E+02 / DAV: 2 -0.2E+02`; the shell or scheduler wrote `slurmstepd: error: Detected '
            '1 oom-kill event(s) in StepId=1.0.`',
        ),
        ({'stderr': 'vasp_std: command not found\n'}, 'the shell or scheduler wrote `vasp_std: command not found`'),
        ({'vasp_output': b'\xff\x1b[31m ERROR: bad\n'}, 'VASP wrote `�\\x1b[31m ERROR: bad`'),
        ({'vasp_output': ''}, None),
        ({}, None),
    ],
)
def test_the_last_words_tell_why(make_job, files, words):
    assert find_last_lines(make_job(**files)) == words


def test_they_are_short_whatever_the_length_of_the_output(make_job):
    words = find_last_lines(make_job(vasp_output='x' * 3_000_000 + '\n' + 'ERROR: x ' * 100_000))
    assert len(words) < 1000


def test_other_jobs_have_none(make_job):
    assert find_last_lines(make_job(label='E3RelaxCalculation', stderr='Killed')) is None


@pytest.mark.parametrize(
    ('files', 'told'),
    [
        ((), 'it left no vasprun.xml and no OUTCAR'),
        (('OUTCAR', 'CONTCAR'), 'it left no vasprun.xml'),
        (('OUTCAR', 'vasprun.xml'), None),
    ],
)
def test_files_that_are_missing_are_named(make_job, files, told):
    assert find_missing_files(make_job(**dict.fromkeys(files, 'text'))) == told


def test_a_failed_chain_tells_them_once(make_job):
    leg = orm.WorkChainNode()
    leg.set_process_state('finished')
    leg.set_exit_status(401)
    leg.set_exit_message('giving up')
    leg.store()
    notes = [
        {'name': 'sgrcon', 'kind': 'ERROR', 'message': 'Error in SGRCON.'},
        {'name': 'other', 'kind': 'WARNING', 'message': 'Nothing.'},
    ]
    job = make_job(vasp_output=SYMMETRY, notifications=notes, caller=leg)
    told = describe_failure(leg)
    assert f'; its last job <{job.pk}>: an object that is marked by the parser as critical is missing.' in told
    assert told.count('known errors of VASP in it: sgrcon: Error in SGRCON.;') == 1
    assert told.count('VASP wrote `VERY BAD NEWS!') == 1
    assert told.count('critical is missing.; it left no vasprun.xml and no OUTCAR; known errors') == 1
    assert 'Nothing' not in told
