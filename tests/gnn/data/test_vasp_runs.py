"""VASP runs are taken where their files say that they are relaxations that converged, else rejected with a reason."""

import bz2
import gzip
import lzma

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.crystals.datasets.pairs_file import read_data_card, read_pairs
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.data.sources.base import UnusableError
from aiida_e3relax.gnn.data.sources.registry import open_source

STEPS = ((5.60, 0.9, -10.0), (5.70, 0.3, -10.2), (5.75, 0.004, -10.21))
"""Lattice constant in A, force in eV/A and energy in eV of each ionic step of zinc blende GaAs."""


def rows(values):
    return ''.join('<v> ' + ' '.join(f'{x:16.8f}' for x in row) + ' </v>' for row in values)


def structure(a, name='', selective=''):
    cell = a / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return (
        f'<structure {name and f"name={name!r}"}><crystal><varray name="basis">{rows(cell)}</varray></crystal>'
        f'<varray name="positions">{rows([[0, 0, 0], [0.25, 0.25, 0.26]])}</varray>{selective}</structure>'
    )


def vasprun(steps=STEPS, incar='', electronic=5, stress=0.5, final=None, selective='', numbers='', **parameters):
    """Return a vasprun.xml as VASP writes it, of one step after the other."""
    tags = {'NSW': 60, 'IBRION': 2, 'ISIF': 3, 'NELM': 60, 'EDIFFG': -0.02, 'EDIFF': 1e-6} | parameters
    values = ''.join(f'<i name="{name}"> {value}</i>' for name, value in tags.items())
    calculations = ''.join(
        '<calculation>'
        + '<scstep><energy><i name="e_fr_energy"> 0 </i></energy></scstep>' * electronic
        + structure(a)
        + f'<varray name="forces">{rows([[force, 0, 0], [-force, 0, 0]])}</varray>'
        + f'<varray name="stress">{rows(stress * np.eye(3))}</varray>'
        + f'<energy><i name="e_fr_energy"> {energy:.8f} </i><i name="e_0_energy"> {energy:.8f} </i></energy>'
        + '<dos><total><array><set><set><r> 1 2 3 </r></set></set></array></total></dos></calculation>'
        for a, force, energy in steps
    )
    return (
        f'<?xml version="1.0" encoding="ISO-8859-1"?><modeling><incar>{incar}</incar>'
        f'<parameters><separator name="ionic">{values}</separator></parameters>'
        '<atominfo><array name="atoms"><set><rc><c>Ga</c><c> 1</c></rc><rc><c>As</c><c> 2</c></rc></set></array>'
        '<array name="atomtypes"><set><rc><c> 1</c><c>Ga</c></rc></set></array></atominfo>'
        f'{structure(steps[0][0], "initialpos", selective)}{calculations}{numbers}'
        f'{structure(final or steps[-1][0], "finalpos")}</modeling>'
    )


def load(folder):
    """Return the lattice constants of the pair in `folder`, and the note."""
    (candidate,) = open_source(str(folder)).candidates
    before, after, note = candidate.load()
    assert before.numbers.tolist() == after.numbers.tolist() == [31, 33]
    return *((4 * abs(np.linalg.det(crystal.cell))) ** (1 / 3) for crystal in (before, after)), note


OPENERS = {'': open, '.gz': gzip.open, '.bz2': bz2.open, '.xz': lzma.open}


@pytest.mark.parametrize('suffix', OPENERS)
def test_first_and_last_crystal_of_a_converged_relaxation(suffix, tmp_path):
    with OPENERS[suffix](tmp_path / f'vasprun.xml{suffix}', 'wb') as handle:
        handle.write(vasprun().encode())
    assert load(tmp_path) == (pytest.approx(5.60), pytest.approx(5.75), '')


FIXED = '<varray name="selective"><v type="logical"> F F F </v><v type="logical"> F F F </v></varray>'
FREE = '<varray name="selective"><v type="logical"> F F F </v><v type="logical"> T T T </v></varray>'
HIGH = ((5.60, 0.9, -10.0), (5.70, 0.8, -10.2))

