"""The ablations that `e3relax ablate` makes unless others are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ABLATIONS: dict[str, Mapping[str, Any]] = {
    'w/o lattice nodes': {'lattice_nodes': False},
    'w/o H2-MP': {'l_max': 0},
    'w/o refinement': {'refinement': False, 'layer_weights': None},  # one structure, nothing to weigh
    'w/o self-images': {'self_images': False},
    'w/o centred positions': {'centred_positions': False},
    'w/o offset encoding and local uncertainty': {'offset_encoding': False, 'local_uncertainty': False},
    'w/o offset encoding': {'offset_encoding': False},
    'w/o vectors along edges': {'vectors_along_edges': False},
    'w/o local uncertainty': {'local_uncertainty': False},
    'w/o layer-wise supervision': {
        'layer_weights': 'last',
        'refinement': True,
    },  # only what refines has layers to weigh
    'PACD loss': {'loss': 'pacd'},
    'fractional loss': {'loss': 'fractional'},
    'displacement loss': {'loss': 'displacement'},
    'targets as filed': {'align_targets': False},
    '12 neighbours': {'max_neighbours': 12},
    'cutoff of 4 A': {'cutoff': 4.0},
    '1/2 of the training pairs': {'training_share': 0.5},
    '1/4 of the training pairs': {'training_share': 0.25},
}
"""Changes of settings and hyper-parameters by the name of the row.

The rows are those of E3Relax's Table 3 and E3Relax-H2's Table 6 and section 5.8, of DeepRelax's Table 4 (Vanilla, P and
U leave out the encoding of offsets, the uncertainty, or both), and ours: graph, loss, and data. Only what a model has,
and what is not so anyway, is a row of its table.
"""
