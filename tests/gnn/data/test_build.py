"""Repairs, repeats, splits, the training file and its card."""

import csv
import dataclasses
import errno
import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk, make_supercell
from scipy.spatial.transform import Rotation

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash, read_data_card, read_pairs, write_pairs
from aiida_e3relax.crystals.duplicates import find_repeats
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.data.build import BuildOptions, build
from aiida_e3relax.gnn.data.repair import RepairOptions
from aiida_e3relax.gnn.data.sources.base import Candidate, Loaded, Source, sites_of
from aiida_e3relax.gnn.data.splits import joined, make_split
from tests.gnn.crystals import PROTOTYPES, batch_of, rattled
from tests.gnn.pairs import made_pairs


def source_of(*pairs, split='train'):
    """Return a source of pairs of ASE structures."""
    candidates = [
        Candidate(f'pair {i}', split, lambda a=a, b=b: Loaded(sites_of(a), sites_of(b)))
        for i, (a, b) in enumerate(pairs)
    ]
    return Source('test', 'made here', 'made', candidates)


def built(*pairs, **options):
    return build([source_of(*pairs)], BuildOptions(find_repeats=False, **options))


def grown(atoms, factor=1.03):
    result = atoms.copy()
    result.set_cell(atoms.cell * factor, scale_atoms=True)
    return result


def test_sites_are_brought_into_order():
    atoms = rattled(scale=0.05)[2]
    order = np.random.default_rng(3).permutation(len(atoms))
    data = built((atoms, grown(atoms)[order]))
    assert data.repairs['site order'] == 1
    moved = data.pairs.relaxed.fractional() - data.pairs.unrelaxed.fractional()
    np.testing.assert_allclose(moved, 0, atol=1e-9)
    kept = built((atoms, grown(atoms)), (atoms, grown(atoms)[order]), repair=RepairOptions(reorder=False))
    assert [r.reason for r in kept.rejections] == ['site order differs']


def test_order_that_is_not_clear_is_rejected():
    """Every relaxed atom lies nearly as far from one unrelaxed site of its species as from the next."""
    before = bulk('NaCl', 'rocksalt', a=5.64, cubic=True)
    after = before.copy()[::-1]
    after.positions += before.cell.array[0] / 2 * 0.98
    with pytest.raises(InputError, match='not clear'):
        built((before, after))


@pytest.mark.parametrize('drift', [(0.0, 0.0, 0.0), (0.1, 0.2, 0.05)])
def test_sites_of_one_species_that_changed_places_are_noted_and_matched_if_asked_for(drift):
    atoms = bulk('Cu', cubic=True) * (2, 1, 1)
    atoms.rattle(0.05, seed=1)
    permuted = grown(atoms)[[2, 0, 3, 1, 4, 5, 7, 6]]
    permuted.positions += drift
    unlike = 'sites of one species lie much nearer in another order'
    data = built((atoms, permuted), (atoms, grown(atoms)))
    assert [(note.startswith(unlike), count) for note, count in data.notes.items()] == [(True, 1)]
    assert 'as pair 0' in next(iter(data.notes))
    assert data.repairs['site order'] == 0
    matched = built((atoms, permuted), (atoms, grown(atoms)), repair=RepairOptions(match_sites=True))
    assert matched.notes == {}
    assert matched.repairs['site order'] == 1
    moved = matched.pairs.relaxed.fractional() - matched.pairs.unrelaxed.fractional()
    np.testing.assert_allclose(moved, 0, atol=1e-9)


def test_a_cell_of_another_setting_is_noted():
    atoms = rattled()[2]
    axes, sheared = grown(atoms), grown(atoms)
    axes.set_cell(axes.cell.array[[1, 2, 0]])
    sheared.set_cell(sheared.cell.array + [[0, 0, 0], sheared.cell.array[0], [0, 0, 0]])
    data = built((atoms, grown(atoms)), (atoms, axes), (atoms, sheared))
    (note,) = (note for note in data.notes if note.startswith('the relaxed cell is much less strained'))
    assert data.notes[note] == 2
    assert note.endswith('as pair 1')


