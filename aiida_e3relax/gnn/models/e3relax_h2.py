"""E3Relax-H2, symmetric form (Yang et al., extension of arXiv 2511.12243, section 4)."""

from __future__ import annotations

import dataclasses

from aiida_e3relax.gnn.models.symmetric import SymmetricHyperparameters, SymmetricLayer, SymmetricRelaxation


class E3RelaxH2(SymmetricRelaxation):
    """`SymmetricRelaxation` whose messages are gated by high-degree angular invariants."""

    @dataclasses.dataclass(frozen=True)
    class Hyperparameters(SymmetricHyperparameters):
        """Sizes; `l_max` is the highest degree of the invariants, from 1."""

        l_max: int = 3

    hyperparameters: Hyperparameters

    def layer(self) -> SymmetricLayer:
        """Return a new layer."""
        return SymmetricLayer(self.hyperparameters, self.hyperparameters.l_max)
