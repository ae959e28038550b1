"""Programs of the package for the jobs of tests, in processes that have their imports already.

PyTorch and ASE are most of what a small job takes. `python tests/fork_server.py SOCKET` imports them once and forks for
each run of a program; what `write_client` writes stands in the place of that program. The process gets the client's
folder, environment, limits and open files, and ends when the client does, however that ended. What is read at import,
such as OMP_NUM_THREADS and variables of Python itself, is the server's.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import resource
import signal
import socket
import socketserver
import sys
import threading
import traceback
from pathlib import Path

MODULES = (
    'aiida_e3relax.gnn.cli',
    'aiida_e3relax.gnn.prediction.streaming',
    'aiida_e3relax.gnn.training.run',
    'aiida_e3relax.standin.cli',
    'aiida_e3relax.standin.run',
)
"""What the programs import sooner or later."""

CLIENT = """#!{python} -IS
import json, os, resource, socket, sys
content = json.dumps({{
    'program': {program!r},
    'arguments': sys.argv,
    'folder': os.getcwd(),
    'environment': dict(os.environ),
    'limits': {{name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name[:7] == 'RLIMIT_'}},
}}).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [len(content).to_bytes(8, 'big')], [0, 1, 2])
    server.sendall(content)
    status = server.recv(1)
sys.exit(status[0] if status else 128 + 9)
"""


def write_client(folder: Path, program: str, address: Path) -> Path:
    """Write the executable that has the server at a socket run a program, and return its path."""
    path = folder / program
    path.write_text(CLIENT.format(python=sys.executable, program=program, address=str(address)), encoding='utf-8')
    path.chmod(0o755)
    return path


class _Run(socketserver.StreamRequestHandler):
    """A run of a program, in a process of its own."""

    def handle(self) -> None:
        size, files, _, _ = socket.recv_fds(self.request, 8, 3)
        request = json.loads(self.rfile.read(int.from_bytes(size, 'big')))
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(request['folder'])
        os.environ.clear()
        os.environ.update(request['environment'])
        for name, limits in request['limits'].items():
            resource.setrlimit(getattr(resource, name), limits)
        threading.Thread(target=self._end_with_client, daemon=True).start()
        sys.argv = request['arguments']
        self.wfile.write(bytes([_run(request['program'])]))

    def _end_with_client(self) -> None:
        if not self.rfile.read(1):
            os.kill(os.getpid(), signal.SIGKILL)


class _Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    max_children = 1000
    request_queue_size = 100


def _run(program: str) -> int:
    """Run a console script of the package and return its exit status, as the interpreter does."""
    (script,) = importlib.metadata.entry_points(group='console_scripts', name=program)
    try:
        sys.exit(script.load()())
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status & 255


def main(address: str) -> None:
    """Serve until standard input ends, which it does with the process that holds its other end.

    A line on standard output says that clients may come; the first ones wait for the imports.
    """
    with _Server(address, _Run) as server:
        print(address, flush=True)
        for module in MODULES:
            importlib.import_module(module)
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
        server.serve_forever()


if __name__ == '__main__':
    main(sys.argv[1])
