"""What learning brought, as sentences and tables of text, for a terminal and the page of a report alike."""

from __future__ import annotations

from collections.abc import Iterator

from aiida_e3relax.campaign.results.arm_tables import TextTable
from aiida_e3relax.campaign.results.estimates import Estimate
from aiida_e3relax.campaign.results.forecast import Forecast
from aiida_e3relax.campaign.results.learning import NO_TURNS, GenerationResult, LearningResult, RoundResult
from aiida_e3relax.campaign.rounds.settings import DIFFERENT, GIVEN, RANDOM, UNCERTAIN
from aiida_e3relax.common.messages import short

ORDERS = {
    GIVEN: 'as given',
    RANDOM: 'in random order',
    UNCERTAIN: 'the least certain first',
    DIFFERENT: 'the most different first',
}
MESSAGE_WIDTH = 100
FORECAST_READING = (
    'The forecast takes the rest to be like the structures that judge. Its intervals hold their choice and the scatter '
    'of the rest, not that long relaxations end last, nor that a curve may bend.'
)


def describe_learning(result: LearningResult) -> list[str]:
    """Return what learning brought, in sentences, the most important first."""
    return list(_iterate_sentences(result))


def tabulate_learning(result: LearningResult) -> list[TextTable]:
    """Return the learning curve and the rounds as tables."""
    return [_tabulate_curve(result), *([_tabulate_rounds(result)] if result.rounds else [])]


def _iterate_sentences(result: LearningResult) -> Iterator[str]:
    judged = [generation for generation in result.generations if generation.saved.value is not None]
    if len(judged) > 1 and result.has_turns:
        first, last = judged[0], judged[-1]
        yield (
            f'Generation {first.number} of the model saved {_format_saved(first.saved)} of the ionic steps, generation '
            f'{last.number}, which has learnt from {last.learnt} relaxations, {_format_saved(last.saved)}, of '
            f'{first.saved.n} and {last.saved.n} structures that judge.'
        )
    else:
        for each in judged:
            yield (
                f'Generation {each.number} of the model saved {_format_saved(each.saved)} of the ionic steps of '
                f'{each.saved.n} structures that judge.'
            )
    if not judged:
        yield 'None of the structures that judge has been relaxed both ways yet.'
    if result.judges_learnt:
        yield (
            f'The model that the campaign began with had learnt from {result.judges_learnt} of the {result.judges} '
            'structures that judge: what these say of it, and of the generations after it, flatters them.'
        )
    if result.rounds and (left_out := result.rounds[-1].left_out):
        reasons = '; '.join(f'{count} {why}' for why, count in left_out.items())
        yield f'Round {result.rounds[-1].number} left out {sum(left_out.values())} that had finished: {reasons}.'
    if result.rounds and (replayed := result.rounds[-1].replayed) and replayed[0] < replayed[1]:
        yield (
            f'Round {result.rounds[-1].number} replayed {replayed[0]} of the {replayed[1]} pairs asked for: no more of '
            'the split `train` are there that are not of the chemical system of a judge.'
        )
    if forecast := result.forecast:
        yield from _describe_forecast(forecast)


def _describe_forecast(forecast: Forecast) -> Iterator[str]:
    left = forecast.running + forecast.waiting
    raw = f', {forecast.raw_legs} of them from the raw crystal, too,' if forecast.raw_legs else ''
    told = f'Forecast: the {left} structures that are left{raw} take {_format_steps(forecast.now)} ionic steps'
    if forecast.is_mean:
        yield (
            'The newest generation left no fewer steps than those before it: the forecast takes the mean over all '
            'generations for what a prediction leaves.'
        )
    if forecast.another is None:
        yield f'{told}. What another round would bring is not known: {forecast.why}.'
        return
    yield (
        f'{told}; with another round now, on {forecast.learnt} relaxations, {_format_steps(forecast.another)}. '
        f'{FORECAST_READING}'
    )


