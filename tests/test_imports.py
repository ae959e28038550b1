"""The import contract.

Imports between rooms, the folders of the package, go one way. `gnn/` never imports aiida, nothing outside it imports
torch; `crystals/`, `common/` and the stand-in import neither.
"""

import ast
import functools
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import aiida_e3relax

PACKAGE = Path(aiida_e3relax.__file__).parent
MODULES = sorted(PACKAGE.rglob('*.py'))
NETWORK = PACKAGE / 'gnn'
COMMAND_LINES = ('aiida_e3relax.cli', 'aiida_e3relax.gnn.cli', 'aiida_e3relax.standin.cli')
FORBIDDEN = {
    'common': {'aiida', 'aiida_vasp', 'torch'},
    'gnn': {'aiida', 'aiida_vasp'},
    'crystals': {'aiida', 'aiida_vasp', 'torch'},
    'standin': {'aiida', 'aiida_vasp', 'torch'},
}

ROOMS = {
    'common': set(),
    'crystals': {'common'},
    'gnn': {'common', 'crystals'},
    'standin': {'common'},
    'data': {'common', 'crystals', 'gnn'},
    'calculations': {'common', 'crystals', 'gnn', 'data'},
    'parsers': {'common', 'crystals', 'data', 'calculations'},
    'workflows': {'common', 'crystals', 'standin', 'data', 'calculations'},
    'learning': {'common', 'crystals', 'gnn', 'data', 'calculations', 'workflows'},
    'campaign': {'common', 'crystals', 'data', 'calculations', 'workflows', 'learning'},
    'validation': {'common', 'crystals', 'data', 'calculations', 'workflows', 'campaign'},
    'cli': {
        'common',
        'crystals',
        'gnn',
        'standin',
        'data',
        'calculations',
        'workflows',
        'campaign',
        'validation',
        'learning',
    },
}
"""The rooms that each room may import: nothing imports the command line."""

NETWORK_ROOMS = {
    'graph': set(),
    'layers': {'graph'},
    'models': {'graph', 'layers'},
    'engine': {'graph', 'layers', 'models'},
    'checkpoints': {'models'},
    'potentials': {'checkpoints'},
    'data': set(),
    'prediction': {'graph', 'models', 'engine', 'checkpoints', 'potentials', 'device'},
    'evaluation': {'graph', 'engine', 'checkpoints', 'prediction'},
    'distillation': {'checkpoints', 'data', 'prediction'},
    'training': {'graph', 'models', 'engine', 'checkpoints', 'prediction', 'evaluation'},
    'experiments': {'graph', 'models', 'engine', 'checkpoints', 'prediction', 'evaluation', 'training', 'device'},
    'device': set(),
    'pyg': {'graph', 'models'},
    'cli': {
        'checkpoints',
        'potentials',
        'data',
        'prediction',
        'evaluation',
        'training',
        'experiments',
        'distillation',
        'device',
    },
}
"""The same within `gnn/`, for its folders and its modules."""

OPTIONAL = {
    'gpaw': 'aiida_e3relax.standin.engines.gpaw',  # an extra that `make test` does not install
    'chgnet': 'aiida_e3relax.gnn.potentials.chgnet',
    'sevenn': 'aiida_e3relax.gnn.potentials.sevennet',
    'mace': 'aiida_e3relax.gnn.potentials.mace',
    'matgl': 'aiida_e3relax.gnn.potentials.matgl',
    'nequip': 'aiida_e3relax.gnn.potentials.nequip',
    'mattersim': 'aiida_e3relax.gnn.potentials.mattersim',
    'orb_models': 'aiida_e3relax.gnn.potentials.orb',
    'fairchem': 'aiida_e3relax.gnn.potentials.fairchem',
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


@functools.cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding='utf-8'))))


def imported_packages(path: Path) -> set[str]:
    """Top-level packages that a module imports anywhere, inside functions as well."""
    packages = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            packages.add(str(node.module).split('.')[0])
    return packages


def imported_modules(path: Path) -> set[str]:
    """Modules of this package, or names in them, that a module imports anywhere, inside functions as well."""
    names = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: a relative import'
            names |= {f'{node.module}.{alias.name}' for alias in node.names}
    return {name for name in names if is_within(name, 'aiida_e3relax')}


def is_within(name: str, package: str) -> bool:
    return f'{name}.'.startswith(f'{package}.')


def foreign_rooms(path: Path, folder: Path) -> set[str]:
    """The rooms inside `folder` from which a module in one of them imports, but for its own."""
    package = module_name(folder / '__init__.py')
    names = {name.removeprefix(f'{package}.') for name in imported_modules(path) if name.startswith(f'{package}.')}
    return {name.split('.')[0] for name in names} - {path.relative_to(folder).with_suffix('').parts[0]}


def test_every_room_has_its_row():
    assert {room_of(path) for path in MODULES} - {''} == set(ROOMS)
    assert {path.relative_to(NETWORK).with_suffix('').parts[0] for path in NETWORK.rglob('*.py')} - {'__init__'} == set(
        NETWORK_ROOMS
    )


@pytest.mark.parametrize('room', ROOMS)
def test_imports_between_rooms_go_one_way(room):
    for path in MODULES:
        if room_of(path) == room:
            assert foreign_rooms(path, PACKAGE) <= ROOMS[room], path


@pytest.mark.parametrize('room', NETWORK_ROOMS)
def test_imports_within_the_network_side_go_one_way(room):
    for path in NETWORK.rglob('*.py'):
        if path.relative_to(NETWORK).with_suffix('').parts[0] == room:
            assert foreign_rooms(path, NETWORK) <= NETWORK_ROOMS[room], path


def test_no_library_imports_a_command_line():
    for path in MODULES:
        if not any(is_within(module_name(path), line) for line in COMMAND_LINES):
            assert not [name for name in imported_modules(path) if any(is_within(name, line) for line in COMMAND_LINES)]


@pytest.mark.parametrize('path', MODULES, ids=module_name)
def test_source_names_no_forbidden_package(path):
    assert not imported_packages(path) & forbidden_to(path)


@pytest.mark.parametrize('room', [*FORBIDDEN, 'elsewhere'])
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
