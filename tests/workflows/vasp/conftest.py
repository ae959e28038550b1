"""The network runs once for the tests of what follows it; later jobs with its inputs are taken from the cache."""

from collections.abc import Iterator

import pytest
from aiida.manage.caching import enable_caching


@pytest.fixture(autouse=True)
def _predictions_from_cache() -> Iterator[None]:
    with enable_caching(identifier='aiida.calculations:e3relax.predict'):
        yield
