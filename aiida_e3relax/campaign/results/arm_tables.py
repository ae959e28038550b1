"""Arms side by side as sentences and tables of text, for a terminal, a file and the page of a report alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from aiida_e3relax.campaign.results.arms import RAW, SAME_MEV, WORSE_BY, ArmsComparison, ArmSummary, Pair, column
from aiida_e3relax.campaign.results.estimates import FEWEST, Estimate
from aiida_e3relax.campaign.results.noise import format_energy
from aiida_e3relax.campaign.results.outcomes import COUNTED, OUTCOMES
from aiida_e3relax.common.messages import count_of, name_some

APART = f'{SAME_MEV:g} meV/atom'
SURE = 0.05
"""A difference with a smaller p-value is taken for more than chance."""
COST_NAMES = {'electronic_steps': 'electronic steps', 'core_time_s': 'core time'}
"""The costs in a table beside the ionic steps, which are known wherever a crystal counts."""
ALONE = 'Each interval is of its own, 95 % for one, and not corrected for being one of several.'
"""What to say of the intervals of several arms or pairs."""


@dataclasses.dataclass(frozen=True)
class TextTable:
    """A table of text: what it shows, a heading for each column, its rows, and how to read it."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    reading: str

    @property
    def of_numbers(self) -> list[bool]:
        """Whether the cells of a column are numbers, for all columns but the first."""
        columns = zip(*self.rows, strict=True) if self.rows else ([] for _ in self.headings)
        return [place > 0 and _are_numbers(cells) for place, cells in enumerate(columns)]


def describe_arms(comparison: ArmsComparison) -> list[str]:
    """Return what a comparison found, in sentences, the most important first, and what to know of it."""
    return [*_iterate_sentences(comparison), *_iterate_failures(comparison), *comparison.notes]


def tabulate_arms(comparison: ArmsComparison) -> list[TextTable]:
    """Return the tables of a comparison: costs, ends, pairs of starts, chemistry, and minima that differ."""
    tables = [_tabulate_costs(comparison), _tabulate_ends(comparison), _tabulate_pairs(comparison)]
    tables.append(_tabulate_classes(comparison))
    if len(comparison.minima):
        tables.append(_tabulate_minima(comparison))
    return tables


def tabulate_crystals(comparison: ArmsComparison) -> TextTable:
    """Return the ionic steps of each structure from each start."""
    starts = [RAW, *(arm.name for arm in comparison.arms)]
    rows = []
    for label, row in comparison.by_crystal.iterrows():
        steps = {start: row[column(start, 'ionic_steps')] for start in starts}
        known = {start: count for start, count in steps.items() if np.isfinite(count)}
        best = [start for start, count in known.items() if count == min(known.values())]
        rows.append(
            (
                str(label),
                row['formula'],
                row['class'],
                *(f'{count:.0f}' if start in known else '–' for start, count in steps.items()),
                ', '.join(best) if row['in_all'] else _explain_absence(comparison, label),
            )
        )
    return TextTable(
        'Ionic steps by crystal',
        ('crystal', 'formula', 'class', *starts, 'fewest'),
        rows,
        'A crystal that not all arms have is in no figure above; its last column says why.',
    )


def format_text(table: TextTable) -> str:
    """Return a table as lines of text in columns."""
    cells = [table.headings, *table.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        '  '.join(
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, table.of_numbers, strict=True)
        ).rstrip()
        for row in cells
    ]
    return '\n'.join([table.title, *lines, table.reading])


def format_markdown(title: str, lines: Iterable[str], tables: Iterable[TextTable]) -> str:
    """Return sentences and tables as a Markdown document."""
    parts = [f'# {title}', *lines]
    for table in tables:
        rule = ['---:' if is_number else '---' for is_number in table.of_numbers]
        headings, *rows = ([cell.replace('|', '\\|') for cell in row] for row in (table.headings, *table.rows))
        text = '\n'.join(f'| {" | ".join(row)} |' for row in (headings, rule, *rows))
        parts.append(f'## {table.title}\n{text}\n\n{table.reading}')
    return '\n\n'.join(parts) + '\n'


