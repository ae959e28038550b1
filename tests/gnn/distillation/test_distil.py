"""A teacher relaxes starts in chunks that survive kills, and what is sound becomes pairs: EMT teaches alloys."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_e3relax.common.errors import InputError, MissingPackageError
from aiida_e3relax.common.file_lock import file_lock
from aiida_e3relax.common.progress import NoProgress
from aiida_e3relax.crystals.datasets.pairs_file import read_data_card, read_pairs, write_pairs
from aiida_e3relax.crystals.freedom.vacuum import find_gap
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import save_checkpoint
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.distillation import chunks as chunks_module
from aiida_e3relax.gnn.distillation.chunks import Chunks
from aiida_e3relax.gnn.distillation.run import screened
from aiida_e3relax.gnn.distillation.teacher import Teacher
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.potentials.base import Potential
from aiida_e3relax.gnn.prediction.pre_relaxation import PreRelaxation
from aiida_e3relax.gnn.prediction.settings import PotentialSettings
from tests.gnn.crystals import batch_of


class Counting(EMT):
    """EMT that counts its calculations, and ends the run at one of them."""

    def __init__(self):
        super().__init__()
        self.count, self.last = 0, 10**9

    def calculate(self, *arguments, **options):
        self.count += 1
        if self.count > self.last:
            raise KeyboardInterrupt
        super().calculate(*arguments, **options)


def teacher_of(calculator):
    potential = Potential(calculator, 'emt', '3', 'of ASE', 'sha256:0')
    settings = PotentialSettings('emt', 'input', 60, only_if_lower=False)
    return Teacher.of(PreRelaxation(potential, settings), None, torch.device('cpu'))


def alloys():
    """Ordered alloys to train on, and one to test on."""
    frames = []
    for element, a in (
        ('Cu', 3.61),
        ('Ag', 4.09),
        ('Au', 4.08),
        ('Pd', 3.89),
        ('Ni', 3.52),
        ('Pt', 3.92),
        ('Al', 4.05),
    ):
        for other in (78, 29, 47):
            atoms = bulk(element, a=a, cubic=True)
            atoms.numbers[0] = other
            frames.append(atoms)
    split = np.array(['train'] * (len(frames) - 1) + ['test'])
    return Pairs(batch_of(*frames), batch_of(*frames), split, np.full(len(frames), 'alloys'))


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command, and the calculator of its teacher."""
    calculator = Counting()
    monkeypatch.setattr(Teacher, 'load', lambda *_: teacher_of(calculator))
    monkeypatch.setattr('aiida_e3relax.gnn.data.starts.library.aflow_prototypes', list)  # takes seconds
    write_pairs(tmp_path / 'alloys.npz', alloys())
    words = ['distil', str(tmp_path / 'alloys.npz'), '--output', str(tmp_path / 'd.npz'), '--teacher', 'chgnet']
    return [*words, '--kinds', 'donor', 'rattled', '--count', '8', '--chunk', '3', '--start', 'input'], calculator


def test_from_training_pairs_to_distilled_ones(command, tmp_path, capsys):
    words, _ = command
    assert main(words) == 0
    pairs, card = read_pairs(tmp_path / 'd.npz'), read_data_card(tmp_path / 'd.npz')
    refused = sum(card['rejected']['reasons'].values())
    assert len(pairs) == 8 - refused >= 5
    assert set(pairs.source) == {'distilled'}
    assert set(pairs.kinds) == {'donor', 'rattled'}
    assert set(pairs.about['teacher']) == {'emt 3 sha256:0'}
    assert set(pairs.about['basin']) <= {'kept', 'left'}
    assert card['teacher']['potential'] == 'emt'
    assert card['summary']['pairs_of_kind'].keys() == {'donor', 'rattled'}
    assert 'draws refused' in capsys.readouterr().out
    for index in range(len(pairs)):  # the end is where the teacher has no forces
        atoms = bulk('Cu', cubic=True) * (1, 1, 1)
        crystal = pairs.relaxed.select([index])
        atoms = type(atoms)(crystal.numbers, crystal.positions, cell=crystal.cell[0], pbc=True, calculator=EMT())
        assert np.abs(atoms.get_forces()).max() < 0.05
        assert np.abs(atoms.get_stress()).max() < 0.005


