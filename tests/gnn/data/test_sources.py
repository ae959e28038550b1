"""Readers of pairs, each on files that the test writes in the layout of the source."""

import json
import pickle

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.db import connect
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Vasprun

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.gnn.data.sources.base import SourceOptions, UnusableError, sites_of_structure
from aiida_e3relax.gnn.data.sources.registry import open_source
from aiida_e3relax.standin.potentials import potential_text
from aiida_e3relax.standin.run import run as relax
from tests.gnn.crystals import PROTOTYPES
from tests.gnn.pairs import made_pairs

BEFORE = {name: PROTOTYPES[name]() for name in ('zinc blende', 'rutile', 'hcp')}


def after(name):
    """Return the relaxed partner of a crystal: 2 % longer in every direction."""
    atoms = BEFORE[name].copy()
    atoms.set_cell(atoms.cell * 1.02, scale_atoms=True)
    return atoms


def loaded(spec, options=None):
    """Return the source and the ratio of volumes of every candidate by its label."""
    source = open_source(str(spec), options)
    ratios = {}
    for candidate in source.candidates:
        a, b, _ = candidate.load()
        assert a.numbers.tolist() == b.numbers.tolist()
        assert a.positions.shape == (len(a.numbers), 3)
        ratios[candidate.label] = np.linalg.det(b.cell) / np.linalg.det(a.cell)
    return source, ratios


LAYOUTS = {
    'C2DB, JARVIS, vdW': ('{}.csv', 'atoms_id,energy\n{},-1\n', '{}_unrelaxed.cif', '{}_relaxed.cif'),
    'MP': ('{}.csv', 'mp_id\n{}\n', '{}_U.cif', '{}_R.cif'),
    'X-Mn-O': ('id_prop_{}_all.csv', '{0}_relaxed,1.5\n{0}_unrelaxed,2.5\n', '{}_unrelaxed.cif', '{}_relaxed.cif'),
}


@pytest.fixture(params=LAYOUTS)
def papers(request, tmp_path):
    table, rows, unrelaxed, relaxed = LAYOUTS[request.param]
    (tmp_path / 'CIF').mkdir()
    for split, name in zip(('train', 'val', 'test'), BEFORE, strict=True):
        (tmp_path / table.format(split)).write_text(rows.format(name))
        ase.io.write(tmp_path / 'CIF' / unrelaxed.format(name), BEFORE[name])
        ase.io.write(tmp_path / 'CIF' / relaxed.format(name), after(name))
    return tmp_path


def test_papers_layouts(papers):
    source, ratios = loaded(papers)
    assert source.kind == 'papers'
    assert [c.split for c in source.candidates] == ['train', 'val', 'test']
    assert list(ratios) == list(BEFORE)
    np.testing.assert_allclose(list(ratios.values()), 1.02**3, rtol=1e-6)


def test_papers_layout_with_files_beside_the_tables(papers):
    for file in (papers / 'CIF').iterdir():
        file.rename(papers / file.name)
    (papers / 'CIF').rmdir()
    assert len(loaded(papers)[1]) == 3


def test_missing_table_is_named(papers):
    table = next(papers.glob('*val*.csv'))
    table.unlink()
    with pytest.raises(InputError, match=table.name):
        open_source(str(papers))


def test_unknown_column_is_named(tmp_path):
    for split in ('train', 'val', 'test'):
        (tmp_path / f'{split}.csv').write_text('material\nA\n')
    with pytest.raises(InputError, match=r"no column atoms_id or mp_id; found \['material'\]"):
        open_source(str(tmp_path))


def test_folder_whose_files_are_missing_fails_at_once(papers):
    for file in (papers / 'CIF').iterdir():
        file.unlink()
    with pytest.raises(InputError, match='unpack the CIF files'):
        open_source(str(papers))


def test_training_file_and_substitution_set(tmp_path):
    pairs = made_pairs(copies=3)
    write_pairs(tmp_path / 'pairs.npz', pairs)
    a, b = pairs.unrelaxed, pairs.relaxed
    np.savez(
        tmp_path / 'set.npz',
        n_atoms=a.n_atoms,
        numbers=a.numbers.astype(np.uint8),
        cell_unrelaxed=a.cell,
        cell_relaxed=b.cell,
        frac_unrelaxed=a.fractional(),
        frac_relaxed=b.fractional(),
        donor_id=np.full(len(pairs), 'donor'),
        target_id=a.labels,
        split=pairs.split,
    )
    for file, first in (('pairs.npz', '0'), ('set.npz', 'donor>0')):
        source, ratios = loaded(tmp_path / file)
        assert next(iter(ratios)) == first
        assert [c.split for c in source.candidates] == pairs.split.tolist()
        np.testing.assert_allclose(list(ratios.values()), b.volumes / a.volumes, rtol=1e-9)


