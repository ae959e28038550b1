"""How to run a prediction. Needs no torch."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class PredictionSettings:
    """How to run: ``auto|cpu|cuda[:n]``, ``float32|float64``, edges in a batch, CPU threads (None: torch's own)."""

    device: str = 'auto'
    dtype: str = 'float32'
    max_edges: int = 50_000  # on a CPU more cost memory and gained nothing (`benchmarks/stream.py`)
    threads: int | None = None
