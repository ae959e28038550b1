"""Overrides that VASP would not get as they are meant: refused when the builder is made, or taken as they are said."""

import ase.build
import numpy as np
import pytest
from aiida import orm

from aiida_e3relax.workflows.vasp.inputs.incar_rules import find_tag_fault
from aiida_e3relax.workflows.vasp.inputs.legs import set_species
from aiida_e3relax.workflows.vasp.inputs.species import species_mappings, translate_species
from tests.workflows.magnetic import manganese_nitride


def manganese_oxide() -> orm.StructureData:
    return orm.StructureData(ase=ase.build.bulk('MnO', 'rocksalt', a=4.446))


@pytest.fixture
def build(make_builder, make_code):
    """A function that returns the inputs `vasp` of a chain of VASP alone, from overrides of `vasp.vasp` and others."""
    code = make_code('vasp_std', 'vasp', 'vasp.vasp')

    def make(own=None, protocol='fast', structure=None, **overrides):
        builder = make_builder(
            structure=structure or manganese_oxide(),
            vasp_code=code,
            network_code=None,
            protocol=protocol,
            overrides={**overrides, 'vasp': {**overrides.get('vasp', {}), 'vasp': own or {}}},
        )
        return builder.vasp

    return make


@pytest.fixture
def written(build):
    """A function that returns the INCAR tags that the chain gives to aiida-vasp, by the arguments of `build`."""

    def make(*args, structure=None, **kwargs):
        vasp = build(*args, structure=structure, **kwargs).vasp
        set_species(vasp, translate_species(structure or manganese_oxide(), **species_mappings(vasp)))
        return vasp.parameters.get_dict()['incar']

    return make


def of_incar(**tags):
    return {'parameters': {'incar': tags}}


