"""Which of the splits of a data set a training run validates on."""

from __future__ import annotations

from collections.abc import Collection

from aiida_e3relax.common.errors import TrainingError
from aiida_e3relax.common.messages import suggestion


def validation_split(found: Collection[str], wanted: str) -> str:
    """Return the split to validate on, of those `found`: `wanted`, or where that is ``val``, the only one of its kind.

    Raises
    ------
    TrainingError
        Where there is none, and where there are several.
    """
    if wanted in found:
        return wanted
    named = sorted(name for name in found if name.startswith(f'{wanted}_'))
    if wanted == 'val' and len(named) == 1:
        return named[0]
    if wanted == 'val' and named:
        raise TrainingError(
            f'the data have several splits to validate on, {", ".join(named)}: name one, --set validation={named[0]}'
        )
    if wanted == 'val':
        raise TrainingError(
            "the data hold 0 pairs of the split 'val'; at least 1 needed: "
            'make a split with `e3relax data FILE.npz --output NEW.npz --split random`'
        )
    raise TrainingError(f'validation: no pair of the split {wanted!r}{suggestion(wanted, sorted(found))}')
