import json

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from aiida_e3relax.gnn.checkpoint import save_checkpoint
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.datasets import Pairs, write_pairs
from aiida_e3relax.gnn.evaluate import as_filed
from aiida_e3relax.gnn.metrics import coordinate_mae
from aiida_e3relax.gnn.models import make_model
from aiida_e3relax.gnn.structures import Crystals, make_crystals, read_structures, write_npz
from tests.gnn.crystals import batch_of, rattled
from tests.gnn.pairs import made_pairs


def in_standard_orientation(crystals: Crystals) -> Crystals:
    cell = np.linalg.cholesky(crystals.cell @ np.swapaxes(crystals.cell, 1, 2))
    positions = np.einsum('ac,acx->ax', crystals.fractional(), cell[crystals.structure_index])
    return crystals.replace(positions, cell)


def test_perfect_prediction_has_no_error_against_the_files():
    """Files in standard orientation; a prediction that is right but for a rotation."""
    after = in_standard_orientation(batch_of(*rattled(seed=2)))
    before = in_standard_orientation(batch_of(*rattled(seed=1)))
    rotation = Rotation.from_rotvec([0.4, 0.2, -0.1]).as_matrix()
    predicted = after.replace(after.positions @ rotation, after.cell @ rotation)
    pairs = Pairs(before, after, np.array(['test'] * 3), np.array(['made'] * 3))
    assert coordinate_mae(predicted, after).min() > 0.1
    np.testing.assert_allclose(coordinate_mae(as_filed(predicted, pairs), after), 0, atol=1e-9)


def test_table_of_a_model_beside_the_dummy(tmp_path, capsys):
    write_pairs(tmp_path / 'pairs.npz', made_pairs())
    model = make_model('e3relax-h2', {'features': 8, 'layers': 1})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    elements = np.unique(made_pairs().unrelaxed.numbers).tolist()
    save_checkpoint(tmp_path / 'still.pt', 'e3relax-h2', model, elements, {})
    arguments = ['evaluate', str(tmp_path / 'pairs.npz'), '--model', str(tmp_path / 'still.pt'), '--device', 'cpu']
    assert main([*arguments, '--json', str(tmp_path / 'table.json')]) == 0
    printed = capsys.readouterr().out
    assert 'as filed' in printed
    assert 'dummy' in printed
    rows = json.loads((tmp_path / 'table.json').read_text())['rows']
    assert len(rows) == 4
    still, dummy = (row for row in rows if row['frame'] == 'aligned')
    for name in ('volume_mae_A3_mean', 'coordinate_mae_A_mean', 'cell_shape_deviation_A2_median', 'match_rate_percent'):
        assert np.isclose(still[name], dummy[name], rtol=1e-4, atol=1e-4), (
            'a network of zeros leaves crystals as they are'
        )


def test_crystals_survive_their_file(tmp_path):
    crystals = make_crystals([[6, 8], [14]], [np.eye(3)[:2], np.zeros((1, 3))], [np.eye(3) * 4] * 2, ['CO', 'Si'])
    write_npz(tmp_path / 'crystals.npz', crystals)
    again = read_structures([tmp_path / 'crystals.npz', tmp_path / 'crystals.npz'])
    assert again.labels.tolist() == ['CO', 'Si', 'CO', 'Si']
    np.testing.assert_array_equal(again.positions, np.concatenate([crystals.positions] * 2))