def test_npz_of_something_else_names_its_arrays(tmp_path):
    np.savez(tmp_path / 'other.npz', forces=np.zeros(3))
    with pytest.raises(InputError, match='forces'):
        open_source(str(tmp_path / 'other.npz'))


def write_database(path, key, order):
    with connect(path) as database:
        for name in order:
            atoms = BEFORE[name] if path.stem == 'unrelaxed' else after(name)
            database.write(atoms, **{key: name.replace(' ', '_')})


def test_two_databases_are_matched_by_a_key(tmp_path):
    write_database(tmp_path / 'unrelaxed.db', 'uid', list(BEFORE))
    write_database(tmp_path / 'relaxed.db', 'uid', list(BEFORE)[::-1])
    source, ratios = loaded(f'{tmp_path}/unrelaxed.db::{tmp_path}/relaxed.db')
    assert source.notes == ("matched by the key 'uid'",)
    np.testing.assert_allclose(list(ratios.values()), 1.02**3, rtol=1e-9)
    with pytest.raises(InputError, match='colour'):
        open_source(f'{tmp_path}/unrelaxed.db::{tmp_path}/relaxed.db', SourceOptions(match='colour'))


def test_two_files_are_matched_by_order(tmp_path):
    ase.io.write(tmp_path / 'a.extxyz', list(BEFORE.values()))
    ase.io.write(tmp_path / 'b.extxyz', [after(name) for name in BEFORE])
    source, ratios = loaded(f'{tmp_path}/a.extxyz::{tmp_path}/b.extxyz')
    assert 'matched by order' in source.notes[0]
    assert len(ratios) == 3
    ase.io.write(tmp_path / 'b.extxyz', after('hcp'))
    with pytest.raises(InputError, match='3 and 1 structures without a common key'):
        open_source(f'{tmp_path}/a.extxyz::{tmp_path}/b.extxyz')


def test_one_database_is_not_enough(tmp_path):
    write_database(tmp_path / 'relaxed.db', 'uid', list(BEFORE))
    with pytest.raises(InputError, match='UNRELAXED::RELAXED'):
        open_source(str(tmp_path / 'relaxed.db'))


def test_vasp_runs(tmp_path):
    """Runs of the stand-in: one that relaxed, one that stopped early; and one of which only POSCAR and CONTCAR stay."""
    atoms = bulk('Cu', 'fcc', a=3.7)
    incar = 'IBRION = 2\nISIF = 3\nEDIFFG = -0.01\nENCUT = 300\n'
    for name, steps in (('relaxed', 40), ('stopped', 2)):
        run = tmp_path / 'runs' / name
        run.mkdir(parents=True)
        ase.io.write(run / 'POSCAR', atoms, format='vasp')
        (run / 'INCAR').write_text(incar + f'NSW = {steps}\n')
        (run / 'KPOINTS').write_text('mesh\n0\nGamma\n4 4 4\n')
        (run / 'POTCAR').write_text(potential_text('Cu'))
        relax(run, 'emt')
    bare = tmp_path / 'runs' / 'bare'
    bare.mkdir()
    ase.io.write(bare / 'POSCAR', BEFORE['hcp'], format='vasp')
    ase.io.write(bare / 'CONTCAR', after('hcp'), format='vasp')
    candidates = {c.label: c for c in open_source(str(tmp_path / 'runs')).candidates}
    assert sorted(candidates) == ['bare', 'relaxed', 'stopped']
    a, b, note = candidates['relaxed'].load()
    assert not note
    assert np.linalg.det(a.cell) == pytest.approx(3.7**3 / 4, rel=1e-5)
    assert np.linalg.det(b.cell) < np.linalg.det(a.cell) * 0.97
    a, b, note = candidates['bare'].load()
    assert note == 'POSCAR and CONTCAR alone: nothing says whether the relaxation converged'
    assert np.linalg.det(b.cell) / np.linalg.det(a.cell) == pytest.approx(1.02**3)
    with pytest.raises(ValueError, match=r'did not converge: stress 46.7 kB in the last step'):
        candidates['stopped'].load()


