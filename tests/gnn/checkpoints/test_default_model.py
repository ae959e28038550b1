"""The checkpoint that comes with the package."""

import json

import numpy as np
import pytest
import torch
from ase.build import bulk

from aiida_e3relax.crystals.structures import make_crystals
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.checkpoints.model_card import card_path
from aiida_e3relax.gnn.prediction.predict import predict
from tests.gnn.crystals import batch_of

# Measured lattice constants of the zinc-blende crystals, in A; PBE gives up to 2.5 % more.
ZINC_BLENDE = {'AlSb': 6.136, 'GaP': 5.451, 'AlP': 5.464, 'CdTe': 6.482, 'InP': 5.869, 'ZnSe': 5.668}


def test_card_describes_the_file():
    card = json.loads(card_path(DEFAULT_CHECKPOINT).read_text())
    checkpoint = load_checkpoint(DEFAULT_CHECKPOINT)
    assert card['content_hash'] == checkpoint.content_hash
    assert card['licence']
    assert card['limits']
    assert card['training'] == checkpoint.training
    measured = {row['data'] for row in card['metrics']['rows']}
    assert measured == set(card['training_data']) - {'denoising'}, 'which has pairs to train on alone'
    assert len(card['elements']) == len(checkpoint.elements) == 84
    assert DEFAULT_CHECKPOINT.stat().st_size < 25e6


def test_file_predicts_the_sample_of_its_card():
    sample = json.loads(card_path(DEFAULT_CHECKPOINT).read_text())['sample']
    checkpoint = load_checkpoint(DEFAULT_CHECKPOINT)
    columns = [[entry[name] for entry in sample] for name in ('numbers', 'positions_A', 'cell_A')]
    start = make_crystals(columns[0], *([np.array(values) for values in column] for column in columns[1:]))
    found = predict(checkpoint.model, start, checkpoint.elements, torch.device('cpu')).crystals
    np.testing.assert_allclose(found.cell, [entry['predicted_cell_A'] for entry in sample], atol=1e-3)
    expected = np.concatenate([entry['predicted_positions_A'] for entry in sample])
    np.testing.assert_allclose(found.positions, expected, atol=1e-3)
    assert np.abs(found.cell - start.cell).max() > 0.1


def test_it_states_an_uncertainty():
    checkpoint = load_checkpoint(DEFAULT_CHECKPOINT)
    start = batch_of(bulk('AlSb', 'zincblende', a=5.6533), bulk('AlSb', 'zincblende', a=4.5))
    likely, odd = predict(checkpoint.model, start, checkpoint.elements, torch.device('cpu')).uncertainty
    assert 0 < likely < odd


def test_card_says_that_it_beats_the_dummy_on_cells():
    rows = json.loads(card_path(DEFAULT_CHECKPOINT).read_text())['metrics']['rows']
    table = {(row['data'], row['frame'], row['of']): row for row in rows if row['split'] == 'test'}
    for data in ('pnictides', 'substitution'):
        model, dummy = (table[data, 'aligned', name] for name in ('model', 'dummy'))
        for measure in ('volume_mae_A3_mean', 'cell_shape_deviation_A2_mean', 'coordinate_mae_A_mean'):
            assert model[measure] < dummy[measure]


@pytest.mark.parametrize('formula', ZINC_BLENDE)
def test_compounds_in_the_cell_of_gallium_arsenide_find_their_own(formula):
    checkpoint = load_checkpoint(DEFAULT_CHECKPOINT)
    start = batch_of(bulk(formula, 'zincblende', a=5.6533))
    result = predict(checkpoint.model, start, checkpoint.elements, torch.device('cpu'))
    assert not result.faults
    constant = float(np.cbrt(4 * result.crystals.volumes[0]))
    assert ZINC_BLENDE[formula] * 0.985 < constant < ZINC_BLENDE[formula] * 1.035
