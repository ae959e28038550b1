"""How `benchmarks/learning.py` judges: held as each pair was, by no teacher of it, and with failures counted."""

import argparse
import dataclasses

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.data import chemical_symbols
from scipy import stats

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint
from aiida_e3relax.gnn.data.splits import chemical_systems
from aiida_e3relax.gnn.distillation.teacher import Teacher
from aiida_e3relax.gnn.models.registry import make_model
from benchmarks import judging, learning
from tests.gnn.crystals import batch_of
from tests.gnn.distillation.test_distil import teacher_of

CPU = torch.device('cpu')
SYSTEMS = ('NaCl', 'NaF', 'LiF', 'LiCl', 'KF', 'KCl')


@pytest.fixture
def judges() -> Pairs:
    """A layer, a vacancy in a fixed cell, a crystal with nothing said of it, and one that EMT does not know."""
    layer = bulk('Cu', a=3.7, cubic=True)
    layer.cell[2] = [0, 0, 20.0]
    vacancy = bulk('Cu', a=3.7, cubic=True)
    del vacancy[0]
    crystals = batch_of(layer, vacancy, bulk('Ag', a=4.2), bulk('NaCl', 'rocksalt', a=5.6))
    moves = np.array(['in-plane', 'positions', '', ''])
    teacher = np.array(['sevennet-mf-0 1 sha256:0', '', '', ''])
    about = {'moves': moves, 'teacher': teacher}
    cells = np.array([False, True, False, False])
    return Pairs(crystals, crystals, np.full(4, 'test'), np.full(4, 'x'), fixed_cell=cells, about=about)


def test_a_potential_is_held_to_what_moved_and_its_failures_are_counted(judges, tmp_path, monkeypatch):
    monkeypatch.setattr(Teacher, 'load', lambda *_: teacher_of(EMT()))
    relaxed, rows, seconds = judging.relaxations(judges, 'emt', tmp_path, CPU)
    monkeypatch.setattr(Teacher, 'relax', None)  # what is kept is read
    again, _, same_seconds = judging.relaxations(judges, 'emt', tmp_path, CPU)
    np.testing.assert_array_equal(again.positions, relaxed.positions)
    assert seconds == same_seconds > 0
    monkeypatch.undo()
    found = judging.judged(judges, relaxed, rows)
    assert (found['failed'], found['not converged']) == (1, 0)
    ends = teacher_of(EMT()).relax(judging.with_moves(judges))[0].relaxed
    np.testing.assert_array_equal(ends.cell[0][2], [0, 0, 20.0])
    np.testing.assert_array_equal(ends.cell[1], judges.unrelaxed.cell[1])
    assert ends.volumes[2] != pytest.approx(judges.unrelaxed.volumes[2])
    row = {'start': 'emt', 'judged': found, 'CPU s': 1.0}
    assert learning.markdown([row]).splitlines()[-1].endswith('| 1 | 0 | 1 |  |')
    slow = [{'status': 'ok', 'potential': {'converged': False}}] * 4
    assert judging.judged(judges, ends, slow)['not converged'] == 4


def test_a_network_is_held_to_what_moved(judges):
    torch.manual_seed(0)
    model = make_model('e3relax-h2', {'features': 8, 'layers': 1})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    checkpoint = Checkpoint(model.eval(), 'e3relax-h2', [29, 47], {}, 'sha256:0')
    predicted, rows = judging.network(checkpoint, judges, CPU)
    np.testing.assert_array_equal(predicted.cell[0][2], [0, 0, 20.0])
    np.testing.assert_array_equal(predicted.cell[1], judges.unrelaxed.cell[1])
    assert predicted.volumes[2] != pytest.approx(judges.unrelaxed.volumes[2])
    assert [row['status'] == 'ok' for row in rows] == [True, True, True, False]
    assert judging.judged(judges, predicted, rows)['failed'] == 1
    stated = [{'uncertainty_A': 0.1}, {'uncertainty_A': 0.3}, {}]
    assert learning.order_of('least-certain', stated).tolist() == [2, 1, 0]  # what it cannot predict goes first


def test_no_potential_judges_what_it_has_taught(judges):
    judging.check_judges(['chgnet', 'sevennet-0'], judges, judges)
    with pytest.raises(InputError, match=r'sevennet-mf-0 relaxed the pairs that judge.*give `--potentials chgnet`'):
        judging.check_judges(['chgnet', 'sevennet-mf-0'], judges, judges)
    other = dataclasses.replace(judges, about={'moves': np.full(4, 'positions and volume')})
    with pytest.raises(InputError, match='with `positions and volume` cannot be repeated'):
        judging.check_judges([], judges, other)


@pytest.fixture
def family() -> Pairs:
    """Six chemical systems with four pairs each, in three splits of two sources."""
    crystals = batch_of(*(bulk(symbols, 'rocksalt', a=5 + 0.1 * i) for i in range(4) for symbols in SYSTEMS))
    split = np.array(['train', 'test', 'test_nitrides', 'val'])[np.arange(24) % 4]
    return Pairs(crystals, crystals, split, np.where(np.arange(24) < 12, 'one', 'two'))