ACCEPTED = {
    'quasi-Newton': {'IBRION': 1},
    'damped': {'IBRION': 3},
    'converged in the last step that NSW allows': {'NSW': 3},
    'energy': {'EDIFFG': 0.02, 'steps': HIGH + ((5.71, 0.5, -10.21),)},
    'energy, after a line search that went back': {
        'EDIFFG': 0.02,
        'steps': ((5.60, 0.9, -10.2), (5.7, 1, -9), HIGH[1]),
    },
    'forces of held atoms alone': {'selective': FIXED, 'steps': HIGH, 'ISIF': 2},
    'atoms that no ISIF moves': {'ISIF': 6, 'steps': HIGH},
    'pressure that was asked for': {'PSTRESS': 100, 'stress': 100.5},
    'stress of a cell that is held': {'ISIF': 2, 'stress': 80},
    'pressure of a volume that is held': {'ISIF': 4, 'stress': 80},
}


@pytest.mark.parametrize('case', ACCEPTED)
def test_converged_by_the_settings_of_the_file(case, tmp_path):
    (tmp_path / 'vasprun.xml').write_text(vasprun(**ACCEPTED[case]))
    assert load(tmp_path)[1] == pytest.approx(ACCEPTED[case].get('steps', STEPS)[-1][0])


REJECTED = {
    'stopped by STOPCAR': (
        {'steps': HIGH},
        'did not converge: largest force 0.8 eV/A in the last step, EDIFFG',
    ),
    'forces of free atoms': ({'steps': HIGH, 'selective': FREE}, 'did not converge: largest force 0.8'),
    'stress of a free cell': ({'stress': 30}, 'did not converge: stress 30 kB in the last step'),
    'energy still changes': (
        {'EDIFFG': 1e-3},
        'did not converge: the energy still changed by 0.01 eV, EDIFFG',
    ),
    'default EDIFFG': ({'EDIFFG': ' 1E-05'}, 'did not converge: the energy still changed'),
    'EDIFFG of zero': ({'EDIFFG': 0.0}, 'no relaxation: EDIFFG = 0'),
    'molecular dynamics': ({'IBRION': 0}, 'no relaxation: IBRION = 0, molecular dynamics'),
    'finite differences': ({'IBRION': 6}, 'no relaxation: IBRION = 6, finite differences'),
    'perturbation': ({'IBRION': 8}, 'no relaxation: IBRION = 8, perturbation theory'),
    'dimer': ({'IBRION': 44}, 'no relaxation: IBRION = 44, dimer method'),
    'static': ({'IBRION': -1, 'NSW': 0}, 'no relaxation: IBRION = -1, no ions move'),
    'nudged elastic band': ({'incar': '<i name="IMAGES"> 1</i>'}, 'no relaxation: IMAGES'),
    'force field': ({'incar': '<i type="logical" name="ML_LMLFF"> T</i>'}, 'no relaxation by DFT: ML_LMLFF'),
    'electrons': (
        {'electronic': 60},
        'electrons did not converge in the last step: 60 electronic steps',
    ),
    'one step': ({'steps': STEPS[-1:]}, 'nothing was relaxed: 1 ionic step'),
    'another final structure': ({'final': 5.9}, 'the final structure is not the one of the last step'),
    'overflow': ({'steps': ((5.6, 0.1, 0), (5.7, 0, -np.inf)), 'EDIFFG': 0.1}, 'did not converge'),
}


@pytest.mark.parametrize('case', REJECTED)
def test_what_is_no_converged_relaxation_is_rejected(case, tmp_path):
    changes, message = REJECTED[case]
    (tmp_path / 'vasprun.xml').write_text(vasprun(**changes))
    with pytest.raises(UnusableError, match=message):
        load(tmp_path)


DAMAGED = {
    'stars': (lambda text: text.replace('0.00400000', '**********'), 'damaged: vasprun.xml: forces: .*stars|damaged'),
    'not a number': (lambda text: text.replace('0.00400000', 'NaN'), 'damaged: .*expected numbers, found NaN'),
    'no atoms': (lambda text: text.replace('<rc><c>As</c><c> 2</c></rc>', ''), 'damaged: 2 positions for 1 atoms'),
    'unknown element': (
        lambda text: text.replace('<c>As</c>', '<c>Qq</c>'),
        "an element's symbol, found 'Qq'",
    ),
    'another document': (lambda text: '<html></html>', 'damaged: vasprun.xml states no IBRION'),
    'entities': (
        lambda text: text.replace('<modeling>', '<!DOCTYPE m [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><modeling>&b;'),
        'declares a document type',
    ),
    'depth': (lambda text: '<a>' * 1000, 'more than 50 elements in each other'),
    'empty': (lambda text: '', 'cut short: vasprun.xml: no element found'),
    'control character': (lambda text: text.replace('GaAs', '\x01').replace('<set>', '\x01<set>', 1), 'damaged'),
}


