"""What brings the services up: each is started once, ended with all that it started, and no other process is."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys

import pytest

from tests.services import services
from tests.services.services import Service, ServiceError

SERVER = """
import subprocess, sys, time
child = subprocess.Popen(['sleep', '600'], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""

pytestmark = pytest.mark.services


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A factory of services in a folder of the test; whatever still runs at the end is ended."""
    monkeypatch.setattr(services, 'FOLDER', tmp_path)
    for name in ('logs', 'processes'):
        (tmp_path / name).mkdir()
    made = []

    def make_one(code: str, **fields) -> Service:
        command = [sys.executable, '-c', code]
        made.append(Service('tried', command, lambda: made[-1].log.read_text() != '', **fields))
        return made[-1]

    yield make_one
    for service in made:
        service.stop()


def test_what_runs_is_left_alone():
    told = subprocess.run([sys.executable, services.__file__, 'up'], capture_output=True, text=True, check=True).stdout
    assert told.count('runs already') == len(services.SERVICES)
    services.status()


def test_a_service_ends_with_what_it_started(make):
    service = make(SERVER)
    service.start()
    child = int(service.log.read_text())
    assert service.find_process() is not None
    assert services._read_start(child) is not None
    service.stop()
    assert service.find_process() is None
    assert services._wait(lambda: services._read_start(child) is None)


def test_another_process_of_that_number_is_left_alone(make):
    service = make('')
    with subprocess.Popen(['sleep', '600']) as other:
        service.record.write_text(f'{other.pid} 1', encoding='utf-8')
        assert service.find_process() is None
        service.stop()
        assert other.poll() is None
        other.kill()


def test_why_it_does_not_start_is_told(make):
    with pytest.raises(ServiceError, match=r'tried does not start; the end of .*tried\.log:(.|\n)*no such thing'):
        dataclasses.replace(make('raise SystemExit("no such thing")'), is_ready=lambda: False).start()
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=f'tried needs port {port} of 127.0.0.1, which another program has'):
            make(SERVER, ports=(port,)).start()


def test_a_folder_of_someone_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(services, 'FOLDER', tmp_path / 'link')
    (tmp_path / 'link').symlink_to(tmp_path)
    with pytest.raises(ServiceError, match='is no folder of root'):
        services.check_root()