def _iterate_sentences(comparison: ArmsComparison) -> Iterator[str]:
    ranking = comparison.ranking
    if not comparison.n:
        yield 'No crystal has been relaxed from the raw crystal and from all arms so far: there is nothing to compare.'
        return
    first = ranking[0]
    steps = first.savings['ionic_steps']
    all_arms = {1: 'the arm has', 2: 'both arms have'}.get(len(ranking), f'all {len(ranking)} arms have')
    fewest = ', the fewest,' if len(ranking) > 1 else ''
    chosen = (
        f'; the interval is of this arm alone, 95 %, and not corrected for its being the best of {len(ranking)}'
        if len(ranking) > 1 and steps.percent.low is not None
        else ''
    )
    yield (
        f'On the {count_of(comparison.n, "crystal")} that {all_arms}, VASP takes {steps.with_network:,.0f} ionic steps '
        f'from {first.name}{fewest} and {steps.without:,.0f} from the raw crystals: '
        f'{_format_saved(steps.percent)} saved{chosen}.'
    )
    if len(ranking) > 1:
        yield _compare_with_next(comparison, first, ranking[1])
    yield from _iterate_without_start(comparison)
    for arm in ranking:
        if arm.worse:
            named = name_some([f'{label} (+{more})' for label, more in arm.worse.items()])
            yield f'From {arm.name} VASP takes more than {WORSE_BY} ionic step above the raw crystal on {named}.'
    if not any(arm.worse or arm.failed for arm in ranking):
        yield f'No arm takes more than {WORSE_BY} ionic step above the raw crystal on any of them.'
    for where, excuse in (('lower', '; a start that leads to a lower minimum is no error'), ('higher', '')):
        found = {arm.name: getattr(arm, where) for arm in ranking if getattr(arm, where)}
        if found:
            told = ', '.join(_describe_ends(name, ends) for name, ends in found.items())
            yield f'Ends more than {APART} {where} than that from the raw crystal: {told}{excuse}.'
    if found := {arm.name: arm.other_structure for arm in ranking if arm.other_structure}:
        told = ', '.join(f'from {name} {len(labels)} ({name_some(labels)})' for name, labels in found.items())
        yield f'Ends within {APART} of that from the raw crystal, and of another structure: {told}.'
    if comparison.stand_in:
        yield f'Computed by the VASP stand-in ({" and ".join(comparison.engines)}), not by VASP.'


def _iterate_without_start(comparison: ArmsComparison) -> Iterator[str]:
    """Yield sentences on the crystals on which VASP had no start from an arm, which say nothing of its starts."""
    for arm in comparison.ranking:
        told = (arm.rejected, 'the guard rejected the prediction'), (arm.no_start, 'there was no prediction')
        for found, what in told:
            if found.labels:
                reason = f'; the commonest reason ({found.n_reason}): {found.reason}' if found.reason else ''
                yield (
                    f'{arm.name}: {what} on {len(found.labels)} of {count_of(comparison.n, "crystal")} '
                    f'({name_some(found.labels)}), which count as nothing saved{reason.rstrip(".")}.'
                )


def _iterate_failures(comparison: ArmsComparison) -> Iterator[str]:
    """Yield sentences on what failed, from arms and from raw crystals."""
    for arm in comparison.ranking:
        if arm.failed:
            yield (
                f'From {arm.name} VASP failed on {name_some(arm.failed)}: where the relaxation from the raw crystal '
                'finished, it counts, and on top of it what is known of the failed one, the least that it spent.'
            )
        if arm.stopped:
            yield (
                f'{arm.name}: the chains of {name_some(arm.stopped)} left no figures, so that these crystals are in no '
                'sum.'
            )
    if comparison.raw_failed:
        n_failed, named = len(comparison.raw_failed), name_some(comparison.raw_failed)
        finished = ', '.join(f'from {arm.name} on {arm.rescued} of {n_failed}' for arm in comparison.ranking)
        yield f'On {count_of(n_failed, "crystal")} VASP failed from the raw crystal ({named}); it finished {finished}.'


