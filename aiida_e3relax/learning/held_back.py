"""What a round does not learn from, as a judge that has not ended yet may end in its crystal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from typing import Any

import numpy as np
from aiida import orm

from aiida_e3relax.crystals.duplicates import reduced_formulas, same_crystals
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.data.structures import structures_to_crystals
from aiida_e3relax.gnn.data.splits import chemical_systems_of
from aiida_e3relax.learning.relaxations import Relaxation, chunks

MOST_HELD = 0.5
"""The share of the structures beside the judges that compositions may hold back, at most."""
SAME_COMPOSITION = 'of the composition of a judge that has not ended'
SAME_START = 'starts or ends where a judge starts that has not ended'


def find_held_back(
    batches: Iterable[str], judges: Set[str], waiting: Collection[str], finished: Mapping[str, Relaxation]
) -> tuple[set[str], str]:
    """Return which of the `finished` structures are not learnt from, by label, and why.

    Held back are those of the reduced formula of a judge that is waiting: any of them may have ended in its crystal.
    Where more than `MOST_HELD` of all structures beside the judges have the formula of one, as in a search for
    polymorphs, that would leave little. There crystals are compared instead, and what starts or ends where such a judge
    starts is held back. Which of the two it is stays the same while a campaign runs.

    Parameters
    ----------
    batches
        The UUIDs of the nodes with all raw crystals.
    judges, waiting
        The labels of those that judge, and of those among them that may end yet.
    finished
        By label what has been relaxed, and does not judge.
    """
    if not waiting:
        return set(), SAME_COMPOSITION
    crystals = _read_structures(batches)
    formulas = dict(zip(crystals.labels.tolist(), reduced_formulas(crystals), strict=True))
    alike = _sharing(finished, waiting, formulas)
    others = formulas.keys() - judges
    if len(_sharing(others, judges, formulas)) <= MOST_HELD * len(others):
        return alike, SAME_COMPOSITION
    if not alike:
        return set(), SAME_START
    ends = _read_ends({finished[label].end: label for label in alike})
    labels, places = ends.labels.tolist(), {label: place for place, label in enumerate(crystals.labels.tolist())}
    starts = crystals.select(np.array([places[label] for label in (*labels, *waiting)]))
    groups = same_crystals(Crystals.concatenate([ends, starts]))
    of_judges = set(groups[2 * len(labels) :].tolist())
    both = zip(labels, groups[: len(labels)].tolist(), groups[len(labels) : 2 * len(labels)].tolist(), strict=True)
    return {label for label, *found in both if of_judges & set(found)}, SAME_START


def find_judged_systems(batches: Iterable[str], judges: Set[str]) -> list[str]:
    """Return the chemical systems of the judges, of which nothing is replayed, as in `find_held_back`."""
    crystals = _read_structures(batches)
    places = np.flatnonzero([label in judges for label in crystals.labels.tolist()])
    return sorted(set(chemical_systems_of(crystals.select(places))))


def _sharing(labels: Iterable[str], judges: Iterable[str], formulas: Mapping[str, Any]) -> set[str]:
    """Return which of the structures have the formula of one of the judges."""
    taken = {formulas[judge] for judge in judges}
    return {label for label in labels if formulas[label] in taken}


def _read_structures(batches: Iterable[str]) -> Crystals:
    """Return the crystals of the nodes with these UUIDs."""
    nodes: list[Any] = [orm.load_node(uuid=uuid) for uuid in batches]
    return Crystals.concatenate(node.crystals for node in nodes)


def _read_ends(labels: Mapping[str, str]) -> Crystals:
    """Return the crystals with the UUIDs that `labels` are by, those that have not been deleted."""
    found: dict[str, orm.StructureData] = {}
    for some in chunks(labels):
        query = orm.QueryBuilder()
        query.append(orm.StructureData, filters={'uuid': {'in': some}}, project=['uuid', '*'])
        found |= {labels[uuid]: node for uuid, node in query.iterall(batch_size=1000)}
    return structures_to_crystals(found)
