"""A round of learning: the pairs of what has finished, and the work chain that tunes the model on them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from aiida import orm
from aiida.engine.processes.builder import ProcessBuilder

from aiida_e3relax.calculations.learning import AS_GIVEN, TEST
from aiida_e3relax.calculations.pre_relaxer import NETWORK, PreRelaxer
from aiida_e3relax.calculations.predict_parameters import choose_pre_relaxer
from aiida_e3relax.campaign.plan import Plan
from aiida_e3relax.campaign.results.records import chain_query
from aiida_e3relax.campaign.rounds.bounds import find_bound_fault, needs_calibration
from aiida_e3relax.campaign.rounds.history import Generation, History
from aiida_e3relax.campaign.rounds.settings import FEWEST_JUDGES
from aiida_e3relax.campaign.submission.processes import ROUND_LABEL
from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.mappings import merge
from aiida_e3relax.data.pairs import RELAXATION, E3RelaxPairsData
from aiida_e3relax.learning.gather import gather_divided
from aiida_e3relax.learning.held_back import find_held_back, find_judged_systems
from aiida_e3relax.learning.relaxations import choose_attempts, find_relaxations
from aiida_e3relax.workflows.protocols.protocol import fill_builder
from aiida_e3relax.workflows.training.finetune import E3RelaxFinetuneWorkChain
from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain
from aiida_e3relax.workflows.vasp.choices import ChainChoices
from aiida_e3relax.workflows.vasp.inputs.freedom import predict_all

FEWEST_STOPPING = 3
"""Structures that decide when a training stops, where there are enough."""


def gather_pairs(plan: Plan, name: str, waiting: Collection[str]) -> E3RelaxPairsData:
    """Return the pairs of the finished relaxations of a campaign, not stored.

    Of a chain that failed they are those of its legs that finished well. The structures that judge are the split
    `test`, where the raw crystal was relaxed: by the end of another leg no model is judged. Of the others a share that
    stays the same is `val`. What may end as a judge that is `waiting`, as it has not ended before this is called, is
    left out, see `find_held_back`.

    Raises ValueError where no pair can be used, and where all that can is of one split.
    """
    settings, how = plan.settings, plan.settings.how_to_learn
    judges = settings.judge_set
    finished = choose_attempts(find_relaxations(chain_query(plan.node, ['id'])), settings.structures)
    judging = {label: each for label, each in finished.items() if label in judges and each.has_best_end}
    to_learn = {label: relaxation for label, relaxation in finished.items() if label not in judges}
    held_back, why = find_held_back(settings.batches, judges, waiting, to_learn)
    of_label = judging | {label: relaxation for label, relaxation in to_learn.items() if label not in held_back}
    left_out = {NO_RAW_LEG: len(finished) - len(judging) - len(to_learn), why: len(held_back)}

    def divide(labels: Iterable[str]) -> E3RelaxPairsData:
        stopping = draw_stopping([label for label in labels if label not in judges], how.val, settings.seed)
        splits = {
            relaxation.process: TEST if label in judges else 'val' if label in stopping else 'train'
            for label, relaxation in of_label.items()
        }
        return gather_divided(of_label.values(), name, splits)

    if not of_label:
        raise InputError(f'{len(finished)} relaxations finished, none can be used{_told(left_out)}')
    node = divide(of_label)
    if not node.splits.get('val'):  # what was to stop the training cannot be used
        usable = set(node.pairs.about[RELAXATION].tolist())
        node = divide([label for label, relaxation in of_label.items() if relaxation.process in usable])
    node.base.attributes.set(node.JUDGES_KEY, sum(each.is_well for label, each in finished.items() if label in judges))
    if any(left_out.values()):
        node.base.attributes.set(node.LEFT_OUT_KEY, node.left_out | {why: n for why, n in left_out.items() if n})
    for kind, (fewest, purpose) in NEEDED.items():
        if (count := node.splits.get(kind, 0)) < fewest:
            raise InputError(
                f'{len(finished)} relaxations finished, {len(node)} can be used{_told(node.left_out)}: expected '
                f'at least {fewest} {purpose}, found {count}'
            )
    return node


NO_RAW_LEG = 'judges without a relaxation of the raw crystal'
"""Why relaxations are left out of a round that no other pairs are left out for."""
NEEDED = {'train': (1, 'to train on'), 'val': (1, 'to stop the training by'), TEST: (FEWEST_JUDGES, 'to judge by')}
"""How many pairs a round needs of each split, and what for."""
TOLD_BESIDE = ('second_opinion', 'layers', 'bonds')
"""The parameters of a prediction that change nothing of the crystals."""


def _told(left_out: Mapping[str, int]) -> str:
    """Return in brackets how many relaxations were left out for what; empty for none."""
    told = '; '.join(f'left out {count}: {why}' for why, count in left_out.items() if count)
    return f' ({told})' if told else ''


def draw_stopping(labels: Iterable[str], share: float, seed: int) -> set[str]:
    """Return which structures decide when a training stops: that share, three at least or the quarter of fewer than 12.

    By one or two of them chance decides whether anything is learnt at all. Label and seed draw each structure by
    itself, so that those of the share are the same when there are more; what fills them up may be learnt from later.
    """
    places = {label: int(hashlib.sha256(f'{seed} stop {label}'.encode()).hexdigest()[:8], 16) for label in labels}
    chosen = {label for label, place in places.items() if place < share * 16**8}
    least = max(1, min(FEWEST_STOPPING, len(places) // 4))
    return chosen | set(sorted(places, key=lambda label: places[label])[:least])


def round_builder(
    plan: Plan,
    history: History,
    newest: Generation,
    finished: int,
    waiting: Collection[str],
    training: Mapping[str, Any] = MappingProxyType({}),
) -> ProcessBuilder:
    """Return the next round of a campaign, which tunes the newest model, after so many `finished` relaxations.

    The judges that are `waiting` have not ended by then, see `gather_pairs`. What `training` has stands in the place of
    the settings, see `GroupExtras.training`.

    Raises ValueError where nothing can be learnt from, and for inputs that the work chain refuses; NotExistent where a
    node has been deleted.
    """
    settings, how = plan.settings, plan.settings.how_to_learn.with_training(training)
    name = plan.group.label if plan.group else settings.name
    choices = ChainChoices.from_record(settings.chain)
    assert choices.network_code is not None
    of_chain = E3RelaxVaspWorkChain.get_protocol_inputs(choices.protocol, choices.overrides)
    predict = of_chain['network']['predict']
    of_network = merge(predict.get('metadata', {}).get('options', {}), choices.network_options)
    code = orm.load_code(uuid=how.code) if how.code else choices.network_code
    pairs = gather_pairs(plan, f'{name} after {finished}'[:200], waiting)
    model: Any = orm.load_node(uuid=newest.model)
    if fault := find_bound_fault(settings.guard, model.architecture, pairs.splits['val']):
        raise InputError(fault)
    of_training = merge(of_network if code.uuid == choices.network_code.uuid else {}, how.options)
    number = len(history.rounds) + 1
    parameters = how.train_parameters(model_name(name, number))
    if needs_calibration(settings.guard, model.architecture):
        parameters['settings'] = {**parameters.get('settings', {}), 'needs_calibration': True}
    replay: list[Any] = [orm.load_node(uuid=uuid) for uuid in how.replay_of]
    inputs: dict[str, Any] = {
        'campaign': plan.node,
        'pairs': pairs,
        'model': model,
        'split': {'by': AS_GIVEN, 'replay': how.replay, 'seed': settings.seed},
        'training': {
            'train': {'code': code, 'parameters': parameters, 'metadata': {'options': of_training}},
        },
        'prediction': {
            'predict': {
                'code': choices.network_code,
                'parameters': judging_parameters(predict.get('parameters', {}), choices.freedom),
                'metadata': {'options': of_network},
            },
            'clean_workdir': orm.to_aiida_type(of_chain['clean_workdir']),
        },
    }
    if replay:
        inputs['split']['judged'] = find_judged_systems(settings.batches, settings.judge_set)
    builder: Any = E3RelaxFinetuneWorkChain.get_builder()
    fill_builder(builder, inputs)
    builder.replay = {f'replay_{place}': node for place, node in enumerate(replay)}
    builder.metadata.label = ROUND_LABEL.format(number=number, count=finished)
    builder.metadata.description = f'The model of the campaign {name} learns from {finished} relaxations'
    ports = E3RelaxFinetuneWorkChain.spec().inputs
    if error := ports.validate(ports.pre_process(builder._inputs(prune=True))):
        raise ValueError(str(error))
    return builder


def model_name(campaign: str, number: int) -> str:
    """Return the name of the model that comes out of a round of a campaign, whether it is taken or not."""
    return f'{re.sub(r"[^A-Za-z0-9_.+-]+", "-", campaign).strip("-_.+")[:70] or "campaign"}-round-{number}'


def judging_parameters(parameters: Mapping[str, Any], freedom: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the chain's network, by which the models of a campaign are judged.

    A potential after it, and what it tells beside the crystals, have no part in a judgement of networks.
    """
    _, alone = choose_pre_relaxer(parameters, PreRelaxer.parse(NETWORK))
    return predict_all({name: value for name, value in alone.items() if name not in TOLD_BESIDE}, freedom)
