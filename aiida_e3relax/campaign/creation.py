"""Create a campaign in the provenance graph."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiida import orm

from aiida_e3relax.calculations.batches import gather_structures
from aiida_e3relax.campaign.arms import JOINT, find_other_settings
from aiida_e3relax.campaign.defaults import BATCH_SIZE, MAX_RUNNING, NETWORK_JOBS, NETWORK_RETRIES, REFERENCE_SHARE
from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.rounds.bounds import find_bound_fault
from aiida_e3relax.campaign.rounds.due import find_first_round
from aiida_e3relax.campaign.rounds.settings import FEWEST_JUDGES, UNCERTAIN, LearningSettings, draw_judges
from aiida_e3relax.campaign.settings import ALL, CampaignSettings, draw_sample, order_structures, split_batches
from aiida_e3relax.campaign.submission.raw_legs import explain_refusal, find_raw_legs
from aiida_e3relax.common.messages import short
from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain
from aiida_e3relax.workflows.vasp.choices import ChainChoices

LONGEST_NAME = 200
"""In bytes; file systems take 255, with what is added to the name."""
STATE_NOTHING = ('e3relax-h2', 'e3relax', 'painn', 'egnn', 'equiformer-v2', 'hegnn', 'gotennet', 'dummy')
"""The architectures that state no uncertainty unless several make an ensemble."""
PACKAGES = ('aiida-e3relax', 'aiida-core', 'aiida-vasp', 'numpy', 'ase', 'pymatgen', 'spglib')


@dataclasses.dataclass(frozen=True)
class NewArm:
    """An arm that is made together with its base campaign.

    Attributes
    ----------
    choices
        Those of the base campaign for this arm, see `arm_choices`.
    left_out
        By label why structures of the base campaign are none of the arm.
    """

    choices: ChainChoices
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Planned:
    """A campaign before it is stored: its settings, the node of these, and its cap."""

    settings: CampaignSettings
    node: orm.Dict
    max_running: int


def find_refusals(
    structures: Mapping[str, orm.StructureData],
    choices: ChainChoices,
    fixed: Mapping[str, Mapping[str, Any]],
    report_progress: Callable[[], None] = lambda: None,
) -> dict[str, str]:
    """Return by label why the chain of a structure would not begin, by making the inputs of each.

    `report_progress` is called after each structure.
    """
    refusals = {}
    for label, structure in structures.items():
        try:
            choices.chain_builder(structure, fixed.get(label))
        except ValueError as error:
            refusals[label] = ' '.join(str(error).split())
        report_progress()
    return refusals


def create_campaign(
    name: str,
    structures: Mapping[str, orm.StructureData],
    choices: ChainChoices,
    *,
    fixed: Mapping[str, dict[str, list[int]]] | None = None,
    left_out: Mapping[str, str] | None = None,
    reference_share: float = REFERENCE_SHARE,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    max_running: int = MAX_RUNNING,
    network_retries: int = NETWORK_RETRIES,
    network_jobs: int = NETWORK_JOBS,
    learning: LearningSettings | None = None,
    arms: Mapping[str, NewArm] | None = None,
) -> CampaignGroup:
    """Store a campaign and return it; nothing of it runs yet.

    The group comes last, with all its nodes and with its arms at once: a campaign is there as a whole or not at all.
    What an interrupted call has stored before stays in the profile and does no harm.

    Parameters
    ----------
    name
        The label of the group, which can be the name of a folder, see `check_name`.
    structures
        The raw structures by label: letters, digits and single underscores. Stored if they are not.
    choices
        What is the same for all.
    fixed, left_out
        As in `CampaignSettings`.
    reference_share, seed
        The share of the structures, from 0 to 1, that is relaxed from the raw one too, drawn at random. Arms made later
        can be compared on these alone: give 1.0 for all. Without a network code it is 1.0 whatever is given.
    batch_size
        How many structures the network is given in one job.
    max_running
        How many chains may run at the same time.
    network_retries
        How often a batch is given to the network again where its run fails as a whole.
    network_jobs
        How many batches are given to the network at the same time, each in a job of its own.
    learning
        How its model learns from what has been relaxed; None for a model that stays as it is. Those that judge are
        drawn from the structures that get a raw leg.
    arms
        The arms that are made with it by the names of their campaigns, see `create_arm`; their models do not learn.

    Raises
    ------
    ValueError
        For a name that is taken or odd, no structures, or numbers out of their range; for `learning` without a network,
        with fewer structures to judge by than are needed, or by which no round would come; for a run of the network
        that is refused; and for arms as `create_arm` does.
    """
    _check_arguments(name, structures, reference_share, batch_size, max_running)
    for of_arm in arms or {}:
        check_new_name(of_arm)
    if network_retries < 0:
        raise ValueError(f'retries of the network: expected at least 0, found {network_retries}')
    if network_jobs < 1:
        raise ValueError(f'jobs of the network: expected at least 1, found {network_jobs}')
    for label, structure in structures.items():
        if not structure.is_stored:
            structure.label = structure.label or label
            structure.store()
    if choices.network_code is None:
        reference_share = 1.0
    sample = draw_sample(list(structures), reference_share, seed)
    learns = _plan_learning(name, list(structures), sample, choices, learning, seed) if learning else {}
    labels = list(structures)
    if learning:
        labels = order_structures(labels, learns['judges'], learning, seed)
    parts = split_batches({label: structures[label] for label in labels}, batch_size) if choices.network_code else []
    batches = [gather_structures(**part) for part in parts]
    planned = _plan_campaign(
        choices.settle(),
        max_running,
        name=name,
        structures={label: structure.uuid for label, structure in structures.items()},
        fixed=dict(fixed or {}),
        left_out=dict(left_out or {}),
        batches=[batch.uuid for batch in batches],
        batch_size=batch_size,
        reference_share=reference_share,
        reference_sample=sample,
        seed=seed,
        network_retries=network_retries,
        network_jobs=network_jobs,
        **learns,
    )
    of_arms = [
        _plan_arm(of_arm, name, planned.settings, planned.node.uuid, arm.choices, arm.left_out, max_running)
        for of_arm, arm in (arms or {}).items()
    ]
    return _store_campaigns([planned, *of_arms])[0]


def create_arm(
    name: str,
    base: CampaignGroup,
    choices: ChainChoices,
    *,
    left_out: Mapping[str, str] | None = None,
    max_running: int | None = None,
    network_jobs: int | None = None,
    learning: LearningSettings | None = None,
) -> CampaignGroup:
    """Store an arm of the campaign `base` and return it; nothing of it runs yet.

    It has the structures of `base`, the sample of which it takes the raw legs, and all else but what makes the starts.

    Parameters
    ----------
    name
        As in `create_campaign`.
    base
        The campaign that relaxes the raw crystals, which is no arm itself.
    choices
        Those of `base` for this arm, see `arm_choices`.
    left_out
        By label why structures of `base` are none of the arm.
    max_running
        How many chains may run at the same time where the arm is run alone; default is that of `base`.
    network_jobs
        As in `create_campaign`; default is that of `base`.
    learning
        As in `create_campaign`.

    Raises
    ------
    ValueError
        For a name that is taken or odd, an arm in the place of `base` or one without raw legs, no structures, choices
        by which VASP would relax otherwise, a run of the network that is refused, raw legs with other inputs than VASP
        would get now, and structures that have been deleted.
    """
    check_new_name(name)
    of_base, node = base.settings, base.settings_node
    if of_base.raw_legs_of is not None:
        raise ValueError(f'campaign `{base.label}`: expected one that relaxes raw crystals itself, found an arm')
    planned = _plan_arm(
        name,
        base.label,
        of_base,
        node.uuid,
        choices,
        left_out or {},
        max_running or base.max_running,
        network_jobs or base.network_jobs,
        learning,
    )
    _check_raw_leg(name, base, choices)
    return _store_campaigns([planned])[0]


def _plan_arm(
    name: str,
    base: str,
    of_base: CampaignSettings,
    node: str,
    choices: ChainChoices,
    left_out: Mapping[str, str],
    max_running: int,
    network_jobs: int | None = None,
    learning: LearningSettings | None = None,
) -> _Planned:
    """Return an arm of the campaign `base` with the settings `of_base`, whose node has the UUID `node`.

    All else is as in `create_arm`, and so is the ValueError.
    """
    share, sample = of_base.reference_share, of_base.reference_sample
    if of_base.relaxes_raw_alone:
        share, sample = 1.0, ALL
    if not sample:
        raise ValueError(
            f'campaign `{base}`: it relaxes no raw crystals beside predictions (`--reference none`), so that '
            'there is nothing to compare an arm with; make it with a share of them'
        )
    if other := find_other_settings(of_base.chain, choices.record()):
        raise ValueError(
            f'arm `{name}`: expected the `{"`, `".join(other)}` of the campaign `{base}`, whose raw legs it '
            'takes, found another'
        )
    labels = [label for label in of_base.structures if label not in left_out]
    if not labels:
        raise ValueError(f'arm `{name}`: expected at least one structure, found none')
    sample = sample if sample == ALL else [label for label in sample if label not in left_out]
    learns = _plan_learning(name, labels, sample, choices, learning, of_base.seed) if learning else {}
    batches = of_base.batches
    if left_out or learning or not batches:
        ordered = order_structures(labels, learns['judges'], learning, of_base.seed) if learning else labels
        structures: dict[str, Any] = {label: orm.load_node(uuid=of_base.structures[label]) for label in ordered}
        batches = [gather_structures(**part).uuid for part in split_batches(structures, of_base.batch_size)]
    return _plan_campaign(
        choices,
        max_running,
        name=name,
        structures={label: of_base.structures[label] for label in labels},
        fixed={label: held for label, held in of_base.fixed.items() if label not in left_out},
        left_out={**of_base.left_out, **left_out},
        batches=batches,
        batch_size=of_base.batch_size,
        reference_share=share,
        reference_sample=sample,
        seed=of_base.seed,
        network_retries=of_base.network_retries,
        network_jobs=network_jobs or of_base.network_jobs,
        raw_legs_of=node,
        **learns,
    )


def _plan_learning(
    name: str,
    labels: list[str],
    sample: list[str] | str,
    choices: ChainChoices,
    learning: LearningSettings,
    seed: int,
) -> dict[str, Any]:
    """Return what the settings of a campaign that learns hold of that; raises ValueError where it cannot."""
    if choices.network_code is None or choices.model is None:
        found = f'{choices.pre_relaxer} alone' if choices.pre_relaxer else 'none'
        raise ValueError(
            f'campaign `{name}`: expected a network, which is to learn, found {found} before VASP; give --pre-relaxer '
            'network, or network+POTENTIAL'
        )
    with_raw_leg = labels if sample == ALL else list(sample)
    count = max(FEWEST_JUDGES, math.ceil(learning.judge_share * len(labels)))
    if count > len(with_raw_leg):
        raise ValueError(
            f'campaign `{name}`: {count} of {len(labels)} structures are to judge the models, for which VASP relaxes '
            f'their raw crystals, too, and only {len(with_raw_leg)} are in the sample of --reference: give a larger '
            'share there, or a smaller `judge`'
        )
    if count + learning.least > len(labels):
        raise ValueError(
            f'campaign `{name}`: of {len(labels)} structures {count} judge the models, and a round needs '
            f'{learning.least} others to learn from: give more structures, or a smaller `judge` or `least`'
        )
    if learning.order == UNCERTAIN and choices.model.architecture.removesuffix('-published') in STATE_NOTHING:
        raise ValueError(
            f'campaign `{name}`: the model {choices.model.name} states no uncertainty by which structures could be '
            'ordered; an ensemble does, see `e3relax ensemble`: give another `order`, or such a model'
        )
    guard = E3RelaxVaspWorkChain.get_protocol_inputs(choices.protocol, choices.overrides)['guard']
    n_learnt = max(learning.least, (learning.every or 0) * (1 - learning.judge_share))
    if fault := find_bound_fault(guard, choices.model.architecture, round(learning.val * n_learnt)):
        raise ValueError(
            f'campaign `{name}`: {fault}: take the bound out of `guard` in --overrides, or give --guard warn'
        )
    judges = draw_judges(with_raw_leg, count, seed)
    order = order_structures(labels, judges, learning, seed)
    if learning.every is not None and find_first_round(learning, order, judges) is None:
        advice = f'such as every={max(1, len(labels) // 3)}' if learning.every >= len(labels) else 'or `least`'
        raise ValueError(
            f'campaign `{name}`: no round comes by itself once all {len(labels)} structures have begun, and with '
            f'every={learning.every} and least={learning.least} none would come before: give a smaller `every`, '
            f'{advice}, or more structures'
        )
    how = learning.record() | {'judge': learning.judge_share}
    if how['code'] is None:
        how['code'] = choices.network_code.uuid
    return {'learning': how, 'judges': judges}


def _check_raw_leg(name: str, base: CampaignGroup, choices: ChainChoices) -> None:
    """Raise ValueError where the chain of an arm refuses a raw leg of its base campaign; one stands for all."""
    settings = base.settings
    legs = (
        (label, chain) for label, chain in find_raw_legs(base.settings_node).items() if label in settings.structures
    )
    for label, chain in itertools.islice(legs, 1):
        structure: Any = orm.load_node(uuid=settings.structures[label])
        try:
            choices.chain_builder(structure, settings.fixed.get(label), reference_leg=chain)
        except ValueError as error:
            raise ValueError(f'arm `{name}`, structure `{label}`: {explain_refusal(error, base.label)}') from error


def _plan_campaign(choices: ChainChoices, max_running: int, **values: Any) -> _Planned:
    """Return a campaign with the settings of which these are `values`; raises ValueError as `_try_networks` does."""
    inputs = E3RelaxVaspWorkChain.get_protocol_inputs(choices.protocol, choices.overrides)
    settings = CampaignSettings(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        chain=choices.record(),
        guard=inputs['guard'],
        versions={package: importlib.metadata.version(package) for package in PACKAGES},
        **values,
    )
    node = settings.to_node()
    _try_networks(settings, node, choices)
    return _Planned(settings, node, max_running)


def _try_networks(settings: CampaignSettings, node: orm.Dict, choices: ChainChoices) -> None:
    """Make the inputs of each run of the network for trial; raises ValueError where one is refused."""
    for uuid in settings.batches:
        batch: Any = orm.load_node(uuid=uuid)
        fixed = {label: settings.fixed[label] for label in batch.labels if label in settings.fixed}
        try:
            choices.network_builder(batch, node, fixed)
        except ValueError as error:
            who = 'campaign' if settings.raw_legs_of is None else 'arm'
            raise ValueError(f'{who} `{settings.name}`: a run of the network is refused: {error}') from error


def _store_campaigns(planned: Sequence[_Planned]) -> list[CampaignGroup]:
    """Store the groups of campaigns with their structures and settings, all at once or none."""
    uuids = {uuid for one in planned for uuid in one.settings.structures.values()}
    query = orm.QueryBuilder().append(orm.Data, filters={'uuid': {'in': list(uuids)}})
    structures = {structure.uuid: structure for structure in query.all(flat=True)}
    groups = []
    for one in planned:
        if not structures.keys() >= set(one.settings.structures.values()):
            raise ValueError(f'campaign `{one.settings.name}`: structures of it have been deleted from the profile')
        one.node.store()
        groups.append(CampaignGroup(label=one.settings.name))
    with groups[0].backend.transaction():
        for group, one in zip(groups, planned, strict=True):
            group.store()
            own = set(one.settings.structures.values())
            group.add_nodes([one.node, *(structure for uuid, structure in structures.items() if uuid in own)])
            group.max_running = one.max_running
    return groups


def check_name(name: str) -> None:
    """Raise ValueError unless the name of a campaign can be that of the folders with its report and its export."""
    odd = not name or not name.isprintable() or name != name.strip() or name[0] in '.-' or {'/', '\\'} & set(name)
    if odd or len(name.encode()) > LONGEST_NAME:
        raise ValueError(
            f'campaign `{short(name, 80)}`: expected a name that a folder can have: not empty, at most {LONGEST_NAME} '
            'bytes, no slashes and control characters, no dot or hyphen first and no space at either end'
        )


def check_new_name(name: str) -> None:
    """Raise ValueError for an odd name, see `check_name`, one with a comma, and that of a campaign that is there."""
    check_name(name)
    if JOINT in name:
        raise ValueError(
            f'campaign `{name}`: expected a name without a comma, by which `aiida-e3relax campaign compare` takes '
            'several campaigns as one'
        )
    if orm.QueryBuilder().append(CampaignGroup, filters={'label': name}).count():
        raise ValueError(
            f'campaign `{name}`: there is one of this name already; choose another, or go on with that one: '
            f'`aiida-e3relax campaign run {name}`'
        )


def _check_arguments(name: str, structures: Mapping[str, Any], share: float, batch_size: int, max_running: int) -> None:
    """Raise ValueError for the first argument that cannot be."""
    check_new_name(name)
    if not structures:
        raise ValueError('structures: expected at least one, found none')
    if odd := [label for label in structures if not label.isidentifier() or '__' in label]:
        raise ValueError(f'label `{odd[0]}`: expected letters, digits and single underscores, and no digit first')
    if not 0.0 <= share <= 1.0:
        raise ValueError(f'share of raw legs: expected a number from 0 to 1, found {share}')
    if batch_size < 1 or max_running < 1:
        raise ValueError(f'batch size and cap: expected at least 1, found {batch_size} and {max_running}')
