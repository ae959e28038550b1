"""The layer of PaiNN (Schütt, Unke and Gastegger, ICML 2021), which DeepRelax takes over."""

from torch import Tensor, nn

from aiida_e3relax.gnn.layers.activation import limited
from aiida_e3relax.gnn.layers.edge_geometry import EdgeGeometry
from aiida_e3relax.gnn.layers.message_passing import HighDegreeMessagePassing
from aiida_e3relax.gnn.layers.self_interaction import DotSelfInteraction


class PaiNNLayer(nn.Module):
    """Messages of distances and directions, then a self-interaction; scaled as in the papers' code."""

    def __init__(self, features: int, radial_functions: int):
        super().__init__()
        self.message_passing = HighDegreeMessagePassing(features, radial_functions, l_max=0)
        self.self_interaction = DotSelfInteraction(features)

    def forward(self, x: Tensor, v: Tensor, edges: EdgeGeometry, first: bool) -> tuple[Tensor, Tensor]:
        """Return new scalars ``(A, F)`` and vectors ``(A, 3, F)``."""
        dx, dv = self.message_passing(x, v, edges, first)
        x, v = (x + dx) * 2**-0.5, v + dv
        dx, dv = self.self_interaction(x, v)
        return limited(x + dx), limited(v + dv)
