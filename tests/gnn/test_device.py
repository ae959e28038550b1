"""The device of a run: the one asked for, or the one that works."""

import pytest
import torch

from aiida_e3relax.common.errors import DeviceError
from aiida_e3relax.gnn.device import resolve_device


@pytest.mark.parametrize('requested', ['cuda:63', 'cuda:999'])
def test_a_device_that_is_not_there(requested):
    with pytest.raises(DeviceError, match=f"'{requested}' is not there"):
        resolve_device(requested)


@pytest.mark.parametrize('requested', ['cuda:', 'cuda:-1', 'cuda:99999999999', 'CPU', 'mps', '', 'cuda:0\n'])
def test_a_device_that_is_none(requested):
    with pytest.raises(DeviceError, match='unknown device'):
        resolve_device(requested)


@pytest.mark.skipif(torch.cuda.is_available(), reason='its GPU works')
class TestADriverThatDoesNotWork:
    @pytest.fixture(autouse=True)
    def claimed(self, monkeypatch):
        """PyTorch counts a GPU, but can do nothing there."""
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)

    def test_the_cpu_takes_over_where_the_choice_was_left(self):
        with pytest.warns(RuntimeWarning, match='the GPU does not work, the CPU is used: '):
            assert resolve_device('auto') == torch.device('cpu')

    @pytest.mark.parametrize('requested', ['cuda', 'cuda:0'])
    def test_what_was_asked_for_is_told(self, requested):
        with pytest.raises(DeviceError, match=f"'{requested}' does not work .*--device cpu"):
            resolve_device(requested)
