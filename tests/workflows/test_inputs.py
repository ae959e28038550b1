import numpy as np
import pytest
from aiida import orm
from ase import Atoms

from aiida_e3relax.workflows.inputs import validate_freedom, validate_guard, validate_structure, validate_vasp
from tests.workflows.crystals import copper_gold

pytestmark = pytest.mark.usefixtures('aiida_profile')


def with_kind_name() -> orm.StructureData:
    structure = orm.StructureData(cell=np.eye(3) * 3)
    structure.append_atom(position=(0, 0, 0), symbols='Fe', name='Fe1')
    return structure


def with_nan() -> orm.StructureData:
    structure = orm.StructureData(cell=np.eye(3) * 3)
    structure.append_atom(position=(0, float('nan'), 0), symbols='Fe')
    return structure


def of_alloy() -> orm.StructureData:
    structure = orm.StructureData(cell=np.eye(3) * 3)
    structure.append_atom(position=(0, 0, 0), symbols=('Fe', 'Ni'), weights=(0.5, 0.5), name='Fe')
    return structure


def of_atoms(*args, **kwargs) -> orm.StructureData:
    return orm.StructureData(ase=Atoms(*args, **kwargs))


def vasp_inputs(incar=None, relax_settings=None, parameters=None, **vasp):
    return {
        'relax_settings': orm.Dict(relax_settings or {}),
        'vasp': {
            'parameters': orm.Dict({'incar': incar or {}} | (parameters or {})),
            'kpoints_spacing': orm.Float(0.1),
            **vasp,
        },
    }


@pytest.mark.parametrize(
    ('make', 'fault'),
    [
        (lambda: orm.StructureData(cell=np.eye(3)), 'no atoms|no sites|empty'),
        (with_nan, 'finite'),
        (lambda: of_atoms('X', cell=[3, 3, 3], pbc=True), 'X'),
        (of_alloy, 'one whole atom'),
        (lambda: of_atoms('Cu', cell=[[3, 0, 0], [0, 3, 0], [3, 3, 0]], pbc=True), 'volume|singular'),
        (lambda: of_atoms('Cu', cell=[3, 3, 3], pbc=[True, True, False]), 'periodic'),
        (with_kind_name, 'kind `Fe1` is not named `Fe`'),
        (lambda: of_atoms('Cu', cell=[[0, 3, 0], [3, 0, 0], [0, 0, 3]], pbc=True), 'exchange two lattice vectors'),
        (lambda: of_atoms('Cu2', positions=[[0, 0, 0], [0, 0, 2.9]], cell=[3, 3, 3], pbc=True), '0.10 A apart'),
        (lambda: of_atoms('Cu', cell=[0.3, 0.3, 0.3], pbc=True), 'volume'),
    ],
)
def test_structures_that_cannot_be_relaxed_are_refused_with_the_reason(make, fault):
    with pytest.raises(AssertionError, match=fault):
        assert validate_structure(make(), None) is None


def test_a_sound_structure_is_taken():
    assert validate_structure(orm.StructureData(ase=copper_gold()), None) is None


def test_freedom_and_guard_are_checked():
    assert validate_freedom(orm.Str('cell'), None) is None
    assert 'expected positions or cell' in validate_freedom(orm.Str('all'), None)
    assert validate_guard(orm.Dict({'mode': 'warn'}), None) is None
    assert 'did you mean `mode`' in validate_guard(orm.Dict({'mod': 'warn'}), None)


def test_incar_tags_that_freedom_sets_are_refused():
    assert validate_vasp(vasp_inputs({'encut': 300}), None) is None
    assert 'ISIF is set by `freedom`' in validate_vasp(vasp_inputs({'ISIF': 3}), None)


@pytest.mark.parametrize('flag', ['positions', 'shape', 'volume'])
def test_relax_settings_leave_what_moves_to_freedom(flag):
    assert validate_vasp(vasp_inputs(relax_settings={flag: True, 'steps': 3}), None) is None
    assert f'`{flag}` is set by `freedom`' in validate_vasp(vasp_inputs(relax_settings={flag: False}), None)


@pytest.mark.parametrize(
    ('inputs', 'remedy'),
    [
        ({'dynamics': orm.Dict}, 'without a prediction'),
        ({'parameters': {'dynamics': {'positions_dof': [[True, True, False]]}}}, 'without a prediction'),
        ({'incar': {'Lattice_Constraints': '.TRUE. .TRUE. .FALSE.'}}, 'give `freedom: positions`'),
        ({'incar': {'PSTRESS': 50}}, 'relax the result under pressure'),
    ],
)
def test_what_the_prediction_would_leave_out_of_account_is_refused(inputs, remedy):
    made = {key: value() if callable(value) else value for key, value in inputs.items()}
    assert remedy in validate_vasp(vasp_inputs(**made), None)


def test_no_pressure_may_be_asked_for():
    assert validate_vasp(vasp_inputs({'pstress': 0.0}), None) is None


@pytest.mark.parametrize('spin', [{'ispin': 2}, {'ISPIN': '2'}, {'lsorbit': True}, {'lnoncollinear': True}])
def test_magnetic_moments_are_given_in_one_place_and_with_spin(spin):
    moments = {'MAGMOM': [3, -3]}
    assert validate_vasp(vasp_inputs(moments | spin), None) is None
    assert 'add ISPIN = 2' in validate_vasp(vasp_inputs(moments), None)
    both = vasp_inputs(moments | spin, magmom_mapping=orm.Dict({'Ni': 5.0}))
    assert 'remove one of them' in validate_vasp(both, None)


def test_kpoints_must_be_given():
    assert 'neither `kpoints` nor' in validate_vasp({'vasp': {'parameters': orm.Dict({})}}, None)
