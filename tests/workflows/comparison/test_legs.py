"""What the processes of a leg say of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm
from aiida.common.links import LinkType

from aiida_e3relax.workflows.comparison.legs import find_algo, find_other_environment


@pytest.fixture
def make_leg(aiida_localhost) -> Callable[..., orm.WorkChainNode]:
    """Return a stored leg with one VASP run for each IBRION, all with the same options."""

    def make(*ibrions: int, **options: Any) -> orm.WorkChainNode:
        leg = orm.WorkChainNode().store()
        for number, ibrion in enumerate(ibrions, start=1):
            base = orm.WorkChainNode()
            base.base.links.add_incoming(leg, LinkType.CALL_WORK, f'relax_{number:02}')
            base.store()
            run = orm.CalcJobNode(computer=aiida_localhost)
            run.set_options({'resources': {'num_machines': 1}, **options})
            run.base.links.add_incoming(base, LinkType.CALL_CALC, 'iteration_01')
            tags = orm.Dict({'ibrion': ibrion}).store()
            run.base.links.add_incoming(tags, LinkType.INPUT_CALC, 'parameters')
            run.store()
        return leg

    return make


def test_the_algorithm_is_that_of_the_runs(make_leg):
    assert find_algo(make_leg(2, 2)) == 'cg'
    assert find_algo(make_leg(1)) == 'rd'
    assert find_algo(make_leg(2, 2, 1, 2)) == 'cg, then rd, then cg', 'as aiida-vasp changes it in restarts'
    assert find_algo(make_leg(44)) == 'IBRION = 44'
    assert find_algo(make_leg()) is None


def test_what_else_the_jobs_were_given(make_leg):
    plain, loaded = make_leg(2), make_leg(2, prepend_text='module load vasp')
    threads = make_leg(2, environment_variables={'OMP_NUM_THREADS': '4'}, max_wallclock_seconds=60)
    assert find_other_environment([plain, make_leg(2, max_wallclock_seconds=9)]) == []
    assert find_other_environment([plain, loaded]) == find_other_environment([loaded, plain]) == ['prepend_text']
    assert find_other_environment([loaded, threads]) == ['prepend_text', 'environment_variables']
    assert find_other_environment([make_leg(), loaded]) == []
    assert find_other_environment([]) == []
