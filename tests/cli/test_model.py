"""`aiida-e3relax model`: what a person sees of networks, and that they come back from files as they were."""

import json

import pytest
from aiida import orm
from click.testing import CliRunner

from aiida_e3relax.cli.chain_choices import choose_weights
from aiida_e3relax.cli.model import model as command
from aiida_e3relax.crystals.files import make_label
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.gnn.checkpoints.model_card import hash_file


@pytest.fixture
def invoke(aiida_profile):
    """A function that runs `aiida-e3relax model` and returns the exit code and the output."""

    def run(*words: object) -> tuple[int, str]:
        done = CliRunner().invoke(command, [str(word) for word in words])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return run


def test_models_are_listed_and_shown(invoke, model):
    rows = [line.split('\t') for line in invoke('list', '--raw')[1].splitlines()]
    assert [str(model.pk), 'e3relax-h2-default', 'ensemble', model.content_hash[7:19]] in [row[:4] for row in rows]
    code, output = invoke('show', model.pk)
    assert code == 0
    assert f'content hash: {model.content_hash}' in output
    assert 'licence: CC-BY-4.0' in output
    assert model.card['limits']
    assert all(f'- {limit}\n' in output for limit in model.card['limits'])
    assert json.loads(invoke('show', 'default', '--card')[1]) == model.card
    assert 'More on one: aiida-e3relax model show PK' in invoke('list')[1]


def test_a_model_comes_back_from_its_files_with_its_hash(invoke, model, tmp_path):
    code, output = invoke('export', model.pk, tmp_path / 'files')
    assert code == 0, output
    checkpoint, card = output.splitlines()
    assert json.loads((tmp_path / 'files' / card.rpartition('/')[2]).read_text()) == model.card
    code, output = invoke('import', checkpoint)
    assert (code, output) == (0, f'E3RelaxModelData<{model.pk}> {model.label}, {model.content_hash[7:19]}: was there\n')
    code, output = invoke('import', checkpoint, '--label', 'another')
    assert (code, f'as {model.label}; to call it otherwise: verdi node label' in output) == (1, True)
    code, output = invoke('import', checkpoint, '--doi', '10.1000/182', '--licence', 'MIT', '--label', 'mine')
    assert 'mine' in output
    assert ': stored' in output
    node = orm.QueryBuilder().append(E3RelaxModelData, filters={'label': 'mine'}).first(flat=True)
    assert (node.content_hash, node.card['doi'], node.card['licence']) == (model.content_hash, '10.1000/182', 'MIT')
    assert 'doi: 10.1000/182' in invoke('show', 'mine')[1]
    code, output = invoke('export', model.pk, tmp_path / 'files')
    assert (code, 'is there already; name another folder' in output) == (1, True)


def test_an_export_that_was_killed_is_made_anew(invoke, model, tmp_path, monkeypatch):
    def be_killed(*_, **__):
        raise KeyboardInterrupt

    folder = tmp_path / 'files'
    with monkeypatch.context() as patched:
        patched.setattr(E3RelaxModelData, 'open', be_killed)
        code, output = invoke('export', model.pk, folder)
    assert code != 0
    assert [path.name for path in folder.iterdir()] == [f'{make_label(model.name)}.card.json']
    code, output = invoke('export', model.pk, folder)
    assert code == 0, output
    assert hash_file(folder / f'{make_label(model.name)}.pt') == model.content_hash
    (folder / f'{make_label(model.name)}.pt').unlink()
    (folder / f'{make_label(model.name)}.card.json').write_text('{}')
    assert 'is there already' in invoke('export', model.pk, folder)[1]


def test_weights_of_a_potential_are_stored_with_what_is_known_of_them(invoke, tmp_path):
    (tmp_path / 'mine.model').write_bytes(b'weights of mine')
    words = ['import', tmp_path / 'mine.model', '--potential', 'mace']
    code, output = invoke(*words, '--licence', 'MIT', '--training-data', 'MPtrj', '--functional', 'PBE(+U)')
    assert (code, output.endswith(': stored\n')) == (0, True), output
    node = choose_weights(str(tmp_path / 'mine.model'), 'mace')
    assert output.startswith(f'E3RelaxPotentialData<{node.pk}> mine, ')
    assert node.facts == {'licence': 'MIT', 'training_data': 'MPtrj', 'functional': 'PBE(+U)'}
    assert invoke(*words) == (0, output.replace('stored', 'was there'))


def test_imported_weights_are_found_again(invoke, tmp_path):
    file = tmp_path / 'found.model'
    file.write_bytes(b'weights to find')
    assert invoke('import', file, '--potential', 'mace', '--licence', 'MIT', '--functional', 'PBE')[0] == 0
    node = choose_weights('found', 'mace')
    assert choose_weights(str(node.pk), 'mace').uuid == choose_weights(node.uuid, 'mace').uuid == node.uuid
    rows = [line.split('\t') for line in invoke('list', '--raw')[1].splitlines()]
    (row,) = (row for row in rows if row[0] == str(node.pk))
    assert {len(each) for each in rows} == {6}
    assert row[1:4] == ['found', 'weights of mace', node.content_hash[7:19]]
    assert row[5] == 'licence MIT, functional PBE'
    assert 'licence' in invoke('list')[1]
    output = invoke('show', 'found')[1]
    told = ('potential: mace', f'content hash: {node.content_hash}', 'licence: MIT', 'training data: not known')
    assert [line in output.splitlines() for line in told] == [True] * 4, output
    code, output = invoke('export', 'found', tmp_path / 'files')
    assert (code, output.split()) == (
        0,
        [str(tmp_path / 'files' / name) for name in ('found.model', 'found.card.json')],
    )
    assert (tmp_path / 'files' / 'found.model').read_bytes() == b'weights to find'
    facts = json.loads((tmp_path / 'files' / 'found.card.json').read_text())
    assert facts == json.loads(invoke('show', 'found', '--card')[1])
    assert (facts['potential'], facts['functional'], facts['content_hash']) == ('mace', 'PBE', node.content_hash)


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (('import', '{text}', '--functional', 'PBE'), '--functional: expected with a potential'),
        (('import', '{text}', '--potential', 'mace', '--doi', '10.1'), '--doi: expected with a network alone'),
        (('import', '{text}', '--potential', 'emt'), 'expected one of chgnet, '),
        (('show', 'nothing'), 'expected `default`, a checkpoint file that is there, or the label, PK or UUID'),
        (('import', 'nowhere.pt'), "File 'nowhere.pt' does not exist"),
        (('import', '{text}'), 'model card'),
        (('export', '{structure}', 'files'), 'expected an E3RelaxModelData or E3RelaxPotentialData, found'),
    ],
)
def test_mistakes_are_told(invoke, tmp_path, words, told):
    (tmp_path / 'text.pt').write_text('weights')
    structure = orm.StructureData(cell=[[1, 0, 0], [0, 1, 0], [0, 0, 1]]).store()
    code, output = invoke(*(word.format(text=tmp_path / 'text.pt', structure=structure.pk) for word in words))
    assert code in (1, 2)
    assert told in output