def test_forces_on_atoms_that_a_run_held_do_not_count(tmp_path):
    """A run of the stand-in in which two atoms of four stay where they do not want to be."""
    atoms = bulk('Cu', 'hcp', a=2.5, c=4.6) * (1, 1, 2)
    atoms.positions[1] += [0.1, 0, 0.3]
    atoms.set_constraint(FixAtoms([0, 1]))
    ase.io.write(tmp_path / 'POSCAR', atoms, format='vasp')
    (tmp_path / 'INCAR').write_text('IBRION = 2\nISIF = 2\nEDIFFG = -0.01\nENCUT = 300\nNSW = 60\n')
    (tmp_path / 'KPOINTS').write_text('mesh\n0\nGamma\n4 4 4\n')
    (tmp_path / 'POTCAR').write_text(potential_text('Cu'))
    relax(tmp_path, 'emt')
    run = Vasprun(tmp_path / 'vasprun.xml', parse_potcar_file=False)
    assert np.linalg.norm(run.ionic_steps[-1]['forces'], axis=1).max() > 0.05
    (candidate,) = open_source(str(tmp_path)).candidates
    assert candidate.load().after.positions.shape == (4, 3)


def test_trajectories(tmp_path):
    atoms = bulk('Cu', 'fcc', a=3.7)
    atoms.calc = EMT()
    BFGS(FrechetCellFilter(atoms), trajectory=str(tmp_path / 'copper.traj'), logfile=None).run(fmax=0.05)
    frames = ase.io.read(tmp_path / 'copper.traj', ':')
    ase.io.write(tmp_path / 'again.extxyz', frames)
    ase.io.write(tmp_path / 'again.extxyz.xz', frames, format='extxyz')
    (tmp_path / 'again.extxyz').unlink()
    source, ratios = loaded(tmp_path)
    assert source.kind == 'trajectories'
    expected = frames[-1].get_volume() / frames[0].get_volume()
    assert expected < 0.98
    assert ratios == pytest.approx({'again': expected, 'copper': expected})
    ase.io.write(tmp_path / 'single.traj', atoms)
    with pytest.raises(ValueError, match='1 frames'):
        loaded(tmp_path / 'single.traj')


def write_pickle(path):
    structures = [Structure(Lattice.cubic(a), ['Cs', 'Cl'], [[0, 0, 0], [0.5] * 3]) for a in (4.0, 4.1, 4.2)]
    path.write_bytes(pickle.dumps({'mp-22865': {'structure': structures, 'energy': [0.0] * 3}}))


def test_pickles_need_leave(tmp_path):
    write_pickle(tmp_path / 'block_0.p')
    with pytest.raises(InputError, match='--allow-pickle'):
        open_source(str(tmp_path / 'block_0.p'))
    _, ratios = loaded(tmp_path / 'block_0.p', SourceOptions(allow_pickle=True))
    assert ratios == pytest.approx({'mp-22865': (4.2 / 4.0) ** 3})


class Bomb:
    def __reduce__(self):
        return open, ('exploded', 'w')


@pytest.mark.parametrize('name', ['set.p', 'set.npz', 'set.lmdb'])
def test_no_code_of_a_file_runs_without_leave(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name.endswith('npz'):
        np.savez(name, labels=np.array([Bomb()], dtype=object), split=np.zeros(1), cell_relaxed=np.zeros(1))
    else:
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError):
        open_source(name)
    assert not (tmp_path / 'exploded').exists()


def test_misspelt_path_is_put_right(tmp_path):
    (tmp_path / 'pnictides').mkdir()
    with pytest.raises(InputError, match=r'did you mean .*pnictides'):
        open_source(str(tmp_path / 'pnictide'))


def test_folder_of_nothing_known_says_what_is_read(tmp_path):
    (tmp_path / 'notes.json').write_text(json.dumps({}))
    with pytest.raises(InputError, match=r'notes\.json(.|\n)*UNRELAXED::RELAXED'):
        open_source(str(tmp_path))


