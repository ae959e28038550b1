"""Packages of potentials that are not there, and files of weights."""

import sys
import types

import pytest
from ase.calculators.emt import EMT

ADAPTERS = 'aiida_e3relax.gnn.potentials'


@pytest.fixture
def calls():
    """What the adapters ask of packages that are not there."""
    return []


@pytest.fixture
def install(monkeypatch, calls):
    """Put a package of functions that note how they are called in place of a real one."""

    def note(name, result=EMT):
        def function(*arguments, **options):
            calls.append((name, arguments, options))
            return result() if callable(result) else result

        return function

    def install(adapter, modules):
        for name in modules:
            for parent in [name.rsplit('.', depth)[0] for depth in range(name.count('.') + 1)]:
                monkeypatch.setitem(sys.modules, parent, sys.modules.get(parent) or types.ModuleType(parent))
        for name, content in modules.items():
            for key, value in content.items():
                monkeypatch.setattr(sys.modules[name], key, note(key, value), raising=False)
        forget(monkeypatch, adapter)

    return install


def forget(monkeypatch, adapter):
    """Let an adapter be imported anew, now and after the test."""
    monkeypatch.setitem(sys.modules, f'{ADAPTERS}.{adapter}', None)
    del sys.modules[f'{ADAPTERS}.{adapter}']


@pytest.fixture
def weights(tmp_path):
    """A file of weights under a name that each package takes."""

    def make(name='weights.model'):
        path = tmp_path / name
        path.write_bytes(b'weights')
        return path

    return make
