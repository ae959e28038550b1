"""`aiida-e3relax campaign create`: the settings and structures of a new campaign, with its arms."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from aiida_e3relax.campaign.defaults import BATCH_SIZE, MAX_RUNNING, NETWORK_JOBS, NETWORK_RETRIES, REFERENCE_SHARE
from aiida_e3relax.cli.campaign.source_files import SOURCES_HELP, check_files
from aiida_e3relax.cli.chain_options import PROTOCOLS_EPILOG, chain_options
from aiida_e3relax.cli.profile import profile_option, use_profile
from aiida_e3relax.cli.several_values import SeveralValues, SeveralValuesCommand
from aiida_e3relax.common.messages import count_of, printable

if TYPE_CHECKING:
    from aiida import orm

    from aiida_e3relax.campaign.group import CampaignGroup
    from aiida_e3relax.workflows.vasp.choices import ChainChoices

REFERENCE_WORDS = {'all': 1.0, 'none': 0.0}
SHOWN_REFUSALS = 10
OPTIONS_OF_ARM = {
    'name',
    'raw_legs_of',
    'pre_relaxer',
    'model',
    'potential_weights',
    'potential_steps',
    'potential_force_max',
    'potential_stress_max',
    'predicted_algo',
    'network_code',
    'num_gpus',
    'max_running',
    'network_jobs',
    'learn',
    'skip_refused',
    'profile',
}
"""The options that say something on an arm; all else is that of its base campaign."""
LEARN_HELP = (
    'Let the model learn from the relaxations that have finished: every=200 tunes it after each 200 more, beside the '
    'campaign, and what has not begun is predicted by the new model where that is better. order=given|random|uncertain'
    '|different: which structures begin first; judge=0.1: the share of them, drawn at random, that judges the models '
    'and is never learnt from, by default a tenth, or what makes five between two rounds; least=10: how many there are '
    'to learn from before a round; val=0.15: the share of these that decides when a training stops; wait=yes: no chain '
    'starts while a round is due or runs; replay-of=PAIRS: a training file or a node of pairs learnt before, of which '
    'replay=1.0 are learnt again beside each new one; training=FILE: a YAML file with `settings`, `device`, `threads` '
    'and `options` of the training job; code=CODE: what runs it.'
)
FILES_LEFT_OUT = 3
"""The exit code where the campaign is made without some files that cannot be read."""


@click.command(cls=SeveralValuesCommand, epilog=PROTOCOLS_EPILOG)
@click.argument('name')
@click.option('--from', 'sources', metavar='SOURCE', multiple=True, help=SOURCES_HELP)
@click.option(
    '--arms',
    cls=SeveralValues,
    metavar='WHO...',
    help='Pre-relaxers to compare, written as for --pre-relaxer. NAME has the first and relaxes the raw crystals, once '
    'for all; each other one is a campaign NAME-WHO beside it.',
)
@click.option(
    '--raw-legs-of',
    metavar='OTHER',
    help='In the place of --from: make NAME an arm of the campaign OTHER, of its structures and with its settings but '
    'for --pre-relaxer, --model, --potential-weights, --potential-steps, --potential-force-max, '
    '--potential-stress-max, --predicted-algo, --network-code, --num-gpus and --network-jobs.',
)
@click.option(
    '--reference',
    metavar='all|none|SHARE',
    help='Which structures VASP also relaxes without the network, for the comparison: all, none, or a share from 0 '
    'to 1 of them drawn at random, which is recorded. What the network saves is known for these only.  '
    f'[default: {REFERENCE_SHARE}; all with --arms and with --no-network]',
)
@click.option('--seed', type=click.IntRange(min=0), default=0, show_default=True, help='For drawing that share.')
@click.option(
    '--batch-size',
    type=click.IntRange(min=1),
    default=BATCH_SIZE,
    show_default=True,
    help='How many structures the network is given in one job.',
)
@click.option(
    '--max-running',
    type=click.IntRange(min=1),
    default=MAX_RUNNING,
    show_default=True,
    help='How many chains run at the same time; `run` can change it. A chain has up to two VASP jobs at a time.',
)
@click.option(
    '--network-jobs',
    type=click.IntRange(min=1),
    default=NETWORK_JOBS,
    show_default=True,
    help='How many batches are given to the network at the same time, in a job each: as many as there are GPUs that '
    'its jobs can have.',
)
@click.option(
    '--network-retries',
    type=click.IntRange(min=0),
    default=NETWORK_RETRIES,
    show_default=True,
    help='How often a batch is given to the network again where its run fails as a whole, before its structures are '
    'held back.',
)
@click.option('--learn', cls=SeveralValues, metavar='KEY=VALUE...', help=LEARN_HELP)
@click.option(
    '--skip-refused',
    is_flag=True,
    help='Leave out structures that the chain refuses, and record why, instead of ending.',
)
@chain_options
@profile_option
def create(
    name: str,
    sources: tuple[str, ...],
    arms: tuple[str, ...],
    raw_legs_of: str | None,
    reference: str | None,
    seed: int,
    batch_size: int,
    max_running: int,
    network_jobs: int,
    network_retries: int,
    learn: tuple[str, ...],
    skip_refused: bool,
    profile: str | None,
    **options: Any,
) -> None:
    """Make the campaign NAME, and its arms; nothing runs yet.

    All that it computes is decided here and recorded in one node: its structures, codes, protocol, model, what may
    move, and which structures are relaxed without the network too.

    Files that cannot be read are left out, listed and recorded; unless --skip-refused says that this is expected, the
    exit code is then 3.
    """
    context = click.get_current_context()
    given = {
        option.name: option.opts[0]
        for option in context.command.params
        if option.name and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    }
    if raw_legs_of is not None and (other := [given[key] for key in given if key not in OPTIONS_OF_ARM]):
        raise click.UsageError(
            f'{", ".join(other)}: an arm has this of the campaign {raw_legs_of}; leave it out beside --raw-legs-of'
        )
    if raw_legs_of is None and not sources:
        raise click.UsageError('expected the structures: give --from, or --raw-legs-of for those of a campaign')
    use_profile(profile)
    check_files(sources)
    learning = None
    if learn:
        from aiida_e3relax.cli.campaign.learning import parse_learning

        learning = parse_learning(learn)
    least_share = max(REFERENCE_SHARE, learning.judge_share) if learning else REFERENCE_SHARE
    share = _read_share(reference or ('all' if arms or options['no_network'] else str(least_share)))
    if options['no_network'] and share < 1.0:
        raise click.ClickException(
            f'--reference {reference}: with --no-network VASP relaxes every raw crystal; leave it out'
        )
    if arms and not share:
        raise click.ClickException(
            f'--reference {reference}: arms are compared with the relaxations of raw crystals; give a share of them'
        )

    from aiida.common.exceptions import NotExistent

    from aiida_e3relax.campaign.arms import find_arms
    from aiida_e3relax.campaign.creation import NewArm, check_new_name, create_campaign
    from aiida_e3relax.cli.campaign.arms import create_single_arm, read_arms
    from aiida_e3relax.cli.campaign.sources import read_sources
    from aiida_e3relax.cli.chain_choices import read_choices

    if raw_legs_of is not None:
        most = max_running if 'max_running' in given else None
        jobs = network_jobs if 'network_jobs' in given else None
        create_single_arm(name, raw_legs_of, options, most, jobs, skip_refused, learning)
        return
    try:
        check_new_name(name)
        of_arms = read_arms(name, arms, options, given)
        found = read_sources(sources)
        for note, count in found.notes.items():
            click.echo(f'{count} x {note}', err=True)
        if found.left_out:
            click.echo(list_reasons(f'{len(found.left_out)} cannot be used:', found.left_out), err=True)
        if not found.structures:
            raise click.ClickException('no structure is left')
        choices = of_arms.pop(name) if arms else read_choices(options)
        structures = found.structures
        refused = check_inputs('', structures, choices, found.fixed, skip_refused)
        structures = {label: structure for label, structure in structures.items() if label not in refused}
        new_arms = {
            arm: NewArm(of_arm, check_inputs(f'arm {arm}: ', structures, of_arm, found.fixed, skip_refused))
            for arm, of_arm in of_arms.items()
        }
        group = create_campaign(
            name,
            structures,
            choices,
            fixed={label: held for label, held in found.fixed.items() if label not in refused},
            left_out=found.left_out | refused,
            reference_share=share,
            seed=seed,
            batch_size=batch_size,
            max_running=max_running,
            network_retries=network_retries,
            network_jobs=network_jobs,
            learning=learning,
            arms=new_arms,
        )
    except (ValueError, NotExistent) as error:
        raise click.ClickException(printable(str(error))) from error
    _describe_new(group, find_arms(group))
    if found.left_out and not skip_refused:
        raise SystemExit(FILES_LEFT_OUT)


def _describe_new(group: CampaignGroup, arms: Sequence[CampaignGroup]) -> None:
    """Say what was made, how many relaxations by VASP it takes, and how to start it."""
    from aiida_e3relax.campaign.arms import COUNT_REMARK, count_relaxations, find_pre_relaxer
    from aiida_e3relax.campaign.learnt import warn_of_learnt
    from aiida_e3relax.cli.campaign.learning import describe_plan, warn_of_missed_rounds

    settings = group.settings
    counted = count_relaxations([settings, *(arm.settings for arm in arms)])
    legs = sum(settings.has_raw_leg(label) for label in settings.structures)
    start = f'from {find_pre_relaxer(settings)}, {legs} of them also from the raw crystals'
    told = start if counted.predicted else 'relaxed without a pre-relaxer'
    click.echo(
        f'Campaign {group.label}: {count_of(len(settings.structures), "structure")}, {told}; '
        f'{len(settings.left_out)} left out. Its settings are in Dict<{group.settings_node.pk}>.'
    )
    if settings.learning:
        click.echo(describe_plan(settings.how_to_learn, len(settings.judge_set)))
        warn_of_missed_rounds(settings, group.max_running)
    for arm in arms:
        n_left_out = len(settings.structures) - len(arm.settings.structures)
        told = f'; {n_left_out} more left out' if n_left_out else ''
        start = find_pre_relaxer(arm.settings)
        click.echo(f'Arm {arm.label}: the same from {start}, with the raw legs of the former{told}.')
    if warning := warn_of_learnt([settings, *(arm.settings for arm in arms)]):
        click.echo(warning, err=True)
    fewer = f'; {COUNT_REMARK}' if arms else '; fewer where a prediction is rejected' if counted.predicted else ''
    click.echo(f'In all {counted}{fewer}. Start: aiida-e3relax campaign run {shlex.quote(group.label)}')


def _read_share(text: str) -> float:
    try:
        share = REFERENCE_WORDS[text] if text in REFERENCE_WORDS else float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise click.ClickException(f'--reference {text}: expected all, none or a share from 0 to 1, such as 0.2')
    return share


def check_inputs(
    who: str,
    structures: Mapping[str, orm.StructureData],
    choices: ChainChoices,
    fixed: Mapping[str, Mapping[str, Any]],
    skip_refused: bool,
) -> dict[str, str]:
    """Return by label why the chain refuses structures, of which the inputs are made for trial.

    Raises ClickException, which begins with `who`, unless they may be skipped, and where none is left.
    """
    from aiida_e3relax.campaign.creation import find_refusals

    with click.progressbar(length=len(structures), label=f'{who}Checking the inputs of each structure') as bar:
        refused = find_refusals(structures, choices, fixed, lambda: bar.update(1))
    if refused and (not skip_refused or len(refused) == len(structures)):
        advice = 'mend them, or give --skip-refused' if len(refused) < len(structures) else 'none is left'
        title = f'{who}the chain refuses {len(refused)} of {len(structures)} structures; {advice}:'
        raise click.ClickException(list_reasons(title, refused))
    return refused


def list_reasons(title: str, reasons: Mapping[str, str]) -> str:
    """Return `title` and a line for each structure with its reason, the first `SHOWN_REFUSALS` of them."""
    lines = [f'{label}: {reason}' for label, reason in list(reasons.items())[:SHOWN_REFUSALS]]
    if len(reasons) > SHOWN_REFUSALS:
        lines.append(f'and {len(reasons) - SHOWN_REFUSALS} more')
    return '\n'.join([title, *map(printable, lines)])
