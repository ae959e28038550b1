"""Cases of `files/` whose command is `aiida-e3relax`."""

import shutil


def test_structures_of_a_group_are_all_in_the_campaign(cases, prepared, run_in, tmp_path):
    case = cases / 'files/08_group_label_collision'
    made = run_in(prepared[0], 'python', case / 'make.py')
    assert made.returncode == 0, made.stderr
    created = run_in(prepared[0], 'aiida-e3relax', 'campaign', 'create', 'c-collide', '--from', 'group:collide',
                     '--protocol', 'fast', '--vasp-code', 'vasp-standin-emt@localhost')  # fmt: skip
    assert created.returncode == 0, created.stderr
    assert '3 structures' in created.stdout


def test_a_disordered_crystal_is_not_relaxed(cases, prepared, run_in, tmp_path):
    shutil.copyfile(cases / 'files/06_cif_partial_occupancy/Cu70Au30.cif', tmp_path / 'Cu70Au30.cif')
    ended = run_in(prepared[0], 'aiida-e3relax', 'relax', tmp_path / 'Cu70Au30.cif', '--protocol', 'fast',
                   '--vasp-code', 'vasp-standin-emt@localhost', '--reference-leg', 'never')  # fmt: skip
    assert ended.returncode != 0
    assert 'occupanc' in ended.stderr
    assert 'Traceback' not in ended.stderr


def test_a_logical_in_text_is_read_as_vasp_reads_it(cases, prepared, run_in, tmp_path):
    (tmp_path / 'POSCAR').write_text('c\n1.0\n3.6 0 0\n0 3.6 0\n0 0 3.6\nCu\n4\nDirect\n'
                                     '0 0 0\n0.5 0.5 0\n0.5 0 0.5\n0 0.5 0.5\n', encoding='utf-8')  # fmt: skip
    overrides = cases / 'files/11_false_as_text/overrides.yaml'
    ended = run_in(prepared[0], 'aiida-e3relax', 'relax', tmp_path / 'POSCAR', '--protocol', 'fast',
                   '--vasp-code', 'vasp-standin-emt@localhost', '--overrides', overrides, '--submit')  # fmt: skip
    assert 'MAGMOM' not in ended.stdout + ended.stderr
    assert 'daemon' in ended.stderr, 'the inputs are sound, and no daemon runs to take them'