def _tabulate_curve(result: LearningResult) -> TextTable:
    return TextTable(
        'Generations of the model',
        (
            'generation',
            'learnt from',
            'served',
            'judged by',
            'steps saved',
            'start error (meV/atom)',
            'coordinates (Å)',
            'stated uncertainty (Å)',
        ),
        [_curve_row(generation) for generation in result.generations],
        f'Judged by {result.judges} structures drawn at random, which are never learnt from{_describe_turns(result)} '
        'Start errors and uncertainties are medians over those relaxed both ways; an ensemble that was not scaled to '
        'errors states no size of them. In brackets 95 % intervals, of five structures and more; of steps '
        'saved there is none where one structure takes most of them.',
    )


def _describe_turns(result: LearningResult) -> str:
    """Return when judges begin, as the end of a sentence."""
    if result.has_turns:
        return f' and have their turn all along; the others are taken {ORDERS[result.order]}.'
    return f'. Generations cannot be compared: {NO_TURNS}.'


def _curve_row(generation: GenerationResult) -> tuple[str, ...]:
    return (
        str(generation.number),
        str(generation.learnt),
        str(len(generation.served)),
        str(generation.saved.n),
        _format_saved(generation.saved),
        _format(generation.start_error, '.3g'),
        _format(generation.coordinate_error, '.2g'),
        _format(generation.uncertainty, '.2g'),
    )


def _tabulate_rounds(result: LearningResult) -> TextTable:
    return TextTable(
        'Rounds of learning',
        (
            'round',
            'after',
            'learnt from',
            'replayed',
            'left out',
            'judges',
            'error before (Å)',
            'after it (Å)',
            'change (Å)',
            'outcome',
        ),
        [_round_row(each) for each in result.rounds],
        'Both models predict the same judges, those that had been relaxed by then: mean errors of coordinates and '
        'lattice vectors, added up, and what they change by, with its 95 % interval. The new model is taken where that '
        'is below 0 as a whole, and it fails for no more of them. Replayed are pairs that the model had learnt before, '
        'of as many as were asked for.',
    )


def _round_row(each: RoundResult) -> tuple[str, ...]:
    outcome = each.state
    if each.generation is not None:
        outcome = f'generation {each.generation}'
    elif each.state == 'finished':
        outcome = 'not better beyond chance, not taken'
    elif each.message:
        outcome = f'{each.state}: {short(each.message, MESSAGE_WIDTH)}'
    cells = ['–'] * 4
    if found := each.evaluation:
        errors = [
            sum(found['errors'][name][measure]['mean'] for measure in ('coordinates_A', 'lattice_A'))
            for name in ('base', 'tuned')
        ]
        difference = found['difference']
        low, high = difference['interval_A'] or (None, None)
        change = Estimate(difference['mean_A'], low, high, found['crystals'], None)
        cells = [str(found['crystals']), *(f'{error:.3f}' for error in errors), _format(change, '.3f')]
    learnt = '–' if each.learnt is None else str(each.learnt)
    replayed = '–' if each.replayed is None else f'{each.replayed[0]} of {each.replayed[1]}'
    left_out = str(sum(each.left_out.values()))
    return (str(each.number), str(each.after), learnt, replayed, left_out, *cells, outcome)


def _format_saved(percent: Estimate) -> str:
    if percent.value is None:
        return '–'
    if percent.low is None or percent.high is None:
        return f'{_sign(percent.value, ".0f")} %'
    return f'{_sign(percent.value, ".0f")} % ({_sign(percent.low, ".0f")} to {_sign(percent.high, ".0f")})'


def _format_steps(steps: Estimate) -> str:
    assert steps.value is not None
    if steps.low is None or steps.high is None:
        return f'{steps.value:,.0f}'
    return f'{steps.value:,.0f} ({steps.low:,.0f} to {steps.high:,.0f})'


def _format(estimate: Estimate, form: str) -> str:
    if estimate.value is None:
        return '–'
    if estimate.low is None or estimate.high is None:
        return _sign(estimate.value, form)
    return f'{_sign(estimate.value, form)} ({_sign(estimate.low, form)} to {_sign(estimate.high, form)})'


def _sign(value: float, form: str) -> str:
    return f'{value:z{form}}'.replace('-', '−')
