"""The bonds of crystals whose lengths are measured and stated."""

from __future__ import annotations

import numpy as np
import torch

from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.graph.shells import Graph, neighbour_graph

BOND_REACH, BOND_NEIGHBOURS = 6.0, 30
"""Bonds are the nearest 30 neighbours within 6 A in the unrelaxed crystal, as in DeepRelax, in complete shells."""


def find_bonds(crystals: Crystals, device: torch.device | str = 'cpu') -> Graph:
    """Return the bonds of unrelaxed crystals, searched in float64."""
    return neighbour_graph(
        torch.as_tensor(crystals.fractional(), device=device),
        torch.as_tensor(np.array(crystals.cell), device=device),
        torch.as_tensor(np.array(crystals.n_atoms), device=device),
        BOND_REACH,
        BOND_NEIGHBOURS,
    )
