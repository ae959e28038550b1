"""The device of a run: the one asked for, or the one that works; and what reports say of it."""

from types import SimpleNamespace

import pytest
import torch

from aiida_e3relax.common.errors import DeviceError
from aiida_e3relax.gnn.device import describe_device, driver_version, resolve_device


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


DRIVERS = {
    'NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n'
    'GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n': '550.54.15',
    'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs@U22)\n': '580.65.06',
    'GCC version:  gcc version 11.4.0\n': None,
}


@pytest.mark.parametrize(('text', 'expected'), DRIVERS.items())
def test_the_driver_is_read_where_its_module_states_it(text, expected, tmp_path):
    (tmp_path / 'version').write_text(text, encoding='utf-8')
    assert driver_version(tmp_path / 'version') == expected
    assert driver_version(tmp_path / 'none') is None


def test_a_report_says_what_computes(monkeypatch):
    properties = SimpleNamespace(total_memory=24_000_000_000, uuid='5c2b0c3e-0000-0000-0000-000000000001')
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda device: properties)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'NVIDIA L4')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (8, 9))
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.version, 'cuda', '12.6')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,1')
    facts = describe_device(torch.device('cuda', 0))
    assert facts.pop('driver') == driver_version()
    assert facts.pop('threads') == torch.get_num_threads()
    assert facts == {
        'used': 'cuda:0',
        'name': 'NVIDIA L4',
        'memory_mb': 24_000,
        'uuid': 'GPU-5c2b0c3e-0000-0000-0000-000000000001',
        'capability': '8.9',
        'cuda': '12.6',
        'visible': '3,1',
        'count': 2,
        'tf32': {'matmul': False, 'cudnn': True},
    }


def test_a_report_of_a_run_on_the_cpu_has_nothing_of_gpus():
    facts = describe_device(torch.device('cpu'))
    assert facts.keys() == {'used', 'name', 'memory_mb', 'threads'}
    assert facts['threads'] == torch.get_num_threads()
