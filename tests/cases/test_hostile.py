"""Inputs that were made to break: `hostile/` in the folder of cases, each in bounded time and memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from aiida_e3relax.parsers.prediction_files import PredictionFilesError, read_report

SECONDS = 60
NETWORK, STANDIN = 'aiida_e3relax.gnn.cli', 'aiida_e3relax.standin.cli'

PREDICTED = {
    'U0.npz': 'ok ok',
    'a@0.vasp': 'ok',
    'a@b.vasp': 'ok',
    'ansi.npz': 'unknown_element ok',
    'cell0.npz': 'singular_cell singular_cell',
    'cell1e200.npz': 'out_of_range out_of_range',
    'cell1e30.npz': 'out_of_range out_of_range',
    'cell_cube_1e120.npz': 'ok out_of_range',
    'cell_cube_1e5.npz': 'ok out_of_range',
    'cell_diag_1e-3_1e5_1e5.npz': 'ok out_of_range',
    'cell_pos1e12.npz': 'ok out_of_range',
    'cell_pos1e19.npz': 'ok out_of_range',
    'cell_skew_1000.npz': 'ok ok',
    'cell_skew_10000.npz': 'ok out_of_range',
    'cell_skew_100000.npz': 'ok out_of_range',
    'cell_thin_10.npz': 'ok overlapping_atoms',
    'cell_thin_100.npz': 'ok overlapping_atoms',
    'cell_thin_1000.npz': 'ok overlapping_atoms',
    'celllh.npz': 'ok ok',
    'coin.npz': 'overlapping_atoms overlapping_atoms',
    'dup.npz': 'ok ok',
    'empty0.npz': 'empty overlapping_atoms',
    'empty1.npz': 'overlapping_atoms empty',
    'flat.npz': 'overlapping_atoms overlapping_atoms',
    'good.npz': 'ok ok',
    'good.vasp': 'ok',
    'labbytes.npz': 'ok ok',
    'labint.npz': 'ok ok',
    'needle.npz': 'out_of_range out_of_range',
    'nopbc.npz': 'not_periodic not_periodic',
    'pos1e15.npz': 'out_of_range ok',
    'pos1e30.npz': 'out_of_range out_of_range',
    'pos1e300.npz': 'out_of_range out_of_range',
    'posinf.npz': 'not_finite ok',
    'posnan.npz': 'not_finite not_finite',
    'skew.npz': 'out_of_range out_of_range',
    'skew12.npz': 'out_of_range out_of_range',
    'slab.npz': 'ok ok',
    'slash\x1b[31m.vasp': 'ok',
    'surr.npz': 'ok ok',
    'x.extxyz': 'ok',
    'z0.npz': 'unknown_element ok',
    'z119.npz': 'unknown_element ok',
    'zbig.npz': 'unknown_element ok',
    'zneg.npz': 'unknown_element ok',
    'zuint8.npz': 'ok ok',
}
"""The statuses of the crystals in the files that are read; the other files are refused, each in one line."""

RUN_BY_THE_STAND_IN = (
    'INCAR_d',
    'INCAR_ediffg0',
    'INCAR_html',
    'INCAR_logical',
    'INCAR_nsw_neg',
    'KPOINTS_good',
    'POSCAR_cr_only',
    'POSCAR_crlf',
    'POSCAR_fortran_d',
    'POSCAR_good',
    'POSCAR_negscale',
    'POSCAR_u2028_comment',
    'POSCAR_vt_in_comment',
)

READABLE_REPORTS = ('error_msg_ansi', 'error_msg_fmt', 'good', 'unc_inf')


def job(name, program, arguments, folder):
    return {'name': name, 'program': program, 'arguments': arguments, 'folder': str(folder), 'seconds': SECONDS}


def one_line(text: str) -> str:
    """The only line of `text` that tells of an error; progress and warnings of other packages aside."""
    lines = [line for line in text.splitlines() if 'error' in line.lower()]
    assert len(lines) == 1, text
    return lines[0]


@pytest.fixture(scope='module')
def predicted(cases, run_jobs, tmp_path_factory):
    """By name of the file: the folder, and how `e3relax predict` ended."""
    root, jobs = tmp_path_factory.mktemp('predict'), []
    files = [*sorted((cases / 'hostile/npz').iterdir()), *sorted((cases / 'hostile/struct').iterdir())]
    for place, file in enumerate(files):
        folder = root / str(place)
        folder.mkdir()
        shutil.copyfile(file, folder / file.name)
        words = ['predict', file.name, '--output', 'out.npz', '--report', 'report.json']
        jobs.append(job(file.name, NETWORK, words, folder))
    results = run_jobs(jobs)
    return {job['name']: (Path(job['folder']), results.get(job['name'])) for job in jobs}


def test_crystals_end_in_a_prediction_or_in_one_line(predicted):
    for name, (folder, result) in predicted.items():
        assert result is not None, f'{name} ended the process'
        assert result['crash'] is None, (name, result['crash'])
        if name in PREDICTED:
            assert result['status'] == 0, (name, result)
            rows = json.loads((folder / 'report.json').read_text(encoding='utf-8'))['structures']
            assert [row['status'] for row in rows] == PREDICTED[name].split(), name
            with np.load(folder / 'out.npz') as arrays:
                ok = arrays['status'] == 'ok'
                assert arrays['labels'].tolist() == [row['label'] for row in rows], name
                assert np.isfinite(arrays['cell'][ok]).all(), name
                assert np.isfinite(arrays['positions'][np.repeat(ok, arrays['n_atoms'])]).all(), name
        else:
            assert result['status'] == 3, (name, result)
            line = one_line(result['stderr'])
            assert line.startswith(f'e3relax: error: {name}'), line
            assert 'expected' in line or 'damaged' in line or 'empty' in line, line
            assert not (folder / 'out.npz').exists(), name


def test_inputs_of_the_stand_in_are_read_as_vasp_would_or_refused(cases, run_jobs, tmp_path):
    from aiida_e3relax.standin.potentials import potential_text

    hostile, jobs = cases / 'hostile/standin', []
    for place, file in enumerate(sorted(hostile.iterdir())):
        folder = tmp_path / str(place)
        folder.mkdir()
        for good in ('POSCAR', 'KPOINTS'):
            shutil.copyfile(hostile / f'{good}_good', folder / good)
        (folder / 'INCAR').write_text('ENCUT = 300\n', encoding='utf-8')
        (folder / 'POTCAR').write_text(potential_text('Cu'), encoding='utf-8')
        shutil.copyfile(file, folder / file.name.partition('_')[0])
        jobs.append(job(file.name, STANDIN, ['--engine', 'emt'], folder))
    ended = run_jobs(jobs)
    for name in (job['name'] for job in jobs):
        result = ended.get(name)
        assert result is not None, f'{name} ended the process'
        assert result['crash'] is None, (name, result['crash'])
        assert (result['status'] == 0) == (name in RUN_BY_THE_STAND_IN), (name, result)
        if result['status']:
            kind = 'k-points' if name in {'KPOINTS_auto_1e9', 'KPOINTS_huge'} else name.partition('_')[0]
            assert one_line(result['stdout'] + result['stderr']).startswith(f' ERROR: {kind}')


def test_a_report_is_one_or_is_refused(cases):
    for file in sorted((cases / 'hostile/report').iterdir()):
        if file.stem in READABLE_REPORTS:
            report = read_report(file)
            assert report.content['schema'] == 1
        else:
            with pytest.raises(PredictionFilesError) as caught:
                read_report(file)
            assert str(caught.value).startswith(file.name), file.name
            assert len(str(caught.value).splitlines()) == 1, file.name
