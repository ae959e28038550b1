import pytest
import torch

from aiida_e3relax.gnn.experiments.timing import inference_times
from aiida_e3relax.gnn.models.dummy import Dummy
from tests.gnn.crystals import batch_of, rattled
from tests.gnn.networks import random_network

CPU = torch.device('cpu')


@pytest.mark.parametrize('batch_size', [1, 7, 80])
def test_times_of_any_batch(batch_size):
    times = inference_times(random_network('painn').float(), batch_of(*rattled()), batch_size, CPU)
    assert times['graph'] > 0
    assert times['forward'] > 0


class Full(Dummy):
    def forward(self, batch):
        if len(batch.n_atoms) > 8:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return super().forward(batch)


def test_batch_that_does_not_fit_has_no_time():
    model, crystals = Full(Dummy.Hyperparameters()), batch_of(*rattled())
    assert inference_times(model, crystals, 8, CPU)
    assert inference_times(model, crystals, 9, CPU) is None
