import json
import pickle
import zipfile

import pytest
import torch

from aiida_e3relax.common.errors import CheckpointError
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint, save_atomically, save_checkpoint
from aiida_e3relax.gnn.checkpoints.model_card import card_path, write_card
from aiida_e3relax.gnn.models.registry import make_model


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
        ({'hyperparameters': {'feature': 8}}, "unknown setting 'feature': did you mean 'features'"),
        ({'weights': {}}, 'does not hold a model of this release'),
    ],
)
def test_foreign_content_is_named(path, change, message):
    content = torch.load(path, weights_only=True)
    torch.save(content | change, path)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


SELF: dict = {'features': 8}
SELF['member_hyperparameters'] = SELF
LAUGHS: list = ['ha']
for _ in range(12):
    LAUGHS = [LAUGHS] * 12
NESTED: dict = {}
for _ in range(40):
    NESTED = {'in': NESTED}

ODD = {
    'None': None, 'a list': [1.5], 'a string': 'no', 'a tensor': torch.ones(3), 'NaN': float('nan'), 'negative': -1,
    'zero': 0, 'huge': 10**9, 'true': True, 'a dictionary': {1: {2}},
}  # fmt: skip
ODD_SIZES = (None, 'eight', [8], torch.tensor(8), float('nan'), -1, 0, 10**9, True)
SIZES = ('features', 'layers', 'cutoff', 'max_neighbours')
FIELDS = ('format_version', 'architecture', 'hyperparameters', 'elements', 'training', 'weights')


def altered(path, **changes):
    """Write the checkpoint again with other fields; `weights` and `hyperparameters` are changed in part."""
    content = torch.load(path, weights_only=True)
    for name, value in changes.items():
        content[name] = {**content[name], **value} if isinstance(value, dict) else value
    torch.save(content, path)


@pytest.mark.parametrize('odd', ODD)
@pytest.mark.parametrize('name', FIELDS)
def test_a_field_that_is_something_else_is_named(path, name, odd):
    content = torch.load(path, weights_only=True)
    torch.save(content | {name: ODD[odd]}, path)
    with pytest.raises(
        CheckpointError, match='checkpoint format' if name == 'format_version' else f'field `{name}`|{name}'
    ):
        load_checkpoint(path)


@pytest.mark.parametrize('name', FIELDS)
def test_a_field_that_is_missing_is_named(path, name):
    content = torch.load(path, weights_only=True)
    del content[name]
    torch.save(content, path)
    with pytest.raises(
        CheckpointError, match='checkpoint format' if name == 'format_version' else f'`{name}`.* missing'
    ):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ('hyperparameters', 'message'),
    [
        *(({name: value}, f'e3relax-h2: {name}: ') for name in SIZES for value in ODD_SIZES),
        *(({'l_max': value}, 'e3relax-h2: l_max: ') for value in (None, 'eight', -1, 11, True)),
        ({'l_max': 0}, 'no weights of e3relax-h2 with these sizes: .*Unexpected key.*angular_gate'),
        *(({'lattice_nodes': value}, 'e3relax-h2: lattice_nodes: expected true or false') for value in (0, 1, 'no')),
        ({'radial_functions': 1}, 'no weights of e3relax-h2 with these sizes'),
        ({'features': 16}, 'no weights of e3relax-h2 with these sizes: .*size mismatch'),
        ({'layers': 2}, 'no weights of e3relax-h2 with these sizes: .*Missing key'),
        ({5: 5}, 'unknown setting 5'),
        (SELF, "unknown setting 'member_hyperparameters'"),
    ],
)  # fmt: skip
def test_sizes_are_checked_before_anything_is_made_of_them(path, hyperparameters, message):
    altered(path, hyperparameters=hyperparameters)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize(
    'change',
    [
        {'members': 0},
        {'members': -1},
        {'members': 10**9},
        {'members': 3},
        {'member': 'ensemble'},
        {'member': 'e3relax-h3'},
        {'member': None},
        {'member_hyperparameters': SELF},
        {'member_hyperparameters': {'features': 10**9}},
        {'uncertainty_scale': float('inf')},
    ],
)
def test_ensembles_are_checked_to_their_members(tmp_path, change):
    sizes = {'member': 'e3relax-h2', 'member_hyperparameters': {'features': 8, 'layers': 1}, 'members': 2}
    save_checkpoint(tmp_path / 'both.pt', 'ensemble', make_model('ensemble', sizes), [6], {})
    assert len(load_checkpoint(tmp_path / 'both.pt').model.members) == 2
    altered(tmp_path / 'both.pt', hyperparameters=change)
    with pytest.raises(CheckpointError, match=r'both\.pt: does not hold a model'):
        load_checkpoint(tmp_path / 'both.pt')


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda t: t.T, 'size mismatch'),
        (lambda t: t[:1], 'size mismatch'),
        (lambda t: t.to(torch.complex64), 'a plain tensor of real numbers'),
        (lambda t: t.long(), 'expected a tensor of torch.float32'),
        (lambda t: t.int(), 'a plain tensor of real numbers'),
        (lambda t: t.to_sparse(), 'a plain tensor of real numbers'),
        (lambda t: t.to('meta'), 'a plain tensor of real numbers'),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), 'a plain tensor of real numbers'),
        (lambda t: torch.zeros(1).expand(t.shape), 'a number for each place'),
        (lambda t: torch.full_like(t, torch.nan), 'expected finite numbers'),
        (lambda t: t.double().fill_(1e300), 'expected finite numbers'),
        (lambda t: t.tolist(), 'expected tensors by name'),
    ],
)
@pytest.mark.filterwarnings('ignore')
def test_weights_that_are_none_are_named(path, make, message):
    weights = torch.load(path, weights_only=True)['weights']
    altered(path, weights={'embedding.weight': make(weights['embedding.weight'])})
    with pytest.raises(CheckpointError, match=rf'model\.pt: .*({message}.*embedding|embedding.*{message})'):
        load_checkpoint(path)