def _describe_ends(name: str, ends: dict[str, float]) -> str:
    """Return how many ends of an arm are apart from those of the raw crystals, and which one most."""
    label, by = max(ends.items(), key=lambda item: item[1])
    most = f'{label} by {by:.0f} meV/atom'
    return f'from {name} {len(ends)} ({most if len(ends) == 1 else f"at most {most}"})'


def _compare_with_next(comparison: ArmsComparison, first: ArmSummary, second: ArmSummary) -> str:
    pair = _find_pair(comparison, first.name, second.name)
    steps = second.savings['ionic_steps']
    text = f'Next comes {second.name} with {steps.with_network:,.0f}'
    if pair.n_fewer == pair.n_more == 0:
        return f'{text}: the same on each crystal.'
    if pair.corrected is None:
        return f'{text}; one crystal is too few for a test.'
    n_pairs = len(comparison.pairs['ionic_steps'])
    said = 'is more than chance' if pair.corrected < SURE else 'may be chance'
    return (
        f'{text}; the difference {said} (Wilcoxon’s signed-rank test, p {_format_p(pair.corrected)} corrected by Holm '
        f'for {count_of(n_pairs, "comparison")}).'
    )


def _tabulate_costs(comparison: ArmsComparison) -> TextTable:
    rows = [_raw_row(comparison)]
    for arm in comparison.arms:
        ionic, electronic, time = (arm.savings[cost] for cost in ('ionic_steps', 'electronic_steps', 'core_time_s'))
        rows.append(
            (
                arm.name,
                f'{arm.counted} of {arm.structures}',
                f'{len(arm.rejected.labels)}',
                f'{len(arm.no_start.labels)}',
                f'{ionic.with_network:,.0f}',
                _format_saved(ionic.percent),
                f'{electronic.with_network:,.0f}',
                _format_saved(electronic.percent),
                _format_time(time.with_network) if time.percent.n else '–',
                _format_saved(time.percent),
                _format_time(arm.own_time) if time.percent.n else '–',
                f'{ionic.less} / {ionic.same} / {ionic.more}',
                f'{len(arm.worse)}',
            )
        )
    return TextTable(
        'What VASP costs from each start',
        (
            'start',
            'compared',
            'rejected',
            'no start',
            'ionic steps',
            'saved',
            _head_cost(comparison, 'electronic_steps'),
            'saved',
            _head_cost(comparison, 'core_time_s'),
            'saved',
            'of it the arm',
            'fewer / same / more',
            f'> {WORSE_BY} step worse',
        ),
        rows,
        f'Sums over the {count_of(comparison.n, "crystal")} that all arms have; saved against the raw crystals, with '
        f'the 95 % interval over crystals. {ALONE} Rejected, no start: the crystals whose prediction the guard '
        'rejected and those without one, which count as nothing saved; a prediction from which VASP failed counts as '
        'lost. The core time has in it what the arm itself took, the network or the potential, a second of '
        f'a GPU as one of a core.{"".join(_iterate_unknown(comparison))}',
    )


def _head_cost(comparison: ArmsComparison, cost: str) -> str:
    """Return the heading of a cost, with the number of crystals where it is not known of all."""
    name, n_known = COST_NAMES[cost], len(comparison.known[cost])
    return name if n_known == comparison.n else f'{name} of {n_known}'


def _iterate_unknown(comparison: ArmsComparison) -> Iterator[str]:
    """Yield sentences on the costs that not all arms have of all crystals."""
    for cost, name in COST_NAMES.items():
        if n_unknown := comparison.n - len(comparison.known[cost]):
            yield (
                f' The {name} of {count_of(n_unknown, "crystal")} is not known in all arms, as of a run that was '
                'killed or taken from a cache: the column is of the others.'
            )


