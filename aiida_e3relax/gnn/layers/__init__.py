"""Building blocks that the models share."""

from aiida_e3relax.gnn.layers.activation import ScaledSiLU, bounded, perceptron
from aiida_e3relax.gnn.layers.angular import solid_invariants
from aiida_e3relax.gnn.layers.basis import RadialBasis
from aiida_e3relax.gnn.layers.cell_head import CellHead
from aiida_e3relax.gnn.layers.cells import inverse, volume
from aiida_e3relax.gnn.layers.displacement import displaced
from aiida_e3relax.gnn.layers.lattice import AtomsToLattice, LatticeState, LatticeToAtoms
from aiida_e3relax.gnn.layers.matrices import matrix_exponential
from aiida_e3relax.gnn.layers.message_passing import EdgeGeometry, HighDegreeMessagePassing
from aiida_e3relax.gnn.layers.painn import PaiNNLayer
from aiida_e3relax.gnn.layers.self_interaction import DotSelfInteraction, SelfInteraction

__all__ = [
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
    'matrix_exponential',
    'perceptron',
    'solid_invariants',
    'volume',
]
