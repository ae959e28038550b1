"""A crystal scaled to the volume that pymatgen predicts, on the way through the chain."""

import pytest
from aiida.engine import run_get_node
from rich.console import Console

from aiida_e3relax.workflows.comparison.text import format_chain


def test_a_scaled_crystal_is_a_start_as_any_other(make_builder):
    builder = make_builder(pre_relaxer='dls-volume', overrides={'static_run': 'with-reference'})
    assert 'model' not in builder.network.predict
    _, chain = run_get_node(builder)
    assert chain.exit_status == 0, chain.exit_message
    raw, scaled = builder.structure, chain.outputs.predicted_structure
    network = chain.outputs.comparison['network']
    ratio = network['potential']['volume_ratio']
    assert scaled.get_cell_volume() == pytest.approx(ratio * raw.get_cell_volume())
    assert ratio != pytest.approx(1, abs=0.01)
    assert (network['pre_relaxer'], network['content_hash']) == ('dls-volume', None)
    guard = chain.outputs.guard.get_dict()
    assert (guard['verdict'], guard['numbers']['energy_rise_eV_per_atom']) == ('accepted', None)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(format_chain(chain))
    assert f'dls-volume scaled it to {100 * ratio:.0f} % of its volume' in capture.get()


def test_a_cell_that_stays_is_not_scaled(make_builder):
    with pytest.raises(ValueError, match='dls-volume scales crystals alike in all directions, which `positions`'):
        make_builder(pre_relaxer='dls-volume', freedom='positions')
