import re

import numpy as np
import pytest
from aiida import orm
from ase import Atoms
from ase.build import bulk

from aiida_e3relax.crystals.freedom.checks import find_drift
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.workflows.vasp.inputs.incar import held_axes
from aiida_e3relax.workflows.vasp.validators import (
    validate_chain,
    validate_freedom,
    validate_guard,
    validate_structure,
    validate_vasp,
)
from tests.workflows.crystals import copper_gold
from tests.workflows.magnetic import magnetite

pytestmark = pytest.mark.usefixtures('aiida_profile')


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
        (lambda: of_atoms('Cu', cell=[3, 3, 3]), 'periodic in no direction'),
        (lambda: of_atoms('Cu', cell=[[0, 3, 0], [3, 0, 0], [0, 0, 3]], pbc=True), 'exchange two lattice vectors'),
        (
            lambda: of_atoms('Cu2', positions=[[0, 0, 0], [0, 0, 2.9]], cell=[3, 3, 3], pbc=True),
            'Cu 0 and Cu 1 are 0.1 A apart, expected at least 0.7 A; look for',
        ),
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
    assert 'expected positions, cell, shape, volume or in-plane' in validate_freedom(orm.Str('all'), None)
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
        ({'dynamics': orm.Dict}, 'as `fixed` in `freedom`'),
        ({'parameters': {'dynamics': {'positions_dof': [[True, True, False]]}}}, 'as `fixed` in `freedom`'),
        ({'incar': {'Lattice_Constraints': '.TRUE. .TRUE. .FALSE.'}}, 'give `freedom: in-plane`'),
        ({'incar': {'PSTRESS': 50}}, 'relax the result under pressure'),
    ],
)
def test_what_the_prediction_would_leave_out_of_account_is_refused(inputs, remedy):
    made = {key: value() if callable(value) else value for key, value in inputs.items()}
    assert remedy in validate_vasp(vasp_inputs(**made), None)


def test_no_pressure_may_be_asked_for():
    assert validate_vasp(vasp_inputs({'pstress': 0.0}), None) is None


@pytest.mark.parametrize(
    'spin', [{'ispin': 2}, {'ISPIN': '2 '}, {'ispin': 2.0}, {'lsorbit': True}, {'lnoncollinear': '.TRUE.'}]
)
def test_magnetic_moments_are_given_in_one_place_and_with_spin(spin):
    moments = {'MAGMOM': [3, -3]}
    assert validate_vasp(vasp_inputs(moments | spin), None) is None
    assert 'add ISPIN = 2' in validate_vasp(vasp_inputs(moments), None)
    both = vasp_inputs(moments | spin, magmom_mapping=orm.Dict({'Ni': 5.0}))
    assert 'remove one of them' in validate_vasp(both, None)


@pytest.mark.parametrize(
    ('incar', 'fault'),
    [
        ({'magmom': [3, -3], 'lsorbit': '.FALSE.'}, 'add ISPIN = 2'),
        ({'magmom': [3, -3], 'lsorbit': 'maybe'}, "LSORBIT must be .TRUE. or .FALSE., found 'maybe'"),
        ({'magmom': [3, -3], 'ispin': 'two'}, "ISPIN must be a number, found 'two'"),
        ({'pstress': '50'}, 'relax the result under pressure'),
        ({'pstress': '0.0'}, None),
        ({'algo': 'Normal; ISIF = 3'}, 'without a semicolon'),
    ],
)
def test_values_of_tags_are_read_as_vasp_would(incar, fault):
    found = validate_vasp(vasp_inputs(incar), None)
    assert found is None if fault is None else fault in found


@pytest.mark.parametrize('value', [0.0, -1.0, 1e-9, float('nan'), float('inf')])
def test_numbers_that_vasp_cannot_use_are_refused(value):
    found = validate_vasp(vasp_inputs(relax_settings={'force_cutoff': value}), None)
    assert found.startswith('`vasp.relax_settings.force_cutoff`: expected a number from 1e-06 to 10 eV/A, found')
    found = validate_vasp(vasp_inputs(kpoints_spacing=orm.Float(value)), None)
    assert found.startswith('`vasp.vasp.kpoints_spacing`: expected a number from 0.001 to 10 2 pi/A, found')


def test_tags_that_are_no_mapping_are_refused():
    assert '`incar` must be a mapping' in validate_vasp(vasp_inputs(parameters={'incar': ['encut']}), None)


def test_kpoints_must_be_given():
    assert 'neither `kpoints` nor' in validate_vasp({'vasp': {'parameters': orm.Dict({})}}, None)


