"""Left-handed cells: CHGNet 0.4.2 and MatterSim 1.2.3 take their volume as negative, and so turn the stress round."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np


def make_right_handed(calculator: Any) -> None:
    """Let a calculator of ASE see a left-handed cell with its vectors turned round: the same lattice, right-handed."""
    calculate = calculator.calculate

    @functools.wraps(calculate)
    def calculate_right_handed(atoms: Any = None, *arguments: Any, **options: Any) -> None:
        if atoms is None or np.linalg.det(atoms.cell.array) >= 0:
            calculate(atoms, *arguments, **options)
            return
        turned = atoms.copy()
        turned.set_cell(-atoms.cell.array)
        calculate(turned, *arguments, **options)
        calculator.atoms = atoms.copy()  # by which it knows of what crystal its results are

    calculator.calculate = calculate_right_handed