def test_whole_systems_judge_with_a_few_pairs_each(family):
    judges, pool = learning.draw_judges(family, 4, 0, 3, seed=0)
    judging = chemical_systems(judges)
    assert sorted(np.unique(judging, return_counts=True)[1]) == [3, 3, 3, 3]
    assert len(pool) == 8, 'all pairs of the other two'
    assert not set(judging) & set(chemical_systems(pool))
    others = [chemical_systems(learning.draw_judges(family, 4, 0, 3, seed)[0]) for seed in range(1, 6)]
    assert any(other != judging for other in others)
    assert chemical_systems(learning.draw_judges(family, 4, 0, 3, seed=0)[0]) == judging
    sizes = [len(learning.draw_judges(family, 1, count, 3, seed=0)[0]) for count in (2, 3, 4, 100)]
    assert sizes == [3, 3, 6, 9], 'so many pairs, but no more than half of the systems'


def test_elements_that_a_family_alone_has_are_found(family):
    """Of potassium chloride potassium fluoride is left, in which its elements are known; of all with fluorine none."""
    numbers = {symbol: number for number, symbol in enumerate(chemical_symbols)}
    trained = dataclasses.replace(family, split=np.full(24, 'train'))
    one = learning.divide(trained, [[numbers['K']], [numbers['Cl']]])
    known, unknown = learning.with_known_elements(*one)
    assert ([len(pairs) for pairs in one], len(known), unknown) == ([4, 20], 4, [])
    known, unknown = learning.with_known_elements(*learning.divide(trained, [[numbers['F']]]))
    assert (len(known), unknown) == (0, ['F'])


def test_elsewhere_nothing_of_the_system_is_trained_on(family):
    """Test splits of all names, by source, without what has a system in train; none where that is all."""
    systems = np.array(chemical_systems(family))
    trained = np.isin(systems, np.unique(systems)[:2])
    split = np.full(24, 'val', dtype='U20')
    split[trained] = np.where(np.arange(8) % 4 < 2, 'train', 'test')
    split[~trained] = np.where(np.arange(16) % 2, 'test_nitrides', 'val')
    found = learning.find_elsewhere(dataclasses.replace(family, split=split), 5, seed=0)
    assert set(found) == {'one', 'two'}
    assert sum(map(len, found.values())) == 8
    assert {name for pairs in found.values() for name in pairs.split} == {'test_nitrides'}
    assert learning.find_elsewhere(dataclasses.replace(family, split=np.full(24, 'val')), 5, seed=0) == {}


def test_differences_are_those_over_chemical_systems():
    """Of which one has most of the crystals."""
    systems, change = ['a'] * 6 + ['b', 'c', 'd'], np.array([0.1] * 6 + [0.2, 0.3, -0.2])
    one = {'each': {'volume A^3': (1 + change).tolist()}, 'systems': systems}
    other = {'each': {'volume A^3': [1.0] * 9}, 'systems': systems}
    mean, half = learning.difference(one, other, 'volume A^3')
    assert mean == pytest.approx(0.1)
    low, high = stats.ttest_1samp([0.1, 0.2, 0.3, -0.2], 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((low, high))
    same = {'each': other['each'], 'systems': ['a'] * 9}
    assert np.isnan(learning.difference(same, same, 'volume A^3')[1])


def test_tables_compare_with_the_base_model_and_the_best_potential(judges):
    about = learning.measured(judges, judges.unrelaxed)
    worse = learning.measured(judges, judges.unrelaxed.scaled_to(1.1 * judges.unrelaxed.volumes))
    rows = [
        {'start': learning.BASE, 'pairs': 0, 'judged': worse, 'elsewhere': {'x': worse}},
        {'start': 'bad', 'is_potential': True, 'judged': worse},
        {'start': 'good', 'is_potential': True, 'judged': about},
        {'start': 'random', 'pairs': 25, 'judged': about, 'elsewhere': {'x': about}, 'CPU s': 1.0, 'wall s': 2.0},
        {'start': 'shipped default', 'pairs': 100, 'CPU s': 3.0, 'wall s': 4.0},
    ]
    errors, differences, elsewhere = learning.markdown(rows).split('\n\n')
    assert errors.splitlines()[-1] == '| shipped default | 100 |  |  |  |  |  |  | 3 | 4 |'
    title, _, line = differences.splitlines()
    assert title.count('minus base model') == title.count('minus good') == 2
    assert line.count('+0 (+0 to +0)') == 2
    assert line.split(' | ')[2].startswith('-')
    assert [row.split(' | ')[0] for row in elsewhere.splitlines()[2:]] == ['| base model', '| random']


def test_the_best_potential_is_that_of_most_systems():
    """As differences are means over systems, however many pairs one has."""
    systems = ['a'] * 6 + ['b', 'c']
    rows = [
        {
            'start': name,
            'judged': {'each': {'volume A^3': values}, 'systems': systems, 'volume A^3': (np.mean(values), 0)},
        }
        for name, values in (('of pairs', [0.1] * 6 + [0.4, 0.4]), ('of systems', [0.3] * 6 + [0.1, 0.1]))
    ]
    assert learning.find_best(rows, 'volume A^3')['start'] == 'of systems'


def test_results_of_other_pairs_are_no_longer_those(family, tmp_path, capsys):
    """Whatever their files are called; another seed has its own folder."""
    parser = argparse.ArgumentParser()
    options = argparse.Namespace(output=tmp_path, pairs=['a.npz'], seed=0, replay=1.0)
    learning.check_settings(options, [family], parser)
    moved = argparse.Namespace(output=tmp_path, pairs=['b.npz'], seed=1, replay=1.0)
    learning.check_settings(moved, [family], parser)
    assert learning.seed_folder(options) != learning.seed_folder(moved)
    with pytest.raises(SystemExit):
        learning.check_settings(options, [family.select(np.arange(23))], parser)
    assert 'has results of other pairs' in capsys.readouterr().err
