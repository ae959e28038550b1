"""The ledger of a leg that NSW cut into several VASP runs, against what a person counts in the OUTCAR files."""

import re

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node

from tests.workflows.crystals import rattled_copper_gold

NSW = 8
ATOMS = 4
FORCES = re.compile(r'TOTAL-FORCE \(eV/Angst\)\n -+\n(.*?)\n -+\n', re.DOTALL)
ENERGY = re.compile(r'energy\(sigma->0\) = +(\S+)')
PRESSURE = re.compile(r'in kB +(.*)')
ELAPSED = re.compile(r'Elapsed time \(sec\): +(\S+)')


@pytest.fixture
def cut_into_runs(make_builder) -> orm.WorkChainNode:
    """A chain whose raw leg needs more ionic steps than one VASP run may do."""
    overrides = {'vasp': {'relax_settings': {'steps': NSW, 'force_cutoff': 0.002}}}
    return run_get_node(make_builder(network_code=None, overrides=overrides)).node


def outcars(chain: orm.WorkChainNode) -> list[str]:
    """The OUTCAR of each VASP run in order, the static one last."""
    jobs = [node for node in chain.called_descendants if isinstance(node, orm.CalcJobNode)]
    jobs.sort(key=lambda job: job.pk)
    return [job.outputs.retrieved.base.repository.get_object_content('OUTCAR') for job in jobs]


def largest_force(block: str) -> float:
    return np.linalg.norm([[float(word) for word in line.split()[3:]] for line in block.splitlines()], axis=1).max()


def pressure(line: str) -> float:
    return np.mean([float(word) for word in line.split()[:3]])


def test_every_figure_of_a_restarted_leg_is_what_one_counts_by_hand(cut_into_runs):
    *runs, static = outcars(cut_into_runs)
    told = cut_into_runs.outputs.comparison['raw']

    steps = [len(FORCES.findall(text)) for text in runs]
    assert steps == [NSW, NSW, 3]
    assert (told['vasp_runs'], told['ionic_steps']) == (3, 19)
    assert told['electronic_steps'] == sum(text.count('Iteration') for text in runs)
    assert (
        told['wall_time_s']
        == told['core_time_s']
        == pytest.approx(sum(float(ELAPSED.search(text)[1]) for text in runs))
    )
    assert told['static_wall_time_s'] == float(ELAPSED.search(static)[1])

    first = runs[0]
    for name, text in (('first_step', first), ('final', static)):
        assert told[f'energy_{name}_eV_per_atom'] == pytest.approx(float(ENERGY.search(text)[1]) / ATOMS, abs=1e-6)
        assert told[f'max_force_{name}_eV_per_A'] == pytest.approx(largest_force(FORCES.search(text)[1]), abs=1e-5)
        assert told[f'pressure_{name}_kB'] == pytest.approx(pressure(PRESSURE.search(text)[1]), abs=1e-3)
    unrelaxed, relaxed = rattled_copper_gold(), cut_into_runs.outputs.structure.get_ase()
    assert told['volume_first_step_A3'] == pytest.approx(unrelaxed.get_volume())
    assert told['start_volume_error_A3'] == pytest.approx(abs(relaxed.get_volume() - unrelaxed.get_volume()))
