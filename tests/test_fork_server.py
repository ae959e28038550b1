"""A program that the fork server runs does what it does by itself."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import BIN


def test_status_and_output_are_those_of_the_program(find_program, tmp_path):
    for arguments in (['--help'], ['predict'], ['predict', 'absent.cif', '--output', 'out.npz']):
        served, alone = (
            subprocess.run([program, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path)
            for program in (find_program('e3relax'), BIN / 'e3relax')
        )
        assert (served.returncode, served.stdout, served.stderr) == (alone.returncode, alone.stdout, alone.stderr)


def test_it_gets_folder_environment_and_limits(find_program, tmp_path):
    standin = find_program('e3relax-vasp-standin')
    environment = os.environ | {'E3RELAX_STANDIN_ENGINE': 'nonsense'}
    told = subprocess.run([standin], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert told.returncode == 1
    assert 'nonsense' in told.stdout
    for limit, has_failed in (('unlimited', False), ('0', True)):
        words = f'ulimit -S -f {limit}; trap "" XFSZ; {standin} potentials {tmp_path}/{limit} --elements Cu'
        done = subprocess.run(['bash', '-c', words], capture_output=True, check=False, cwd=tmp_path)
        assert (done.returncode != 0) == has_failed


def test_it_ends_with_the_client(find_program, tmp_path):
    for name in ('POSCAR', 'INCAR', 'KPOINTS', 'POTCAR'):
        os.mkfifo(tmp_path / name)
    environment = os.environ | {'E3RELAX_STANDIN_ENGINE': 'emt'}
    with subprocess.Popen([find_program('e3relax-vasp-standin')], cwd=tmp_path, env=environment) as client:
        pipe = _wait_for(lambda: _open_what_is_read(tmp_path))
        assert client.poll() is None
        client.send_signal(signal.SIGKILL)
    assert _wait_for(lambda: _has_no_reader(pipe))
    os.close(pipe)


def _open_what_is_read(folder: Path) -> int | None:
    """Open the pipe at which a process waits for something to read."""
    for pipe in folder.iterdir():
        with contextlib.suppress(OSError):  # ENXIO: nobody has it open
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    return None


def _has_no_reader(pipe: int) -> bool:
    try:
        os.write(pipe, b'#')
    except BrokenPipeError:
        return True
    return False


def _wait_for(find: Callable[[], Any]) -> Any:
    """Return what is found within a minute."""
    end = time.monotonic() + 60
    while not (found := find()) and time.monotonic() < end:
        time.sleep(0.1)
    return found
