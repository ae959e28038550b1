"""Potentials of MatGL (M3GNet, TensorNet, ...; Ko et al., npj Comput. Mater. 11, 253 (2025)) by an archive of the user.

MatGL saves a model as a folder of three files. The archive is a zip or tar file of that folder.
Run with matgl 4.1.2 and a small TensorNet of random weights, on a CPU.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matgl
from matgl.ext.ase import PESCalculator

from aiida_e3relax.common.errors import WeightsError

if TYPE_CHECKING:
    import torch

    from aiida_e3relax.gnn.potentials.base import KnownPotential

FILES = ('model.json', 'model.pt', 'state.pt')
"""Those of a saved model."""


def make_calculator(known: KnownPotential, weights: Path, device: torch.device, dtype: str) -> Any:
    """Return the potential; its stress, which the package gives in GPa unless it is told, is in eV/A^3."""
    with tempfile.TemporaryDirectory() as folder:
        potential = matgl.load_model(_unpack(weights, Path(folder)))
    calculator = PESCalculator(potential.to(device).eval(), stress_unit='eV/A3', use_voigt=True)
    calculate = calculator.calculate

    def calculate_there(*arguments: Any, **options: Any) -> None:
        with device:  # where the package then makes its graphs
            calculate(*arguments, **options)

    calculator.calculate = calculate_there
    return calculator


def _unpack(archive: Path, folder: Path) -> Path:
    """Return the folder of the model that `archive` holds, unpacked into `folder`; raises WeightsError."""
    expected = f'expected a zip or tar file of the folder of a model, with {", ".join(FILES)}'
    formats = {'.zip': 'zip', '.tar': 'tar', '.gz': 'gztar', '.tgz': 'gztar'}
    if archive.suffix not in formats:
        raise WeightsError(f'{archive}: {expected}')
    options: dict[str, Any] = {} if archive.suffix == '.zip' else {'filter': 'data'}
    shutil.unpack_archive(archive, folder, formats[archive.suffix], **options)
    for found in folder.rglob(FILES[0]):
        if all((found.parent / name).is_file() for name in FILES):
            return found.parent
    raise WeightsError(f'{archive}: {expected}; it lacks some')
