"""`E3RelaxModelData`: what it keeps, what it refuses, and that nothing is stored twice."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from aiida import orm
from aiida.common.exceptions import ValidationError

from aiida_e3relax.data.model import E3RelaxModelData


def write_checkpoint(folder: Path, content: str = 'weights', **card: object) -> Path:
    """Write a zip archive and a card that describes it; `card` overrides the card's entries."""
    path = folder / 'small.pt'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr(zipfile.ZipInfo('data'), content)
    digest = f'sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}'
    entries = {'name': 'small', 'architecture': 'e3relax-h2', 'content_hash': digest, 'version': 1, **card}
    path.with_name('small.card.json').write_text(json.dumps(entries))
    return path


@pytest.mark.usefixtures('aiida_profile')
class TestModelData:
    def test_card_and_file_survive_storing(self, tmp_path):
        path = write_checkpoint(tmp_path, licence='MIT')
        stored = E3RelaxModelData(path).store()
        loaded = orm.load_node(stored.pk)
        assert isinstance(loaded, E3RelaxModelData)
        assert (loaded.name, loaded.architecture, loaded.label) == ('small', 'e3relax-h2', 'small')
        assert loaded.card['licence'] == 'MIT'
        assert loaded.get_content(mode='rb') == path.read_bytes()
        assert loaded.content_hash == f'sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}'

    def test_same_checkpoint_is_stored_once(self, tmp_path):
        card = {'metrics': {'volume': 21.060123456789012, 'count': 950.0}}
        first, created = E3RelaxModelData.get_or_create(write_checkpoint(tmp_path, 'once', **card))
        again, created_again = E3RelaxModelData.get_or_create(write_checkpoint(tmp_path, 'once', **card))
        assert (created, created_again) == (True, False)
        assert again.pk == first.pk

    def test_other_checkpoint_or_card_is_another_node(self, tmp_path):
        first, _ = E3RelaxModelData.get_or_create(write_checkpoint(tmp_path, 'a'))
        other_weights, _ = E3RelaxModelData.get_or_create(write_checkpoint(tmp_path, 'b'))
        other_card, _ = E3RelaxModelData.get_or_create(write_checkpoint(tmp_path, 'a', licence='CC-BY-4.0'))
        assert len({first.pk, other_weights.pk, other_card.pk}) == 3

    def test_default_is_the_shipped_checkpoint(self, model):
        assert E3RelaxModelData.default().pk == model.pk
        assert model.filename == 'default.pt'

    def test_missing_file(self, tmp_path):
        with pytest.raises(ValueError, match=r'absent\.pt.*no such file'):
            E3RelaxModelData(tmp_path / 'absent.pt')

    def test_missing_card(self, tmp_path):
        path = write_checkpoint(tmp_path)
        path.with_name('small.card.json').unlink()
        with pytest.raises(ValueError, match=r'small\.card\.json.*no such file'):
            E3RelaxModelData(path)

    @pytest.mark.parametrize('text', ['{', '[]'])
    def test_unreadable_card(self, tmp_path, text):
        path = write_checkpoint(tmp_path)
        path.with_name('small.card.json').write_text(text)
        with pytest.raises(ValueError, match='expected'):
            E3RelaxModelData(path)

    def test_incomplete_card(self, tmp_path):
        path = write_checkpoint(tmp_path)
        path.with_name('small.card.json').write_text('{"name": "small"}')
        with pytest.raises(ValueError, match=r"\['architecture', 'content_hash', 'version'\] are missing"):
            E3RelaxModelData(path)

    def test_checkpoint_changed_after_its_card(self, tmp_path):
        path = write_checkpoint(tmp_path)
        path.write_bytes(path.read_bytes() + b'x')
        with pytest.raises(ValueError, match='damaged or the card belongs to another checkpoint'):
            E3RelaxModelData(path)

    def test_truncated_checkpoint(self, tmp_path):
        path = write_checkpoint(tmp_path)
        path.write_bytes(path.read_bytes()[:20])
        digest = f'sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}'
        card = {'name': 'small', 'architecture': 'e3relax-h2', 'content_hash': digest, 'version': 1}
        with pytest.raises(ValueError, match='expected a zip archive'):
            E3RelaxModelData(path, card)

    def test_file_replaced_before_storing(self, tmp_path):
        node = E3RelaxModelData(write_checkpoint(tmp_path, 'first'))
        node.set_file(write_checkpoint(tmp_path, 'second'))
        with pytest.raises(ValidationError, match='copy both again'):
            node.store()
