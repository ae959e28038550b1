"""In which order the structures of a campaign begin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from aiida import orm
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from aiida_e3relax.campaign.plan import Plan
from aiida_e3relax.campaign.rounds.settings import DIFFERENT, RANDOM, UNCERTAIN, alternate, shuffled
from aiida_e3relax.campaign.submission.processes import CampaignProcesses
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.data.structures import structures_to_crystals

KEYS = {UNCERTAIN: 'uncertainty_A', DIFFERENT: 'distance_to_training'}
"""What the report of a prediction says of a structure, by the order that goes by it."""
AT_ONCE = 16
"""How many structures may begin together, at most, as far as they are to be apart from each other."""
CHUNK = 256
"""How many crystals are compared with all others at once."""
VOLUME_WEIGHT = 0.5
"""Of the logarithm of the volume of an atom beside shares of elements, in the features of crystals."""


class StartOrder:
    """Tells which of the structures that could begin is first; keeps what it has read for as long as it is there."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._settings = plan.settings
        self._how = plan.settings.how_to_learn
        self._rows: dict[int, dict[str, Mapping[str, Any]]] = {}
        self._features: dict[str, NDArray[np.float64]] = {}
        self._nearest: dict[str, float] = {}
        self._counted: set[str] = set()

    def sort(self, labels: Sequence[str], processes: CampaignProcesses, generation: int) -> list[str]:
        """Return `labels` in the order in which their chains are submitted.

        Where the campaign was not told to learn, it is the given one.
        """
        if self._settings.learning is None or not labels:
            return list(labels)
        judging, seed = self._settings.judge_set, self._settings.seed
        started = [label for label, tries in processes.chains.items() if tries]
        others = [label for label in labels if label not in judging]
        if self._how.order == RANDOM:
            others = shuffled(others, seed, 'order')
        elif self._how.order in KEYS and others:
            others = self._sort_by_measure(others, started, processes, generation)
        judges = shuffled((label for label in labels if label in judging), seed, 'turn')
        share = len(judging) / len(self._settings.structures)
        return alternate(judges, others, share, (sum(label in judging for label in started), len(started)))

    def _sort_by_measure(
        self, labels: Sequence[str], started: Sequence[str], processes: CampaignProcesses, generation: int
    ) -> list[str]:
        """Return labels, those of which the newest model says most first; those that it cannot predict before them."""
        if self._how.order == DIFFERENT and generation:  # a model that has learnt here states no distance
            return self._farthest_first(labels, started)
        rows = {label: self._row(label, processes, generation) for label in labels}
        values = {label: row.get(KEYS[self._how.order]) for label, row in rows.items()}
        if any(value is not None for value in values.values()):
            stated = {label: float('inf') if value is None else value for label, value in values.items()}
            return sorted(labels, key=lambda label: -stated[label])
        return self._farthest_first(labels, started) if self._how.order == DIFFERENT else list(labels)

    def _row(self, label: str, processes: CampaignProcesses, generation: int) -> Mapping[str, Any]:
        """Return what the newest prediction of a structure says of it; nothing where there is none."""
        for run in processes.runs_with_report(self._plan.batch_index[label], generation):
            if run.pk not in self._rows:
                node: Any = orm.load_node(run.pk)
                rows = node.outputs.report.get('structures') if 'report' in node.outputs else None
                self._rows[run.pk] = {row['label']: row for row in rows or ()}
            if label in self._rows[run.pk]:
                return self._rows[run.pk][label]
        return {}

    def _farthest_first(self, labels: Sequence[str], started: Sequence[str]) -> list[str]:
        """Return labels by how far the features of a crystal are from the nearest of those that have begun.

        The first `AT_ONCE` of them are also apart from each other, since they may begin together.
        """
        self._read_features({*labels, *started})
        self._come_near([label for label in started if label not in self._counted])
        points = np.array([self._features[label] for label in labels])
        if self._counted:
            distances = np.array([self._nearest[label] for label in labels])
        else:
            distances = np.linalg.norm(points - points.mean(axis=0), axis=1)
        first: list[int] = []
        for _ in range(min(AT_ONCE, len(labels))):
            first.append(int(np.argmax(distances)))
            distances = np.minimum(distances, np.linalg.norm(points - points[first[-1]], axis=1))
            distances[first] = -1.0
        rest = [place for place in np.argsort(-distances, kind='stable').tolist() if distances[place] >= 0]
        return [labels[place] for place in first + rest]

    def _come_near(self, begun: Sequence[str]) -> None:
        """Take crystals that have begun into the distances of all others to the nearest of them."""
        fresh = [label for label in self._features if label not in self._nearest]
        for labels, others in ((fresh, list(self._counted)), (list(self._features), begun)):
            if not labels:
                continue
            points = np.array([self._features[label] for label in labels])
            nearest = np.array([self._nearest.get(label, np.inf) for label in labels])
            for place in range(0, len(others), CHUNK):
                some = np.array([self._features[label] for label in others[place : place + CHUNK]])
                nearest = np.minimum(nearest, cdist(some, points).min(axis=0))
            self._nearest |= dict(zip(labels, nearest.tolist(), strict=True))
        self._counted |= set(begun)

    def _read_features(self, labels: Iterable[str]) -> None:
        structures = self._settings.structures
        missing = {structures[label]: label for label in labels if label not in self._features}
        if not missing:
            return
        query = orm.QueryBuilder()
        query.append(orm.StructureData, filters={'uuid': {'in': list(missing)}}, project=['uuid', '*'])
        found = {missing[uuid]: node for uuid, node in query.iterall(batch_size=1000)}
        crystals = structures_to_crystals(found)
        self._features |= dict(zip(crystals.labels.tolist(), features_of(crystals), strict=True))


def features_of(crystals: Crystals) -> NDArray[np.float64]:
    """Return features ``(S, 120)`` of crystals that need no network: the share of each element, and the volume.

    Two crystals without a common element are about 1 apart; the volume of an atom counts by its logarithm.
    """
    shares = np.zeros((len(crystals), 120))
    np.add.at(shares, (crystals.structure_index, crystals.numbers), 1.0)
    shares /= shares.sum(axis=1, keepdims=True)
    shares[:, 0] = VOLUME_WEIGHT * np.log(np.abs(crystals.volumes) / crystals.n_atoms)
    return shares
