"""The error that ends a run with a message for the person who wrote the inputs."""

_LONGEST_QUOTE = 60


class InputError(Exception):
    """An input that is missing, cannot be read or asks for what the stand-in does not do."""


def quote(text: str) -> str:
    """Return what was found, for a message: in quotes, short, and without control characters."""
    return repr(text if len(text) <= _LONGEST_QUOTE else f'{text[:_LONGEST_QUOTE]}...')


def printable(text: str) -> str:
    """Return a text of one line, its control characters written as escapes."""
    return ''.join(character if character.isprintable() else repr(character)[1:-1] for character in text)
