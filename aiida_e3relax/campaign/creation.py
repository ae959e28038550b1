"""Put a campaign into the graph."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Any

from aiida import orm

from aiida_e3relax.calculations.batches import gather_structures
from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.settings import CampaignSettings, draw_sample, split_batches
from aiida_e3relax.workflows.choices import ChainChoices
from aiida_e3relax.workflows.vasp import E3RelaxVaspWorkChain

BATCH_SIZE = 300
MAX_RUNNING = 10
PACKAGES = ('aiida-e3relax', 'aiida-core', 'aiida-vasp', 'numpy', 'ase', 'pymatgen', 'spglib')


def find_refusals(
    structures: Mapping[str, orm.StructureData],
    choices: ChainChoices,
    fixed: Mapping[str, Mapping[str, Any]],
    tell_progress: Callable[[], None] = lambda: None,
) -> dict[str, str]:
    """Return by label why the chain of a structure would not begin, by making the inputs of each.

    `tell_progress` is called after each structure.
    """
    refusals = {}
    for label, structure in structures.items():
        try:
            choices.chain_builder(structure, fixed.get(label))
        except ValueError as error:
            refusals[label] = ' '.join(str(error).split())
        tell_progress()
    return refusals


def create_campaign(
    name: str,
    structures: Mapping[str, orm.StructureData],
    choices: ChainChoices,
    *,
    fixed: Mapping[str, dict[str, list[int]]] | None = None,
    left_out: Mapping[str, str] | None = None,
    reference_share: float = 1.0,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    max_running: int = MAX_RUNNING,
) -> CampaignGroup:
    """Store a campaign and return it; nothing of it runs yet.

    The group comes last and with all its nodes at once: a campaign is there as a whole or not at all. What an
    interrupted call has stored before is left in the profile and of no consequence.

    Parameters
    ----------
    name
        The label of the group.
    structures
        The raw structures by label: letters, digits and single underscores. Stored if they are not.
    choices
        What is the same for all.
    fixed, left_out
        As in `CampaignSettings`.
    reference_share, seed
        The share of the structures, from 0 to 1, that is relaxed from the raw one too, drawn at random.
    batch_size
        How many structures the network is given in one job.
    max_running
        How many chains may run at the same time.

    Raises
    ------
    ValueError
        For a name that is taken, no structures, or numbers out of their range.
    """
    _check(name, structures, reference_share, batch_size, max_running)
    for label, structure in structures.items():
        if not structure.is_stored:
            structure.label = structure.label or label
            structure.store()
    batches = [gather_structures(**part) for part in split_batches(structures, batch_size)] if choices.model else []
    inputs = E3RelaxVaspWorkChain.get_protocol_inputs(choices.protocol, choices.overrides)
    settings = CampaignSettings(
        name=name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        structures={label: structure.uuid for label, structure in structures.items()},
        fixed=dict(fixed or {}),
        left_out=dict(left_out or {}),
        batches=[batch.uuid for batch in batches],
        batch_size=batch_size,
        reference_share=reference_share,
        reference_sample=draw_sample(list(structures), reference_share, seed),
        seed=seed,
        chain=choices.record(),
        guard=inputs['guard'],
        versions={package: importlib.metadata.version(package) for package in PACKAGES},
    )
    node = settings.to_node().store()
    group = CampaignGroup(label=name)
    with group.backend.transaction():
        group.store()
        group.add_nodes([node, *structures.values()])
        group.max_running = max_running
    return group


def _check(name: str, structures: Mapping[str, Any], share: float, batch_size: int, max_running: int) -> None:
    """Raise ValueError for the first argument that cannot be."""
    if orm.QueryBuilder().append(CampaignGroup, filters={'label': name}).count():
        raise ValueError(
            f'campaign `{name}`: there is one of this name already; choose another, or go on with that one: '
            f'`aiida-e3relax campaign run {name}`'
        )
    if not structures:
        raise ValueError('structures: expected at least one, found none')
    if odd := [label for label in structures if not label.isidentifier() or '__' in label]:
        raise ValueError(f'label `{odd[0]}`: expected letters, digits and single underscores, and no digit first')
    if not 0.0 <= share <= 1.0:
        raise ValueError(f'share of raw legs: expected a number from 0 to 1, found {share}')
    if batch_size < 1 or max_running < 1:
        raise ValueError(f'batch size and cap: expected at least 1, found {batch_size} and {max_running}')
