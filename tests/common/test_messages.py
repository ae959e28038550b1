"""Results on a stdout that cannot take them."""

import os
import subprocess
import sys

from aiida_e3relax.common.messages import print_result

PROGRAM = "from aiida_e3relax.common.messages import print_result; print_result('wrote Å.npz')"


def run(stdout, **variables):
    """Return the process of a program that prints a result, with these variables in its environment."""
    command, environment = [sys.executable, '-c', PROGRAM], os.environ | variables
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, env=environment, check=False)


def test_characters_that_stdout_lacks_become_escapes():
    for encoding, shown in (('ascii', b'wrote \\xc5.npz\n'), ('utf-8', 'wrote Å.npz\n'.encode())):
        done = run(subprocess.PIPE, PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stdout, done.stderr) == (0, shown, b'')


def test_pipe_without_a_reader_is_no_failure():
    for unbuffered in ('', '1'):
        reader, writer = os.pipe()
        os.close(reader)
        done = run(writer, PYTHONUNBUFFERED=unbuffered)
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, b'')


def test_closed_stdout_is_no_failure(monkeypatch):
    monkeypatch.setattr(sys, 'stdout', None)
    print_result('wrote it')