@pytest.mark.parametrize(
    ('own', 'message'),
    [
        ({'ldau_mapping': {'mapping': {'Mn': [2, 3.9]}}}, r'`mapping: \{Mn: ...\}`: expected an orbital, p, d or f'),
        ({'ldau_mapping': {'mapping': {'Mn': ['3d', 3.9]}}}, r"such as \[d, 3.9\], found \['3d', 3.9\]"),
        ({'ldau_mapping': {'mapping': {'Mn': ['D', 3.9]}}}, r"found \['D', 3.9\]"),
        ({'ldau_mapping': {'mapping': {'Mn': 3.9}}}, r'found 3.9'),
        ({'ldau_mapping': {'mapping': {'Mn': ['d', '3.9']}}}, r"found \['d', '3.9'\]"),
        ({'ldau_mapping': {'Mn': ['d', 3.9]}}, r'`Mn`; expected `mapping`, `jmapping`, `utype` or `felec`'),
        ({'ldau_mapping': {'mapping': ['d', 3.9]}}, r"`mapping`: expected a mapping .*, found \['d', 3.9\]"),
        ({'ldau_mapping': {'mapping': {'mn': ['d', 3.9]}}}, '`mn` is neither an element nor a kind.*did you mean `Mn`'),
        ({'ldau_mapping': {'mapping': {}, 'jmapping': {'Mn': 1.0}}}, '`jmapping`.*Mn.*`mapping` names no orbital'),
        (
            {'ldau_mapping': {'mapping': {}, 'jmapping': {'Mn': ['d', 1]}}},
            r'`jmapping: \{Mn: ...\}`: expected a number',
        ),
        ({'ldau_mapping': {'mapping': {}, 'utype': 7}}, '`utype`: expected 1, 2, 3 or 4, found 7'),
        ({'ldau_mapping': {'mapping': {}, 'felec': 'yes'}}, "`felec`: expected true or false, found 'yes'"),
        ({'magmom_mapping': {'mn': 5}}, '`magmom_mapping`: `mn` is neither an element nor a kind'),
        ({'magmom_mapping': {'Mn': 5, 'Mm1': 5}}, '`Mm1` is neither .* whose kinds are Mn, O; correct or remove it$'),
        ({'magmom_mapping': {'Fe': 5, 'FE': 5}}, '`FE` is neither .*did you mean `Fe`'),
        ({'magmom_mapping': {'Mn1': 5}}, '`Mn1` is neither .* whose kinds are Mn, O; .*give `Mn` beside it'),
        ({'ldau_mapping': {'mapping': {'Mn1': ['d', 3.9]}}}, '`ldau_mapping`: `Mn1` .*give `Mn` beside it'),
        ({'magmom_mapping': {'Mn': 'up'}}, r"`Mn`: expected a moment .*, found 'up'"),
        ({'magmom_mapping': {'Mn': [0, 0]}}, r'`Mn`: expected a moment'),
        ({'magmom_mapping': {'Mn': [0, 0, 5]}}, 'LNONCOLLINEAR or LSORBIT'),
        ({'potential_mapping': {'mn': 'Mn_pv'}}, '`potential_mapping`: `mn` is neither'),
        ({'parameters': {'electronic': {'pwcutoff': 700}}}, '`electronic`.*such as `incar: {encut: 520}`'),
        ({'parameters': {'relax': {'force_cutoff': 0.1}}}, '`relax`.*`vasp.relax_settings`'),
        ({'parameters': {'dynamics': {'positions_dof': [[False] * 3] * 2}}}, '`fixed` in `freedom`'),
        ({'parameters': {'encut': 700}}, '`encut`'),
        ({'parameters': {'INCAR': {'encut': 700}}}, '`INCAR`'),
        (of_incar(kspacing=0.5), 'KSPACING.*`vasp.vasp.kpoints_spacing: 0.0796`'),
        (of_incar(kgamma=False), r'KGAMMA.*`vasp.vasp.kpoints: \{mesh'),
        (of_incar(icharg=1), 'ICHARG = 1 reads a charge density.*`vasp.vasp.charge_density`'),
        (of_incar(icharg='11'), 'ICHARG = 11 reads'),
        (of_incar(icharg=4), 'ICHARG = 4 reads'),
        (of_incar(ldau=True, ldautype=1), '`utype`'),
        (of_incar(ldauu=[3.9, 0]), 'add LDAU = .TRUE.'),
    ],
)
def test_what_would_be_lost_is_refused(build, own, message):
    with pytest.raises(ValueError, match=message):
        build(own, protocol='e3relax' if 'utype' in message else 'fast')


def test_files_that_are_given_may_be_read():
    for port in ('charge_density', 'restart_folder'):
        assert find_tag_fault({'incar': {'icharg': 1}}, ['kpoints', port]) is None


@pytest.mark.parametrize('value', [0, 1, 2, 3])
def test_wave_functions_that_are_not_there_are_no_fault(build, value):
    assert build(of_incar(istart=value), vasp={'static_calc_parameters': of_incar(istart=value)['parameters']})


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'energy_cutoff': 1e-3}, r'`energy_cutoff`.*`vasp.vasp.parameters: \{incar: \{ediffg: 0.001\}\}`'),
        ({'perform': False}, '`perform: false`.*`aiida-e3relax validate`'),
        ({'hybrid_calc_bootstrap': True}, '`hybrid_calc_bootstrap`'),
        ({'force_cutof': 0.1}, 'did you mean `force_cutoff`'),
    ],
)
def test_settings_that_no_relaxation_can_keep_are_refused(build, settings, message):
    with pytest.raises(ValueError, match=message):
        build(vasp={'relax_settings': settings})


