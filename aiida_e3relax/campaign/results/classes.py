"""The classes by which crystals are told apart: those that a person gives, or else those of their anions."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from aiida_e3relax.campaign.results.chemistry import anion_class


def classify(elements: pd.Series, given: Mapping[str, str] | None = None) -> pd.Series:
    """Return the class of each crystal of a table, from its `elements` by label: the `given` one, or that of its anion.

    Raises ValueError where some are given, and not for each crystal.
    """
    if given is None:
        return elements.map(anion_class)
    if missing := [label for label in elements.index if label not in given]:
        raise ValueError(
            f'classes: expected one for each crystal, found none for {len(missing)} of {len(elements)}, such as '
            f'`{missing[0]}`; add a line for each'
        )
    return elements.index.to_series().map(given)