def _raw_row(comparison: ArmsComparison) -> tuple[str, ...]:
    electronic, time = (
        comparison.by_crystal.loc[list(comparison.known[cost]), column(RAW, cost)].astype('float64')
        for cost in ('electronic_steps', 'core_time_s')
    )
    core_time = _format_time(float(time.sum())) if len(time) else '–'
    steps = f'{comparison.raw_steps:,.0f}', '', f'{electronic.sum():,.0f}', '', core_time
    return (_title_raw(comparison), '', '', '', *steps, '', '', '', '')


def _title_raw(comparison: ArmsComparison) -> str:
    """Return the title of a row of the raw crystals, with the arm whose raw legs they are where arms have others."""
    return f'{RAW} crystals of {comparison.raw_of}' if comparison.raw_of else f'{RAW} crystals'


def _tabulate_ends(comparison: ArmsComparison) -> TextTable:
    rows: list[tuple[str, ...]] = [
        (_title_raw(comparison), '', '', '', '', f'{comparison.raw_best}', f'{comparison.raw_tied}')
    ]
    for arm in comparison.arms:
        rows.append(
            (
                arm.name,
                ' → '.join(_format_above(error, comparison.n) for error in (arm.raw_start_error, arm.start_error)),
                _format_percent(arm.same_minimum),
                _format_count_and_most(arm.lower),
                _format_count_and_most(arm.higher),
                f'{arm.best}',
                f'{arm.tied}',
            )
        )
    return TextTable(
        'Where the starts lie and where they end',
        ('start', 'start above end, raw → arm', 'same minimum', 'lower end', 'higher end', 'best', 'tied'),
        rows,
        'Start above end: median energy in meV/atom. Same minimum: as from the raw crystal. Both are of the crystals '
        'relaxed both ways in this arm, and say of how many where these are not all: other arms may have others. '
        f'Lower and higher: ends more than {APART} below and above that from the raw crystal, and by how much at most '
        'in meV/atom; a start that leads to a lower minimum is no error. Best, tied: crystals on which no other start '
        'takes as few ionic steps, or some do.',
    )


def _tabulate_pairs(comparison: ArmsComparison) -> TextTable:
    rows = [
        (
            f'{pair.fewer} instead of {pair.more}',
            COST_NAMES.get(cost, 'ionic steps'),
            _format_saved(pair.percent),
            f'{pair.n_fewer} / {pair.n_same} / {pair.n_more}',
            '–' if pair.p_value is None else _format_p(pair.p_value, ''),
            '–' if pair.corrected is None else _format_p(pair.corrected, ''),
        )
        for cost, pairs in comparison.pairs.items()
        for pair in pairs
    ]
    times = (
        ' Core times compare as far as all ran on machines alike, free of other work.'
        if 'core_time_s' in comparison.pairs
        else ''
    )
    own_raw = f' Against {RAW} each arm has its own relaxations from the raw crystals.' if comparison.raw_of else ''
    return TextTable(
        'The starts against each other, crystal by crystal',
        ('start', 'cost', 'saved', 'fewer / same / more', 'p', 'p corrected'),
        rows,
        'Wilcoxon’s signed-rank test over crystals, zeros counted (Pratt), two-sided; corrected by Holm’s method for '
        f'all pairs of a cost, those with the raw crystals among them. {ALONE}{times}{own_raw}',
    )


def _tabulate_classes(comparison: ArmsComparison) -> TextTable:
    starts = [RAW, *(arm.name for arm in comparison.arms)]
    rows = [
        (
            found.name,
            f'{found.n}',
            *(f'{found.steps[start]:.0f}' for start in starts),
            ', '.join(found.least) + (' *' if found.n < FEWEST else ''),
            f'{found.n_fewer} / {found.n_same} / {found.n_more} ({found.first}, {found.second})',
        )
        for found in comparison.classes
    ]
    return TextTable(
        'Ionic steps by class of compounds',
        ('class', 'crystals', *starts, 'smallest sum', 'fewer / same / more than the next'),
        rows,
        'Smallest sum: of the steps over the crystals of a class, which is no test that this start takes the fewest. '
        'Fewer / same / more: on how many of the crystals it takes fewer steps than the start with the next sum, as '
        f'many and more. * of fewer than {FEWEST} crystals, which say little of others.',
    )


