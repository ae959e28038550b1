"""The parameters of a prediction run."""

import pytest

from aiida_e3relax.calculations.predict_parameters import PredictParameters


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
            'second_opinion_steps, vacuum, layers, bonds',
        ),
        ({'device': 'gpu'}, "`device`: expected auto, cpu, cuda or cuda:<n>, found 'gpu'"),
        ({'device': 0}, '`device`: expected auto, cpu, cuda or cuda:<n>, found 0'),
        ({'engine': 'slow'}, "`engine`: expected fast or reference, found 'slow'"),
        ({'dtype': 'float16'}, "`dtype`: expected float32 or float64, found 'float16'"),
        ({'max_edges': 0}, '`max_edges`: expected a positive integer, found 0'),
        ({'max_edges': None}, '`max_edges`: expected a positive integer, found None'),
        ({'threads': True}, '`threads`: expected a positive integer, found True'),
        ({'threads': 1.5}, '`threads`: expected a positive integer, found 1.5'),
        ({'second_opinion': 'mace'}, "`second_opinion`: expected chgnet, found 'mace'"),
        (
            {'second_opinion': 'chgnet', 'second_opinion_steps': -1},
            '`second_opinion_steps`: expected an integer from 0 on, found -1',
        ),
        (
            {'second_opinion_steps': 5},
            '`second_opinion_steps`: expected `second_opinion` beside it, chgnet, found none',
        ),
    ],
)
def test_faults_name_the_key_and_what_is_expected(values, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        PredictParameters.from_mapping(values)
    assert str(caught.value) == message
