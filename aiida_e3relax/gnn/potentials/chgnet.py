"""CHGNet (Deng et al., Nat. Mach. Intell. 5, 1031 (2023)); its weights come with the package."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chgnet
from chgnet.model import CHGNet, CHGNetCalculator
from pymatgen.io.ase import AseAtomsAdaptor

from aiida_e3relax.gnn.potentials.evaluation import Batches, Results

if TYPE_CHECKING:
    import torch
    from ase import Atoms

    from aiida_e3relax.gnn.potentials.base import KnownPotential


def find_weights(known: KnownPotential) -> Path:
    """Return the file of the weights that `CHGNet.load` takes for their name."""
    (path,) = (Path(chgnet.__file__).parent / 'pretrained' / str(known.weights)).glob('*.pth.tar')
    return path


def make_calculator(known: KnownPotential, weights: Path, device: torch.device, dtype: str) -> Any:
    """Return CHGNet; it refuses crystals with an atom that has no neighbour within its cutoff of 6 A."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its device
        model = CHGNet.load(model_name=str(known.weights), use_device=str(device))
        return CHGNetCalculator(model, use_device=str(device), on_isolated_atoms='error')


def make_batches(known: KnownPotential, weights: Path, device: torch.device, dtype: str, calculator: Any) -> Batches:
    """Return the network of the calculator, which the package lets compute several graphs at once."""
    model = calculator.model

    def evaluate(crystals: Sequence[Atoms]) -> list[Results]:
        graphs = [model.graph_converter(AseAtomsAdaptor.get_structure(atoms)) for atoms in crystals]
        found = model.predict_graph(graphs, task='efs', batch_size=len(graphs))
        return [
            Results(
                float(each['e']) * (len(atoms) if model.is_intensive else 1),
                each['f'].astype(float),
                each['s'].astype(float) * calculator.stress_weight,
            )
            for atoms, each in zip(crystals, found if isinstance(found, list) else [found], strict=True)
        ]

    return Batches(evaluate, f'chgnet {version("chgnet")}')
