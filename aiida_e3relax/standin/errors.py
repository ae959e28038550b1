"""The error that ends a run with a message for the person who wrote the inputs."""


class InputError(Exception):
    """An input that is missing, cannot be read or asks for what the stand-in does not do."""
