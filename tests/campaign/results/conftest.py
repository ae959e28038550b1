"""The builder of a chain, as the tests of the chain have it."""

from tests.workflows.conftest import make_builder

__all__ = ['make_builder']
