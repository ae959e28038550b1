import json
import pickle

import pytest
import torch

from aiida_e3relax.gnn.checkpoint import load_checkpoint, save_checkpoint
from aiida_e3relax.gnn.errors import CheckpointError
from aiida_e3relax.gnn.model_card import card_path, write_card
from aiida_e3relax.gnn.models import make_model


@pytest.fixture
def path(tmp_path):
    model = make_model('e3relax-h2', {'features': 8, 'layers': 1})
    save_checkpoint(tmp_path / 'model.pt', 'e3relax-h2', model, [6, 8], {'step': 12})
    return tmp_path / 'model.pt'


def test_model_survives_the_file(path):
    checkpoint = load_checkpoint(path)
    assert checkpoint.elements == [6, 8]
    assert checkpoint.training == {'step': 12}
    assert checkpoint.model.hyperparameters.features == 8
    stored = torch.load(path, weights_only=True)['weights']
    for name, value in checkpoint.model.state_dict().items():
        assert torch.equal(value, stored[name])


def test_card_carries_the_hash_and_holds_the_file_to_it(path):
    write_card(path, {'name': 'small', 'architecture': 'e3relax-h2', 'version': 1})
    assert json.loads(card_path(path).read_text())['content_hash'] == load_checkpoint(path).content_hash
    content = torch.load(path, weights_only=True)
    content['training']['step'] = 13
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r'its model card says sha256:.*, the file has sha256:'):
        load_checkpoint(path)


def test_cut_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match='damaged or not a checkpoint'):
        load_checkpoint(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / 'harm'), 'w'))

    (tmp_path / 'model.pt').write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(CheckpointError, match='damaged or not a checkpoint'):
        load_checkpoint(tmp_path / 'model.pt')
    torch.save({'format_version': 1, 'weights': Harmful()}, tmp_path / 'model.pt')
    with pytest.raises(CheckpointError, match='damaged or not a checkpoint'):
        load_checkpoint(tmp_path / 'model.pt')
    assert not (tmp_path / 'harm').exists()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'format_version': 99}, 'checkpoint format 99, expected 1'),
        ({'architecture': 'e3relax-h3'}, "did you mean 'e3relax-h2'"),
        ({'hyperparameters': {'feature': 8}}, "no hyper-parameter 'feature': did you mean 'features'"),
        ({'weights': {}}, 'does not hold a model of this release'),
    ],
)
def test_foreign_content_is_named(path, change, message):
    content = torch.load(path, weights_only=True)
    torch.save(content | change, path)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)
