"""Subnormal numbers are flushed by commands, in each of their threads."""

import subprocess
import sys

COUNT = """
import torch
from aiida_e3relax.gnn.device import prepare_device

prepare_device('cpu', 2)
halved = torch.full((4_000_000,), 2e-38).mul_(0.5)
print(int((halved != 0).sum()))
"""


def test_no_thread_of_a_command_computes_with_subnormal_numbers():
    """In a process of its own: threads that were at work before go on as they were."""
    done = subprocess.run([sys.executable, '-c', COUNT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '0'
