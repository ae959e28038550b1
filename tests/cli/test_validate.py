"""The words of `aiida-e3relax validate`."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from aiida import orm
from click.testing import CliRunner

from aiida_e3relax.cli.several_values import SeveralValues, SeveralValuesCommand
from aiida_e3relax.cli.validate import validate
from aiida_e3relax.cli.validation import Request, name_models
from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.validation.group import find_validation
from tests.validation.crystals import metal_pairs


@click.command(cls=SeveralValuesCommand)
@click.argument('pairs')
@click.option('--models', cls=SeveralValues)
@click.option('--draw', type=int)
def echo(pairs: str, models: tuple[str, ...], draw: int | None) -> None:
    """Print what was understood."""
    click.echo(f'{pairs} {",".join(models)} {draw}')


@pytest.mark.parametrize(
    ('words', 'output'),
    [
        ('p.npz', 'p.npz  None'),
        ('p.npz --models a b c', 'p.npz a,b,c None'),
        ('p.npz --models a --models b --draw 3', 'p.npz a,b 3'),
        ('--draw 3 p.npz --models a b', 'p.npz a,b 3'),
        ('--models a b --draw 3 p.npz', 'p.npz a,b 3'),
    ],
)
def test_several_values_after_one_option(words, output):
    assert CliRunner().invoke(echo, words.split()).output.strip() == output


def test_models_have_the_name_of_their_card_or_the_one_given(model):
    models = name_models(('default', f'mine={DEFAULT_CHECKPOINT}', f'again={model.pk}'))
    assert list(models) == [model.name, 'mine', 'again']
    assert {found.uuid for found in models.values()} == {model.uuid}
    copies = [model.clone(), model.clone()]
    for copy, label in zip(copies, ('once', 'twice'), strict=True):
        copy.label = label
        copy.store()
    assert name_models(('x=once',))['x'].uuid == copies[0].uuid
    copies[0].label = 'twice'
    with pytest.raises(click.ClickException, match='several E3RelaxModelData have this label; give the PK of one'):
        name_models(('twice',))
    with pytest.raises(click.ClickException, match=r'nowhere\.pt: expected `default`, a checkpoint file'):
        name_models(('mine=nowhere.pt',))


def test_the_name_follows_from_the_draw():
    request = Request(Path('data/small.npz'), 'test', 25, 0, True, ('default',), None)
    assert request.label == 'small-test-25-unmatched'


@pytest.fixture
def pairs(tmp_path) -> Path:
    """A training file of metals."""
    write_pairs(tmp_path / 'metals.npz', metal_pairs(2))
    return tmp_path / 'metals.npz'


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--split', 'val'], 'metals.npz has no such pairs; found the splits test'),
        (['--draw', '3'], 'draw: expected at least 3 pairs, found 2; draw fewer'),
        (['--name', '../x'], 'expected a name that a folder can have'),
        (['--models', 'nowhere.pt'], 'expected `default`, a checkpoint file that is there'),
        (['--protocol', 'fastt'], 'fast'),
    ],
)
def test_mistakes_are_told_before_anything_is_stored(
    standin_code, e3relax_code, potential_family, pairs, words, message
):
    codes = ['--vasp-code', standin_code.full_label, '--network-code', str(e3relax_code.pk)]
    before = orm.QueryBuilder().append(orm.StructureData).count()
    done = CliRunner().invoke(validate, [str(pairs), *codes, '--potential-family', potential_family, *words])
    assert done.exit_code == 1, done.output
    assert message in ' '.join(done.output.split())
    assert orm.QueryBuilder().append(orm.StructureData).count() == before


def test_no_daemon_is_told_and_the_report_is_there_without_one(
    standin_code, e3relax_code, potential_family, pairs, tmp_path
):
    words = ['--vasp-code', standin_code.full_label, '--network-code', str(e3relax_code.pk), '--protocol', 'fast']
    words = [str(pairs), *words, '--potential-family', potential_family, '--name', tmp_path.name]
    done = CliRunner().invoke(validate, words)
    assert (done.exit_code, 'no daemon runs' in done.output) == (1, True)
    assert find_validation(tmp_path.name) is None, 'it would hold the name against the command put right'
    done = CliRunner().invoke(validate, [*words, '--report-only', '--folder', str(tmp_path / 'report')])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(validate, words)
    assert (done.exit_code, 'no daemon runs' in done.output) == (1, True)
    assert 'Going on with the validation' in done.output
    done = CliRunner().invoke(validate, [*words, '--report-only', '--folder', str(tmp_path / 'report')])
    assert 'Not all has ended' in done.output
    assert '4 of 4 energies are not there yet' in (tmp_path / 'report/validation.md').read_text(encoding='utf-8')
    done = CliRunner().invoke(validate, [*words, '--seed', '1'])
    assert 'seed: 0 there, 1 now' in done.output
