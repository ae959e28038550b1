"""How to run a prediction. Needs no torch."""

import dataclasses
from pathlib import Path

from aiida_e3relax.crystals.freedom.freedom import Freedom

ENGINES = ('fast', 'reference')
"""The fast engine, and the plain layers that it is tested against: see `accelerate`."""


@dataclasses.dataclass(frozen=True)
class Details:
    """What is told of predictions beside the structures: those after every `layers`, and all `bonds`."""

    layers: bool = False
    bonds: bool = False


@dataclasses.dataclass(frozen=True)
class PredictionSettings:
    """Device (``auto|cpu|cuda[:n]``), precision, edges in a batch, CPU threads (None: torch's own), and engine.

    And the potential that looks at the predictions (None: none does), and how many steps it takes from them. And what
    may move: None for atoms and cell, but for the cell of a structure with a vacuum. And the details that stand beside
    the output, and the folder for figures of bonds.
    """

    device: str = 'auto'
    dtype: str = 'float32'
    max_edges: int = 50_000  # on a CPU more cost memory and gained nothing (`benchmarks/stream.py`)
    threads: int | None = None
    engine: str = ENGINES[0]
    second_opinion: str | None = None
    second_opinion_steps: int = 0
    freedom: Freedom | None = None
    details: Details = Details()
    plot: Path | None = None
