"""What the command line says of a campaign that learns: `create --learn`, and `campaign learn`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from aiida import orm
from aiida.common.exceptions import MultipleObjectsError, NotExistent

from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.results.arm_tables import format_text
from aiida_e3relax.campaign.results.learning_records import read_learning
from aiida_e3relax.campaign.results.learning_tables import describe_learning, tabulate_learning
from aiida_e3relax.campaign.rounds.bounds import find_bound_fault
from aiida_e3relax.campaign.rounds.builder import draw_stopping
from aiida_e3relax.campaign.rounds.due import FEWEST_LEARNT, find_first_round, find_lack
from aiida_e3relax.campaign.rounds.settings import DIFFERENT, RANDOM, UNCERTAIN, LearningSettings
from aiida_e3relax.campaign.settings import CampaignSettings, order_structures
from aiida_e3relax.campaign.submission.controller import CampaignController
from aiida_e3relax.campaign.submission.daemon import NO_DAEMON, submit_some
from aiida_e3relax.campaign.submission.due import Look
from aiida_e3relax.campaign.submission.lock import CampaignLockedError, lock
from aiida_e3relax.campaign.submission.processes import State
from aiida_e3relax.cli.campaign.errors import plain_errors, shell_quote
from aiida_e3relax.cli.nodes import describe_node, find_node
from aiida_e3relax.common.messages import count_of, printable, suggestion
from aiida_e3relax.common.strict_yaml import load_yaml
from aiida_e3relax.data.pairs import E3RelaxPairsData

KEYS_OF_TRAINING = ('replay', 'replay-of', 'training', 'code')
KEYS = ('every', 'order', 'judge', 'least', 'val', 'wait', *KEYS_OF_TRAINING)
FIELDS = {'replay-of': 'replay_of', 'training': 'parameters'}
"""Of `LearningSettings`, those that are called otherwise than their keys."""
YES_OR_NO = {'yes': True, 'true': True, 'no': False, 'false': False}
ORDERS = {
    RANDOM: 'in random order',
    UNCERTAIN: 'those first of which the newest model is least certain',
    DIFFERENT: 'those first that are most different from what is known',
}


def parse_learning(words: Sequence[str]) -> LearningSettings:
    """Return what the words of --learn say, such as `every=200`; raises ClickException for what they cannot."""
    values = _read_words(words, KEYS, '--learn')
    if 'every' not in values:
        raise click.ClickException('--learn: expected every=N, after how many finished relaxations the model learns')
    try:
        how = LearningSettings.from_mapping(values)
    except ValueError as error:
        raise click.ClickException(f'--{printable(str(error))}') from error
    if 'replay' in values:
        _check_replay(how, '--learn')
    return how


def parse_training(words: Sequence[str], how: LearningSettings, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the words after `campaign learn NAME` set of a training, such as `code=CODE`, and what was `before`.

    `how` are the settings of the campaign. Raises ClickException for words and values that cannot be.
    """
    values = _read_words(words, KEYS_OF_TRAINING, 'campaign learn')
    changes = {**before, **values}
    try:
        changed = how.with_training(changes)
    except ValueError as error:
        raise click.ClickException(f'campaign {printable(str(error))}') from error
    if 'replay' in values:
        _check_replay(changed, 'campaign learn')
    return changes


def _read_words(words: Sequence[str], keys: Sequence[str], command: str) -> dict[str, Any]:
    """Return what words such as `every=200` say, as `LearningSettings` takes it; `command` is what they were given to.

    Raises ClickException for other keys, keys that come twice and values that cannot be read.
    """
    values: dict[str, Any] = {}
    for word in words:
        key, _, text = word.partition('=')
        if key not in keys or not text:
            raise click.ClickException(f'{command} {printable(word)}: expected a setting{suggestion(key, list(keys))}')
        name = FIELDS.get(key, key)
        if name in values and key != 'replay-of':
            raise click.ClickException(f'{command} {printable(word)}: {key} is given twice; give it once')
        if key == 'replay-of':
            values[name] = [*values.get(name, []), _find_pairs(text, command)]
        elif key == 'training':
            values |= _read_training(Path(text), command)
        elif key == 'code':
            values[name] = _find_code(text, command)
        else:
            values[name] = _read_value(key, text, command)
    return values


