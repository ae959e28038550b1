"""Calculation functions that put structures into a batch and take them out again."""

from __future__ import annotations

from aiida import orm
from aiida.engine import calcfunction

from aiida_e3relax.data.batch import StructureBatchData


@calcfunction
def gather_structures(**structures: orm.StructureData) -> StructureBatchData:
    """Return `structures` as one node, labelled by their keys.

    The keys are the labels of links, so letters, digits and single underscores within.
    """
    return StructureBatchData(structures)


@calcfunction
def take_structure(batch: StructureBatchData, label: orm.Str) -> orm.StructureData:
    """Return the structure of that label; raises KeyError where the batch has none."""
    return batch.get_structure(label.value)