@pytest.mark.parametrize('elements', [[], [0], [119], [6.0], ['C'], [True], [float('nan')]])
def test_elements_are_atomic_numbers(path, elements):
    altered(path, elements=elements)
    with pytest.raises(CheckpointError, match='field `elements`: expected atomic numbers from 1 to 118'):
        load_checkpoint(path)


@pytest.mark.parametrize('training', [{'step': torch.tensor(1)}, {'a': LAUGHS}, NESTED, SELF, {(1, 2): {3}}])
def test_training_is_told_in_plain_values(path, training):
    altered(path, training=training)
    with pytest.raises(CheckpointError, match='field `training`'):
        load_checkpoint(path)


def test_a_flipped_bit_is_noticed(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match='damaged or not a checkpoint'):
        load_checkpoint(path)


def test_a_file_that_inflates_is_not_read(path):
    with zipfile.ZipFile(path, 'a', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('model/data/9999', bytes(10_000_000))
    with pytest.raises(CheckpointError, match='model/data/9999 is compressed'):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ('card', 'message'),
    [
        (b'\xff\xfe', "can't decode"),
        (b'[' * 100_000, 'at most 32 deep'),
        (b'{"x": NaN}', 'the constant NaN'),
        (b'[]', 'expected a JSON object'),
        (b'{}', 'expected the keys'),
        (
            b'{"name": "a\\u001bb", "architecture": "e3relax", "content_hash": "x", "version": 1}',
            '`name`: expected a word',
        ),
        (b'{"name": "a", "architecture": 1, "content_hash": "x", "version": 1}', '`architecture`: expected a word'),
        (
            b'{"name": "a", "architecture": "e", "content_hash": "sha256:0", "version": 1}',
            'its model card says sha256:0',
        ),
    ],
)
def test_a_card_that_is_none_is_named(path, card, message):
    card_path(path).write_bytes(card)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_what_cannot_be_written_leaves_nothing(path, tmp_path):
    with pytest.raises(OSError, match='model'):
        save_atomically(tmp_path / 'no folder' / 'model.pt', {})
    (tmp_path / 'taken').mkdir()
    with pytest.raises(OSError, match='taken'):
        save_atomically(tmp_path / 'taken', {})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ['model.pt', 'taken']


def test_numbers_that_are_not_finite_stand_in_no_card(path):
    write_card(path, {'name': 'm', 'architecture': 'e3relax-h2', 'version': 1, 'metrics': {'error': float('nan')}})
    load_checkpoint(path)
    assert json.loads(card_path(path).read_text())['metrics'] == {'error': None}
