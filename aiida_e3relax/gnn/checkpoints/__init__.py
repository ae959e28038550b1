"""The checkpoint that comes with the package, and its model card; found without torch."""

from pathlib import Path

from aiida_e3relax.common.errors import CheckpointError

DEFAULT_CHECKPOINT = Path(__file__).with_name('default.pt')
"""Weights and all that is needed to rebuild the model."""


def missing_checkpoint(path: Path) -> CheckpointError:
    """Return the error that there is no file `path`."""
    return CheckpointError(
        f'{path}: no such checkpoint file; give one that `e3relax train` wrote, or `default` for the shipped one'
    )
