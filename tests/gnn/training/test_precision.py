import torch

from aiida_e3relax.gnn.engine.accelerate import with_engine
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.training.precision import HalfLinear, with_precision


def test_maps_that_move_atoms_and_cells_stay_single():
    model = with_precision(with_engine(make_model('e3relax-h2', {'features': 8}), 'fast'), 'bfloat16')
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert {isinstance(module, HalfLinear) for module in linear if module.out_features == 1} == {False}
    assert {isinstance(module, HalfLinear) for module in linear if module.out_features > 1} == {True}


def test_half_product_is_returned_in_single_precision():
    layer = torch.nn.Linear(64, 32)
    x = torch.randn(5, 64)
    exact = layer(x)
    layer.__class__ = HalfLinear
    rounded = layer(x)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.03