def test_drift_rotation_and_images_are_taken_out_and_counted():
    atoms = rattled()[1]
    after = grown(atoms)
    turned = after.copy()
    turned.set_cell(after.cell.array @ Rotation.from_rotvec([0.1, 0.2, -0.1]).as_matrix(), scale_atoms=True)
    turned.positions += [0.3, 0.2, 0.1]
    turned.wrap()
    data = built((atoms, turned), (atoms, after))
    assert data.repairs == {'site order': 0, 'mirror image': 0, 'nearest image': 1, 'drift': 1, 'rotation': 1}
    first, second = (data.pairs.relaxed.select([i]) for i in (0, 1))
    np.testing.assert_allclose(first.positions, second.positions, atol=1e-9)
    np.testing.assert_allclose(data.pairs.as_filed.select([0]).positions, turned.positions, atol=1e-9)
    drifting = built((atoms, turned), repair=RepairOptions(drift=False, rotation=False)).pairs
    np.testing.assert_allclose(drifting.relaxed.cell[0], turned.cell.array, atol=1e-9)
    shift = (drifting.relaxed.fractional() - drifting.unrelaxed.fractional()) @ turned.cell.array
    np.testing.assert_allclose(shift.mean(axis=0), [0.3, 0.2, 0.1], atol=1e-9)


def test_mirrored_crystals_are_mirrored_back():
    atoms = rattled()[2]
    after = grown(atoms)
    mirrored = after.copy()
    mirrored.set_cell(after.cell.array * [-1, 1, 1], scale_atoms=True)
    data = built((atoms, mirrored))
    assert data.repairs['mirror image'] == 1
    np.testing.assert_allclose(data.pairs.relaxed.positions, built((atoms, after)).pairs.relaxed.positions, atol=1e-9)


def test_rejections_have_reasons():
    silicon = bulk('Si', 'diamond', a=5.43)
    flat, lost = silicon.copy(), silicon.copy()
    flat.set_cell(flat.cell.array * [1, 1, 0])
    lost.positions[0] = np.nan
    bad = [(silicon, flat), (lost, silicon), (silicon, bulk('Ge')), (silicon * 2, silicon * 2)]
    data = built((silicon, grown(silicon)), *bad, atoms_max=8)
    reasons = {r.label: r.reason for r in data.rejections}
    assert len(data.pairs) == 1
    assert 'the cell volume of 0 A^3 holds no 2 atom(s)' in reasons['pair 1']
    assert 'hold NaN or infinite numbers' in reasons['pair 2']
    assert 'species differ: Si2 and Ge2' in reasons['pair 3']
    assert reasons['pair 4'] == '16 atoms, more than 8'


