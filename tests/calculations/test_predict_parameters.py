"""The parameters of a prediction run."""

import dataclasses
import json

import pytest

from aiida_e3relax.calculations.pre_relaxer import PreRelaxer
from aiida_e3relax.calculations.predict_parameters import PredictParameters, choose_pre_relaxer
from aiida_e3relax.gnn.potentials.registry import POTENTIALS, PRE_RELAXERS

OWN_WEIGHTS = 'chgnet or sevennet-0 or sevennet-mf-0 or sevennet-l3i5'


def test_command_line_leaves_out_what_is_not_set():
    words = PredictParameters.from_mapping({'device': 'cuda:1', 'max_edges': 5000}).command_line()
    options = {'device': 'cuda:1', 'dtype': 'float32', 'max-edges': 5000, 'engine': 'fast', 'second-opinion-steps': 0}
    assert words == [word for name, value in options.items() for word in (f'--{name}', str(value))]


def test_threads_reach_the_command_line():
    words = PredictParameters(threads=2).command_line()
    assert words[words.index('--threads') + 1] == '2'


def test_gaps_are_looked_for_unless_it_is_said_otherwise():
    assert '--vacuum' not in PredictParameters().command_line()
    assert PredictParameters(vacuum='none').command_line()[-2:] == ['--vacuum', 'none']


def test_details_are_switches():
    assert PredictParameters(layers=True, bonds=True).command_line()[-2:] == ['--layers', '--bonds']
    assert not {'--layers', '--bonds'} & set(PredictParameters().command_line())
    candidates = PredictParameters(potential='chgnet', candidates=3, seed=1)
    assert candidates.command_line()[-6:] == ['--potential', 'chgnet', '--candidates', '3', '--seed', '1']


def test_a_potential_and_what_it_may_move_reach_the_command_line():
    freedom = {'moves': 'in-plane', 'vacuum': 'c'}
    values = {'potential': 'chgnet', 'start': 'input', 'steps': 50, 'force_max_eV_per_A': 0.01, 'freedom': freedom}
    words = PredictParameters(**values, fixed={'a': {'abc': [0]}}).command_line()
    told = dict(zip(words[::2], words[1::2], strict=True))
    assert {name: told[f'--{name}'] for name in ('potential', 'start', 'steps', 'force-max')} == {
        'potential': 'chgnet',
        'start': 'input',
        'steps': '50',
        'force-max': '0.01',
    }
    assert json.loads(told['--freedom']) == freedom
    assert not {'--stress-max', '--fixed', '--vacuum'} & told.keys()


SCALED_ONCE = 'dls-volume scales crystals once, and takes no steps: leave it out'


@pytest.mark.parametrize('text', ['network', 'chgnet', 'network+sevennet-mf-0', 'dls-volume'])
def test_a_pre_relaxer_is_what_its_parameters_ask_for(text):
    parameters = PredictParameters(**PreRelaxer.parse(text).parameters())
    assert str(parameters.pre_relaxer) == text


def test_a_second_opinion_that_takes_steps_is_a_pre_relaxer():
    opinion = PredictParameters(second_opinion='chgnet')
    assert str(opinion.pre_relaxer) == 'network'
    assert str(dataclasses.replace(opinion, second_opinion_steps=3).pre_relaxer) == 'network+chgnet'


@pytest.mark.parametrize(
    ('text', 'values', 'asked', 'parameters'),
    [
        (None, {'device': 'cpu'}, 'network', {'device': 'cpu'}),
        (None, {'potential': 'chgnet', 'start': 'input', 'steps': 5}, 'chgnet', None),
        (
            'network',
            {'potential': 'chgnet', 'start': 'input', 'steps': 5, 'device': 'cpu'},
            'network',
            {'device': 'cpu'},
        ),
        ('network', {'second_opinion': 'chgnet', 'second_opinion_steps': 5}, 'network', {'second_opinion': 'chgnet'}),
        ('dls-volume', {'steps': 5, 'candidates': 2}, 'dls-volume', {'potential': 'dls-volume', 'start': 'input'}),
        ('chgnet', {'steps': 5}, 'chgnet', {'steps': 5, 'potential': 'chgnet', 'start': 'input'}),
        (
            'network+chgnet',
            {'potential': 'mace', 'start': 'input'},
            'network+chgnet',
            {'potential': 'chgnet', 'start': 'network'},
        ),
    ],
)
def test_a_pre_relaxer_that_is_named_goes_over_that_of_the_parameters(text, values, asked, parameters):
    chosen, left = choose_pre_relaxer(values, text and PreRelaxer.parse(text))
    assert (str(chosen), left) == (asked, values if parameters is None else parameters)


