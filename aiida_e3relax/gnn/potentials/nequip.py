"""NequIP and Allegro (Batzner et al., Nat. Commun. 13, 2453 (2022)) by a file that `nequip-compile` writes.

It holds for the kind of device that it was compiled for: see `COMMAND`. Run with nequip 0.19.1 and a small network of
random weights as TorchScript, on a CPU; models of AOTInductor by the package's source alone.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nequip.integrations.ase import NequIPCalculator

from aiida_e3relax.common.errors import WeightsError
from aiida_e3relax.gnn.potentials.base import KnownPotential, first_of_kind

if TYPE_CHECKING:
    import torch

COMMAND = 'nequip-compile MODEL out.nequip.pt2 --mode aotinductor --target ase --device cpu'
SUFFIXES = ('.nequip.pt2', '.nequip.pth')


def make_calculator(known: KnownPotential, weights: Path, device: torch.device, dtype: str) -> Any:
    """Return the compiled model, in the precision of its file: see `read_dtype`."""
    if not weights.name.endswith(SUFFIXES):
        raise WeightsError(
            f'{weights}: expected a compiled model, a name that ends in {" or ".join(SUFFIXES)}; make one with '
            f'`{COMMAND}` (or cuda)'
        )
    return NequIPCalculator.from_compiled_model(str(weights), device=first_of_kind(known, device))


def read_dtype(weights: Path) -> str | None:
    """Return the precision that a compiled model has, None where it states none."""
    with zipfile.ZipFile(weights) as archive:
        for name in archive.namelist():
            if name.endswith('/extra/model_dtype'):
                return archive.read(name).decode()
            if name.endswith('metadata.json'):
                return json.loads(archive.read(name)).get('model_dtype')
    return None