def _tabulate_minima(comparison: ArmsComparison) -> TextTable:
    rows = []
    for label, above in comparison.minima.iterrows():
        lowest = [str(start) for start, value in above.items() if value <= SAME_MEV]
        row = comparison.by_crystal.loc[label]
        others = [arm.name for arm in comparison.arms if row[column(arm.name, 'other_structure')] == True]  # noqa: E712
        rows.append(
            (
                str(label),
                row['formula'],
                *('–' if np.isnan(value) else f'{value:.1f}' for value in above),
                ', '.join(lowest),
                ', '.join(others) or '–',
            )
        )
    return TextTable(
        'Crystals whose ends are not all in one minimum',
        ('crystal', 'formula', *(str(start) for start in comparison.minima), 'lowest', 'same energy, other structure'),
        rows,
        f'Energy above the lowest end in meV/atom; lowest are all within {APART} of it. The lowest end is the one to '
        'keep, whichever start led to it. Same energy, other structure: than that from the raw crystal. A crystal is '
        'here also where not all arms have it.',
    )


def _explain_absence(comparison: ArmsComparison, label: object) -> str:
    """Return which arms do not have a crystal, and why."""
    row = comparison.by_crystal.loc[label]
    reasons = [f'{RAW}: VASP failed'] if label in comparison.raw_failed else []
    for arm in comparison.arms:
        if np.isnan(row[column(arm.name, 'ionic_steps')]):
            outcome = row[column(arm.name, 'outcome')]
            uncounted = ', but outside the sample or at an unknown cost' if outcome in COUNTED else ''
            reasons.append(f'{arm.name}: {OUTCOMES.get(outcome, "not in it")}{uncounted}')
    return '; '.join(reasons)


def _find_pair(comparison: ArmsComparison, one: str, other: str) -> Pair:
    return next(pair for pair in comparison.pairs['ionic_steps'] if {pair.fewer, pair.more} == {one, other})


def _are_numbers(cells: Iterable[str]) -> bool:
    known = [cell for cell in cells if cell not in ('', '–')]
    return bool(known) and all(cell.lstrip('−<→ ')[:1].isdigit() for cell in known)


def _format_saved(percent: Estimate) -> str:
    if percent.value is None:
        return '–'
    if percent.low is None or percent.high is None:
        return f'{_sign(percent.value)} %'
    return f'{_sign(percent.value)} % ({_sign(percent.low)} to {_sign(percent.high)})'


def _format_percent(percent: Estimate) -> str:
    return '–' if percent.value is None else f'{percent.value:.0f} % of {percent.n}'


def _format_above(median: Estimate, n: int) -> str:
    """Return a median energy, with the number of its crystals where that is not `n`."""
    if median.value is None:
        return '–'
    return format_energy(median.value, 3) + (f' of {median.n}' if median.n != n else '')


def _format_count_and_most(found: dict[str, float]) -> str:
    return f'{len(found)} (at most {max(found.values()):.0f})' if found else '0'


def _format_time(seconds: float) -> str:
    if seconds >= 3600:
        return f'{seconds / 3600:,.4g} h'
    return f'{seconds:,.0f} s' if seconds >= 100 else f'{seconds:.3g} s'


def _format_p(p_value: float, equals: str = '= ') -> str:
    return '< 0.0001' if p_value < 1e-4 else f'{equals}{p_value:.2g}'


def _sign(value: float) -> str:
    """Return a number with a minus sign that is one, and never a negative zero."""
    return f'{value:z.0f}'.replace('-', '−')
