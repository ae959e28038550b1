"""E3Relax-H2, symmetric form (Yang et al., extension of arXiv 2511.12243, section 4)."""

from __future__ import annotations

import dataclasses

from aiida_e3relax.common.fields import number
from aiida_e3relax.gnn.layers import MAX_DEGREE
from aiida_e3relax.gnn.models.symmetric import RefinementHyperparameters, SymmetricLayer, SymmetricRelaxation


class E3RelaxH2(SymmetricRelaxation):
    """`SymmetricRelaxation` whose messages are gated by high-degree angular invariants."""

    @dataclasses.dataclass(frozen=True)
    class Hyperparameters(RefinementHyperparameters):
        """Sizes; `l_max` is the highest degree of the invariants, 0 for E3Relax's messages, which no angle gates."""

        l_max: int = number(3, 0, MAX_DEGREE)

    hyperparameters: Hyperparameters

    def layer(self) -> SymmetricLayer:
        """Return a new layer."""
        return SymmetricLayer(self.hyperparameters, self.hyperparameters.l_max)
