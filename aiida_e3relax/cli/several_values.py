"""An option that takes several values after it, as in `--models a b c`; click knows only one word at a time."""

from __future__ import annotations

from typing import Any

import click


class SeveralValues(click.Option):
    """An option of a `SeveralValuesCommand` whose value is a tuple of all the words up to the next option."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs | {'multiple': True})


class SeveralValuesCommand(click.Command):
    """A command that repeats a `SeveralValues` option before each of the words that follow it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words of the command line."""
        names = {name for option in self.params if isinstance(option, SeveralValues) for name in option.opts}
        words: list[str] = []
        current, has_value = '', False
        for word in args:
            if word.startswith('-'):
                current, has_value = (word, False) if word in names else ('', False)
            elif current and has_value:
                words.append(current)
            elif current:
                has_value = True
            words.append(word)
        return super().parse_args(ctx, words)
