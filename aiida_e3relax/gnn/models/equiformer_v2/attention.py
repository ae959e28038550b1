"""Equivariant graph attention over eSCN convolutions, and the feed-forward part of a block."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.layers import bounded
from aiida_e3relax.gnn.models.equiformer_v2.activation import ACTIVATIONS
from aiida_e3relax.gnn.models.equiformer_v2.hyperparameters import EquiformerV2Hyperparameters
from aiida_e3relax.gnn.models.equiformer_v2.linear import SeparableLayerNorm, SO2Linear, SO3Linear, linear

LARGEST_LOGIT = 20.0
"""Bound of the attention's logits, whose exponentials then stay within single precision."""

NO_NEIGHBOUR = 1e-3
"""Weight in the softmax of attending to nothing: the last neighbour fades out at the cutoff, too."""


@dataclasses.dataclass(frozen=True)
class EdgeContext:
    """What attention needs to know of the E edges, once for all blocks.

    Attributes
    ----------
    centre, neighbour
        ``(E,)`` atom indices.
    rotation
        ``(E, K, N)`` into the frames of the edges, from `EdgeFrames`.
    scalars
        ``(E, R)`` radial basis of the length, and embeddings of both elements.
    envelope
        ``(E,)`` 1 at length zero, 0 at the cutoff.
    """

    centre: Tensor
    neighbour: Tensor
    rotation: Tensor
    scalars: Tensor
    envelope: Tensor

    def sum_over_neighbours(self, messages: Tensor, n_atoms: int) -> Tensor:
        """Return ``(A, N, F)`` sums of `messages` ``(E, K', F)`` for the first K' coefficients, turned back."""
        turned = self.rotation[:, : messages.shape[1]].transpose(1, 2) @ messages
        return turned.new_zeros(n_atoms, *turned.shape[1:]).index_add(0, self.centre, turned)


def radial_function(inputs: int, features: int, outputs: int) -> nn.Sequential:
    """Return a perceptron of edges' scalars with layer norms, as in Equiformer."""
    hidden = [nn.Linear(inputs, features), nn.LayerNorm(features), nn.SiLU()]
    return nn.Sequential(
        *hidden, nn.Linear(features, features), nn.LayerNorm(features), nn.SiLU(), linear(features, outputs, bias=True)
    )


class GraphAttention(nn.Module):
    """Messages by two convolutions with an activation between them, weighted by attention and summed.

    The first convolution mixes the features of both atoms, filtered by a radial function, and gives the scalars of the
    attention as well: per head they are normalised again by a layer norm (attention re-normalisation), and a leaky ReLU
    and a product with a vector make them a logit.
    """

    def __init__(self, sizes: EquiformerV2Hyperparameters, edge_scalars: int, outputs: int):
        super().__init__()
        orders, features, self.heads = sizes.orders, sizes.features, sizes.heads
        self.hidden = hidden = max(1, features // 2)
        activation = ACTIVATIONS[sizes.activation]
        self.register_buffer('filter', torch.tensor(orders.filters, device='cpu'), persistent=False)
        self.radial = radial_function(edge_scalars, features, (max(orders.filters) + 1) * 2 * features)
        self.n_gates = activation.gates(sizes.l_max, hidden)
        scalars = self.heads * hidden + self.n_gates
        self.first = SO2Linear(2 * features, hidden, orders, sizes.chiral, scalars)
        self.activation = activation(orders.coefficients)
        self.second = SO2Linear(hidden, features, orders, sizes.chiral)
        self.logit_norm = nn.LayerNorm(hidden)
        self.logit = nn.Parameter(torch.empty(self.heads, hidden))
        nn.init.uniform_(self.logit, -(hidden**-0.5), hidden**-0.5)
        # The mean over neighbours has about their number's share of the variance of one message.
        self.output = SO3Linear(features, outputs, sizes.l_max, variance=sizes.max_neighbours)

    def forward(self, x: Tensor, edges: EdgeContext) -> Tensor:
        """Return new features ``(A, N, outputs)`` from `x` ``(A, N, F)``."""
        pair = torch.cat([x.index_select(0, edges.neighbour), x.index_select(0, edges.centre)], dim=2)
        radial = self.radial(edges.scalars).unflatten(1, (-1, pair.shape[2]))
        local, scalars = self.first((edges.rotation @ pair) * radial[:, self.get_buffer('filter')])
        logits, gates = scalars.split([self.heads * self.hidden, self.n_gates], dim=1)
        message, _ = self.second(self.activation(local, gates))
        weights = self._weights(logits.unflatten(1, (self.heads, -1)), edges, len(x))
        message = (message.unflatten(2, (self.heads, -1)) * weights[:, None, :, None]).flatten(2)
        return self.output(edges.sum_over_neighbours(message, len(x)))

    def _weights(self, scalars: Tensor, edges: EdgeContext, n_atoms: int) -> Tensor:
        """Return the attention ``(E, heads)``: a softmax over the edges of a centre that fade out at the cutoff."""
        scalars = self.logit_norm(scalars)
        scalars = 0.6 * scalars + 0.4 * scalars * torch.tanh(scalars / 2)  # a smooth leaky ReLU, of slope 0.2 below 0
        logits = bounded((scalars * self.logit).sum(dim=2, keepdim=True), LARGEST_LOGIT, dim=2)[..., 0]
        weight = logits.exp() * edges.envelope[:, None]
        total = weight.new_zeros(n_atoms, self.heads).index_add(0, edges.centre, weight)
        return weight / (total + NO_NEIGHBOUR).index_select(0, edges.centre)


class Block(nn.Module):
    """A block of the transformer: attention and feed-forward, each added to what it gets the norm of."""

    def __init__(self, sizes: EquiformerV2Hyperparameters, edge_scalars: int):
        super().__init__()
        features, activation = sizes.features, ACTIVATIONS[sizes.activation]
        coefficients = [(degree, m) for degree in range(sizes.l_max + 1) for m in range(-degree, degree + 1)]
        self.attention_norm = SeparableLayerNorm(features, sizes.l_max)
        self.attention = GraphAttention(sizes, edge_scalars, features)
        self.feed_forward_norm = SeparableLayerNorm(features, sizes.l_max)
        self.inner = SO3Linear(features, features, sizes.l_max)
        self.gates = nn.Linear(features, activation.gates(sizes.l_max, features))
        self.activation = activation(coefficients)
        self.outer = SO3Linear(features, features, sizes.l_max)

    def forward(self, x: Tensor, edges: EdgeContext) -> Tensor:
        """Return new features ``(A, N, F)``."""
        x = x + self.attention(self.attention_norm(x), edges)
        normed = self.feed_forward_norm(x)
        return x + self.outer(self.activation(self.inner(normed), self.gates(normed[:, 0])))
