"""The import contract: `gnn/` never imports aiida, nothing outside it torch; `crystals/` and the stand-in neither."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import aiida_e3relax

PACKAGE = Path(aiida_e3relax.__file__).parent
MODULES = sorted(PACKAGE.rglob('*.py'))
FORBIDDEN = {
    'gnn': {'aiida', 'aiida_vasp'},
    'crystals': {'aiida', 'aiida_vasp', 'torch'},
    'standin': {'aiida', 'aiida_vasp', 'torch'},
}

OPTIONAL = {
    'gpaw': 'aiida_e3relax.standin.engines.gpaw',  # an extra that `make test` does not install
    'chgnet': 'aiida_e3relax.gnn.potentials.chgnet',
    'triton': 'aiida_e3relax.gnn.engine.triton_',  # for Linux alone
}

# A finder, not entries in sys.modules: scipy looks there for whether torch was imported.
BLOCKED_IMPORTS = """
import importlib, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {forbidden}:
            raise ImportError(f'{{name}} is forbidden here')

sys.meta_path.insert(0, Blocker())
for name in {names}:
    importlib.import_module(name)
"""


def room_of(path: Path) -> str:
    """The first folder inside the package that `path` lies in, or an empty string."""
    return (*path.relative_to(PACKAGE).parts[:-1], '')[0]


def forbidden_to(path: Path) -> set[str]:
    return FORBIDDEN.get(room_of(path), {'torch'})


def module_name(path: Path) -> str:
    return '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts).removesuffix('.__init__')


def imported_packages(path: Path) -> set[str]:
    """Top-level packages that a module imports anywhere, inside functions as well."""
    packages = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            packages.add(str(node.module).split('.')[0])
    return packages


@pytest.mark.parametrize('path', MODULES, ids=module_name)
def test_source_names_no_forbidden_package(path):
    assert not imported_packages(path) & forbidden_to(path)


@pytest.mark.parametrize('room', ['gnn', 'crystals', 'standin', 'elsewhere'])
def test_imports_where_the_forbidden_packages_are_missing(room):
    """Blocks the packages for good, so that an import by way of another module is found too."""
    paths = [path for path in MODULES if (room_of(path) if room_of(path) in FORBIDDEN else 'elsewhere') == room]
    assert paths
    names = [module_name(path) for path in paths if path.stem != '__main__']
    for package, users in OPTIONAL.items():
        if importlib.util.find_spec(package) is None:
            names = [name for name in names if not name.startswith(users)]
    program = BLOCKED_IMPORTS.format(forbidden=sorted(forbidden_to(paths[0])), names=names)
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
