"""SevenNet (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)); its weights come with the package `sevenn`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sevenn import _const
from sevenn.calculator import SevenNetCalculator

from aiida_e3relax.gnn.potentials.evaluation import Batches, Results, batches_of_torch_sim

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_e3relax.gnn.potentials.base import KnownPotential

FILES = {
    'sevennet-0': _const.SEVENNET_0_11Jul2024,
    'sevennet-mf-0': _const.SEVENNET_MF_0,
    'sevennet-l3i5': _const.SEVENNET_l3i5,
}


def find_weights(known: KnownPotential) -> Path:
    """Return the file of the weights of a potential."""
    return Path(FILES[known.name])


def make_calculator(known: KnownPotential, weights: Path, device: torch.device, dtype: str) -> Any:
    """Return SevenNet."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of accelerators for GPUs that are not installed
        return SevenNetCalculator(str(weights), device=device, modal=known.modal)


def make_batches(known: KnownPotential, weights: Path, device: torch.device, dtype: str, calculator: Any) -> Batches:
    """Return SevenNet as the package has it for torch-sim, a second copy of the network."""
    from sevenn.torchsim import SevenNetModel

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        model = SevenNetModel(weights, modal=known.modal, device=device, dtype=getattr(torch, dtype))
    batches = batches_of_torch_sim(model)

    def evaluate(crystals: Sequence[Atoms]) -> list[Results]:
        for atoms in crystals:
            calculator.set_atoms(
                atoms
            )  # elements that it does not know: on a GPU they would end the process's use of it
        return batches.evaluate(crystals)

    return Batches(evaluate, batches.by)
