"""The demonstration of `make demo`, with real PBE behind the stand-in."""

import pytest
from aiida import orm
from aiida.engine import run_get_node

from aiida_e3relax.workflows.demo import demo_crystal

pytest.importorskip('gpaw')


@pytest.mark.slow
def test_both_legs_find_the_minimum_of_pbe(make_builder, make_code):
    prepend = 'export E3RELAX_STANDIN_ENGINE=gpaw OMP_NUM_THREADS=1'
    code = make_code('e3relax-vasp-standin', 'vasp-gpaw', 'vasp.vasp', prepend_text=prepend)
    structure = orm.StructureData(ase=demo_crystal('semiconductor'))
    _, chain = run_get_node(make_builder(structure=structure, vasp_code=code, reference_leg='always'))
    assert chain.exit_status == 0, chain.exit_message
    comparison = chain.outputs.comparison.get_dict()
    raw, predicted = comparison['raw'], comparison['predicted']
    assert raw['stand_in'] == predicted['stand_in'] == 'gpaw'
    assert comparison['same_minimum'] is True
    # the raw cell is that of GaAs, 7 % too short: the network has to get most of that right
    assert raw['start_energy_error_meV_per_atom'] > 200
    assert predicted['start_energy_error_meV_per_atom'] < 0.2 * raw['start_energy_error_meV_per_atom']
    assert predicted['ionic_steps'] <= raw['ionic_steps']
