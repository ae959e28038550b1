"""The rounds of learning of a campaign, read from the graph with what they came to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd
from aiida import orm

from aiida_e3relax.calculations.learning import TEST
from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.learnt import find_learnt
from aiida_e3relax.campaign.results.learning import LearningResult, RoundResult, summarise_learning
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.campaign.rounds.builder import NO_RAW_LEG
from aiida_e3relax.campaign.rounds.history import History, find_history, read_generations
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.pairs import E3RelaxPairsData


def read_learning(name: str, frame: pd.DataFrame | None = None) -> LearningResult | None:
    """Return what learning brought in the campaign `name`; None where its model never has and was not told to.

    `frame` is its table where that has been read. Raises ValueError where there is no such campaign.
    """
    group = load_campaign(name)
    settings = group.settings
    history = find_history(group.settings_node)
    if not (settings.learning or history.rounds) or not settings.chain.get('model'):
        return None
    generations = read_generations(settings.chain['model'], history)
    result = summarise_learning(
        campaign_frame(name) if frame is None else frame,
        [(generation.model, generation.content_hash) for generation in generations],
        read_rounds(history),
        settings.how_to_learn.order,
        settings.how_to_learn.every,
        has_turns=settings.learning is not None,
        uncalibrated=_find_uncalibrated([generation.model for generation in generations]),
    )
    return dataclasses.replace(result, judges_learnt=len(settings.judge_set.intersection(find_learnt(settings))))


def _find_uncalibrated(uuids: list[str]) -> list[str]:
    """Return those of the models whose stated uncertainty is not scaled to errors, in one query."""
    found = orm.QueryBuilder().append(E3RelaxModelData, filters={'uuid': {'in': uuids}}).all(flat=True)
    return [node.uuid for node in found if not node.is_calibrated]


def read_rounds(history: History) -> list[RoundResult]:
    """Return what became of each round, in three queries."""
    pks = [each.process.pk for each in history.rounds]
    pairs = _linked(pks, E3RelaxPairsData, 'with_outgoing', 'pairs', 'attributes')
    divided = _linked(pks, E3RelaxPairsData, 'with_incoming', 'divided', 'attributes')
    evaluations = _linked(pks, orm.Dict, 'with_incoming', 'evaluation', 'attributes')
    results, generation = [], 0
    for number, each in enumerate(history.rounds, 1):
        generation += each.model is not None
        process, attributes = each.process, pairs.get(each.process.pk, {})
        splits, left_out = attributes.get('splits'), attributes.get(E3RelaxPairsData.LEFT_OUT_KEY, {})
        of_earlier_versions = (splits or {}).get(TEST, 0) + left_out.get(NO_RAW_LEG, 0)
        results.append(
            RoundResult(
                number=number,
                pk=process.pk,
                after=each.after,
                learnt=splits and sum(splits.get(kind, 0) for kind in ('train', 'val')),
                state=each.state.value,
                message=process.exit_message or '',
                generation=generation if each.model else None,
                evaluation=evaluations.get(process.pk),
                left_out=left_out,
                judges=attributes.get(E3RelaxPairsData.JUDGES_KEY, of_earlier_versions),
                replayed=_read_replayed(divided.get(process.pk, {})),
            )
        )
    return results


def _read_replayed(attributes: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return how many pairs are replayed in divided pairs with these attributes, and how many were asked for."""
    replayed = attributes.get(E3RelaxPairsData.REPLAYED_KEY)
    return replayed and (replayed['count'], replayed['asked'])


def _linked(pks: list[int], node_class: Any, relation: str, label: str, project: str) -> dict[int, Any]:
    """Return what stands in an input or output of rounds, by PK."""
    if not pks:
        return {}
    query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'id': {'in': pks}}, project='id', tag='round')
    options: dict[str, Any] = {relation: 'round', 'edge_filters': {'label': label}, 'project': project}
    query.append(node_class, **options)
    return dict(query.all())