def test_steps_without_a_potential_are_refused_unless_the_network_is_asked_for():
    with pytest.raises(ValueError, match='`steps`: expected `potential` beside it'):
        choose_pre_relaxer({'steps': 5}, None)
    assert choose_pre_relaxer({'steps': 5}, PreRelaxer.parse('network'))[1] == {}


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ('chgnett', 'did you mean `chgnet`?'),
        ('chgnet+network', "found 'chgnet+network'"),
        ('network+', 'expected network'),
    ],
)
def test_an_unknown_pre_relaxer_is_told_with_those_known(text, found):
    with pytest.raises(ValueError, match=r'or both as in network\+chgnet') as caught:
        PreRelaxer.parse(text)
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'layers': 1}, '`layers`: expected true or false, found 1'),
        ({'bonds': 'yes'}, "`bonds`: expected true or false, found 'yes'"),
        ({'vacuum': 'c'}, "`vacuum`: expected none, or nothing, found 'c'"),
        ({'devise': 'cpu'}, 'unknown key `devise`; did you mean `device`?'),
        (
            {'zzz': 1},
            'unknown key `zzz`; known are device, dtype, max_edges, threads, engine, second_opinion, '
            'second_opinion_steps, vacuum, potential, start, steps, force_max_eV_per_A, stress_max_kB, candidates, '
            'seed, freedom, fixed, layers, bonds',
        ),
        ({'device': 'gpu'}, "`device`: expected auto, cpu, cuda or cuda:<n>, found 'gpu'"),
        ({'device': 0}, '`device`: expected auto, cpu, cuda or cuda:<n>, found 0'),
        ({'engine': 'slow'}, "`engine`: expected fast or reference, found 'slow'"),
        ({'dtype': 'float16'}, "`dtype`: expected auto or float32 or float64, found 'float16'"),
        ({'max_edges': 0}, '`max_edges`: expected a positive integer, found 0'),
        ({'max_edges': None}, '`max_edges`: expected a positive integer, found None'),
        ({'threads': True}, '`threads`: expected a positive integer up to 4096, found True'),
        ({'threads': 1.5}, '`threads`: expected a positive integer up to 4096, found 1.5'),
        ({'threads': 99_999}, '`threads`: expected a positive integer up to 4096, found 99999'),
        ({'second_opinion': 'mace'}, f"`second_opinion`: expected {OWN_WEIGHTS}, found 'mace'"),
        (
            {'second_opinion': 'chgnet', 'second_opinion_steps': -1},
            '`second_opinion_steps`: expected an integer from 0 to 100000, found -1',
        ),
        (
            {'second_opinion': 'chgnet', 'second_opinion_steps': 10**9},
            '`second_opinion_steps`: expected an integer from 0 to 100000, found 1000000000',
        ),
        (
            {'second_opinion_steps': 5},
            f'`second_opinion_steps`: expected `second_opinion` beside it, {OWN_WEIGHTS}, found none',
        ),
        ({'potential': 'emt'}, f"`potential`: expected one of {', '.join(PRE_RELAXERS)}, found 'emt'"),
        ({'potential': ['chgnet']}, f"`potential`: expected one of {', '.join(PRE_RELAXERS)}, found ['chgnet']"),
        ({'potential': 'chgnet', 'start': 'raw'}, "`start`: expected network or input, found 'raw'"),
        ({'potential': 'chgnet', 'steps': -1}, '`steps`: expected an integer from 0 to 100000, found -1'),
        ({'potential': 'dls-volume', 'steps': 3}, '`steps`: ' + SCALED_ONCE),
        ({'potential': 'chgnet', 'stress_max_kB': 0}, '`stress_max_kB`: expected a number above 0, found 0'),
        ({'candidates': 2}, f'`candidates`: expected `potential` beside it, {" or ".join(POTENTIALS)}, found none'),
        (
            {'potential': 'dls-volume', 'start': 'input', 'freedom': 'positions'},
            'dls-volume scales crystals alike in all directions, which `positions` does not let it: expected the '
            'freedom cell or volume, or another pre-relaxer',
        ),
        (
            {'potential': 'chgnet', 'candidates': 2, 'freedom': {'keep_symmetry': True}},
            'candidates break the symmetry that `keep_symmetry` keeps: leave one of the two out',
        ),
        ({'steps': 5}, f'`steps`: expected `potential` beside it, {" or ".join(POTENTIALS)}, found none'),
        (
            {'potential': 'chgnet', 'second_opinion': 'chgnet'},
            '`second_opinion` is the older form of `potential`: expected one of the two, found both',
        ),
        (
            {'potential': 'chgnet', 'start': 'input', 'layers': True},
            '`layers`, `bonds`: expected a network that has them; there is none with `start: input`',
        ),
        (
            {'potential': 'chgnet', 'fixed': {'a': {'x': [0]}}},
            "`fixed`: expected keys of the letters a, b and c, found 'x'",
        ),
    ],
)
def test_faults_name_the_key_and_what_is_expected(values, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        PredictParameters.from_mapping(values)
    assert str(caught.value) == message