@pytest.mark.parametrize('case', DAMAGED)
def test_damaged_files_are_named(case, tmp_path):
    change, message = DAMAGED[case]
    (tmp_path / 'vasprun.xml').write_text(change(vasprun()))
    with pytest.raises(UnusableError, match=message):
        load(tmp_path)


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_rejected(share, tmp_path_factory):
    folder = tmp_path_factory.mktemp('cut')
    text = vasprun()
    (folder / 'vasprun.xml').write_text(text[: int(share * len(text))])
    with pytest.raises(UnusableError, match='cut short'):
        load(folder)


def test_a_compressed_file_that_is_cut_is_rejected(tmp_path):
    (tmp_path / 'vasprun.xml.gz').write_bytes(gzip.compress(vasprun().encode())[:-40])
    with pytest.raises(UnusableError, match=r'cut short: .*compression'):
        load(tmp_path)


@pytest.mark.parametrize(
    'names', [('vasprun.xml.relax1.gz', 'vasprun.xml.relax2.gz'), ('vasprun.9.xml', 'vasprun.10.xml')]
)
def test_parts_that_go_on_are_one_relaxation(names, tmp_path):
    """The first need not have converged, and a static run at the end does not count."""
    for name, steps in zip((*names, 'vasprun.xml.static'), (HIGH, HIGH[1:] + STEPS[2:], STEPS[2:]), strict=True):
        text = vasprun(steps, **({'IBRION': -1, 'NSW': 0} if 'static' in name else {}))
        (gzip.open if name.endswith('gz') else open)(tmp_path / name, 'wb').write(text.encode())
    assert load(tmp_path) == (pytest.approx(5.60), pytest.approx(5.75), '')
    (tmp_path / 'vasprun.xml.static').unlink()
    assert load(tmp_path) == (pytest.approx(5.60), pytest.approx(5.75), '')


def test_parts_that_do_not_fit_are_rejected(tmp_path):
    (tmp_path / 'vasprun.xml.relax1').write_text(vasprun(STEPS[:2]))
    (tmp_path / 'vasprun.xml.relax2').write_text(vasprun(STEPS))
    with pytest.raises(UnusableError, match=r'vasprun\.xml\.relax2 does not start where vasprun\.xml\.relax1 ended'):
        load(tmp_path)


def write_poscars(folder, end=5.75, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, a in (('POSCAR', 5.60), ('CONTCAR', end)):
        ase.io.write(folder / name, bulk('GaAs', 'zincblende', a=a), format='vasp')
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


OUTCAR = '   NSW    =     60\n   IBRION =      2\n{} aborting loop because EDIFF is reached\n'
REACHED = ' reached required accuracy - stopping structural energy minimisation\n'
NOT_KNOWN = 'POSCAR and CONTCAR alone: nothing says whether the relaxation converged'


def test_poscar_and_contcar(tmp_path):
    assert load(write_poscars(tmp_path / 'bare')) == (pytest.approx(5.60), pytest.approx(5.75), NOT_KNOWN)
    assert load(write_poscars(tmp_path / 'done', OUTCAR=OUTCAR + REACHED))[2] == ''
    incar = write_poscars(tmp_path / 'short', INCAR='IBRION = 2; NSW = 60\n', OSZICAR='   5 F= -.1E+02 E0= -.1E+02\n')
    assert load(incar)[2] == NOT_KNOWN


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        ({'OUTCAR': OUTCAR}, 'did not converge: OUTCAR does not say'),
        ({'OUTCAR': OUTCAR.replace('      2', '      0') + REACHED}, 'no relaxation: IBRION = 0'),
        ({'OUTCAR': OUTCAR + ' aborting loop EDIFF was not reached (unconverged)\n' + REACHED}, 'electrons did not'),
        ({'INCAR': 'NSW = 5\nIBRION = 2 ! CG\n', 'OSZICAR': '   5 F= -.1E+02 E0= \n'}, '5 ionic steps, which is NSW'),
        ({'INCAR': 'IMAGES = 4'}, 'no relaxation: IMAGES'),
        ({'INCAR': 'IBRION=5'}, 'no relaxation: IBRION = 5'),
        ({'INCAR': 'NSW = 0'}, 'no relaxation: NSW = 0'),
        ({'INCAR': 'ML_LMLFF = .TRUE.'}, 'ML_LMLFF'),
        ({'end': 5.60}, 'nothing was relaxed: CONTCAR is POSCAR'),
    ],
)
def test_poscar_and_contcar_of_something_else(files, message, tmp_path):
    with pytest.raises(UnusableError, match=message):
        load(write_poscars(tmp_path / 'run', **files))