def _check_replay(how: LearningSettings, command: str) -> None:
    """Raise ClickException where it is said how much is replayed, and not of what."""
    if not how.replay_of:
        raise click.ClickException(
            f'{command} replay: expected replay-of=PAIRS beside it, the pairs that are learnt again'
        )


def describe_plan(how: LearningSettings, n_judges: int) -> str:
    """Return how a campaign learns, in a sentence."""
    assert how.every is not None, 'of a campaign that was told to learn'
    judging = count_of(
        n_judges, 'structure, drawn at random, judges and is', 'structures, drawn at random, judge and are'
    )
    parts = [
        f'Its model learns after every {count_of(how.every, "relaxation")}',
        *([ORDERS[how.order]] if how.order in ORDERS else []),
        f'{judging} never learnt from',
        *(['no chain starts meanwhile'] if how.wait else []),
    ]
    return f'{"; ".join(parts)}.'


def warn_of_missed_rounds(settings: CampaignSettings, max_running: int) -> None:
    """Say where so many chains may run at the same time that all have begun before the first round is due."""
    how, judges, labels = settings.how_to_learn, settings.judge_set, list(settings.structures)
    first = find_first_round(how, order_structures(labels, list(judges), how, settings.seed), judges)
    if first is not None and first - 1 + max_running >= len(labels):
        click.echo(
            f'With --max-running {max_running} all {len(labels)} structures may have begun before {first} have '
            'finished, after which the first round comes; none comes by itself then. Give a smaller `every`, or run it '
            f'so: aiida-e3relax campaign run {shell_quote(settings.name)} --max-running {len(labels) - first}',
            err=True,
        )


def learn_now(name: str, words: Sequence[str] = ()) -> None:
    """Let the model of the campaign `name` learn from what has finished, now.

    Where another process runs the campaign, that one submits the round; else it is submitted at once. What `words` set
    of the training, see `parse_training`, is kept for later rounds, too.

    Raises ClickException where there is nothing to learn from yet, where a round runs, while the campaign is paused or
    no daemon runs, and where none can be made; nothing is asked for then.
    """
    with plain_errors(name):
        group = load_campaign(name)
        controller = CampaignController(group)
        look = controller.look()
        if not controller.plan.settings.chain.get('model'):
            raise click.ClickException(f'campaign `{printable(name)}`: it has no network that could learn')
        if not controller.plan.settings.judge_set:
            raise click.ClickException(
                f'campaign `{printable(name)}`: none of its structures can judge a model, as none is relaxed from the '
                'raw crystal, too (--reference none). Gather its relaxations with `aiida-e3relax data --from '
                f'{shell_quote(f"campaign:{name}")}`, and tune a model on the pairs by `e3relax finetune`'
            )
        training = parse_training(words, controller.plan.settings.how_to_learn, look.extras.training)
        if look.history.is_running:
            running = look.history.rounds[-1].process
            raise click.ClickException(
                f'a round of `{printable(name)}` runs already, <{running.pk}>; give this again when it has ended'
            )
        if lack := find_lack(look.round.finished - look.round.judges, look.round.judges, FEWEST_LEARNT):
            raise click.ClickException(f'campaign `{printable(name)}`: a round needs {lack}')
        if fault := _find_bound_fault(controller, look):
            raise click.ClickException(
                f'campaign `{printable(name)}`: {fault}. Gather its relaxations with `aiida-e3relax data --from '
                f'{shell_quote(f"campaign:{name}")}`, tune a model on the pairs by `e3relax finetune`, and make a '
                'campaign with that'
            )
        if look.extras.is_paused:
            raise click.ClickException('the campaign is paused: let it go on with `aiida-e3relax campaign resume`')
        if not controller.daemon.count_workers():
            raise click.ClickException(NO_DAEMON)
        asked = len(look.history.rounds) + 1
        if words:
            group.training = training
        group.round_fault = None
        group.rounds_asked = asked
        try:
            with lock(group) as confirm:
                submitted = submit_some(controller.due_rounds(controller.look()), 1, confirm)
        except CampaignLockedError as error:
            click.echo(f'The process that runs the campaign ({printable(str(error))}) submits the round.')
            return
    if not submitted:
        fault = group.round_fault
        raise click.ClickException(
            f'no round could be made: {printable(fault["message"]) if fault else "see `status`"}'
        )
    click.echo(
        f'Round {asked} runs in the daemon, on {look.round.finished} finished relaxations. How far: '
        f'aiida-e3relax campaign status {shell_quote(name)}'
    )


