"""What the chain needs: a builder with all inputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiida import orm
from aiida.engine.processes.builder import ProcessBuilder

from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain
from tests.workflows.crystals import rattled_copper_gold


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
