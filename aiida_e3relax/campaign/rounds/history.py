"""The rounds of a campaign and the generations of its model, as the graph has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from aiida import orm

from aiida_e3relax.campaign.submission.processes import (
    LINK,
    ROUND,
    ROUND_OF,
    Process,
    State,
    find_state,
    linked_processes,
)
from aiida_e3relax.data.model import E3RelaxModelData


@dataclasses.dataclass(frozen=True)
class Round:
    """A round of learning.

    Attributes
    ----------
    process
        Its work chain.
    after
        How many relaxations had finished when it was submitted.
    model, content_hash
        The UUID of the model that came out of it, and its hash, where it was better than the one before; else None.
    """

    process: Process
    after: int
    model: str | None = None
    content_hash: str | None = None

    @property
    def state(self) -> State:
        """What became of it."""
        return self.process.state


@dataclasses.dataclass(frozen=True)
class Generation:
    """A model of a campaign: 0 is the one that it began with, each other one came out of a round.

    Attributes
    ----------
    number
        Which it is.
    model, content_hash
        The UUID of its node, and its hash.
    round
        Where it comes from; None for 0.
    """

    number: int
    model: str
    content_hash: str
    round: Round | None = None


@dataclasses.dataclass(frozen=True)
class History:
    """The rounds of a campaign, oldest first, and the generations of its model after the first one."""

    rounds: tuple[Round, ...] = ()

    @property
    def tuned(self) -> tuple[Round, ...]:
        """The rounds whose model was accepted; the first of them made generation 1."""
        return tuple(each for each in self.rounds if each.model)

    @property
    def generation(self) -> int:
        """The number of the newest generation."""
        return len(self.tuned)

    @property
    def is_running(self) -> bool:
        """Whether a round runs."""
        return any(each.state is State.RUNNING for each in self.rounds)

    @property
    def last_after(self) -> int:
        """How many relaxations had finished when the last round was submitted."""
        return self.rounds[-1].after if self.rounds else 0


def read_history(rounds: Sequence[Process]) -> History:
    """Return the history of a campaign from the processes of its rounds, in one query at most."""
    ended = [process.pk for process in rounds if process.state is State.FINISHED]
    accepted = _read_accepted(ended) if ended else {}
    return History(
        tuple(Round(process, _finished_before(process), *accepted.get(process.pk, (None, None))) for process in rounds)
    )


def find_history(settings: orm.Dict) -> History:
    """Return the history of the campaign with these settings, in two queries at most."""
    processes = linked_processes(settings, ROUND)
    return read_history([process for process in processes if ROUND_OF.fullmatch(process.label)])


def read_generations(first: str | None, history: History) -> list[Generation]:
    """Return the models of a campaign, of which the `first` has this UUID; none without one."""
    if first is None:
        return []
    query = orm.QueryBuilder().append(E3RelaxModelData, filters={'uuid': first}, project='attributes.content_hash')
    generations = [Generation(0, first, query.first(flat=True) or '')]
    for number, each in enumerate(history.tuned, 1):
        assert each.model is not None
        assert each.content_hash is not None
        generations.append(Generation(number, each.model, each.content_hash, each))
    return generations


def describe_origins() -> dict[str, str]:
    """Return where the tuned models of the profile come from, by UUID: which generation of a campaign each is.

    Or that it was not taken, as it was no better than the one before, has not been judged yet, or that the round failed
    before it was.
    """
    query = orm.QueryBuilder().append(E3RelaxModelData, project='uuid', tag='model')
    tuned: dict[str, Any] = {'with_outgoing': 'model', 'edge_filters': {'label': 'tuned'}}
    project = ['id', 'label', *(f'attributes.{name}' for name in ('process_state', 'exit_status', 'sealed'))]
    query.append(orm.WorkChainNode, filters={'attributes.process_label': ROUND}, project=project, **tuned)
    rows = [
        (model, pk, label, find_state(state, exit_status, bool(sealed)))
        for model, pk, label, state, exit_status, sealed in query.all()
    ]
    if not rows:
        return {}
    pks = sorted({pk for _, pk, _, _ in rows})
    campaigns = _find_campaigns(pks)
    generations = {uuid: _generations_of_rounds(uuid) for uuid in dict(campaigns.values())}
    accepted = _read_accepted(pks)
    origins = {}
    for model, pk, label, state in rows:
        uuid, name = campaigns.get(pk, ('', ''))
        if generation := generations.get(uuid, {}).get(pk):
            origins[model] = f'generation {generation} of the campaign {name}'
            continue
        found = ROUND_OF.fullmatch(label)
        made_by = f'round {found[1]} of the campaign {name}' if found and uuid else f'tuned by <{pk}>'
        outcome = {State.RUNNING: 'not judged yet', State.FINISHED: 'taken' if pk in accepted else 'not taken'}
        origins[model] = f'{made_by}, {outcome.get(state, "failed")}'
    return origins


def _generations_of_rounds(settings: str) -> dict[int, int]:
    """Return the numbers of the generations by the PKs of the rounds that they come from, of a campaign by its UUID."""
    node: Any = orm.load_node(uuid=settings)
    return {each.process.pk: number for number, each in enumerate(find_history(node).tuned, 1)}


def _find_campaigns(pks: list[int]) -> dict[int, tuple[str, str]]:
    """Return the UUID of the settings and the name of the campaign of rounds that have one, by the PK of the round."""
    query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'id': {'in': pks}}, project='id', tag='round')
    linked: dict[str, Any] = {'with_outgoing': 'round', 'edge_filters': {'label': LINK}}
    query.append(orm.Dict, project=['uuid', 'attributes.name'], **linked)
    return {pk: (uuid, name) for pk, uuid, name in query.all()}


def _finished_before(process: Process) -> int:
    found = ROUND_OF.fullmatch(process.label)
    assert found
    return int(found[2])


def _read_accepted(pks: list[int]) -> dict[int, tuple[str, str]]:
    """Return the UUID and the hash of the model of rounds that gave back the tuned one, by the PK of the round."""
    query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'id': {'in': pks}}, project='id', tag='round')
    linked: dict[str, Any] = {'edge_filters': {'label': {'in': ['model', 'tuned']}}, 'edge_project': 'label'}
    project = ['uuid', 'attributes.content_hash']
    query.append(E3RelaxModelData, with_incoming='round', project=project, **linked)
    found: dict[int, dict[str, tuple[str, str]]] = {}
    for pk, uuid, content_hash, label in query.all():
        found.setdefault(pk, {})[label] = (uuid, content_hash)
    return {pk: models['tuned'] for pk, models in found.items() if models.get('model') == models.get('tuned')}
