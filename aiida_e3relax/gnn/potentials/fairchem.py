"""UMA and eSEN of FAIRChem (Wood et al., arXiv 2506.23971) by a file of the user, `.pt`, as its authors publish.

Written from the source of fairchem-core 2.24.0, and not run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from fairchem.core import FAIRChemCalculator
from fairchem.core.units.mlip_unit import load_predict_unit
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings

from aiida_e3relax.gnn.potentials.base import KnownPotential, first_of_kind

CRYSTALS = 'omat'
"""The task of inorganic crystals, of weights that know several."""


def make_calculator(known: KnownPotential, weights: Path, device: torch.device, dtype: str) -> Any:
    """Return the model for inorganic crystals, without the faster modes that round more."""
    settings = InferenceSettings() if dtype == 'float32' else InferenceSettings(base_precision_dtype=torch.float64)
    unit = load_predict_unit(weights, inference_settings=settings, device=first_of_kind(known, device))
    return FAIRChemCalculator(unit, task_name=CRYSTALS if CRYSTALS in unit.dataset_to_tasks else None)
