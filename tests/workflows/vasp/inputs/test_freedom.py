import numpy as np
import pytest
from aiida import orm

from aiida_e3relax.crystals.freedom.freedom import read_freedom_text
from aiida_e3relax.workflows.vasp.choices import hold_sites
from aiida_e3relax.workflows.vasp.inputs.freedom import Freedom, Moves, predict_all, read_freedom

LAYER = (True, True, False)
SOLID = (True, True, True)


def flags(positions, shape, volume):
    return {'positions': positions, 'shape': shape, 'volume': volume}


@pytest.mark.parametrize(
    ('moves', 'expected'),
    [
        ('positions', flags(True, False, False)),  # ISIF 2
        ('cell', flags(True, True, True)),  # ISIF 3
        ('shape', flags(True, True, False)),  # ISIF 4
        ('volume', flags(False, False, True)),  # ISIF 7
        ('in-plane', flags(True, True, True)),  # ISIF 3
    ],
)
def test_aiida_vasp_is_told_what_moves(moves, expected):
    assert Freedom(moves).relax_flags(2) == expected


@pytest.mark.parametrize(
    ('moves', 'expected'),
    [('cell', flags(False, True, True)), ('shape', flags(False, True, False))],  # ISIF 6 and 5
)
def test_atoms_that_are_all_fixed_do_not_move(moves, expected):
    assert Freedom(moves, {'abc': [0, 1]}).relax_flags(2) == expected


def test_fixed_components_are_vasps_selective_dynamics():
    freedom = Freedom(fixed={'abc': [0], 'c': [2, 0], 'ab': [3]})
    assert freedom.dynamics(4) == {
        'positions_dof': [[False] * 3, [True] * 3, [True, True, False], [False, False, True]]
    }
    assert Freedom().dynamics(4) is None


def test_the_vacuum_is_found_from_the_periodic_directions_or_asked_for():
    assert Freedom().vacuum_axis(SOLID) is None
    assert Freedom().vacuum_axis(LAYER) == 2
    assert Freedom(vacuum='a').vacuum_axis(SOLID) == 0


def test_only_in_plane_constrains_the_lattice():
    assert Freedom(Moves.IN_PLANE).incar_tags([2]) == {'lattice_constraints': '.TRUE. .TRUE. .FALSE.'}
    assert Freedom(Moves.IN_PLANE).incar_tags([1]) == {'lattice_constraints': '.TRUE. .FALSE. .TRUE.'}
    assert Freedom(Moves.POSITIONS).incar_tags([2]) == {}


@pytest.mark.parametrize(
    ('given', 'keeps_symmetry'),
    [
        ({'device': 'cpu'}, False),
        ({'second_opinion': 'chgnet'}, False),
        ({'second_opinion': 'chgnet', 'second_opinion_steps': 5}, True),
        ({'potential': 'chgnet', 'start': 'network'}, True),
    ],
)
def test_network_and_potential_hold_what_may_not_move(given, keeps_symmetry):
    assert predict_all(given, 'positions') == {**given, 'freedom': 'positions'}
    freedom, fixed = {'moves': 'positions', 'fixed': {'c': [1]}, 'keep_symmetry': True}, {'cu': {'abc': [0]}}
    told = predict_all({**given, 'vacuum': 'none'}, freedom, fixed)  # as chains said once
    assert told == {**given, 'freedom': {**freedom, 'keep_symmetry': keeps_symmetry}, 'fixed': fixed}


@pytest.mark.usefixtures('aiida_profile')
def test_a_word_and_its_mapping_are_the_same():
    assert read_freedom(orm.Str('shape')) == read_freedom(orm.Dict({'moves': 'shape'})) == Freedom('shape')


def test_a_command_line_gives_a_word_or_the_mapping():
    assert read_freedom_text('shape') == {'moves': 'shape'}
    whole = {'moves': 'in-plane', 'vacuum': 'c', 'fixed': {'abc': [0, 1]}}
    assert read_freedom_text('{moves: in-plane, vacuum: c, fixed: {abc: [0, 1]}}') == whole
    assert read_freedom_text('{"moves": "in-plane", "fixed": {"abc": [0, 1]}}', 'c') == whole
    assert read_freedom_text('in-plane', 'c') == {'moves': 'in-plane', 'vacuum': 'c'}


@pytest.mark.parametrize(
    'text',
    ['{fixed: {c: [0]}, fixed: {c: [1]}}', '{"fixed": {"c": [0], "c": [1]}}', '{moves: cell, moves: shape}'],
)
def test_a_key_that_comes_twice_is_refused(text):
    """Of two lists of fixed sites the last was once taken in silence, also of what is nearly JSON."""
    with pytest.raises(ValueError, match='stands there twice'):
        read_freedom_text(text)


@pytest.mark.parametrize(
    'text', ['', '{', '[cell]', 'moves: [1]', '{moves: cell, moves}', '{1: 2}', '{fixed: {1: [0]}}']
)
def test_text_that_is_no_freedom_is_refused(text):
    with pytest.raises(ValueError, match=r'expected|unknown key'):
        read_freedom_text(text)


def test_the_sites_of_a_file_are_held_beside_those_of_a_freedom():
    assert hold_sites('cell', {'abc': [1]}) == {'moves': 'cell', 'fixed': {'abc': [1]}}
    given = {'moves': 'cell', 'fixed': {'abc': [0], 'c': [2]}, 'keep_symmetry': True}
    assert hold_sites(given, {'abc': [1], 'a': [2]}) == given | {'fixed': {'abc': [0, 1], 'a': [2], 'c': [2]}}
    movable = np.array([[True] * 3, [False, True, True], [False] * 3])
    assert Freedom(fixed={'c': [1]}).holding(movable).fixed == {'ac': [1], 'abc': [2]}


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        ('in plane', 'did you mean `in-plane`'),
        (['cell'], 'expected a word or a mapping'),
        ({'fixed': {1: [0]}}, 'letters a, b and c'),
        ({'fixed': {'abc': None}}, 'counted from 0'),
        ('all', "expected positions, cell, shape, volume or in-plane, found 'all'"),
        ({'move': 'cell'}, 'did you mean `moves`'),
        ({'vacuum': 'z'}, 'expected the lattice vector a, b or c'),
        ({'vacuum': ''}, 'expected the lattice vector a, b or c'),
        ({'keep_symmetry': 'yes'}, 'expected true or false'),
        ({'fixed': [0, 1]}, 'expected a mapping'),
        ({'fixed': {'xy': [0]}}, 'letters a, b and c'),
        ({'fixed': {'abc': [-1]}}, 'counted from 0'),
        ({'fixed': {'abc': 3}}, 'counted from 0'),
    ],
)
def test_what_is_no_freedom_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        Freedom.from_value(value)
