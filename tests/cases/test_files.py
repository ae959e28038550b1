"""Files and groups of the kinds that people have reported as read wrongly: `files/` in the folder of cases."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest

SECONDS = 60
CRYSTALS = [
    '06_cif_partial_occupancy',
    '07_cif_setting_without_symops',
    '09_vasp4_comment_against_potcar',
    '10_predict_selective_dynamics',
    '12_deuterium_poscar',
]


@pytest.fixture(scope='session')
def ended(cases, run_jobs, tmp_path_factory) -> Callable[[str], tuple[Path, list[dict]]]:
    """A function that returns the folder of a case and how each `e3relax` command in it ended."""
    root = tmp_path_factory.mktemp('cases')
    jobs, names = [], {}
    for case in CRYSTALS:
        shutil.copytree(cases / 'files' / case, root / case, copy_function=shutil.copyfile)
        lines = (root / case / 'command').read_text(encoding='utf-8').split(';')
        words = [shlex.split(line)[1:] for line in lines if line.strip().startswith('e3relax ')]
        names[case] = [f'{case} {place}' for place in range(len(words))]
        jobs += [
            {
                'name': name,
                'program': 'aiida_e3relax.gnn.cli',
                'arguments': w,
                'folder': str(root / case),
                'seconds': SECONDS,
            }
            for name, w in zip(names[case], words, strict=True)
        ]
    results = run_jobs(jobs)

    def look(case: str) -> tuple[Path, list[dict]]:
        found = [results[name] for name in names[case]]
        assert not any(result['crash'] for result in found), found
        return root / case, found

    return look


def report_of(folder: Path, name: str = 'rep.json') -> dict[str, dict]:
    return {row['label']: row for row in json.loads((folder / name).read_text(encoding='utf-8'))['structures']}


def test_partial_occupancies_are_refused(ended):
    folder, (predicted, data) = ended('06_cif_partial_occupancy')
    assert predicted['status'] != 0
    for name in ('mixed.cif', 'vacancy.cif'):
        assert name in predicted['stderr']
    assert 'occupanc' in predicted['stderr']
    assert not (folder / 'out.extxyz').exists()
    assert data['status'] == 0, 'of the data set in the layout of the papers one pair is sound'


def test_the_setting_in_the_name_of_a_space_group_counts(ended):
    folder, (result,) = ended('07_cif_setting_without_symops')
    rows = report_of(folder)
    with_operations = ['ok_diamond_with_symops', 'ok_arsenic_with_symops']
    assert [rows[label]['status'] for label in with_operations] == ['ok', 'ok']
    sizes = {label: row.get('n_atoms') for label, row in rows.items() if row['status'] == 'ok'}
    assert sizes.get('diamond_origin2', 8) == 8
    assert sizes.get('arsenic_R', 2) == 2
    assert result['status'] == 0 or {'diamond_origin2', 'arsenic_R'} - sizes.keys()


def test_elements_are_never_those_of_a_comment(ended):
    folder, (result,) = ended('09_vasp4_comment_against_potcar')
    rows = report_of(folder)
    assert result['status'] != 0
    assert rows['run']['status'] == 'ok'
    assert rows['title']['status'] != 'ok'
    assert rows['words']['status'] != 'ok'
    predicted = ase.io.read(folder / 'out.extxyz')
    assert sorted(predicted.get_chemical_symbols()) == ['As', 'Ga']


def test_fixed_sites_stay_and_are_written_back(ended):
    folder, (result,) = ended('10_predict_selective_dynamics')
    if result['status'] != 0:  # a slab whose vacuum a free cell would close
        assert '--freedom' in result['stderr']
        assert 'vacuum' in result['stderr']
        return
    before, after = (ase.io.read(folder / name) for name in ('POSCAR', 'relaxed.vasp'))
    assert after.cell[2] == pytest.approx(before.cell[2])
    fixed = before.constraints[0].index
    assert after.constraints[0].index.tolist() == fixed.tolist()
    np.testing.assert_allclose(after.get_scaled_positions()[fixed], before.get_scaled_positions()[fixed], atol=1e-6)


def test_deuterium_is_hydrogen_or_is_told(ended):
    folder, (cif, poscar) = ended('12_deuterium_poscar')
    assert cif['status'] == 0
    assert sorted(set(ase.io.read(folder / 'a.extxyz').get_chemical_symbols())) == ['H', 'Li']
    if poscar['status'] == 0:
        assert sorted(set(ase.io.read(folder / 'b.extxyz').get_chemical_symbols())) == ['H', 'Li']
    else:
        assert "'D'" in poscar['stderr'] or ' D ' in poscar['stderr']
