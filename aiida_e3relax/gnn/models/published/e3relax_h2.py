"""E3Relax-H2 as the authors publish it (Yang et al., extension of arXiv 2511.12243, section 4)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from aiida_e3relax.common.fields import number
from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.layers import MAX_DEGREE, RadialBasis, SelfInteraction
from aiida_e3relax.gnn.models.published.angular_gate import AngularGate
from aiida_e3relax.gnn.models.published.axes import AxisStates, LatticeAxes
from aiida_e3relax.gnn.models.published.edges import Edges, centred, clamped_norm
from aiida_e3relax.gnn.models.published.message_passing import MessagePassing
from aiida_e3relax.gnn.models.published.names import SHARED_NAMES
from aiida_e3relax.gnn.models.published.relaxation import PublishedHyperparameters, PublishedRelaxation

SOFTENING = 1e-9
"""Added to lengths (A) that divide."""

_AXIS = r'lattice_blocks\.(\d+)\.axis_blocks\.(\d)\.'
_NAMES = SHARED_NAMES | {
    r'lattice_scalar_emb\.weight': 'axis_embedding.0',
    r'message_passing_layers\.(\d+)\.inv_norm\.': r'layers.\1.gate.norm.',
    r'message_passing_layers\.(\d+)\.edge_inv_proj\.0\.': r'layers.\1.gate.linear.',
    r'structure_update_layers\.(\d+)\.delta_scale': r'layers.\1.displacement_scale',
    r'structure_update_layers\.(\d+)\.pos_mlp\.': r'layers.\1.displacement.',
    r'lattice_feat_mlps\.(\d+)\.': r'layers.\1.separation.',
    r'lattice_blocks\.(\d+)\.axis_mix_': r'layers.\1.mixing.',
    _AXIS + r'axis_atom_message_proj\.': r'layers.\1.axes.\2.source.',
    _AXIS + r'axis_edge_rbf_proj\.': r'layers.\1.axes.\2.separation_filter.',
    _AXIS + r'axis_to_atom_scalar_mlp\.': r'layers.\1.axes.\2.scalar_to_atoms.',
    _AXIS + r'axis_to_atom_vector_mlp\.': r'layers.\1.axes.\2.vector_to_atoms.',
    _AXIS + r'atoms_to_axis_scalar_mlp\.': r'layers.\1.axes.\2.scalar_from_atoms.',
    _AXIS + r'atoms_to_axis_vector_mlp\.': r'layers.\1.axes.\2.vector_from_atoms.',
    _AXIS + r'axis_state_vector_proj\.': r'layers.\1.axes.\2.self_interaction.vector_mix.',
    _AXIS + r'axis_state_scalar_mlp\.': r'layers.\1.axes.\2.self_interaction.scalar_mix.',
    _AXIS + r'axis_lattice_delta_mlp\.': r'layers.\1.axes.\2.change.',
}


class E3RelaxH2Published(PublishedRelaxation):
    """E3Relax-H2 with the authors' equations and, by `load_state_dict`, with their weights."""

    @dataclasses.dataclass(frozen=True)
    class Hyperparameters(PublishedHyperparameters):
        """Those of `PublishedHyperparameters`, and `l_max`.

        This is the highest degree of the angular invariants; 0 for E3Relax's messages, which no angle gates.
        """

        l_max: int = number(3, 0, MAX_DEGREE)

    def __init__(self, hyperparameters: Hyperparameters):
        super().__init__(hyperparameters, _Layer, (3,), _NAMES)


class _Layer(nn.Module):
    def __init__(self, p: E3RelaxH2Published.Hyperparameters):
        super().__init__()
        self.centred_positions = p.centred_positions
        self.axes: LatticeAxes | None = None
        if p.lattice_nodes:
            k = p.radial_functions
            self.separation = nn.Sequential(nn.Linear(2 * k, k), nn.SiLU(), nn.Linear(k, k))
            self.axes = LatticeAxes(p.features, k)
            self.mixing = _AxisMixing()
        self.gate = AngularGate(p.features, p.l_max) if p.l_max else None
        self.message_passing = MessagePassing(p.features, p.radial_functions)
        self.self_interaction = SelfInteraction(p.features)
        self.displacement = nn.Linear(p.features, 1, bias=False)
        self.displacement_scale = nn.Parameter(torch.ones(()))

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
        edges = Edges.of(positions, cell, batch, SOFTENING)
        if self.axes is not None and axes is not None:
            x, v = self.axes.to_atoms(
                x, v, axes, *self._separations(positions, cell, batch, radial_basis), batch.structure_index
            )
            axes = self.mixing(axes)
        x, v = self.message_passing.radial(x, v, edges, radial_basis, self.gate)
        dx, dv = self.self_interaction(x, v)
        x, v = (x + dx) * 2**-0.5, v + dv
        displacement = self.displacement_scale * self.displacement(v)[..., 0]
        if self.axes is None or axes is None:
            return x, v, None, displacement, None
        axes = self.mixing(self.axes.from_atoms(axes, x, v, batch))
        return x, v, axes, displacement, self.axes.changes(axes)

    def _separations(
        self, positions: Tensor, cell: Tensor, batch: CrystalBatch, radial_basis: RadialBasis
    ) -> tuple[Tensor, Tensor]:
        """Return what `LatticeAxes.to_atoms` takes."""
        seen = (centred(positions, batch) if self.centred_positions else positions)[:, None]
        vectors = cell[batch.structure_index]
        length = clamped_norm(vectors) + SOFTENING
        parallel = (seen * vectors).sum(dim=-1) / length
        perpendicular = clamped_norm(torch.linalg.cross(seen, vectors)) / length
        parts = [radial_basis(part.flatten()) for part in (parallel, perpendicular)]
        features = self.separation(torch.cat(parts, dim=-1)).view(*parallel.shape, -1)
        difference = vectors - seen
        return features, -difference / (clamped_norm(difference) + SOFTENING)[..., None]


class _AxisMixing(nn.Module):
    """Mixes the three axes' states by 3 x 3 matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.scalar = nn.Linear(3, 3)
        self.vector = nn.Linear(3, 3, bias=False)

    def forward(self, states: AxisStates) -> AxisStates:
        """Return the mixed states."""
        scalar = self.scalar(states.scalar.movedim(1, -1)).movedim(-1, 1)
        return AxisStates(scalar, self.vector(states.vector.movedim(1, -1)).movedim(-1, 1))
