"""The source distribution and the wheels hold what an installation needs, and the wheel without a compiler works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns('.*', '__pycache__', '*.so', '*.egg-info', 'build', 'dist', 'reports')
PACKAGE = 'aiida_e3relax'
DATA = [
    'py.typed',
    'campaign/archive.md',
    'campaign/report/libraries/plotly-cartesian.min.js',
    'campaign/report/libraries/tabulator-tables.LICENSE',
    'campaign/report/template/report.css',
    'campaign/report/template/report.html.j2',
    'cli/setup_file/examples/e3relax.def',
    'cli/setup_file/examples/slurm.yaml',
    'gnn/checkpoints/default.card.json',
    'gnn/checkpoints/default.pt',
    'gnn/engine/edge_kernels.cpp',
    'gnn/engine/edge_kernels.inc',
    'workflows/protocols/vasp.yaml',
]


def _build(kind: str, source: Path, **environment: str) -> Path:
    """Build by the back end of pyproject.toml, as pip and `python -m build` do; no network, no isolation."""
    target = source.parent / f'{kind}-{"-".join(environment)}'
    command = f'from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})'
    target.mkdir()
    subprocess.run(
        [sys.executable, '-c', command], cwd=source, env=os.environ | environment, check=True, capture_output=True
    )
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope='module')
def checkout(tmp_path_factory) -> Path:
    """A copy of this checkout, since a build writes into the folder that it builds."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp('packaging') / 'checkout', ignore=LEFT_OUT))


@pytest.fixture(scope='module')
def unpacked(checkout) -> Path:
    """The folder of the source distribution, from which the wheels are built."""
    sdist = _build('sdist', checkout)
    with tarfile.open(sdist) as archive:
        archive.extractall(checkout.parent, filter='data')
    return checkout.parent / sdist.name.removesuffix('.tar.gz')


@pytest.fixture(scope='module')
def pure_wheel(unpacked) -> Path:
    return _build('wheel', unpacked, E3RELAX_NO_EXTENSION='1')


def _modules(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in (root / PACKAGE).rglob('*.py')}


def test_sdist_holds_sources_and_what_builds_them(unpacked, checkout):
    needed = ['pyproject.toml', 'setup.py', 'setup.json', 'LICENSE', 'README.md', 'CHANGELOG.md', 'CITATION.cff']
    assert [name for name in needed if not (unpacked / name).is_file()] == []
    assert [name for name in DATA if not (unpacked / PACKAGE / name).is_file()] == []
    assert _modules(unpacked) == _modules(checkout)
    assert (unpacked / 'tests' / Path(__file__).name).is_file()
    assert not list(unpacked.rglob('*.so'))


def test_wheel_holds_code_data_and_scripts(pure_wheel, checkout):
    assert pure_wheel.name.endswith('-py3-none-any.whl')
    with zipfile.ZipFile(pure_wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (name for name in names if name.endswith('.dist-info/entry_points.txt'))
        scripts = archive.read(entry_points).decode()
    assert {name for name in names if name.endswith('.py')} == _modules(checkout)
    assert {f'{PACKAGE}/{name}' for name in DATA} <= names
    assert [name for name in names if name.endswith('/licenses/LICENSE')]
    listed = json.loads((ROOT / 'setup.json').read_text(encoding='utf-8'))['entry_points']
    for group, entries in listed.items():
        assert f'[{group}]' in scripts
        assert [entry for entry in entries if entry not in scripts] == []


@pytest.mark.slow
def test_failing_compiler_costs_the_kernels_alone(unpacked, pure_wheel):
    contents = []
    for wheel in (_build('wheel', unpacked, CC='false', CXX='false'), pure_wheel):
        with zipfile.ZipFile(wheel) as archive:
            contents.append({name for name in archive.namelist() if name.startswith(f'{PACKAGE}/')})
    assert contents[0] == contents[1]


def test_wheel_without_kernels_predicts(pure_wheel, tmp_path):
    with zipfile.ZipFile(pure_wheel) as archive:
        archive.extractall(tmp_path / 'installed')
    crystal = 'rock salt\n1.0\n0.0 2.9 2.9\n2.9 0.0 2.9\n2.9 2.9 0.0\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n'
    (tmp_path / 'POSCAR').write_text(crystal)
    script = (
        'import aiida_e3relax; from aiida_e3relax.gnn.cli import main; from aiida_e3relax.gnn.engine import native; '
        'print(aiida_e3relax.__file__, native.library()); main()'
    )
    result = subprocess.run(
        [sys.executable, '-c', script, 'predict', 'POSCAR', '--output', 'relaxed.vasp'],
        cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': str(tmp_path / 'installed')},
        check=True,
        capture_output=True,
        text=True,
    )
    assert f'{tmp_path / "installed" / PACKAGE / "__init__.py"} None' in result.stdout
    assert (tmp_path / 'relaxed.vasp').is_file()


def test_citation_has_the_version_of_the_package():
    version = json.loads((ROOT / 'setup.json').read_text(encoding='utf-8'))['version']
    assert f'\nversion: {version}\n' in (ROOT / 'CITATION.cff').read_text(encoding='utf-8')
