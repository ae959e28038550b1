"""Arms side by side: against cases that can be told by hand, and what must not change a number."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.campaign.results.arm_tables import (
    describe_arms,
    format_markdown,
    format_text,
    tabulate_arms,
    tabulate_crystals,
)
from aiida_e3relax.campaign.results.arms import RAW, ArmsComparison, column, compare_arms
from aiida_e3relax.campaign.results.estimates import holm
from aiida_e3relax.campaign.results.table import make_frame
from aiida_e3relax.common.label_table import read_label_table

COMPOUNDS = (['Mg', 'O'], ['Ca', 'O'], ['Na', 'Cl'], ['K', 'Br'], ['Al', 'P'], ['Cu', 'Zn'])


def leg(steps: float, energy: float, error: float) -> dict[str, object]:
    """Return the figures of a relaxation that finished, with ten electronic steps and 100 core-seconds an ionic one."""
    costs = {'ionic_steps': steps, 'electronic_steps': 10 * steps, 'wall_time_s': 25 * steps}
    facts = {'finished': True, 'code_version': '6.4.3', 'core_time_s': 100 * steps, 'energy_final_eV_per_atom': energy}
    return costs | facts | {'start_energy_error_meV_per_atom': error}


def make_arm(steps: dict[str, tuple[float, float | None]], ends: dict[str, float] | None = None) -> pd.DataFrame:
    """Return an arm's table: by label the ionic steps from the raw crystal and from the arm, None for a rejected one.

    `ends` are the energies of the ends above those from the raw crystals, in meV/atom.
    """
    rows = []
    for place, (label, (raw, predicted)) in enumerate(steps.items()):
        row = {'label': label, 'state': 'finished', 'in_sample': True, 'formula': 'X', 'n_atoms': 2}
        row |= {'elements': COMPOUNDS[place % len(COMPOUNDS)], 'verdict': 'accepted', 'network_wall_time_s': 2.0}
        row |= {f'raw_{key}': value for key, value in leg(raw, -5.0, 40.0).items()}
        if predicted is None:
            row['verdict'] = 'rejected'
        else:
            above = (ends or {}).get(label, 0.1)
            row |= {f'predicted_{key}': value for key, value in leg(predicted, -5 + above / 1e3, 3.0).items()}
            row |= {'same_minimum': abs(above) < 5, 'energy_difference_final_meV_per_atom': above}
        rows.append(row)
    return make_frame(rows)


RAW_STEPS = {'a': 10, 'b': 8, 'c': 6, 'd': 9, 'e': 12, 'f': 5}


def with_steps(*predicted: float | None, ends: dict[str, float] | None = None) -> pd.DataFrame:
    pairs = zip(RAW_STEPS.items(), predicted, strict=True)
    return make_arm({label: (raw, steps) for (label, raw), steps in pairs}, ends)


@pytest.fixture(scope='module')
def three() -> ArmsComparison:
    """Three arms: one is rejected on `b`, costs 3 steps more on `c`, and ends lower on `e`; one lacks `f`."""
    network = with_steps(7, None, 9, 6, 9, 5, ends={'e': -42.0, 'd': 7.5})
    potential = with_steps(5, 4, 4, 5, 6, 3)
    both = with_steps(5, 4, 5, 5, 6, 2).drop('f')
    return compare_arms({'network': network, 'chgnet': potential, 'network+chgnet': both})


def test_sums_are_of_the_crystals_that_all_arms_have(three):
    assert three.n == 5
    network, potential, both = three.arms
    assert [(arm.structures, arm.counted) for arm in three.arms] == [(6, 6), (6, 6), (5, 5)]
    steps = network.savings['ionic_steps']
    assert (steps.without, steps.with_network, steps.less, steps.same, steps.more) == (45, 7 + 8 + 9 + 6 + 9, 3, 1, 1)
    assert potential.savings['ionic_steps'].with_network == 24
    assert potential.savings['electronic_steps'].percent.value == pytest.approx(100 * (1 - 24 / 45))
    assert potential.own_time == 10
    assert potential.savings['core_time_s'].with_network == 2400 + 10
    assert three.raw_steps == 45
    assert [arm.name for arm in three.ranking] == ['chgnet', 'network+chgnet', 'network']
    assert both.savings['ionic_steps'].with_network == 25


def test_a_cost_is_summed_over_the_crystals_of_which_all_arms_have_it():
    network, potential = with_steps(7, None, 9, 6, 9, 5), with_steps(5, 4, 4, 5, 6, 3)
    potential.loc['c', 'predicted_core_time_s'] = np.nan  # killed before it wrote its time
    network.loc['e', 'predicted_electronic_steps'] = np.nan
    comparison = compare_arms({'network': network, 'chgnet': potential})
    assert (comparison.n, comparison.known['core_time_s']) == (6, tuple('abdef'))
    for arm, steps in zip(comparison.arms, (7 + 8 + 6 + 9 + 5, 5 + 4 + 5 + 6 + 3), strict=True):
        time = arm.savings['core_time_s']
        assert (time.without, time.with_network, arm.own_time) == (4400, 100 * steps + 10, 10)
        assert arm.savings['electronic_steps'].without == 380
        assert arm.savings['ionic_steps'].without == 50
    costs = tabulate_arms(comparison)[0]
    assert (costs.headings[6], costs.headings[8]) == ('electronic steps of 5', 'core time of 5')
    assert costs.rows[0][4:9] == ('50', '', '380', '', '1.222 h')
    assert 'The core time of 1 crystal is not known in all arms' in costs.reading
    for arm in (network, potential):
        arm['predicted_core_time_s'] = np.nan
    rows = tabulate_arms(compare_arms({'network': network.drop('b'), 'chgnet': potential}))[0].rows
    assert [row[8:11] for row in rows] == [('–', '', ''), *[('–', '–', '–')] * 2]


def test_one_crystal_is_too_few_for_a_test():
    comparison = compare_arms({'one': make_arm({'a': (9, 5)}), 'other': make_arm({'a': (9, 4)})})
    sentences = ' '.join(describe_arms(comparison))
    assert 'Next comes one with 5; one crystal is too few for a test.' in sentences
    assert 'the same on each crystal' not in sentences


def test_why_a_crystal_is_in_no_figure():
    outside = with_steps(5, 4, 4, 5, 6, 3)
    outside.loc['b', 'in_sample'] = False
    row = tabulate_crystals(compare_arms({'network': outside, 'chgnet': with_steps(5, 4, 4, 5, 6, 3)})).rows[1]
    assert row[-1] == 'network: relaxed both ways, but outside the sample or at an unknown cost'


def test_crystals_without_a_start_from_an_arm_are_counted_and_named():
    unstated = 'no uncertainty is stated (bound 0.3 A), as a potential or a single network states none'
    rejected, lost = with_steps(*[None] * 6), with_steps(7, None, None, 6, None, 5)
    rejected['reasons'] = [[unstated, f'the atoms {pair} come as close as 1.{pair} A'] for pair in range(6)]
    rejected.at['f', 'reasons'] = [unstated]
    lost.loc[['b', 'c', 'e'], 'verdict'] = None
    failed = 'The potential chgnet failed for `{}`: {}: no convergence after {} steps.'
    lost.at['b', 'remarks'] = ['The potential chgnet failed for `b`: out-of-memory: too many edges']
    for place, label in enumerate('ce'):
        lost.at[label, 'remarks'] = [failed.format(label, 'not-relaxed', place), 'The raw leg is that of another']
    comparison = compare_arms({'sevennet': rejected, 'chgnet': lost, 'whole': with_steps(5, 4, 4, 5, 6, 3)})
    assert [(len(arm.rejected.labels), len(arm.no_start.labels)) for arm in comparison.arms] == [(6, 0), (0, 3), (0, 0)]
    costs = tabulate_arms(comparison)[0]
    assert costs.headings[2:4] == ('rejected', 'no start')
    assert [row[2:4] for row in costs.rows] == [('', ''), ('6', '0'), ('0', '3'), ('0', '0')]
    sentences = describe_arms(comparison)
    assert (
        f'sevennet: the guard rejected the prediction on 6 of 6 crystals (a, b, c, d and 2 more), which count as '
        f'nothing saved; the commonest reason (6): {unstated}.'
    ) in sentences
    assert (
        'chgnet: there was no prediction on 3 of 6 crystals (b, c, e), which count as nothing saved; the commonest '
        'reason (2): The potential chgnet failed for `c`: not-relaxed: no convergence after 0 steps.'
    ) in sentences
    assert not any('whole: ' in sentence for sentence in sentences)
    bare = describe_arms(compare_arms({'network': with_steps(7, None, 9, 6, 9, 5)}))
    assert 'network: the guard rejected the prediction on 1 of 6 crystals (b), which count as nothing saved.' in bare, (
        'of an older table'
    )


def test_where_starts_lie_and_end(three):
    network, potential, _ = three.arms
    assert (network.start_error.value, network.raw_start_error.value, network.start_error.n) == (3.0, 40.0, 4)
    assert network.same_minimum.value == 50
    assert (network.lower, network.higher) == ({'e': 42.0}, {'d': 7.5})
    assert (network.worse, potential.worse) == ({'c': 3}, {})
    assert [(arm.best, arm.tied) for arm in three.arms] == [(0, 0), (1, 4), (0, 4)]
    assert (three.raw_best, three.raw_tied) == (0, 0)
    assert three.minima.index.tolist() == ['d', 'e']
    assert three.minima.loc['e', 'network'] == 0
    assert three.minima.loc['e', RAW] == pytest.approx(42)
    assert three.minima.loc['e', 'chgnet'] == pytest.approx(42.1)


def test_ends_of_one_energy_and_two_structures_are_minima_too():
    network, potential = with_steps(7, None, 9, 6, 9, 5), with_steps(5, 4, 4, 5, 6, 3, ends={'f': 40.0})
    network.loc['c', 'same_minimum'] = False
    comparison = compare_arms({'network': network.drop('f'), 'chgnet': potential})
    assert comparison.n == 5
    assert comparison.minima.index.tolist() == ['c', 'f'], 'f is told although one arm lacks it'
    assert comparison.arms[0].other_structure == ('c',)
    table = tabulate_arms(comparison)[4]
    assert table.headings[-1] == 'same energy, other structure'
    assert table.rows[0][-2:] == ('raw, network, chgnet', 'network'), 'of an arm that lacks a crystal'
    potential.loc['c', 'same_minimum'] = False
    others = tabulate_arms(compare_arms({'chgnet': potential}))[4]
    assert others.rows[0][-1] == 'chgnet', 'of an arm that was compared throughout'
    assert table.rows[1][2:] == ('0.0', '–', '40.0', 'raw', '–')
    assert 'Ends within 5 meV/atom of that from the raw crystal, and of another structure: from network 1 (c).' in (
        describe_arms(comparison)
    )


def test_pairs_are_tested_and_corrected(three):
    pairs = {(pair.fewer, pair.more): pair for pair in three.pairs['ionic_steps']}
    assert len(pairs) == 6
    pair = pairs['chgnet', 'network']
    saved = np.array([7, 8, 9, 6, 9]) - np.array([5, 4, 4, 5, 6])
    assert pair.p_value == pytest.approx(2 / 2**5)
    assert (saved > 0).all()
    assert (pair.n_fewer, pair.n_same, pair.n_more) == (5, 0, 0)
    assert pair.percent.value == pytest.approx(100 * (1 - 24 / 39))
    ordered = sorted(three.pairs['ionic_steps'], key=lambda pair: pair.p_value)
    assert ordered[0].corrected == pytest.approx(min(1, 6 * ordered[0].p_value))
    assert all(pair.corrected >= pair.p_value for pair in ordered)


def test_core_times_are_paired_where_all_arms_have_them(three):
    network, chgnet = with_steps(7, None, 9, 6, 9, 5), with_steps(5, 4, 4, 5, 6, 3)
    comparison = compare_arms({'network': network, 'chgnet': chgnet})
    times = {(pair.fewer, pair.more): pair for pair in comparison.pairs['core_time_s']}
    assert times['chgnet', 'network'].percent.value == pytest.approx(100 * (1 - 2712 / 4412))
    assert times['chgnet', RAW].percent == comparison.arms[1].savings['core_time_s'].percent
    assert times['network', RAW].n_more == 3, 'rejected, worse, and as many steps after the time of the network'
    table = tabulate_arms(comparison)[2]
    assert [row[1] for row in table.rows] == ['ionic steps'] * 3 + ['electronic steps'] * 3 + ['core time'] * 3
    assert 'Core times compare as far as' in table.reading
    chgnet.loc['a', 'predicted_core_time_s'] = np.nan
    unknown = compare_arms({'network': network, 'chgnet': chgnet})
    assert list(unknown.pairs) == ['ionic_steps', 'electronic_steps']
    assert 'Core times' not in tabulate_arms(unknown)[2].reading


def test_figures_of_fewer_crystals_say_of_how_many(three):
    starts = [row[1] for row in tabulate_arms(three)[1].rows]
    assert starts == ['', '40 of 4 → 3 of 4', '40 → 3', '40 → 3']


def test_classes(three):
    found = {part.name: part for part in three.classes}
    assert {name: part.n for name, part in found.items()} == {'oxides': 2, 'halides': 2, 'pnictides': 1}
    assert found['oxides'].steps == {RAW: 18, 'network': 15, 'chgnet': 9, 'network+chgnet': 9}
    assert found['oxides'].least == ('chgnet', 'network+chgnet')
    oxides, pnictides = found['oxides'], found['pnictides']
    assert (oxides.first, oxides.second, oxides.n_fewer, oxides.n_same, oxides.n_more) == (
        'chgnet',
        'network+chgnet',
        0,
        2,
        0,
    )
    assert (pnictides.first, pnictides.second, pnictides.n_fewer, pnictides.n_more) == (
        'chgnet',
        'network+chgnet',
        0,
        0,
    )


def test_the_smallest_sum_is_not_the_fewest_everywhere():
    one = make_arm({'a': (30, 2), 'b': (30, 9), 'c': (30, 9)})
    other = make_arm({'a': (30, 20), 'b': (30, 8), 'c': (30, 8)})
    found = compare_arms({'one': one, 'other': other}, dict.fromkeys('abc', 'all kinds'))
    (part,) = found.classes
    assert (part.name, part.least, part.first, part.second) == ('all kinds', ('one',), 'one', 'other')
    assert (part.n_fewer, part.n_same, part.n_more) == (1, 0, 2)
    assert tabulate_arms(found)[3].rows[0][-2:] == ('one *', '1 / 0 / 2 (one, other)')


def test_classes_that_are_given_take_the_place_of_the_chemistry(three):
    steps = {'one': with_steps(5, 4, 4, 5, 6, 3)}
    found = compare_arms(steps, dict.fromkeys('abcz', 'layered') | dict.fromkeys('def', 'perovskites'))
    assert {part.name: part.n for part in found.classes} == {'layered': 3, 'perovskites': 3}
    assert found.by_crystal['class'].tolist() == ['layered'] * 3 + ['perovskites'] * 3
    with pytest.raises(ValueError, match='classes: expected one for each crystal, found none for 5 of 6, such as `b`'):
        compare_arms(steps, {'a': 'layered'})


@pytest.mark.parametrize(
    ('text', 'fault'),
    [
        ('label,family\na,x\n', r"expected the columns label and class, found \['label', 'family'\]"),
        ('label,class\na,x\nb,\n', "line 3: expected a text in the column class, found ''"),
        ('label,class\na,x\n ,y\n', 'line 3: expected a text in the column label, found none'),
        ('label,class\na,x\na,y\n', 'line 3: a is in x already'),
        (b'label,class\n\xff,x\n', 'cannot be read'),
    ],
)
def test_a_file_of_classes_says_one_of_each(tmp_path, text, fault):
    file = tmp_path / 'classes.csv'
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f'classes.csv.*{fault}'):
        read_label_table(file, 'class')


def test_a_file_of_classes(tmp_path):
    file = tmp_path / 'classes.csv'
    file.write_text('class,label,more\nlayered, a ,1\nhydrides and nitrides,b,2\n', encoding='utf-8-sig')
    assert read_label_table(file, 'class') == {'a': 'layered', 'b': 'hydrides and nitrides'}


def test_an_arm_against_itself_is_zero():
    arm = with_steps(7, None, 9, 6, 9, 5)
    comparison = compare_arms({'one': arm, 'other': arm})
    (pair,) = (pair for pair in comparison.pairs['ionic_steps'] if RAW not in (pair.fewer, pair.more))
    assert (pair.percent.value, pair.percent.low, pair.percent.high) == (0, 0, 0)
    assert (pair.p_value, pair.corrected, pair.n_same) == (None, None, 6)
    one, other = comparison.arms
    assert one == dataclasses.replace(other, name='one')
    assert (one.best, one.tied) == (0, 5)
    assert 'the same on each crystal' in ' '.join(describe_arms(comparison))


STEPS = st.tuples(st.integers(1, 30), st.none() | st.integers(1, 30), st.none() | st.integers(1, 30))


@settings(max_examples=5)
@given(st.lists(STEPS, min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_orders_change_no_number(steps, random):
    labels = [f'c{place}' for place in range(len(steps))]
    frames = {
        name: make_arm({label: (raw, others[place]) for label, (raw, *others) in zip(labels, steps, strict=True)})
        for place, name in enumerate(('first', 'second'))
    }
    shuffled = random.sample(labels, len(labels))
    comparison = compare_arms(frames)
    turned = compare_arms({name: frames[name].loc[shuffled] for name in ('second', 'first')})
    assert turned.arms == comparison.arms[::-1] or str(turned.arms) == str(comparison.arms[::-1])  # NaN is not NaN
    by_names = [
        {(pair.fewer, pair.more): dataclasses.astuple(pair) for pair in one.pairs['ionic_steps']}
        for one in (comparison, turned)
    ]
    assert by_names[0] == by_names[1]
    pd.testing.assert_frame_equal(comparison.by_crystal, turned.by_crystal[list(comparison.by_crystal)])
    pd.testing.assert_frame_equal(comparison.minima, turned.minima[list(comparison.minima)])
    assert sum(comparison.steps_of(RAW)) == sum(raw for raw, *_ in steps)


def test_holm():
    assert holm([0.01, 0.04, None, 0.03]) == pytest.approx([0.04, 0.09, None, 0.09])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


def test_text_tells_what_was_found(three):
    sentences = ' '.join(describe_arms(three))
    assert 'On the 5 crystals that all 3 arms have, VASP takes 24 ionic steps from chgnet, the fewest,' in sentences
    assert 'saved; the interval is of this arm alone, 95 %, and not corrected for its being the best of 3.' in sentences
    (alone, *_) = describe_arms(compare_arms({'network': with_steps(7, None, 9, 6, 9, 5)}))
    assert alone.endswith(') saved.'), 'of one arm nothing is chosen'
    assert 'Next comes network+chgnet with 25; the difference may be chance' in sentences
    assert 'From network VASP takes more than 1 ionic step above the raw crystal on c (+3).' in sentences
    assert 'from network 1 (e by 42 meV/atom); a start that leads to a lower minimum is no error' in sentences
    assert 'Ends more than 5 meV/atom higher than that from the raw crystal: from network 1 (d by 8' in sentences
    tables = [*tabulate_arms(three), tabulate_crystals(three)]
    text = '\n'.join(map(format_text, tables))
    assert 'chgnet instead of network' in text
    row = next(line for line in text.splitlines() if line.startswith('f '))
    assert 'network+chgnet: not in it' in row
    markdown = format_markdown('Arms', describe_arms(three), tables)
    assert (
        '| oxides | 2 | 18 | 15 | 9 | 9 | chgnet, network+chgnet * | 0 / 2 / 0 (chgnet, network+chgnet) |' in markdown
    )
    assert '| class | crystals | raw | network | chgnet | network+chgnet | smallest sum | fewer' in markdown
    assert markdown.count('Each interval is of its own, 95 % for one, and not corrected') == 2


def test_nothing_to_compare_yet(three):
    row = {'label': 'a', 'state': 'waiting', 'in_sample': True, 'formula': 'Cu', 'elements': ['Cu'], 'n_atoms': 1}
    waiting = make_frame([row])
    comparison = compare_arms({'network': waiting, 'chgnet': waiting})
    assert comparison.n == 0
    assert 'there is nothing to compare' in describe_arms(comparison)[0]
    text = '\n'.join(map(format_text, [*tabulate_arms(comparison), tabulate_crystals(comparison)]))
    assert 'network: waiting; chgnet: waiting' in text
    with pytest.raises(ValueError, match='expected at least one'):
        compare_arms({})
    assert column(RAW, 'ionic_steps') in comparison.by_crystal
