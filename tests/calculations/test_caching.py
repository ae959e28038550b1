"""Which runs of the network AiiDA's caching takes for another of the same inputs."""

import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.manage.caching import enable_caching

from aiida_e3relax.calculations.predict import E3RelaxCalculation

TRANSIENT = {
    'crash': ('exit 1', 'ERROR_PROGRAM_CRASHED'),
    'another version of the program': (
        """echo '{"schema": 1, "error": {"code": "bad_input", "message": ""}, "structures": []}' > report.json""",
        'ERROR_BAD_INPUT',
    ),
}


@pytest.fixture
def run(model, make_structure):
    """Run the network by caching with crystals of its own, and return the node."""

    def run_cached(code, **parameters) -> orm.CalcJobNode:
        structures = {name: make_structure(name) for name in ('MgO', 'NaCl')}
        inputs = {'model': model, 'structures': structures, 'parameters': {'device': 'cpu', **parameters}}
        with enable_caching(identifier='aiida.calculations:e3relax.predict'):
            return run_get_node(E3RelaxCalculation, code=code, **inputs).node

    return run_cached


@pytest.fixture
def make_flaky(make_code, find_program, tmp_path):
    """A factory of codes that run a line of shell the first time, and the network afterwards."""

    def make(line: str) -> orm.InstalledCode:
        path = tmp_path / 'flaky.sh'
        first = tmp_path / 'first'
        programs = find_program('e3relax').parent
        path.write_text(
            f'#!/bin/bash\nPATH={programs}:$PATH\nif mkdir {first}; then\n{line}\nexit\nfi\nexec e3relax "$@"\n',
            encoding='utf-8',
        )
        path.chmod(0o755)
        return make_code(path, 'flaky', 'e3relax.predict')

    return make


def test_a_success_is_taken_for_the_same_inputs_only(run, e3relax_code):
    first = run(e3relax_code, max_edges=100_001)
    again = run(e3relax_code, max_edges=100_001)
    assert again.base.caching.get_cache_source() == first.uuid
    assert again.outputs.report.get_dict() == first.outputs.report.get_dict()
    assert again.outputs.structures.MgO.cell == first.outputs.structures.MgO.cell
    other = run(e3relax_code, max_edges=100_002)
    assert other.is_finished_ok
    assert not other.base.caching.is_created_from_cache


@pytest.mark.parametrize(('line', 'name'), TRANSIENT.values(), ids=TRANSIENT)
def test_a_failure_that_may_pass_is_not_taken(run, make_flaky, line, name):
    code = make_flaky(line)
    assert run(code).exit_status == E3RelaxCalculation.exit_codes[name].status
    again = run(code)
    assert again.is_finished_ok
    assert not again.base.caching.is_created_from_cache


@pytest.mark.slow
def test_a_success_in_which_a_potential_failed_is_not_taken(run, make_flaky):
    of_row = """0,/"message": ""/s//"message": "", "second_opinion": {"error": "CUDA error"}/"""
    of_run = """s/"second_opinion": null/"second_opinion": {}/"""
    code = make_flaky(f"""e3relax "$@"; sed -i '{of_row}; {of_run}' report.json""")
    first = run(code)
    assert first.is_finished_ok, first.exit_message
    assert first.outputs.report['structures'][0]['second_opinion'] == {'error': 'CUDA error'}
    assert not run(code).base.caching.is_created_from_cache


def test_a_success_that_left_structures_out_for_want_of_memory_is_not_taken(run, make_flaky):
    code = make_flaky("""e3relax "$@"; sed -i '0,/"status": "ok"/s//"status": "out_of_memory"/' report.json""")
    first = run(code)
    assert (first.exit_status, list(first.outputs.structures)) == (0, ['NaCl'])
    again = run(code)
    assert sorted(again.outputs.structures) == ['MgO', 'NaCl']
    assert not again.base.caching.is_created_from_cache
