"""Start VASP relaxations from crystals that equivariant networks predict, and measure what that saves."""

from __future__ import annotations

TYPE_CHECKING = False  # the name that type checkers know: `typing` need not be loaded for it
if TYPE_CHECKING:
    __version__: str


def __getattr__(name: str) -> str:
    """Return the version as it was installed; it is looked up when somebody asks."""
    if name != '__version__':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib.metadata import version

    return version('aiida-e3relax')
