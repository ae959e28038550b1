"""How `benchmarks/learning.py` judges: held as each pair was, by no teacher of it, and with failures counted."""

import dataclasses

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint
from aiida_e3relax.gnn.distillation.teacher import Teacher
from aiida_e3relax.gnn.models.registry import make_model
from benchmarks import judging, learning
from tests.gnn.crystals import batch_of
from tests.gnn.distillation.test_distil import teacher_of

CPU = torch.device('cpu')


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
    assert learning.markdown([row]).splitlines()[-1].endswith('| 1 | 0 | 1 |')
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
    with pytest.raises(InputError, match='sevennet-mf-0 relaxed the pairs that judge'):
        judging.check_judges(['chgnet', 'sevennet-mf-0'], judges, judges)
    other = dataclasses.replace(judges, about={'moves': np.full(4, 'positions and volume')})
    with pytest.raises(InputError, match='with `positions and volume` cannot be repeated'):
        judging.check_judges([], judges, other)
