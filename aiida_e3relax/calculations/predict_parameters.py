"""The parameters of a prediction run."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from typing import Any, Self

DTYPES = ('float32', 'float64')
DEVICE = re.compile(r'auto|cpu|cuda(:\d+)?')


@dataclasses.dataclass(frozen=True)
class PredictParameters:
    """What the command `e3relax predict` may be told; see `e3relax predict --help`.

    Attributes
    ----------
    device
        `auto` (a GPU when there is one), `cpu`, `cuda` or `cuda:<n>`.
    dtype
        `float32` or `float64`.
    max_edges
        Largest number of graph edges in one batch; None leaves the choice to the program. Memory grows with it.
    threads
        CPU threads; None leaves the choice to torch.
    """

    device: str = 'auto'
    dtype: str = 'float32'
    max_edges: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.device, str) and DEVICE.fullmatch(self.device)):
            raise ValueError(f'`device`: expected auto, cpu, cuda or cuda:<n>, found {self.device!r}')
        if self.dtype not in DTYPES:
            raise ValueError(f'`dtype`: expected {" or ".join(DTYPES)}, found {self.dtype!r}')
        for name in ('max_edges', 'threads'):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f'`{name}`: expected a positive integer, found {value!r}')

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Return the parameters with `values` over the defaults.

        Raises ValueError for an unknown key, with the nearest known ones, and for a value out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f'did you mean `{near[0]}`?' if near else f'known are {", ".join(known)}'
                raise ValueError(f'unknown parameter `{key}`; {hint}')
        return cls(**values)

    def command_line(self) -> list[str]:
        """Return the options of `e3relax predict` that say the same."""
        values = dataclasses.asdict(self)
        return [
            word
            for name, value in values.items()
            if value is not None
            for word in (f'--{name.replace("_", "-")}', str(value))
        ]