def frames_of(last, **results):
    """Return a first frame and one that ends a relaxation with `results` of a calculator."""
    first = bulk('Cu', 'fcc', a=3.7, cubic=True)
    if results:
        last.calc = SinglePointCalculator(last, **results)
    return [first, last]


def copper(**changes):
    atoms = bulk('Cu', 'fcc', a=3.6, cubic=True)
    for name, value in changes.items():
        getattr(atoms, name)(value)
    return atoms


def named(*labels):
    """Return frames of one composition with such labels."""
    frames = frames_of(copper())
    for frame, label in zip(frames, labels, strict=True):
        frame.info['label'] = label
    return frames


FORCES = np.zeros((4, 3))
LARGE = FORCES + [[0.3, 0, 0], [0, 0, 0], [0, 0, 0], [-0.3, 0, 0]]


@pytest.mark.parametrize(
    ('frames', 'message'),
    [
        (
            frames_of(copper(), forces=LARGE),
            'did not converge: largest force 0.3 eV/A in the last',
        ),
        (frames_of(copper(set_constraint=FixAtoms([0])), forces=LARGE), 'did not converge: largest force 0.3'),
        (frames_of(copper(), forces=FORCES, stress=np.array([0.05] * 3 + [0] * 3)), 'did not converge: stress 80.1 kB'),
        (frames_of(copper(set_momenta=FORCES + 1)), 'no relaxation: .* molecular dynamics'),
        ([copper(), copper()], 'nothing was relaxed: the last frame is the first'),
        (named('a', 'b'), "no relaxation: its first frame is the structure label 'a' .* 'b'; .* UNRELAXED::RELAXED"),
        ([copper()], 'nothing was relaxed: .* has 1 frames'),
    ],
)
def test_trajectories_that_do_not_end_in_a_relaxed_crystal(frames, message, tmp_path):
    ase.io.write(tmp_path / 'run.extxyz', frames)
    with pytest.raises(UnusableError, match=message):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ('frames', 'note'),
    [
        (frames_of(copper(), forces=LARGE / 4, stress=np.full(6, 1e-4)), ''),
        (frames_of(copper(set_constraint=FixAtoms([0, 3])), forces=LARGE), ''),
        (frames_of(copper()), 'no forces in the last frame: nothing says whether the relaxation converged'),
        (named('a', 'a'), 'no forces in the last frame: nothing says whether the relaxation converged'),
    ],
)
def test_trajectories_that_do(frames, note, tmp_path):
    ase.io.write(tmp_path / 'run.extxyz', frames)
    (candidate,) = open_source(str(tmp_path)).candidates
    assert candidate.load().note == note


def test_partial_occupancies_are_rejected(papers):
    """In CIF by the strict reader, in pickles of pymatgen by what the structure states."""
    file = next((papers / 'CIF').glob('rutile_[uU]*'))
    file.write_text(file.read_text().replace('1.0000', '0.5000'))
    outcomes = {}
    for candidate in open_source(str(papers)).candidates:
        try:
            candidate.load()
        except UnusableError as error:
            outcomes[candidate.label] = str(error)
    assert list(outcomes) == ['rutile']
    assert 'partial occupancies' in outcomes['rutile']
    with pytest.raises(UnusableError, match='partial occupancies'):
        sites_of_structure(Structure(Lattice.cubic(4), [{'Mg': 0.5, 'Ni': 0.5}], [[0, 0, 0]]))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_atoms=st.integers(1, 9),
    suffix=st.sampled_from(['.extxyz', '.extxyz.gz', '.traj']),
)
def test_pairs_are_read_as_they_were_written(tmp_path_factory, seed, n_atoms, suffix):
    """Any species, cell and positions, whatever the format."""
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp('pair') / f'relaxation{suffix}'
    numbers = rng.integers(1, 119, n_atoms)
    frames = [
        Atoms(numbers, rng.normal(scale=5, size=(n_atoms, 3)), cell=4 * np.eye(3) + rng.normal(size=(3, 3)), pbc=True)
        for _ in range(2)
    ]
    ase.io.write(path, frames)
    (candidate,) = open_source(str(path)).candidates
    for sites, atoms in zip(candidate.load()[:2], frames, strict=True):
        np.testing.assert_array_equal(sites.numbers, numbers)
        np.testing.assert_allclose(sites.positions, atoms.positions, atol=1e-7)
        np.testing.assert_allclose(sites.cell, atoms.cell.array, atol=1e-7)
