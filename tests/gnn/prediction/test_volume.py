"""`dls-volume`: crystals scaled to the volume that pymatgen predicts, in the place of a potential."""

import json

import numpy as np
import pytest
from ase.build import bulk, fcc111
from ase.constraints import FixAtoms
from ase.io import read, write
from pymatgen.analysis.structure_prediction.volume_predictor import DLSVolumePredictor
from pymatgen.io.ase import AseAtomsAdaptor

from aiida_e3relax.gnn.cli import main


@pytest.fixture
def scale(tmp_path):
    """Scale crystals; returns the exit code, those that were scaled and the report."""

    def run(frames, *options):
        write(tmp_path / 'in.extxyz', frames)
        files = [str(tmp_path / name) for name in ('in.extxyz', 'out.extxyz', 'report.json')]
        words = ['predict', files[0], '--output', files[1], '--report', files[2], '--device', 'cpu']
        code = main([*words, '--potential', 'dls-volume', '--start', 'input', *options])
        return code, read(files[1], ':') if code == 0 else [], json.loads((tmp_path / 'report.json').read_text())

    return run


def crystal():
    atoms = bulk('GaAs', 'zincblende', a=5.0, cubic=True)
    atoms.set_cell(atoms.cell.array * [1.0, 1.1, 1.2], scale_atoms=True)
    atoms.set_constraint(FixAtoms([0]))
    return atoms


@pytest.mark.parametrize('options', [(), ('--freedom', 'cell')])
def test_the_volume_is_that_of_pymatgen_and_all_else_stays(scale, options):
    code, (found,), report = scale([crystal()], *options)
    before = crystal()
    expected = DLSVolumePredictor().predict(AseAtomsAdaptor.get_structure(before))
    assert code == 0
    assert found.get_volume() == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(found.get_scaled_positions(), before.get_scaled_positions(), atol=1e-6)
    growth = found.cell.lengths() / before.cell.lengths()
    assert growth == pytest.approx(growth[0])
    (row,) = report['structures']
    assert (row['status'], row['message']) == ('ok', '')
    assert row['potential']['volume_ratio'] == pytest.approx(expected / before.get_volume(), rel=1e-9)
    assert 0 <= row['potential']['wall_time_s'] < report['timings_s']['total']
    assert report['model'] is None
    assert {'potential': 'dls-volume', 'start': 'input', 'steps': 0}.items() <= report['potential'].items()


def test_what_cannot_be_scaled_has_failed_and_takes_no_other_down(scale):
    slab = fcc111('Cu', (1, 1, 3), vacuum=8.0, periodic=True)
    code, found, report = scale([bulk('Ne', 'fcc', a=4.4), slab, crystal()])
    assert (code, len(found)) == (0, 1)
    assert [row['status'] for row in report['structures']] == ['potential_failed', 'potential_failed', 'ok']
    no_radius, vacuum, _ = (row['message'] for row in report['structures'])
    assert no_radius == 'dls-volume cannot scale it: pymatgen knows no atomic radius of Ne'
    assert 'the freedom `positions` does not let its cell grow alike in all directions' in vacuum


@pytest.mark.parametrize(
    ('options', 'told'),
    [
        (('--freedom', 'positions'), 'expected the freedom cell or volume, or another pre-relaxer'),
        (('--freedom', 'in-plane'), 'scales crystals alike in all directions, which `in-plane` does not let it'),
        (('--potential-weights', 'some.pt'), 'some.pt: dls-volume has no weights, so it takes no file'),
    ],
)
def test_what_has_no_meaning_is_refused(scale, capsys, options, told):
    code, _, report = scale([crystal()], *options)
    assert code == 3
    assert told in report['error']['message']
    assert told in capsys.readouterr().err
