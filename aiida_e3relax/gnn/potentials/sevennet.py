"""SevenNet (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)); its weights come with the package `sevenn`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sevenn import _const, _keys
from sevenn.atom_graph_data import AtomGraphData
from sevenn.calculator import SevenNetCalculator
from sevenn.train.dataload import unlabeled_atoms_to_graph
from torch_geometric.data import Batch

from aiida_e3relax.gnn.potentials.evaluation import Batches, Evaluate, Results, batches_of_torch_sim

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_e3relax.gnn.potentials.base import KnownPotential

FILES = {
    'sevennet-0': _const.SEVENNET_0_11Jul2024,
    'sevennet-mf-0': _const.SEVENNET_MF_0,
    'sevennet-l3i5': _const.SEVENNET_l3i5,
}
COMPONENTS = [[0, 3, 5], [3, 1, 4], [5, 4, 2]]
"""Where the components of a stress are among the six that the network gives: xx, yy, zz, xy, yz, zx."""

GRAPHS = 64
"""How many compiled graphs the products may have, whose code the layers share."""


def find_weights(known: KnownPotential) -> Path:
    """Return the file of the weights of a potential."""
    return Path(FILES[known.name])


def make_calculator(known: KnownPotential, weights: Path, device: torch.device, dtype: str) -> Any:
    """Return SevenNet."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of accelerators for GPUs that are not installed
        return SevenNetCalculator(str(weights), device=device, modal=known.modal)


def compile_products(calculator: Any) -> None:
    """Compile the tensor products of its convolutions, in which most of its time goes on a CPU."""
    torch._dynamo.config.cache_size_limit = max(torch._dynamo.config.cache_size_limit, GRAPHS)
    for name, layer in calculator.model.named_children():
        if name.endswith('_convolution'):
            product = layer.convolution
            product._compiled_main_left_right = torch.compile(product._compiled_main_left_right, dynamic=True)
    calculator.has_compiled_products = True


def make_batches(known: KnownPotential, weights: Path, device: torch.device, dtype: str, calculator: Any) -> Batches:
    """Return a second copy of SevenNet, as the package has it for torch-sim.

    Without that, and where its products are compiled, it is the calculator's own.
    """
    model_for_torch_sim = None if hasattr(calculator, 'has_compiled_products') else _model_for_torch_sim()
    if model_for_torch_sim is None:
        evaluate, by = _batches_of_package(calculator), f'sevenn {version("sevenn")}'
    else:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            model = model_for_torch_sim(weights, modal=known.modal, device=device, dtype=getattr(torch, dtype))
        batches = batches_of_torch_sim(model)
        evaluate, by = batches.evaluate, batches.by

    def evaluate_known(crystals: Sequence[Atoms]) -> list[Results]:
        for atoms in crystals:
            calculator.set_atoms(atoms)  # elements that it does not know end the use of a GPU by the process
        return evaluate(crystals)

    return Batches(evaluate_known, by)


def _model_for_torch_sim() -> Any:
    """Return the package's class for torch-sim, None where that is not installed."""
    try:
        from sevenn.torchsim import SevenNetModel
    except ImportError:
        return None
    return SevenNetModel


def _batches_of_package(calculator: Any) -> Evaluate:
    """Return what computes the graphs of several crystals as the package does in training."""
    model = calculator.model

    def evaluate(crystals: Sequence[Atoms]) -> list[Results]:
        graphs = [
            AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, calculator.cutoff, with_shift=False))
            for atoms in crystals
        ]
        if calculator.modal:
            for graph in graphs:
                graph[_keys.DATA_MODALITY] = calculator.modal
        model.set_is_batch_data(True)
        try:
            found = model(Batch.from_data_list(graphs).to(calculator.device))
        finally:
            model.set_is_batch_data(False)  # as the calculator, to which it belongs, needs it
        energies, forces, stresses = (
            found[name].detach().cpu().numpy().astype(np.float64)
            for name in (_keys.PRED_TOTAL_ENERGY, _keys.PRED_FORCE, _keys.PRED_STRESS)
        )
        apart = np.split(forces, np.cumsum([len(atoms) for atoms in crystals])[:-1])
        stresses = -stresses[:, COMPONENTS]
        return [Results(float(energy), *rest) for energy, *rest in zip(energies, apart, stresses, strict=True)]

    return evaluate
