import dataclasses
import json

import numpy as np
import pytest
import torch
from ase.build import bulk

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import write_npz
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from aiida_e3relax.gnn.checkpoints.model_card import read_card, write_card
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.evaluation.evaluate import measure
from aiida_e3relax.gnn.graph.batch import make_batch
from aiida_e3relax.gnn.models.losses import DEFAULT_LOSS, structure_losses
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.training.batches import PreparedPairs
from aiida_e3relax.gnn.training.ensembles import calibrate, combine, separate
from tests.gnn.crystals import batch_of, rattled
from tests.gnn.pairs import made_pairs


def member(path, seed, elements=(8, 22, 30, 31, 33), architecture='e3relax-h2', **sizes):
    torch.manual_seed(seed)
    model = make_model(architecture, {'features': 16, 'layers': 2} | sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save_checkpoint(path, architecture, model, list(elements), {'step': seed})
    return path


@pytest.fixture
def members(tmp_path):
    return [member(tmp_path / f'{seed}.pt', seed) for seed in (1, 2, 3)]


def test_prediction_is_the_mean_of_the_members(members, tmp_path):
    ensemble = combine(members, tmp_path / 'three.pt').model.double()
    batch = make_batch(batch_of(*rattled()), ensemble.graph, dtype=torch.float64)
    with torch.no_grad():
        together = ensemble(batch)[-1]
        alone = [load_checkpoint(path).model.double()(batch)[-1] for path in members]
    cell = sum(geometry.cell for geometry in alone) / 3
    lengths = torch.stack([batch.edge_vectors(g.fractional, g.cell).norm(dim=1) for g in alone])
    first = batch.structure_index[batch.graph.centre] == 0
    deviation = (lengths - lengths.mean(dim=0))[:, first]
    torch.testing.assert_close(together.cell, cell)
    torch.testing.assert_close(together.uncertainty[0], deviation.square().mean().sqrt())


def test_half_precision_halves_the_file_and_hardly_moves_the_prediction(members, tmp_path):
    whole, half = combine(members, tmp_path / 'whole.pt'), combine(members, tmp_path / 'half.pt', half=True)
    assert (tmp_path / 'half.pt').stat().st_size < 0.6 * (tmp_path / 'whole.pt').stat().st_size
    batch = make_batch(batch_of(*rattled()), whole.model.graph)
    with torch.no_grad():
        expected, found = whole.model(batch)[-1], half.model(batch)[-1]
    assert found.cell.dtype == torch.float32
    assert 0 < (found.cell - expected.cell).abs().max() < 1e-2


def test_separated_members_make_the_same_ensemble_again(members, tmp_path):
    whole = combine(members, tmp_path / 'whole.pt')
    apart = separate(tmp_path / 'whole.pt', tmp_path / 'apart')
    again = combine(apart, tmp_path / 'again.pt')
    assert again.content_hash == whole.content_hash
    assert [load_checkpoint(path).training['step'] for path in apart] == [1, 2, 3]
    with pytest.raises(InputError, match='expected an ensemble, found e3relax-h2'):
        separate(members[0], tmp_path / 'none')


def made_to_agree(checkpoint):
    """Return an ensemble of two, the second of which has become like the first."""
    first, second = checkpoint.model.members
    second.load_state_dict(first.state_dict())
    return checkpoint.model


def test_members_that_agree_are_certain(tmp_path):
    paths = [member(tmp_path / 'a.pt', 1), member(tmp_path / 'b.pt', 2)]
    ensemble = made_to_agree(combine(paths, tmp_path / 'same.pt')).double()
    batch = make_batch(batch_of(*rattled()), ensemble.graph, dtype=torch.float64)
    with torch.no_grad():
        assert ensemble(batch)[-1].uncertainty.max() < 1e-12


@pytest.mark.parametrize('architecture', ['e3relax-h2', 'deeprelax-published'])
def test_each_member_learns_by_its_own_errors(architecture, tmp_path):
    few = {'layers': 1, 'features': 8}
    paths = [member(tmp_path / f'{seed}.pt', seed, architecture=architecture, **few) for seed in (1, 2)]
    ensemble = combine(paths, tmp_path / 'both.pt').model.train()
    pairs = PreparedPairs(made_pairs().of_split('val'), ensemble, torch.device('cpu'))
    losses, errors = ensemble.loss(*(chosen := pairs.select(np.arange(4))), DEFAULT_LOSS)
    losses.sum().backward()
    for number, path in enumerate(paths):
        alone = load_checkpoint(path).model.train()
        own = alone.loss(*chosen, DEFAULT_LOSS)[0]
        losses = losses - own / len(paths)
        own.sum().backward()
        for one, other in zip(ensemble.members[number].parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(len(paths) * one.grad, other.grad, rtol=1e-4, atol=1e-6)
        for one, other in zip(ensemble.members[number].buffers(), alone.buffers(), strict=True):
            torch.testing.assert_close(one, other)  # statistics of batches have seen this one once
    assert losses.abs().max() < 1e-5
    with torch.no_grad():
        mean = structure_losses(ensemble.eval()(chosen[0])[-1:], chosen[1], chosen[0])[:, 0]
    if architecture == 'e3relax-h2':  # no statistics of batches
        torch.testing.assert_close(errors, mean)
    assert errors.shape == (4, 2)
    assert not errors.requires_grad
    assert ensemble.training is False


def test_elements_are_those_that_all_members_know(tmp_path):
    paths = [member(tmp_path / 'a.pt', 1, (31, 33)), member(tmp_path / 'b.pt', 2, (30, 31))]
    for path, licence in zip(paths, ('MIT', 'BSD'), strict=True):
        write_card(
            path, {'name': path.stem, 'architecture': 'e3relax-h2', 'version': 1, 'doi': '1', 'licence': licence}
        )
    assert combine(paths, tmp_path / 'both.pt').elements == [31]
    card = read_card(tmp_path / 'both.pt')
    assert (card['doi'], card.get('licence')) == ('1', None)  # what they do not say alike, the whole does not say
    assert read_card(tmp_path / 'both.pt')['atomic_numbers'] == [31]


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [({'features': 8}, 'one architecture and size'), ({'architecture': 'e3relax'}, 'one architecture and size')],
)
def test_unlike_members_are_refused(changes, reason, tmp_path):
    paths = [member(tmp_path / 'a.pt', 1), member(tmp_path / 'b.pt', 2, **changes)]
    with pytest.raises(InputError, match=rf'b\.pt is .*{reason}'):
        combine(paths, tmp_path / 'no.pt')


def test_a_member_that_comes_twice_is_refused(members, tmp_path, capsys):
    copy = member(tmp_path / 'copy.pt', 1, elements=(8,))  # the weights are those of the first
    for given in (['1.pt', '2.pt', './1.pt'], ['1.pt', copy.name]):
        words = [str(tmp_path / name) for name in given]
        assert main(['ensemble', *words, '--output', str(tmp_path / 'no.pt')]) == 3
        assert 'have the same weights, so that their spread says nothing' in capsys.readouterr().err
    assert not (tmp_path / 'no.pt').exists()


def test_one_member_is_refused(members, tmp_path):
    with pytest.raises(InputError, match='at least two members; 1 given'):
        combine(members[:1], tmp_path / 'no.pt')


def test_ensemble_of_ensembles_is_refused(members, tmp_path):
    combine(members, tmp_path / 'a.pt')
    combine(members, tmp_path / 'b.pt')
    with pytest.raises(InputError, match='cannot be ensembles'):
        combine([tmp_path / 'a.pt', tmp_path / 'b.pt'], tmp_path / 'no.pt')


def test_uncertainty_reaches_the_files(members, tmp_path, capsys):
    assert main(['ensemble', *map(str, members), '--output', str(tmp_path / 'three.pt')]) == 0
    assert '3 members' in capsys.readouterr().out
    write_npz(tmp_path / 'in.npz', batch_of(*rattled(), bulk('Cu')))
    report = tmp_path / 'report.json'
    arguments = ['predict', str(tmp_path / 'in.npz'), '--model', str(tmp_path / 'three.pt'), '--report', str(report)]
    assert main([*arguments, '--output', str(tmp_path / 'out.npz')]) == 0
    rows = json.loads(report.read_text())['structures']
    with np.load(tmp_path / 'out.npz') as arrays:
        uncertainty = arrays['uncertainty']
    assert (uncertainty[:-1] > 0).all()
    assert np.isnan(uncertainty[-1]), 'copper was not predicted'
    assert [row.get('uncertainty_A') for row in rows] == [*uncertainty[:-1].tolist(), None]


def test_calibrated_uncertainty_is_the_error_in_the_median(tmp_path, capsys):
    pairs = made_pairs(copies=8)
    write_pairs(tmp_path / 'pairs.npz', pairs)
    elements = np.unique(pairs.unrelaxed.numbers).tolist()
    paths = [str(member(tmp_path / f'{seed}.pt', seed, elements)) for seed in (1, 2, 3)]
    bare, scaled = tmp_path / 'bare.pt', tmp_path / 'scaled.pt'
    assert main(['ensemble', *paths, '--output', str(bare)]) == 0
    arguments = ['--calibrate', str(tmp_path / 'pairs.npz'), '--device', 'cpu']
    assert main(['ensemble', *paths, '--output', str(scaled), *arguments]) == 0
    assert 'times the deviation of the members' in capsys.readouterr().out
    models = {'bare': load_checkpoint(bare), 'scaled': load_checkpoint(scaled)}
    rows = {
        split: {
            m.of: m.row()
            for m in measure(models, pairs.of_split(split), torch.device('cpu'), with_matches=False)
            if m.frame == 'aligned'
        }
        for split in ('val', 'test')
    }
    ratio = {of: rows['val'][of]['observed_over_stated_median'] for of in models}
    assert ratio['scaled'] == pytest.approx(1, rel=1e-4)
    assert abs(ratio['bare'] - 1) > 0.05
    factor = models['scaled'].training['calibration']['factor']
    assert factor == pytest.approx(ratio['bare'], rel=1e-4)
    assert read_card(scaled)['training']['calibration'] == {'data': ['made'], 'pairs': 9, 'factor': factor}
    for name in ('coordinate_mae_A_mean', 'spearman_bonds', 'spearman_coordinates'):
        assert rows['test']['scaled'][name] == pytest.approx(rows['test']['bare'][name], rel=1e-6)


def test_calibration_on_pairs_that_were_trained_on_is_told(tmp_path, capsys):
    pairs = made_pairs()
    write_pairs(tmp_path / 'train.npz', pairs.of_split('train'))
    again = pairs.of_split('train').select(np.arange(3))
    held_back = Pairs.concatenate([pairs.of_split('val'), dataclasses.replace(again, split=np.full(3, 'val'))])
    write_pairs(tmp_path / 'val.npz', held_back)
    elements = np.unique(pairs.unrelaxed.numbers).tolist()
    paths = [str(member(tmp_path / f'{seed}.pt', seed, elements)) for seed in (1, 2)]
    files = ['--reference', str(tmp_path / 'train.npz'), '--calibrate', str(tmp_path / 'val.npz')]
    output = tmp_path / 'two.pt'
    assert main(['ensemble', *paths, '--output', str(output), *files, '--device', 'cpu']) == 0
    assert 'warning: 3 of 12 pairs to calibrate on were trained on' in capsys.readouterr().err
    assert read_card(output)['training']['calibration']['pairs_in_train'] == 3


def test_calibration_leaves_half_precision_as_it_is(tmp_path):
    pairs = made_pairs().of_split('val')
    elements = np.unique(pairs.unrelaxed.numbers).tolist()
    combine([member(tmp_path / f'{seed}.pt', seed, elements) for seed in (1, 2)], tmp_path / 'half.pt', half=True)
    size = (tmp_path / 'half.pt').stat().st_size
    calibrate(tmp_path / 'half.pt', pairs, torch.device('cpu'))
    assert (tmp_path / 'half.pt').stat().st_size < 1.05 * size


def test_members_that_agree_cannot_be_calibrated(tmp_path):
    elements = np.unique(made_pairs().unrelaxed.numbers).tolist()
    apart = combine([member(tmp_path / f'{seed}.pt', seed, elements) for seed in (1, 2)], tmp_path / 'apart.pt')
    save_checkpoint(tmp_path / 'same.pt', 'ensemble', made_to_agree(apart), elements, {})
    with pytest.raises(InputError, match='agree or refuse on all 9 pairs'):
        calibrate(tmp_path / 'same.pt', made_pairs().of_split('val'), torch.device('cpu'))


def test_calibration_needs_a_val_split(members, tmp_path, capsys):
    write_pairs(tmp_path / 'pairs.npz', made_pairs().of_split('train'))
    arguments = ['--output', str(tmp_path / 'e.pt'), '--calibrate', str(tmp_path / 'pairs.npz'), '--device', 'cpu']
    assert main(['ensemble', *map(str, members), *arguments]) == 3
    assert 'no pair of the split val' in capsys.readouterr().err
    assert not (tmp_path / 'e.pt').exists()
