"""E3Relax as the authors publish it (Yang et al., arXiv 2511.12243)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.layers import RadialBasis, SelfInteraction, perceptron
from aiida_e3relax.gnn.models.base import Transformation
from aiida_e3relax.gnn.models.published.axes import AxisStates, LatticeAxes
from aiida_e3relax.gnn.models.published.edges import Edges, centred
from aiida_e3relax.gnn.models.published.message_passing import MessagePassing
from aiida_e3relax.gnn.models.published.names import SHARED_NAMES
from aiida_e3relax.gnn.models.published.relaxation import PublishedHyperparameters, PublishedRelaxation


def _axis_names(axis: int) -> dict[str, str]:
    pattern, own = rf'lattice_l{axis + 1}_layers\.(\d+)\.', rf'layers.\1.axes.{axis}.'
    return {
        rf'scalar_l{axis + 1}_emb\.weight': f'axis_embedding.{axis}',
        pattern + r'x_local_proj\.': own + 'source.',
        pattern + r'edge_local_proj\.': own + 'separation_filter.',
        pattern + r'mlp_scalar_local\.': own + 'scalar_to_atoms.',
        pattern + r'mlp_vector_local\.': own + 'vector_to_atoms.',
        pattern + r'mlp_scalar_global\.': own + 'scalar_from_atoms.',
        pattern + r'mlp_vector_global\.': own + 'vector_from_atoms.',
        pattern + r'vector_l_proj\.': own + 'self_interaction.vector_mix.',
        pattern + r'scalar_l_proj\.': own + 'self_interaction.scalar_mix.',
        pattern + r'mlp_l\.': own + 'change.',
    }


_NAMES = (
    SHARED_NAMES
    | {
        r'structure_update_layers\.(\d+)\.attention_pos\.': r'layers.\1.attention.',
        r'structure_update_layers\.(\d+)\.pos_mlp\.': r'layers.\1.displacement.',
    }
    | _axis_names(0)
    | _axis_names(1)
    | _axis_names(2)
)


class E3RelaxPublished(PublishedRelaxation):
    """E3Relax with the authors' equations and, by `load_state_dict`, with their weights.

    Atoms see their separation from the tips of the lattice vectors in raw coordinates, so the prediction depends on
    where the origin lies (eq. 15).
    """

    @dataclasses.dataclass(frozen=True)
    class Hyperparameters(PublishedHyperparameters):
        """Those of `PublishedHyperparameters`; atoms see the lattice vectors from the origin."""

        centred_positions: bool = False

    breaks = PublishedRelaxation.breaks | {Transformation.TRANSLATION}

    def __init__(self, hyperparameters: Hyperparameters):
        super().__init__(hyperparameters, _Layer, (1, 1, 1), _NAMES)


class _Layer(nn.Module):
    def __init__(self, p: E3RelaxPublished.Hyperparameters):
        super().__init__()
        self.centred_positions = p.centred_positions
        self.axes = LatticeAxes(p.features, p.radial_functions) if p.lattice_nodes else None
        self.message_passing = MessagePassing(p.features, p.radial_functions)
        self.self_interaction = SelfInteraction(p.features)
        self.displacement = nn.Linear(p.features, 1, bias=False)
        self.attention = perceptron(p.features, p.features, p.features)

    def forward(
        self,
        x: Tensor,
        v: Tensor,
        axes: AxisStates | None,
        positions: Tensor,
        cell: Tensor,
        batch: CrystalBatch,
        radial_basis: RadialBasis,
    ) -> tuple[Tensor, Tensor, AxisStates | None, Tensor, Tensor | None]:
        """Return new features, the displacement ``(A, 3)`` and the changes of the lattice vectors ``(S, 3, 3)``.

        Where these are no nodes, `axes` and the changes are None.
        """
        edges = Edges.of(positions, cell, batch)
        if self.axes is not None and axes is not None:
            x, v = self.axes.to_atoms(
                x, v, axes, *self._separations(positions, cell, batch, radial_basis), batch.structure_index
            )
        x, v = self.message_passing.radial(x, v, edges, radial_basis)
        dx, dv = self.self_interaction(x, v)
        x, v = (x + dx) * 2**-0.5, v + dv
        attended = (torch.softmax(self.attention(x), dim=-1)[:, None] * v).sum(dim=-1)
        displacement = (self.displacement(v)[..., 0] + attended) / 2
        if self.axes is None or axes is None:
            return x, v, None, displacement, None
        axes = self.axes.from_atoms(axes, x, v, batch)
        return x, v, axes, displacement, self.axes.changes(axes)

    def _separations(
        self, positions: Tensor, cell: Tensor, batch: CrystalBatch, radial_basis: RadialBasis
    ) -> tuple[Tensor, Tensor]:
        """Return what `LatticeAxes.to_atoms` takes."""
        seen = centred(positions, batch) if self.centred_positions else positions
        difference = cell[batch.structure_index] - seen[:, None]
        distance = difference.norm(dim=-1)
        separations = radial_basis(distance.flatten()).view(*distance.shape, -1)
        return separations, -difference / distance[..., None]
