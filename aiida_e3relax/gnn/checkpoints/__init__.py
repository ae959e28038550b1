"""The checkpoint that comes with the package, and its model card; found without torch."""

from pathlib import Path

DEFAULT_CHECKPOINT = Path(__file__).with_name('default.pt')
