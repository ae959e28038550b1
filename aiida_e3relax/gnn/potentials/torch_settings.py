"""What packages of potentials change in torch for the whole process, kept to their own calculations."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, Self, TypeVar

import torch

P = ParamSpec('P')
T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class TorchSettings:
    """The settings that hold for a whole process: precision of new tensors, and of products of matrices."""

    default_dtype: torch.dtype
    matmul_precision: str

    @classmethod
    def now(cls) -> Self:
        """Return those that hold now."""
        return cls(torch.get_default_dtype(), torch.get_float32_matmul_precision())

    def set(self) -> None:
        """Make them hold."""
        if torch.get_default_dtype() != self.default_dtype:
            torch.set_default_dtype(self.default_dtype)
        if torch.get_float32_matmul_precision() != self.matmul_precision:
            torch.set_float32_matmul_precision(self.matmul_precision)


class Apart:
    """A block in which a package may set what it likes, where new tensors have `dtype`; it ends with the block."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.own = TorchSettings(dtype, torch.get_float32_matmul_precision())
        """The settings within: at the end of one block those at the begin of the next."""

    def __enter__(self) -> Self:
        self.outside = TorchSettings.now()
        self.own.set()
        return self

    def __exit__(self, *_: object) -> None:
        self.own = TorchSettings.now()
        self.outside.set()

    def keep(self, calculator: Any) -> None:
        """Let a calculator of ASE calculate within such a block."""
        calculator.calculate = self.within(calculator.calculate)

    def within(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return a function that does what `function` does, within such a block."""

        @functools.wraps(function)
        def function_apart(*arguments: P.args, **options: P.kwargs) -> T:
            with self:
                return function(*arguments, **options)

        return function_apart
