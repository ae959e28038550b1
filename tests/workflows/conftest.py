"""What the chain needs: the stand-in as a code, its potentials, and a builder with all inputs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aiida import orm
from aiida.engine.processes.builder import ProcessBuilder

from aiida_e3relax.cli.resources import STANDIN_FAMILY, provide_potentials
from aiida_e3relax.workflows.vasp import E3RelaxVaspWorkChain
from tests.workflows.crystals import rattled_copper_gold

ENVIRONMENT = 'export E3RELAX_STANDIN_ENGINE=emt OMP_NUM_THREADS=1'


@pytest.fixture
def potential_family(aiida_profile) -> str:
    """The stand-in's potentials, uploaded once into the profile."""
    provide_potentials()
    return STANDIN_FAMILY


@pytest.fixture
def standin_code(make_code, tmp_path) -> orm.InstalledCode:
    """The VASP stand-in with effective medium theory, under a label of this test's own."""
    return make_code('e3relax-vasp-standin', f'vasp-{tmp_path.name}', 'vasp.vasp', prepend_text=ENVIRONMENT)


@pytest.fixture
def make_scripted_code(make_code, tmp_path) -> Callable[..., orm.InstalledCode]:
    """A factory of codes that run shell lines first and then, unless these exit, the program."""

    def make(lines: str, program: str, plugin: str) -> orm.InstalledCode:
        script = tmp_path / f'{program}.sh'
        target = Path(sys.executable).with_name(program)
        script.write_text(f'#!/bin/bash\n{lines}\nexec {target} "$@"\n', encoding='utf-8')
        script.chmod(0o755)
        return make_code(script, f'scripted-{program}', plugin, prepend_text=ENVIRONMENT)

    return make


@pytest.fixture
def make_builder(e3relax_code, standin_code, potential_family, model) -> Callable[..., ProcessBuilder]:
    """A factory of complete inputs for a rattled Cu3Au."""

    def make(**changes) -> ProcessBuilder:
        inputs = {
            'structure': orm.StructureData(ase=rattled_copper_gold()),
            'vasp_code': standin_code,
            'network_code': e3relax_code,
            'potential_family': potential_family,
            'protocol': 'fast',
        }
        return E3RelaxVaspWorkChain.get_builder_from_protocol(**(inputs | changes))

    return make