def test_a_killed_run_goes_on_and_more_starts_can_be_added(command, tmp_path, capsys):
    words, calculator = command
    assert main(words) == 0
    whole, all_of_it = read_pairs(tmp_path / 'd.npz'), calculator.count
    for path in (tmp_path / 'd.parts').glob('chunk*'):
        path.unlink()
    calculator.count, calculator.last = 0, round(0.6 * all_of_it)
    assert main(words) == 130
    done = sorted(path.name for path in (tmp_path / 'd.parts').glob('chunk*.npz'))
    assert 1 <= len(done) < 3
    calculator.count, calculator.last = 0, 10**9
    assert main(words) == 0
    assert calculator.count < all_of_it
    again = read_pairs(tmp_path / 'd.npz')
    assert again.unrelaxed.labels.tolist() == whole.unrelaxed.labels.tolist()
    np.testing.assert_array_equal(again.relaxed.positions, whole.relaxed.positions)
    calculator.count = 0
    assert main([*words, '--so-far']) == 0
    assert calculator.count == 0
    assert main([*words, '--count', '9']) == 0  # the two full chunks are there
    assert 0 < calculator.count < all_of_it
    assert main([*words, '--chunk', '2']) == 3
    assert 'relaxed in chunks of 3: give --chunk 3 to go on' in capsys.readouterr().err
    before = (tmp_path / 'd.parts' / 'starts.npz').read_bytes()
    assert main([*words, '--seed', '1']) == 3
    assert (tmp_path / 'd.parts' / 'starts.npz').read_bytes() == before
    assert 'made from other starts or by another teacher' in capsys.readouterr().err


def copper(count):
    """Starts of copper in cells that are too small or too large."""
    crystals = batch_of(*[bulk('Cu', a=3.5 + 0.05 * number) for number in range(count)])
    about = {'moves': np.full(count, 'cell')}
    return Pairs(crystals, crystals, np.full(count, 'train'), np.full(count, 'x'), about=about)


def test_processes_share_the_work_and_take_over_what_one_that_died_held(tmp_path, monkeypatch):
    teacher = teacher_of(EMT())
    chunks = Chunks(copper(4), 2, teacher.facts, tmp_path)
    other = contextlib.ExitStack()
    assert other.enter_context(file_lock(chunks.path(0).with_suffix('.lock'))) is not None
    looks = []

    def wait(seconds):
        looks.append([chunks.is_done(number) for number in range(2)])
        if len(looks) == 2:
            other.close()

    monkeypatch.setattr(chunks_module.time, 'sleep', wait)
    chunks.relax(teacher, NoProgress())
    assert looks == [[False, True]] * 2
    assert chunks.relaxed == 4
    assert not list(tmp_path.glob('*.lock'))
    pairs, rows = chunks.read()
    volumes = np.abs(pairs.relaxed.volumes)
    assert np.ptp(volumes) < 0.02 * volumes.mean()
    assert all(row['potential']['converged'] for row in rows)


def test_chunks_of_another_teacher_that_came_meanwhile_are_not_taken(tmp_path):
    teacher, other = teacher_of(EMT()), teacher_of(EMT())
    other.facts['content_hash'] = 'sha256:1'
    chunks = Chunks(copper(4), 2, teacher.facts, tmp_path)
    Chunks(copper(2), 2, other.facts, tmp_path).relax(other, NoProgress())
    with pytest.raises(InputError, match=r'chunk-00000-2.npz: made from other starts or by another teacher'):
        chunks.read()
    with pytest.raises(InputError, match=r'chunk-00000-2.npz: made from other starts or by another teacher'):
        chunks.relax(teacher, NoProgress())


