"""How to run a prediction. Needs no torch."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class PredictionSettings:
    """How to run: ``auto|cpu|cuda[:n]``, ``float32|float64``, edges in a batch, CPU threads (None: torch's own)."""

    device: str = 'auto'
    dtype: str = 'float32'
    max_edges: int = 400_000
    threads: int | None = None
