"""The arms of a campaign by the options of `aiida-e3relax campaign create`."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click
from aiida import orm
from aiida.common.exceptions import NotExistent

from aiida_e3relax.calculations.pre_relaxer import NETWORK, PreRelaxer
from aiida_e3relax.campaign.arms import COUNT_REMARK, arm_choices, arm_name, count_relaxations, load_base
from aiida_e3relax.campaign.creation import check_new_name, create_arm
from aiida_e3relax.campaign.learnt import warn_of_learnt
from aiida_e3relax.campaign.rounds.settings import LearningSettings
from aiida_e3relax.cli.campaign.create import check_inputs
from aiida_e3relax.cli.campaign.learning import describe_plan, warn_of_missed_rounds
from aiida_e3relax.cli.chain_choices import (
    POTENTIAL_BOUNDS,
    choose_code,
    choose_model,
    choose_weights,
    network_options,
    potential_bounds,
    read_choices,
    refuse_bounds_without_potential,
)
from aiida_e3relax.common.mappings import merge
from aiida_e3relax.common.messages import count_of, printable
from aiida_e3relax.gnn.potentials.registry import PRE_RELAXERS
from aiida_e3relax.workflows.vasp.choices import ChainChoices


def read_arms(
    name: str, arms: Sequence[str], options: Mapping[str, Any], given: Collection[str]
) -> dict[str, ChainChoices]:
    """Return the choices of each arm by the name of its campaign, `name` for the first; nothing without `arms`.

    Parameters
    ----------
    arms
        The pre-relaxers.
    options, given
        Those of `chain_options`, and the names of the options that a person has given.

    Raises
    ------
    ClickException
        For an unknown pre-relaxer, one that is named twice, a single one, and options that do not go with arms.
    ValueError
        For names that are taken, and as `read_choices` does.
    """
    if not arms:
        return {}
    if 'pre_relaxer' in given or 'no_network' in given:
        option = '--pre-relaxer' if 'pre_relaxer' in given else '--no-network'
        raise click.ClickException(f'{option}: found --arms beside it, which name the pre-relaxers; leave it out')
    try:
        parsed = [PreRelaxer.parse(arm) for arm in arms]
    except ValueError as error:
        raise click.ClickException(f'--arms: {error}') from error
    if twice := [str(arm) for arm, count in Counter(parsed).items() if count > 1]:
        raise click.ClickException(f'--arms: {twice[0]} is named twice; name it once')
    if len(parsed) < 2:
        raise click.ClickException(f'--arms {arms[0]}: expected two pre-relaxers at least; for one give --pre-relaxer')
    names = [name, *(arm_name(name, str(arm)) for arm in parsed[1:])]
    for taken in names[1:]:
        check_new_name(taken)
    if options['model'] and not any(arm.has_network for arm in parsed):
        raise click.ClickException('--model: none of the --arms has a network; leave it out')
    if not any(arm.has_potential for arm in parsed):
        refuse_bounds_without_potential(options, parsed[0])
    loads = _find_potential_of_weights(parsed) if options['potential_weights'] else None
    choices = {}
    for of_arm, arm in zip(names, parsed, strict=True):
        own = {
            'pre_relaxer': str(arm),
            'model': options['model'] if arm.has_network else None,
            'potential_weights': options['potential_weights'] if arm.potential and arm.potential == loads else None,
        }
        if not arm.has_potential:
            own |= dict.fromkeys(POTENTIAL_BOUNDS)
        choices[of_arm] = read_choices({**options, **own})
    return choices


def create_single_arm(
    name: str,
    raw_legs_of: str,
    options: Mapping[str, Any],
    max_running: int | None,
    network_jobs: int | None,
    skip_refused: bool,
    learning: LearningSettings | None = None,
) -> None:
    """Store the campaign `name` as an arm of the one that is there, and say so.

    Raises ClickException for a base campaign that is none, options that do not fit the pre-relaxer, and structures that
    the chain refuses, unless they may be skipped.
    """
    try:
        check_new_name(name)
        base = load_base(raw_legs_of)
        settings = base.settings
        if not (options['pre_relaxer'] or options['model'] or learning):
            raise click.ClickException(
                f'--raw-legs-of {raw_legs_of}: expected what makes the starts of the arm; give --pre-relaxer, such as '
                'sevennet-mf-0, or --model for a network'
            )
        choices = _read_choices(ChainChoices.from_record(settings.chain), options)
        structures: dict[str, Any] = {label: orm.load_node(uuid=uuid) for label, uuid in settings.structures.items()}
        refused = check_inputs(f'arm {name}: ', structures, choices, settings.fixed, skip_refused)
        arm = create_arm(
            name,
            base,
            choices,
            left_out=refused,
            max_running=max_running,
            network_jobs=network_jobs,
            learning=learning,
        )
    except (ValueError, NotExistent) as error:
        raise click.ClickException(printable(str(error))) from error
    of_arm = arm.settings
    click.echo(
        f'Arm {name} of {raw_legs_of}: {count_of(len(of_arm.structures), "structure")} from {choices.pre_relaxer}, '
        f'with the raw legs of {raw_legs_of}; {len(refused)} left out. '
        f'Its settings are in Dict<{arm.settings_node.pk}>.'
    )
    if warning := warn_of_learnt([of_arm]):
        click.echo(warning, err=True)
    if learning:
        click.echo(describe_plan(of_arm.how_to_learn, len(of_arm.judge_set)))
        warn_of_missed_rounds(of_arm, arm.max_running)
    click.echo(
        f'In all {count_relaxations([of_arm])}; {COUNT_REMARK}. '
        f'Start, with {raw_legs_of}: aiida-e3relax campaign run {shlex.quote(raw_legs_of)}'
    )


def _read_choices(base: ChainChoices, options: Mapping[str, Any]) -> ChainChoices:
    """Return the choices of an arm: those of the base campaign but for what the options say."""
    try:
        parsed = PreRelaxer.parse(options['pre_relaxer'] or NETWORK)
    except ValueError as error:
        raise click.ClickException(f'--pre-relaxer: {error}') from error
    if options['model'] and not parsed.has_network:
        raise click.ClickException(f'--model: the pre-relaxer {parsed} has no network; leave it out')
    refuse_bounds_without_potential(options, parsed)
    code = None
    if options['network_code'] or base.network_code is None:
        code = choose_code(options['network_code'], 'e3relax.predict', '--network-code')
    weights, of_base = None, base.potential_weights
    if options['potential_weights'] or not (of_base and of_base.potential == parsed.potential):
        weights = choose_weights(options['potential_weights'], parsed.potential)
    model = choose_model(options['model']) if options['model'] else None
    choices = arm_choices(base, str(parsed), code, model, weights, options['predicted_algo'])
    return dataclasses.replace(
        choices,
        overrides=merge(choices.overrides, potential_bounds(options)),
        network_options={**choices.network_options, **network_options(options)},
    )


def _find_potential_of_weights(parsed: Sequence[PreRelaxer]) -> str:
    """Return which potential of the arms the weights that were given are for; raises ClickException unless it is one.

    It is the one that brings none, or the only one.
    """
    potentials = list(dict.fromkeys(arm.potential for arm in parsed if arm.potential))
    needing = [name for name in potentials if PRE_RELAXERS[name].needs_weights]
    if len(found := needing or potentials) == 1:
        return found[0]
    raise click.ClickException(
        f'--potential-weights: expected one potential among the arms that they are for, found '
        f'{", ".join(found) or "none"}; make the others with `aiida-e3relax campaign create --raw-legs-of`'
    )