def layer(pbc=(True, True, False), vacuum=12.0, lean=0.0, turned=False):
    """A square layer of copper."""
    atoms = Atoms('Cu', cell=[2.4, 2.4, vacuum], pbc=pbc)
    atoms.cell[2, 0] += lean
    if turned:
        atoms.rotate(30, 'x', rotate_cell=True)
    return orm.StructureData(ase=atoms)


def chain_inputs(structure, freedom='cell', incar=None, **vasp):
    node = orm.Str(freedom) if isinstance(freedom, str) else orm.Dict(freedom)
    return {'structure': structure, 'freedom': node, 'vasp': vasp_inputs(incar, **vasp)}


EMT = 'export E3RELAX_STANDIN_ENGINE=emt'
SOLID_LAYER = {'moves': 'in-plane', 'vacuum': 'c'}


@pytest.mark.parametrize(
    ('structure', 'freedom'),
    [
        (layer, 'positions'),
        (layer, 'in-plane'),
        (lambda: layer(pbc=True), SOLID_LAYER),
        (lambda: layer(pbc=True), 'in-plane'),
        (lambda: layer(lean=1.0), 'positions'),
        (lambda: layer(turned=True), 'positions'),
        (magnetite, {'moves': 'cell', 'fixed': {'abc': list(range(14))}}),
        (magnetite, {'moves': 'shape', 'keep_symmetry': True}),
    ],
)
def test_what_vasp_can_do_is_taken(structure, freedom):
    assert validate_chain(chain_inputs(structure(), freedom), None) is None


@pytest.mark.parametrize(
    ('structure', 'freedom', 'remedy'),
    [
        (layer, 'cell', 'let VASP close the vacuum along c; take `in-plane`, or `positions`'),
        (layer, 'volume', 'take `in-plane`'),
        (lambda: layer(pbc=True, vacuum=4.0), 'in-plane', 'set `pbc` to False along it, or give'),
        (layer, {'moves': 'in-plane', 'vacuum': 'a'}, 'is not periodic along c; change one'),
        (lambda: layer(pbc=[True, False, False]), 'in-plane', 'periodic in 1 direction; at most one'),
        (lambda: layer(vacuum=4.0), 'in-plane', 'no more than 4.0 A are empty'),
        (lambda: layer(pbc=True), {'moves': 'in-plane', 'vacuum': 'a'}, 'name the right lattice vector'),
        (lambda: layer(lean=1.0), 'in-plane', r'leans over by 1 A.*\[0.0, 0.0, 12.0\], or take `positions`'),
        (lambda: layer(turned=True), 'in-plane', 'turn the crystal so that the vacuum vector c lies along z'),
        (layer, {'moves': 'positions', 'fixed': {'c': [1]}}, 'there is no site 1; sites count from 0 to 0'),
        (layer, {'moves': 'positions', 'fixed': {'abc': [0]}}, r'free a site, or take `cell` \(ISIF 6\)'),
        (magnetite, {'moves': 'volume', 'fixed': {'c': [1]}}, 'leave out `fixed`'),
        (magnetite, {'fixed': {'abc': [0]}, 'keep_symmetry': True}, 'not symmetric under Fd-3m'),
    ],
)
def test_what_vasp_cannot_do_is_refused_with_what_it_can(structure, freedom, remedy):
    assert re.search(remedy, validate_chain(chain_inputs(structure(), freedom), None))


def test_candidates_of_a_lower_symmetry_are_refused_where_the_symmetry_is_kept():
    inputs = chain_inputs(magnetite(), {'keep_symmetry': True})
    inputs['network'] = {'predict': {'parameters': orm.Dict({'potential': 'chgnet', 'candidates': 2})}}
    fault = '`network.predict.parameters`: candidates break the symmetry that `keep_symmetry` keeps'
    assert validate_chain(inputs, None).startswith(fault)
    assert validate_chain(inputs | {'freedom': orm.Str('cell')}, None) is None


@pytest.mark.parametrize('told', [{'freedom': 'positions'}, {'fixed': {'crystal': {'abc': [0]}}}])
def test_what_may_move_is_not_said_of_the_network_beside_the_chain(told):
    inputs = chain_inputs(magnetite(), {'moves': 'cell'})
    inputs['network'] = {'predict': {'parameters': orm.Dict(told)}}
    fault = f'`network.predict.parameters`: `{next(iter(told))}`: expected none'
    assert validate_chain(inputs, None).startswith(fault)
    inputs['network'] = {'predict': {'parameters': orm.Dict({'potential': 'chgnet', 'start': 'input'})}}
    assert validate_chain(inputs, None) is None


def test_symmetry_is_not_kept_where_vasp_is_told_to_ignore_it():
    for value in (0, -1, '0 ', -1.0):
        inputs = chain_inputs(magnetite(), {'keep_symmetry': True}, {'ISYM': value})
        assert 'ISYM = 0 or -1' in validate_chain(inputs, None)


