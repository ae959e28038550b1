"""Sizes of EquiformerV2."""

from __future__ import annotations

import dataclasses

from aiida_e3relax.common.fields import choice
from aiida_e3relax.gnn.models.equiformer_v2.activation import ACTIVATIONS
from aiida_e3relax.gnn.models.equiformer_v2.edge_frames import Orders


@dataclasses.dataclass(frozen=True)
class EquiformerV2Hyperparameters:
    """Sizes of the network and of its graph; `cutoff` in A, `max_neighbours` counts before shells are completed.

    The defaults are the widths and depth of the authors' model of 31 million weights. From `features` F follow, as
    there, F/2 hidden channels of a message, F/2 channels of a logit, F/`heads` channels of a head's message, and F
    hidden channels of a feed-forward part.

    Attributes
    ----------
    l_max, m_max
        Highest degree of the features, and highest order that convolutions see.
    activation
        ``s2``, the authors', or ``gate``, which follows rotations exactly.
    chiral
        Whether convolutions may tell a crystal from its mirror image, as the authors' do.
    """

    features: int = 128
    layers: int = 8
    heads: int = 8
    l_max: int = 4
    m_max: int = 2
    radial_functions: int = 128
    activation: str = choice(*ACTIVATIONS)
    chiral: bool = True
    cutoff: float = 6.0
    max_neighbours: int = 24

    @property
    def orders(self) -> Orders:
        """The coefficients in the frames of edges."""
        return Orders(self.l_max, self.m_max)
