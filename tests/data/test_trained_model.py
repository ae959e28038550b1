"""What `e3relax train` writes is a model that AiiDA takes, without anything done by hand."""

import dataclasses

import torch

from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.gnn.training.run import train
from aiida_e3relax.gnn.training.settings import TrainingSettings
from tests.gnn.pairs import made_pairs


def test_trained_checkpoint_becomes_a_node(aiida_profile, tmp_path):
    settings = TrainingSettings(hyperparameters={'features': 8, 'layers': 1}, steps=4, batch_size=4)
    train(made_pairs(), settings, tmp_path / 'mine', torch.device('cpu'))
    node, created = E3RelaxModelData.get_or_create(tmp_path / 'mine' / 'best.pt')
    assert created
    assert (node.name, node.architecture) == ('mine', 'e3relax-h2')
    assert node.card['training']['settings'] == dataclasses.asdict(settings)
