"""The potentials whose weights come with their packages, loaded and checked."""

import hashlib

import pytest
import torch
from ase import Atoms

from aiida_e3relax.gnn.potentials.check import check_calculator, make_check_crystal
from aiida_e3relax.gnn.potentials.registry import POTENTIALS, load_potential

CPU = torch.device('cpu')
HASHES = {
    'chgnet': 'd14ab7c0f093efe64b60a7bcd540bca10e74fb7f46c86108a079af60524659d1',
    'sevennet-0': '7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36',
    'sevennet-mf-0': '81791329b37d445f46b531578c182c41792d98c7814222c9e5dde276402225fd',
    'sevennet-l3i5': 'a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d',
}
"""Of the weights in the packages' wheels."""

SMALL = make_check_crystal(
    Atoms('MgO', [[0, 0, 0], [2.0, 2.2, 1.9]], cell=[[2.9, 0, 0], [0, 3.0, 0], [0, 0, 4.1]], pbc=True)
)


@pytest.mark.filterwarnings('ignore')  # of CHGNet at its first call
@pytest.mark.parametrize('name', ['chgnet', 'sevennet-mf-0'])
def test_potentials_pass_their_check(name):
    known = POTENTIALS[name]
    pytest.importorskip(known.package)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        potential = load_potential(name, CPU)
        findings = check_calculator(potential.calculator, 'float32', SMALL)
    finally:
        torch.set_num_threads(threads)
    assert not [finding for finding in findings if not finding.passed]
    assert potential.facts()['content_hash'] == f'sha256:{HASHES[name]}'
    assert potential.facts()['weights'] == known.weights
    assert torch.get_default_dtype() is torch.float32


def test_weights_in_the_wheel_are_those_that_are_known():
    """They are read, not loaded: seconds each."""
    pytest.importorskip('sevenn')
    from aiida_e3relax.gnn.potentials.sevennet import find_weights

    for name, digest in HASHES.items():
        if POTENTIALS[name].package == 'sevenn':
            assert hashlib.sha256(find_weights(POTENTIALS[name]).read_bytes()).hexdigest() == digest


@pytest.mark.slow
@pytest.mark.parametrize('name', ['sevennet-0', 'sevennet-l3i5'])
def test_the_other_potentials_pass_their_check(name):
    pytest.importorskip('sevenn')
    potential = load_potential(name, CPU)
    assert all(finding.passed for finding in check_calculator(potential.calculator, 'float32', SMALL))
    assert potential.facts()['content_hash'] == f'sha256:{HASHES[name]}'