def test_chunks_that_were_the_last_of_fewer_starts_are_passed_over(tmp_path):
    teacher = teacher_of(EMT())
    for count in (4, 7, 10):  # one start in the last chunk of each
        chunks = Chunks(copper(count), 3, teacher.facts, tmp_path)
        chunks.check_done()
        chunks.relax(teacher, NoProgress())
        assert len(chunks.read()[0]) == count
    with pytest.raises(InputError, match='relaxed in chunks of 3: give --chunk 3 to go on'):
        Chunks(copper(7), 4, teacher.facts, tmp_path).check_done()


def test_a_teacher_computes_in_batches_where_that_can_be(monkeypatch):
    asked = []

    def load(settings, *_, is_compiled):
        asked.append((settings.in_batches, is_compiled))
        if settings.in_batches:
            raise MissingPackageError('no batches here')
        return PreRelaxation(Potential(EMT(), 'emt', '3', 'of ASE', 'sha256:0'), settings)

    monkeypatch.setattr('aiida_e3relax.gnn.distillation.teacher.load_pre_relaxation', load)
    teacher = Teacher.load(PotentialSettings('emt', 'input'), None, torch.device('cpu'), is_compiled=True)
    assert asked == [(True, True), (None, True)]
    assert teacher.name.startswith('emt 3')


def test_starts_to_judge_by_are_relaxed_from_where_they_are(tmp_path):
    torch.manual_seed(0)
    network = make_model('e3relax-h2', {'features': 8, 'layers': 1})
    save_checkpoint(tmp_path / 'network.pt', 'e3relax-h2', network, [29], {})
    settings = PotentialSettings('emt', 'network', 60, only_if_lower=False)
    relaxation = PreRelaxation(Potential(EMT(), 'emt', '3', 'of ASE', 'sha256:0'), settings)
    teacher = Teacher.of(relaxation, tmp_path / 'network.pt', torch.device('cpu'))
    assert (teacher.facts['start'], teacher.facts['held_out_start']) == ('network', 'input')
    starts = dataclasses.replace(copper(5), split=np.array(['train', 'test_x', 'val', 'train', 'test']))
    pairs, rows = teacher.relax(starts)
    assert ['energy_network_eV_per_atom' in row['potential'] for row in rows] == [True, False, False, True, False]
    assert [row['label'] for row in rows] == starts.unrelaxed.labels.tolist() == pairs.unrelaxed.labels.tolist()
    np.testing.assert_array_equal(pairs.unrelaxed.cell, starts.unrelaxed.cell)
    alone, _ = teacher_of(EMT()).relax(starts)
    for index in (1, 2, 4):
        np.testing.assert_array_equal(pairs.relaxed.cell[index], alone.relaxed.cell[index])
    assert 'held_out_start' not in teacher_of(EMT()).facts


def test_what_judges_has_no_chemical_system_that_is_trained_on():
    frames = [bulk('CuAu', 'rocksalt', a=5.0), bulk('Cu'), bulk('CuAu', 'zincblende', a=5.0), bulk('Ag'), bulk('Au')]
    split = np.array(['train', 'test_x', 'test_y', 'val', 'test'])
    pairs = Pairs(batch_of(*frames), batch_of(*frames), split, np.full(5, 'x'))
    row = {'status': 'ok', 'potential': {'converged': True, 'energy_input_eV_per_atom': 0.0}}
    row['potential']['energy_prediction_eV_per_atom'] = 0.0
    distilled = screened((pairs, [row] * 5), 'emt', trained={'Ag'})
    assert distilled.pairs.split.tolist() == ['train', 'test_x', 'test']
    (refused,) = distilled.refused.values()
    assert refused == {'to judge by, with a chemical system that is trained on': 2}


