"""The ablations that `e3relax ablate` makes unless others are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ABLATIONS: dict[str, Mapping[str, Any]] = {
    'w/o high-degree messages': {'architecture': 'e3relax'},
    '1/2 of the training pairs': {'training_share': 0.5},
    '1/4 of the training pairs': {'training_share': 0.25},
}
"""Changes of settings and hyper-parameters by the name of the row; the first row of a table is the model itself."""