@pytest.mark.parametrize(
    ('incar', 'vasp', 'message'),
    [
        ({'ldauu': [3.8, 0]}, {}, r'LDAUU has 2 entries, and POSCAR 6 species \(Fe O Fe O Fe O\)'),
        ({'ldau': True, 'ldauu': '6*0'}, {}, None),
        ({'ldauu': '6*0'}, {'ldau_mapping': orm.Dict}, 'remove one of them'),
        ({'magmom': '6*4.0'}, {}, 'MAGMOM has 6 entries, expected 14, 1 for each site'),
        ({'magmom': '8*4.0 6*0'}, {}, None),
        ({'magmom': '8*4.0 6*0', 'lsorbit': True}, {}, 'expected 42, 3 for each site'),
        ({'magmom': '8*4.0 6*0', 'lsorbit': '.FALSE.', 'lnoncollinear': 'F'}, {}, None),
        ({'magmom': '42*1.0', 'lnoncollinear': '.TRUE.'}, {}, None),
        ({'magmom': 'x*4.0 6*0'}, {}, 'MAGMOM must be one list of numbers'),
        ({'ldauu': '6*'}, {}, 'LDAUU must be one list of numbers'),
    ],
)
def test_tags_by_species_and_by_site_fit_the_structure(incar, vasp, message):
    found = validate_chain(chain_inputs(magnetite(), 'cell', incar, **{k: v() for k, v in vasp.items()}), None)
    assert found is None if message is None else re.search(message, found)


def test_a_vacuum_that_vasp_changed_is_seen():
    start = np.diag([2.4, 2.4, 12.0])
    held = held_axes(Freedom('in-plane').incar_tags([2]))
    assert held == [2]
    assert find_drift(held, start, start * [[1.01], [1.01], [1.0]]) is None
    shrunk = start * [[1.0], [1.0], [0.99]]
    assert 'vacuum vector c changed by 0.12 A' in find_drift(held, start, shrunk)
    assert find_drift(held_axes(Freedom('cell').incar_tags([2])), start, shrunk) is None


@pytest.mark.parametrize(
    ('engine', 'elements', 'incar', 'fault'),
    [
        ('emt', 'CuAu', {'encut': 300, 'ldau': False, 'lwave': False}, None),
        ('emt', 'CuFe', {}, 'engine emt does not know Fe'),
        ('emt', 'CuAu', {'ivdw': 12}, 'ivdw = 12 is not supported'),
        ('emt', 'CuAu', {'lsorbit': True, 'magmom': [0, 0, 1, 0, 0, 1]}, 'LSORBIT = .TRUE. is not supported'),
        ('ionic', 'NaCl', {}, None),
        ('ionic', 'CuAu', {}, 'engine ionic needs anions'),
        ('ionic', 'NaXe', {}, 'engine ionic does not know Xe'),
        ('gpaw', 'CuFe', {}, None),
        ('abinit', 'CuFe', {}, "engine 'abinit' is not one of emt, ionic, gpaw"),
    ],
)
def test_what_the_stand_in_cannot_do_is_refused_at_submission(make_code, engine, elements, incar, fault):
    code = make_code(
        'e3relax-vasp-standin', f'stand-in-{engine}', 'vasp.vasp', f'export E3RELAX_STANDIN_ENGINE={engine}'
    )
    crystal = orm.StructureData(ase=bulk(elements, 'cesiumchloride', a=4.0))
    found = validate_chain(chain_inputs(crystal, 'cell', incar, code=code), None)
    assert found is None if fault is None else re.search(fault, found, re.IGNORECASE), found


@pytest.mark.parametrize(
    ('executable', 'prepend', 'options'),
    [
        ('e3relax', EMT, {}),
        ('e3relax-vasp-standin', '', {}),
        ('e3relax-vasp-standin', 'export E3RELAX_STANDIN_ENGINE=$ENGINE', {}),
        (
            'e3relax-vasp-standin',
            'export E3RELAX_STANDIN_ENGINE=emt',
            {'prepend_text': 'export E3RELAX_STANDIN_ENGINE=gpaw'},
        ),
    ],
)
def test_nothing_is_refused_where_the_engine_is_not_certain(make_code, executable, prepend, options):
    code = make_code(executable, 'some-code', 'vasp.vasp', prepend)
    crystal = orm.StructureData(ase=bulk('CuFe', 'cesiumchloride', a=4.0))
    inputs = chain_inputs(crystal, 'cell', code=code, calc={'metadata': {'options': options}})
    assert validate_chain(inputs, None) is None