def test_what_may_not_move_stays():
    layer = bulk('Cu', a=3.7, cubic=True)
    layer.cell[2] = [0, 0, 20.0]
    cell = bulk('Cu', a=3.7, cubic=True)
    del cell[0]
    crystals = batch_of(layer, cell)
    moves = {'moves': np.array(['in-plane', 'positions'])}
    fixed = np.array([False, True])
    starts = Pairs(crystals, crystals, np.full(2, 'train'), np.full(2, 'x'), fixed_cell=fixed, about=moves)
    pairs, rows = teacher_of(EMT()).relax(starts)
    assert [row['status'] for row in rows] == ['ok', 'ok']
    assert find_gap(crystals.select([0])) is not None
    np.testing.assert_array_equal(pairs.relaxed.cell[0][2], [0, 0, 20.0])
    assert pairs.relaxed.cell[0][0, 0] < 3.65
    np.testing.assert_array_equal(pairs.relaxed.cell[1], crystals.cell[1])
    cell.positions[1] += [0.1, 0.05, 0.02]
    crystals = batch_of(layer, cell)
    held = np.zeros_like(crystals.positions, dtype=bool)
    held[crystals.offsets[1]] = True
    pairs, rows = teacher_of(EMT()).relax(dataclasses.replace(starts, unrelaxed=crystals, fixed=held))
    assert [row['status'] for row in rows] == ['ok', 'ok']
    assert [row['label'] for row in rows] == crystals.labels.tolist()
    moved = np.abs(pairs.relaxed.positions - crystals.positions)[crystals.structure_index == 1]
    assert moved[0].max() < 1e-12
    assert moved[1].max() > 0.05


def test_an_element_that_the_teacher_does_not_know_costs_one_start():
    crystals = batch_of(bulk('NaCl', 'rocksalt', a=5.64), bulk('Cu', a=3.7))
    starts = Pairs(crystals, crystals, np.full(2, 'train'), np.full(2, 'x'), about={'moves': np.full(2, 'cell')})
    pairs, rows = teacher_of(EMT()).relax(starts)
    assert [row['status'] for row in rows] == ['potential_failed', 'ok']
    np.testing.assert_array_equal(pairs.relaxed.cell[0], crystals.cell[0])


def test_starts_can_be_listed(command, tmp_path, capsys):
    words, calculator = command
    assert main([*words, '--list']) == 0
    told = capsys.readouterr().out
    assert '8 starts: ' in told
    assert 'donor: ' in told
    assert calculator.count == 0
    path = tmp_path / 'd.parts' / 'starts.npz'
    assert [path.name for path in path.parent.glob('*.npz')] == ['starts.npz']
    before = path.read_bytes()
    assert main([*words, '--list', '--count', '5', '--seed', '1']) == 0
    assert '5 starts: ' in capsys.readouterr().out
    assert path.read_bytes() == before


def test_options_must_make_sense(command, tmp_path, capsys):
    words, _ = command
    for more, message in (
        (['--kinds', 'bulk'], '--kinds bulk: expected prototype, donor'),
        (['--held-out', 'oxide'], 'did you mean'),
        (['--held-out-val', 'nitrides'], 'nitrides are held out to test on'),
        (['--never', 'nothing'], 'expected a formula'),
        (['--count', '0'], '--count 0: expected a number above 0'),
        (['--output', str(tmp_path / 'd.csv')], 'a training file is an .npz'),
    ):
        assert main([*words, *more]) == 3
        assert message in capsys.readouterr().err


def test_labels_of_pairs_go_through_files(tmp_path):
    about = {'kind': np.array(['layer', '']), 'recipe': np.array(['one, two', ''])}
    crystals = batch_of(bulk('Cu', a=3.7), bulk('Cu', a=3.8))
    pairs = Pairs(crystals, crystals, np.full(2, 'train'), np.full(2, 'x'), about=about)
    plain = dataclasses.replace(pairs, about={})
    both = Pairs.concatenate([pairs.select(np.array([0])), plain])
    assert both.kinds.tolist() == ['layer', '', '']
    write_pairs(tmp_path / 'x.npz', both)
    back = read_pairs(tmp_path / 'x.npz')
    assert {name: texts.tolist() for name, texts in back.about.items()} == {
        'kind': ['layer', '', ''],
        'recipe': ['one, two', '', ''],
    }
    assert both.count(both.kinds) == {'layer': {'train': 1, 'val': 0, 'test': 0}}