@pytest.mark.parametrize(
    ('static', 'message'),
    [
        ({'incar': {'ismaer': -5}}, 'did you mean `ismear`'),
        ({'ismear': -5}, '`vasp.static_calc_parameters`.*`ismear`'),
        ({'incar': {'kspacing': 0.2}}, '`vasp.static_calc_parameters`.*KSPACING'),
        ({'incar': {'icharg': 11}}, 'ICHARG = 11'),
        ({'incar': {'lsorbit': True}}, 'MAGMOM has 2 entries, expected 6'),
        ({'incar': {'ismear': [float('nan')]}}, 'a finite number'),
        ({'incar': {'nsw': 5}}, 'expected the INCAR tag NSW = 0, as nothing moves in the static run, found 5; remove'),
        ({'incar': {'ibrion': 2}}, 'expected the INCAR tag IBRION = -1'),
        ({'incar': {'isif': 3}}, 'expected the INCAR tag ISIF = 2'),
        ({'incar': {'magmom': [5, 0], 'ispin': 1}}, 'add ISPIN = 2'),
        ({'incar': {'ldauu': [3.9, 0]}}, r'add LDAU = \.TRUE\.'),
        ({'incar': {'magmom': [5]}}, 'MAGMOM has 1 entries, expected 2'),
    ],
)
def test_tags_of_the_static_run_are_checked_before_the_relaxation(build, static, message):
    with pytest.raises(ValueError, match=message):
        build(vasp={'static_calc_parameters': static})


def test_a_static_run_may_have_tags_of_its_own(build):
    assert build(vasp={'static_calc_parameters': {'incar': {'ISMEAR': -5}}}).static_calc_parameters.get_dict()
    reused = {'relax_settings': {'reuse': True}, 'static_calc_parameters': {'incar': {'icharg': 1}}}
    assert build(vasp=reused).static_calc_parameters.get_dict()


@pytest.mark.parametrize(
    'static', [{'nsw': 0, 'IBRION': '-1', 'isif': 2}, {'magmom': [5, 0]}, {'ldauu': [4.5, 0]}, {'ispin': 1}]
)
def test_tags_of_the_static_run_may_stand_beside_those_of_mappings(build, static):
    own = {'magmom_mapping': {'Mn': 4}, 'ldau_mapping': {'mapping': {'Mn': ['d', 3.9]}}}
    assert build(own, vasp={'static_calc_parameters': {'incar': static}}).static_calc_parameters['incar'] == static


def test_a_force_ends_a_relaxation_by_an_input_set(build):
    settings = {'relax_settings': {'force_cutoff': 0.01}}
    assert 'ediffg' not in build(protocol='materials-project', vasp=settings).vasp.parameters['incar']
    by_energy = build(of_incar(ediff=1e-7), protocol='materials-project').vasp.parameters['incar']
    assert by_energy['ediffg'] == pytest.approx(1e-6)
    chosen = build(of_incar(ediffg=-0.03), protocol='materials-project').vasp.parameters['incar']
    assert chosen['ediffg'] == -0.03
    with pytest.raises(ValueError, match=r'`vasp.relax_settings.force_cutoff`, 0.01, and the INCAR tag EDIFFG, -0.03'):
        build(of_incar(EDIFFG=-0.03), vasp=settings)


def test_a_set_goes_under_the_protocol(build):
    vasp = build(protocol='precise', input_set='MPRelaxSet')
    assert 'kpoints' not in vasp.vasp
    assert vasp.vasp.kpoints_spacing.value == 0.03
    assert vasp.vasp.parameters['incar'].items() >= {'encut': 650, 'lorbit': 11}.items()
    assert 'ediffg' not in vasp.vasp.parameters['incar']
    assert build(protocol='e3relax', input_set='MPRelaxSet').vasp.kpoints.get_kpoints_mesh()[0] == [6, 6, 6]
    assert build({'kpoints_spacing': 0.05}, protocol='materials-project').vasp.kpoints_spacing.value == 0.05


