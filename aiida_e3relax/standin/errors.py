"""The error that ends a run with a message for the person who wrote the inputs."""

from aiida_e3relax.common.messages import short


class StandInError(Exception):
    """An input that is missing, cannot be read or asks for what the stand-in does not do."""


def quote(text: str) -> str:
    """Return what was found in a file, for a message: in quotes, short, and without control characters."""
    return f"'{short(text)}'"