def _find_bound_fault(controller: CampaignController, look: Look) -> str | None:
    """Return which bound of the guard a model that learns now could not be held to."""
    settings = controller.plan.settings
    model: Any = orm.load_node(uuid=settings.chain['model'])
    chains = look.processes.chains
    learnt = [x for x in chains if look.processes.chain_state(x) is State.FINISHED and x not in settings.judge_set]
    stopping = draw_stopping(learnt, settings.how_to_learn.val, settings.seed)
    return find_bound_fault(settings.guard, model.architecture, len(stopping))


def show_learning(name: str) -> None:
    """Print the learning curve of the campaign `name`, its rounds, and what the rest takes."""
    result = read_learning(name)
    if result is None:
        return
    parts = [*map(format_text, tabulate_learning(result)), *describe_learning(result)]
    for line in '\n\n'.join(['', *parts]).split('\n'):
        click.echo(printable(line))


def _read_value(key: str, text: str, command: str) -> Any:
    if key == 'order':
        return text
    if key == 'wait':
        if text not in YES_OR_NO:
            raise click.ClickException(f'{command} wait={printable(text)}: expected yes or no')
        return YES_OR_NO[text]
    try:
        return int(text) if key in ('every', 'least') else float(text)
    except ValueError:
        raise click.ClickException(f'{command} {key}={printable(text)}: expected a number') from None


def _find_code(text: str, command: str) -> str:
    try:
        return orm.load_code(text).uuid
    except (NotExistent, MultipleObjectsError, ValueError) as error:
        raise click.ClickException(f'{command} code={printable(text)}: {printable(str(error))}') from error


def _find_pairs(text: str, command: str) -> str:
    """Return the UUID of a node of pairs, which a training file becomes."""
    if Path(text).is_file():
        try:
            return E3RelaxPairsData.get_or_create(text)[0].uuid
        except ValueError as error:
            raise click.ClickException(f'{command} replay-of: {printable(str(error))}') from error
    node = find_node(text, 'expected a training file that is there, or the PK or UUID of a node of pairs')
    if not isinstance(node, E3RelaxPairsData):
        raise click.ClickException(
            f'{command} replay-of={text}: expected an E3RelaxPairsData, found {describe_node(node)}'
        )
    return node.uuid


def _read_training(path: Path, command: str) -> dict[str, Any]:
    """Return `parameters` and `options` of `LearningSettings` out of a YAML file; raises ClickException."""
    try:
        content: Any = load_yaml(path.read_text(encoding='utf-8'))
    except (ValueError, OSError) as error:
        raise click.ClickException(f'{command} training={printable(path)}: {printable(str(error))}') from error
    names = ('settings', 'device', 'threads', 'new_elements', 'options')
    if not isinstance(content, dict) or (unknown := [key for key in content if key not in names]):
        found = printable(str(unknown[0])) if isinstance(content, dict) else 'something else'
        raise click.ClickException(
            f'{command} training={printable(path)}: expected a mapping with any of {", ".join(names)}, found {found}'
        )
    options = content.pop('options', {})
    return {'parameters': content, 'options': options}