def test_hubbard_tags_of_the_incar_stand(written):
    assert written(protocol='e3relax').items() >= {'ldau': True, 'ldauu': [3.9, 0.0], 'lmaxmix': 4}.items()
    assert written(of_incar(lmaxmix=6), protocol='e3relax')['lmaxmix'] == 6
    assert written(of_incar(lmaxmix=6), protocol='materials-project')['lmaxmix'] == 6
    for protocol in ('e3relax', 'materials-project'):
        off = written(of_incar(ldau=False), protocol=protocol)
        assert (off['ldau'], 'ldauu' in off) == (False, False)
    own = {'ldau': True, 'ldaul': [2, -1], 'ldauu': [5.0, 0], 'ldautype': 1}
    assert written(of_incar(**own), protocol='e3relax').items() >= own.items()
    assert written({'ldau_mapping': {'utype': 1}}, protocol='e3relax')['ldautype'] == 1


def test_hubbard_tags_that_contradict_a_mapping_are_refused(build):
    mapping = {'ldau_mapping': {'mapping': {'Mn': ['d', 3.9]}}}
    with pytest.raises(ValueError, match=r'LDAU = \.FALSE\. .*remove one of them'):
        build({**mapping, **of_incar(ldau=False)})
    assert build({**mapping, **of_incar(ldau=True, ldautype=2)})
    with pytest.raises(ValueError, match=r'LDAU = \.TRUE\. .*no correction'):
        build({'ldau_mapping': {'mapping': {'Fe': ['d', 3.9]}}, **of_incar(ldau=True)})
    with pytest.raises(ValueError, match=r'LMAXMIX = 4 .*`felec`'):
        build({'ldau_mapping': {**mapping['ldau_mapping'], 'felec': True}, **of_incar(lmaxmix=4)})


def test_elements_that_a_structure_lacks_may_be_named(build):
    mappings = {
        'magmom_mapping': {'Fe': 5.0, 'Fe1': -5.0, 'default': 0.6},
        'ldau_mapping': {'mapping': {'Ce': ['f', 5.0], 'Ni1': ['d', 6.2]}, 'jmapping': {'Ce': 0.5}},
    }
    assert build(mappings)
    assert build({'magmom_mapping': orm.Dict(mappings['magmom_mapping'])})
    assert build({'magmom_mapping': {'Mn1': 3.0, 'Mn2': -3.0}}, structure=manganese_nitride())


@pytest.mark.parametrize('kind', ['Mn1', 'Mn3+', 'Mn_up'])
def test_kinds_may_be_named_that_only_other_structures_have(written, kind):
    mappings = {
        'magmom_mapping': {'Mn': 4, kind: -4},
        'ldau_mapping': {'mapping': {'Mn': ['d', 3.9], kind: ['d', 5.0]}},
    }
    tags = written(mappings)
    assert (tags['magmom'].split()[0], tags['ldauu'][0]) == ('4', 3.9)


def test_numbers_of_numpy_are_numbers(written):
    mappings = {
        'magmom_mapping': {'Mn': np.int64(4), 'O': np.float32(0.5)},
        'ldau_mapping': {'mapping': {'Mn': ['d', np.float32(3.5)]}},
    }
    tags = written({**mappings, **of_incar(encut=np.int64(450))})
    assert [float(word) for word in tags['magmom'].split()] == [4, 0.5]
    assert (tags['ldauu'], tags['encut']) == ([3.5, 0.0], 450)


def test_an_empty_entry_takes_one_of_the_protocol_away(written):
    assert 'magmom' not in written({'magmom_mapping': {'Mn': None, 'default': None}})
    assert 'ldau' not in written({'ldau_mapping': {'mapping': {'Mn': None}}}, protocol='e3relax')


def test_moments_of_a_non_collinear_run_are_vectors(written):
    moments = written({'magmom_mapping': {'Mn': 5, 'default': 0.5}, **of_incar(lsorbit=True)})['magmom']
    assert [float(word) for word in moments.split()] == [0, 0, 5, 0, 0, 0.5]
    mixed = written({'magmom_mapping': {'Mn': [5, 0, 0], 'O': 0}, **of_incar(lnoncollinear=True)})['magmom']
    assert [float(word) for word in mixed.split()] == [5, 0, 0, 0, 0, 0]
