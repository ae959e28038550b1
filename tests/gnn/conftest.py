"""A small network in float64 with random weights, large enough that a broken symmetry shows."""

import os

import pytest
import torch

from aiida_e3relax.gnn.models.registry import make_model

if not torch.cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'  # heeded when triton is imported, which e3nn does

torch.set_num_threads(1)  # small tensors gain nothing from more, and lose much on a busy machine


@pytest.fixture(scope='session')
def network() -> torch.nn.Module:
    torch.manual_seed(7)
    model = make_model('e3relax-h2', {'features': 24, 'layers': 3}).double()
    with torch.no_grad():  # displacements and strains of a size that training gives
        for layer in model.layers:
            layer.displacement.weight *= 20
            layer.atoms_to_lattice.distortion.weight *= 5
    return model.eval()