def test_an_image_of_an_elastic_band_is_known_by_the_folder_above(tmp_path):
    (tmp_path / 'INCAR').write_text('IMAGES = 3\n')
    write_poscars(tmp_path / '01')
    with pytest.raises(UnusableError, match='no relaxation: IMAGES'):
        load(tmp_path)


def test_old_poscars_have_the_elements_of_potcar(tmp_path):
    write_poscars(tmp_path)
    for name in ('POSCAR', 'CONTCAR'):
        lines = (tmp_path / name).read_text().splitlines(keepends=True)
        (tmp_path / name).write_text(''.join(lines[:5] + lines[6:]))
    with pytest.raises(UnusableError, match='POTCAR'):
        load(tmp_path)
    (tmp_path / 'POTCAR').write_text('   TITEL  = PAW_PBE Ga_d 06Jul2010\n   TITEL  = PAW_PBE As 22Sep2009\n')
    assert load(tmp_path)[:2] == (pytest.approx(5.60), pytest.approx(5.75))


def test_everything_that_is_left_out_is_counted(tmp_path, capsys):
    """In the output, the data card and the list of rejected pairs."""
    for name, text in (
        ('good', vasprun()),
        ('md', vasprun(IBRION=0)),
        ('phonon', vasprun(IBRION=6)),
        ('stopped', vasprun(HIGH)),
    ):
        (tmp_path / 'runs' / name).mkdir(parents=True)
        (tmp_path / 'runs' / name / 'vasprun.xml').write_text(text)
    write_poscars(tmp_path / 'runs' / 'bare')
    (tmp_path / 'runs' / 'prepared').mkdir()
    (tmp_path / 'runs' / 'prepared' / 'POSCAR').touch()
    (tmp_path / 'runs' / 'good' / 'vasprun_old.xml').write_text('')
    assert main(['data', str(tmp_path / 'runs'), '--output', str(tmp_path / 'out.npz'), '--no-repeats']) == 0
    printed = capsys.readouterr()
    assert f'note: {NOT_KNOWN}: 1 pairs' in printed.out
    assert 'rejected 5 pairs: passed over 2, no relaxation 2, did not converge 1' in printed.out
    card = read_data_card(tmp_path / 'out.npz')
    assert card['notes'] == {NOT_KNOWN: 1}
    assert card['rejected'] == {'pairs': 5, 'reasons': {'no relaxation': 2, 'passed over': 2, 'did not converge': 1}}
    assert sorted(read_pairs(tmp_path / 'out.npz').unrelaxed.labels) == ['bare', 'good']
    listed = (tmp_path / 'out.rejected.csv').read_text()
    assert 'md,"no relaxation: IBRION = 0, molecular dynamics"' in listed
    assert 'prepared,"passed over: neither vasprun.xml nor POSCAR with CONTCAR, but POSCAR"' in listed
    assert 'good/vasprun_old.xml,passed over' in listed


def test_links_to_folders_are_counted(tmp_path):
    (tmp_path / 'runs').mkdir()
    (tmp_path / 'runs' / 'vasprun.xml').write_text(vasprun())
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'runs' / 'link').symlink_to(tmp_path / 'elsewhere')
    run, link = open_source(str(tmp_path / 'runs')).candidates
    assert (run.label, link.label) == ('runs', 'link')
    with pytest.raises(UnusableError, match='passed over: a link to a folder'):
        link.load()


def test_trajectories_beside_runs_are_told(tmp_path):
    (tmp_path / 'vasprun.xml').write_text(vasprun())
    ase.io.write(tmp_path / 'other.extxyz', [bulk('Cu'), bulk('Cu', a=3.7)])
    source = open_source(str(tmp_path))
    assert source.kind == 'vasp'
    assert 'it holds trajectories, too, passed over' in source.notes[0]
