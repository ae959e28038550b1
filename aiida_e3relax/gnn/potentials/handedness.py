"""Left-handed cells: CHGNet 0.4.2 and MatterSim 1.2.3 take their volume as negative, and so turn the stress round.

So does SevenNet 0.13.0 in batches.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from aiida_e3relax.gnn.potentials.evaluation import Evaluate, Results


def make_right_handed(calculator: Any) -> None:
    """Let a calculator of ASE see a left-handed cell with its vectors turned round: the same lattice, right-handed."""
    calculate = calculator.calculate

    @functools.wraps(calculate)
    def calculate_right_handed(atoms: Any = None, *arguments: Any, **options: Any) -> None:
        if atoms is None or _is_right_handed(atoms):
            calculate(atoms, *arguments, **options)
            return
        calculate(_turned(atoms), *arguments, **options)
        calculator.atoms = atoms.copy()  # by which it knows of what crystal its results are

    calculator.calculate = calculate_right_handed


def evaluate_right_handed(evaluate: Evaluate) -> Evaluate:
    """Return what shows `evaluate` left-handed cells as `make_right_handed` does."""

    def evaluate_turned(crystals: Sequence[Atoms]) -> list[Results]:
        return evaluate([atoms if _is_right_handed(atoms) else _turned(atoms) for atoms in crystals])

    return evaluate_turned


def _is_right_handed(atoms: Atoms) -> bool:
    return bool(np.linalg.det(atoms.cell.array) >= 0)


def _turned(atoms: Atoms) -> Atoms:
    turned = atoms.copy()
    turned.set_cell(-atoms.cell.array)
    return turned
