"""Building blocks that the models share, one idea a file."""

from aiida_e3relax.gnn.layers.activation import ScaledSiLU, bounded, limited, perceptron
from aiida_e3relax.gnn.layers.basis import MAX_DEGREE, RadialBasis, solid_invariants
from aiida_e3relax.gnn.layers.cell_head import CellHead
from aiida_e3relax.gnn.layers.displacement import displaced, without_drift
from aiida_e3relax.gnn.layers.edge_geometry import EdgeGeometry
from aiida_e3relax.gnn.layers.lattice import AtomsToLattice, LatticeState, LatticeToAtoms
from aiida_e3relax.gnn.layers.matrices import inverse, matrix_exponential, volume
from aiida_e3relax.gnn.layers.message_passing import HighDegreeMessagePassing
from aiida_e3relax.gnn.layers.painn import PaiNNLayer
from aiida_e3relax.gnn.layers.self_interaction import DotSelfInteraction, SelfInteraction

__all__ = [
    'MAX_DEGREE',
    'AtomsToLattice',
    'CellHead',
    'DotSelfInteraction',
    'EdgeGeometry',
    'HighDegreeMessagePassing',
    'LatticeState',
    'LatticeToAtoms',
    'PaiNNLayer',
    'RadialBasis',
    'ScaledSiLU',
    'SelfInteraction',
    'bounded',
    'displaced',
    'inverse',
    'limited',
    'matrix_exponential',
    'perceptron',
    'solid_invariants',
    'volume',
    'without_drift',
]
