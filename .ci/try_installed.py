"""Try an installed aiida-e3relax: every module, every entry point, the kernels, and a prediction. For CI.

Run it from outside a checkout, with the Python of the environment: `python try_installed.py --kernels true`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

OPTIONAL = {'chgnet', 'gpaw', 'triton'}
"""What a module may ask for and not find: extras, and what only some builds of PyTorch bring."""

CIF = """data_rock_salt
_cell_length_a 5.8
_cell_length_b 5.8
_cell_length_c 5.8
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_IT_number 225
_space_group_name_H-M_alt 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 Na 0 0 0
Cl1 Cl 0.5 0.5 0.5
"""


def import_all() -> int:
    """Import every module and return their number."""
    package = importlib.import_module('aiida_e3relax')
    found = [module.name for module in pkgutil.walk_packages(package.__path__, 'aiida_e3relax.')]
    names = [name for name in found if not name.rpartition('.')[2].startswith('_')]  # the kernels are no Python module
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition('.')[0] not in OPTIONAL:
                raise
            print(f'{name}: without {error.name}')
    return len(names)


def load_entry_points() -> int:
    """Load every entry point and return their number."""
    entry_points = importlib.metadata.distribution('aiida-e3relax').entry_points
    for entry_point in entry_points:
        entry_point.load()
    return len(entry_points)


def run_scripts(folder: Path) -> None:
    """Run the commands as a person does."""
    scripts = Path(sys.executable).parent
    (folder / 'NaCl.cif').write_text(CIF)
    for command in (
        ['e3relax', '--help'],
        ['aiida-e3relax', '--help'],
        ['e3relax-vasp-standin', '--help'],
        ['e3relax', 'predict', 'NaCl.cif', '--output', 'relaxed.vasp'],
    ):
        subprocess.run([scripts / command[0], *command[1:]], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    print((folder / 'relaxed.vasp').read_text())


def main() -> None:
    """Try everything; whatever fails ends the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kernels', choices=['true', 'false'], required=True, help='whether they must be there')
    expected = parser.parse_args().kernels == 'true'
    with tempfile.TemporaryDirectory() as folder:
        os.environ['AIIDA_PATH'] = folder  # importing aiida makes a configuration folder
        print(f'{import_all()} modules, {load_entry_points()} entry points')
        found = importlib.import_module('aiida_e3relax.gnn.engine.native').library() is not None
        if found != expected:
            sys.exit(f'compiled kernels: expected {expected}, found {found}')
        run_scripts(Path(folder))


if __name__ == '__main__':
    main()