@pytest.fixture(scope='module')
def repeating():
    """Five pairs: 0 and 1 the same in other cells, 2 from another start to the same end, 3 and 4 others."""
    gaas = PROTOTYPES['zinc blende']()
    supercell = make_supercell(gaas, [[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    bent = gaas.copy()
    bent.set_cell(gaas.cell.array @ np.diag([1.1, 1.0, 0.92]), scale_atoms=True)
    swapped = PROTOTYPES['rutile']()
    swapped.numbers = np.where(swapped.numbers == 8, 9, 12)
    befores = [gaas, supercell, bent, PROTOTYPES['rutile'](), swapped]
    ends = [grown(gaas), grown(supercell), grown(gaas), *map(grown, befores[3:])]
    split = np.array(['train', 'train', 'test', 'train', 'val'])
    return Pairs(batch_of(*befores), batch_of(*ends), split, np.full(5, 'made'))


def test_repeats_and_leaks_are_found(repeating):
    repeats = find_repeats(repeating)
    assert repeats.relaxed.tolist() == [0, 0, 0, 3, 4]
    assert repeats.whole.tolist() == [0, 0, 2, 3, 4]
    assert repeats.superfluous(repeating.split).tolist() == [1]
    assert repeats.shared(repeating.split, 'train', 'test').tolist() == [0, 1]
    assert repeats.shared(repeating.split, 'test', 'train').tolist() == [2]
    assert repeats.shared(repeating.split, 'val', 'train').tolist() == []


def test_crystals_in_a_row_are_compared_with_the_first():
    """Neighbours are the same within tolerances, the ends are not: these are no repeats, but may leak."""
    atoms = [ase.build.bulk('CuAu', 'rocksalt', a=5.5 + 0.05 * place) for place in range(6)]
    repeats = find_repeats(built(*((one, grown(one)) for one in atoms)).pairs)
    assert repeats.relaxed.tolist() == [0] * 6
    assert repeats.whole.tolist() == [0, 0, 2, 2, 4, 4]


def test_repeats_and_leaks_are_dropped_on_request(repeating, tmp_path):
    write_pairs(tmp_path / 'repeating.npz', repeating)
    arguments = ['data', str(tmp_path / 'repeating.npz'), '--output', str(tmp_path / 'out.npz')]
    for flags, left in (([], 5), (['--drop-duplicates'], 4), (['--drop-leaks'], 3)):
        assert main([*arguments, *flags]) == 0
        card = read_data_card(tmp_path / 'out.npz')
        assert card['summary']['pairs'] == len(read_pairs(tmp_path / 'out.npz')) == left
        assert card['repeats']['test pairs whose relaxed crystal is in train'] == 1
        assert card['rejected']['pairs'] == 5 - left


def test_random_split_keeps_equal_crystals_together_and_is_repeatable():
    pairs = made_pairs(copies=20)
    same_end = np.unique(pairs.relaxed.numbers[pairs.relaxed.offsets[:-1]], return_inverse=True)[1]
    split = make_split(pairs, 'random', (0.6, 0.2, 0.2), 4, same_end)
    assert set(split) == {'train', 'val', 'test'}
    for group in np.unique(same_end):
        assert len(set(split[same_end == group])) == 1
    np.testing.assert_array_equal(split, make_split(pairs, 'random', (0.6, 0.2, 0.2), 4, same_end))
    shares = make_split(pairs, 'random', (0.6, 0.2, 0.2), 4, None)
    assert [int((shares == s).sum()) for s in ('train', 'val', 'test')] == pytest.approx(
        [0.6 * len(pairs), 0.2 * len(pairs), 0.2 * len(pairs)], abs=1
    )


@pytest.mark.parametrize('method', ['chemical-system', 'prototype'])
def test_split_by_what_crystals_are(method):
    """Elements of one system, and crystals of one prototype, stay on one side."""
    frames = [
        bulk(formula, structure, a=a)
        for formula, structure, a in (
            ('GaAs', 'zincblende', 5.65),
            ('GaAs', 'rocksalt', 5.5),
            ('InP', 'zincblende', 5.87),
            ('NaCl', 'rocksalt', 5.64),
        )
    ]
    pairs = Pairs(batch_of(*frames), batch_of(*map(grown, frames)), np.full(4, ''), np.full(4, 'made'))
    together = {'chemical-system': (0, 1), 'prototype': (0, 2)}[method]
    apart = set()
    for seed in range(12):
        split = make_split(pairs, method, (0.5, 0.25, 0.25), seed, None)
        assert split[together[0]] == split[together[1]]
        apart |= {split[0] == split[3]}
    assert False in apart


def test_prototypes_that_relax_to_one_crystal_stay_together():
    """As a crystal, and what is left of it after a push, which has another prototype."""
    zincblende, rutile = bulk('GaAs', 'zincblende', a=5.65), PROTOTYPES['rutile']()
    pushed = zincblende.copy()
    pushed.positions[0] += [0.1, 0.2, 0.05]
    frames, ends = [zincblende, pushed, rutile], [zincblende, zincblende, rutile]
    apart = set()
    for seed in range(8):
        options = BuildOptions(split='prototype', fractions=(0.5, 0.25, 0.25), seed=seed)
        data = build([source_of(*zip(frames, map(grown, ends), strict=True))], options)
        split = data.pairs.split
        assert split[0] == split[1]
        assert {count for kind, count in data.repeats.items() if 'whose relaxed crystal' in kind} == {0}
        apart |= {split[0] == split[2]}
    assert False in apart


def test_groups_with_a_pair_in_common_are_one():
    groups, others = np.array([0, 1, 2, 3, 3, 4]), np.array([7, 7, 8, 8, 5, 6])
    assert joined(groups, others).tolist() == [0, 0, 2, 2, 2, 4]
    assert joined(groups, np.arange(6)).tolist() == groups.tolist()


def shares_of_groups(counts, fractions=(0.8, 0.1, 0.1), seed=0):
    """Return how many pairs each split has of those in groups of so many, each a chemical system."""
    symbols = [symbol for symbol, count in zip(('Al', 'Ag', *SINGLES), counts, strict=False) for _ in range(count)]
    crystals = batch_of(*(bulk(symbol, 'fcc', a=4.0) for symbol in symbols))
    pairs = Pairs(crystals, crystals, np.full(len(symbols), ''), np.full(len(symbols), 'made'))
    split = make_split(pairs, 'chemical-system', fractions, seed, None)
    return [int((split == name).sum()) for name in ('train', 'val', 'test')]


SINGLES = ('Au', 'Cu', 'Ni', 'Pd', 'Pt', 'Rh', 'Ir', 'Pb')


@pytest.mark.parametrize('seed', range(5))
def test_large_groups_go_where_they_have_room(seed):
    assert shares_of_groups([50, 42, *[1] * 8], seed=seed) == [92, 4, 4]
    assert shares_of_groups([50, *[7] * 7], (0.5, 0.25, 0.25), seed)[0] in (50, 57)
    assert shares_of_groups([50, 50], (0.34, 0.33, 0.33), seed) == [50, 50, 0]
    assert shares_of_groups([30, 10, 10], seed=seed) == [30, 10, 10]


@pytest.mark.parametrize('number', range(3, 7))
def test_no_split_stays_empty_while_there_are_groups(number):
    assert shares_of_groups([10] * number) == [10 * (number - 2), 10, 10]
    assert shares_of_groups([10] * number, (0.9, 0.1, 0.0)) == [10 * (number - 1), 10, 0]


def test_as_given_split_must_be_given():
    atoms = bulk('Si')
    with pytest.raises(InputError, match=r'1 of 1 pairs come without a split.*--split random'):
        build([source_of((atoms, atoms), split='')], BuildOptions(split='as-given'))


def test_training_file_is_mapped_and_survives(tmp_path):
    pairs = built(*zip(rattled(), map(grown, rattled()), strict=True)).pairs
    write_pairs(tmp_path / 'pairs.npz', pairs, {'licence': 'MIT'})
    again = read_pairs(tmp_path / 'pairs.npz')
    assert pairs_hash(again) == pairs_hash(pairs)
    assert read_data_card(tmp_path / 'pairs.npz') == {'licence': 'MIT'}
    positions = again.unrelaxed.positions
    assert isinstance(positions.base, np.memmap)
    assert not positions.flags.owndata
    with np.load(tmp_path / 'pairs.npz', allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays['positions_relaxed'], pairs.relaxed.positions)
    assert read_pairs(tmp_path / 'pairs.npz', 'other').source.tolist() == ['other'] * 3


def test_what_is_told_about_pairs_stays_when_files_are_joined(tmp_path):
    pairs = made_pairs(3)
    told = dataclasses.replace(pairs, about={'kind': np.full(len(pairs), 'layer')})
    for name, part in (('plain', pairs), ('told', told)):
        write_pairs(tmp_path / f'{name}.npz', part)
    sources = [str(tmp_path / f'{name}.npz') for name in ('plain', 'told')]
    assert main(['data', *sources, '--output', str(tmp_path / 'both.npz'), '--no-repeats']) == 0
    assert read_pairs(tmp_path / 'both.npz').kinds.tolist() == [''] * len(pairs) + ['layer'] * len(pairs)
    assert read_data_card(tmp_path / 'both.npz')['summary']['pairs_of_kind'].keys() == {'layer'}


def test_files_of_earlier_versions_are_read(tmp_path):
    pairs = made_pairs(copies=3)
    np.savez_compressed(
        tmp_path / 'old.npz',
        n_atoms=pairs.unrelaxed.n_atoms.astype(np.int32),
        numbers=pairs.unrelaxed.numbers.astype(np.uint8),
        cell_unrelaxed=pairs.unrelaxed.cell,
        cell_relaxed=pairs.relaxed.cell,
        frac_unrelaxed=pairs.unrelaxed.fractional(),
        frac_relaxed=pairs.relaxed.fractional(),
        labels=pairs.unrelaxed.labels,
        split=pairs.split,
        source=pairs.source,
    )
    again = read_pairs(tmp_path / 'old.npz')
    np.testing.assert_allclose(again.relaxed.positions, pairs.relaxed.positions, atol=1e-12)
    assert again.unrelaxed.numbers.dtype == np.int64


def test_folder_is_no_training_file(tmp_path):
    with pytest.raises(InputError, match='e3relax data'):
        read_pairs(tmp_path)


@pytest.fixture
def trajectories(tmp_path):
    folder = tmp_path / 'relaxations'
    folder.mkdir()
    for name, make in PROTOTYPES.items():
        ase.io.write(folder / f'{name.replace(" ", "-")}.extxyz', [make(), grown(make())])
    ase.io.write(folder / 'broken.extxyz', [bulk('Si'), bulk('Ge')])
    return folder


def test_command_writes_data_card_rejections_and_figure(trajectories, tmp_path, capsys):
    out = tmp_path / 'out.npz'
    arguments = ['--output', str(out), '--summary-png', str(tmp_path / 'out.png'), '--name', 'prototypes']
    facts = ['--licence', 'CC-BY-4.0', '--citation', 'made here', '--fractions', '0.5', '0.25', '0.25']
    assert main(['data', str(trajectories), *arguments, *facts]) == 0
    printed = capsys.readouterr()
    assert f'{len(PROTOTYPES)} pairs' in printed.out
    assert 'broken: species differ: Si2 and Ge2' in printed.err
    card = json.loads((tmp_path / 'out.card.json').read_text())
    assert card == read_data_card(out)
    assert (card['licence'], card['citation'], card['split']) == ('CC-BY-4.0', 'made here', 'random')
    assert card['content_hash'] == pairs_hash(read_pairs(out))
    assert card['summary']['pairs_with_element']['Zn'] == 1
    assert card['summary']['quantiles']['volume_percent'] == pytest.approx([100 * (1.03**3 - 1)] * 5, rel=1e-3)
    assert sum(card['summary']['pairs_of_split']['prototypes'].values()) == len(PROTOTYPES)
    with (tmp_path / 'out.rejected.csv').open(newline='') as handle:
        assert list(csv.reader(handle))[1][1] == 'broken'
    assert (tmp_path / 'out.png').read_bytes().startswith(b'\x89PNG')


def test_a_disk_that_is_full_is_one_line_and_leaves_nothing_behind(trajectories, tmp_path, capsys, monkeypatch):
    def savez(handle, **_):
        handle.write(b'PK')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(np, 'savez', savez)
    assert main(['data', str(trajectories), '--output', str(tmp_path / 'out.npz'), '--no-repeats']) == 3
    assert capsys.readouterr().err.endswith('e3relax: error: a file: No space left on device\n')
    assert [path.name for path in tmp_path.iterdir()] == ['relaxations']


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--output', 'relaxations/dir.npz'], 'found a folder: name a file'),
        (['--output', 'out.csv'], 'a training file is an .npz'),
        (['--output', 'nowhere/out.npz'], 'does not exist'),
        (['--output', 'out.npz', '--fractions', '0.9', '0.2', '0.1'], 'sum to 1'),
        (['--output', 'out.npz', '--summary-png', 'out.doc'], '.png'),
        (['--output', 'out.npz', '--drop-leaks', '--no-repeats'], 'leave out one option'),
    ],
)
def test_command_refuses_before_reading(flags, message, trajectories, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (trajectories / 'dir.npz').mkdir()
    assert main(['data', str(trajectories), *flags]) == 3
    printed = capsys.readouterr().err
    assert message in printed
    assert 'reading' not in printed
