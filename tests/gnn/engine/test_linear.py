"""Linear maps are the same by either library, whichever processor the tests run on."""

import pytest
import torch
from torch import nn

from aiida_e3relax.gnn.engine import linear


@pytest.mark.skipif(not linear.has_onednn(), reason='this PyTorch has no oneDNN')
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('shape', [(7, 5), (3, 4, 5), (0, 5)])
def test_maps_and_gradients_by_onednn_are_those_of_the_default(monkeypatch, shape, bias):
    torch.manual_seed(0)
    plain = nn.Linear(5, 6, bias)
    fast = linear.FastLinear(5, 6, bias)
    fast.load_state_dict(plain.state_dict())
    monkeypatch.setattr(linear, 'takes_onednn', lambda: True)
    found = []
    for module in (plain, fast):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
        y = module(x)
        y.square().sum().backward()
        with torch.no_grad():
            predicted = module(x)
        found.append([y, predicted, x.grad, *(weight.grad for weight in module.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [('vendor_id\t: GenuineIntel\n', True), ('vendor_id\t: AuthenticAMD\n', False), (None, False)],
)
def test_the_vendor_is_read_where_linux_tells_it(tmp_path, text, expected):
    path = tmp_path / 'cpuinfo'
    if text:
        path.write_text(text)
    assert linear.is_intel(path) is expected
