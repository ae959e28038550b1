import ase.build
import numpy as np
import pytest
from aiida import orm
from aiida.engine import run, run_get_node
from aiida_vasp.data.potcar import PotcarData

from aiida_e3relax.standin.potentials import potential_text
from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain
from aiida_e3relax.workflows.vasp.inputs.freedom import Freedom, Moves, read_freedom
from aiida_e3relax.workflows.vasp.inputs.potentials import choose_for_structure, choose_potentials
from tests.workflows.crystals import copper_gold
from tests.workflows.magnetic import manganese_nitride


def test_protocols_are_listed_with_their_descriptions():
    protocols = E3RelaxVaspWorkChain.get_available_protocols()
    ours, others = {'fast', 'balanced', 'precise'}, {'materials-project'}
    papers = {'e3relax', 'e3relax-2d', 'e3relax-layered', 'deeprelax'}
    assert set(protocols) == ours | others | papers
    assert all(protocols.values())
    assert E3RelaxVaspWorkChain.get_default_protocol() == 'balanced'


def test_protocols_grow_stricter():
    def setting(protocol):
        vasp = E3RelaxVaspWorkChain.get_protocol_inputs(protocol)['vasp']
        return vasp['relax_settings']['force_cutoff'], vasp['vasp']['kpoints_spacing']

    assert setting('fast') > setting('balanced') > setting('precise')


def test_overrides_lie_over_the_protocol_and_leave_the_rest():
    overrides = {'vasp': {'vasp': {'parameters': {'incar': {'encut': 321}}}}}
    incar = E3RelaxVaspWorkChain.get_protocol_inputs('fast', overrides)['vasp']['vasp']['parameters']['incar']
    assert (incar['encut'], incar['gga']) == (321, 'PE')


@pytest.mark.parametrize(
    ('protocol', 'tags', 'mesh'),
    [
        ('e3relax', {'encut': 500, 'ediff': 1e-5, 'ismear': 0, 'sigma': 0.05, 'gga': 'PE'}, [6, 6, 6]),
        ('e3relax-2d', {'encut': 500, 'ediff': 1e-4}, [6, 6, 6]),
        ('e3relax-layered', {'encut': 500, 'ediff': 1e-5, 'ivdw': 11}, [6, 6, 6]),
        ('deeprelax', {'encut': 550, 'ediff': 1e-5}, [9, 9, 9]),
    ],
)
def test_the_settings_of_the_papers(protocol, tags, mesh):
    vasp = E3RelaxVaspWorkChain.get_protocol_inputs(protocol)['vasp']['vasp']
    assert vasp['parameters']['incar'].items() >= tags.items()
    assert vasp['ldau_mapping']['mapping'] == {'Mn': ['d', 3.9]}
    assert vasp['kpoints'] == mesh


def test_a_layer_has_one_point_across_its_vacuum_whichever_it_is(make_builder):
    atoms = copper_gold()
    atoms.set_cell(np.diag([20.0, 4.0, 4.0]))
    layer = orm.StructureData(ase=atoms)
    layer.set_pbc([False, True, True])
    builder = make_builder(structure=layer, protocol='e3relax-2d')
    assert builder.vasp.vasp.kpoints.get_kpoints_mesh()[0] == [1, 6, 6]
    assert builder.freedom.value == 'in-plane'


def test_k_points_of_overrides_replace_those_of_the_protocol_in_either_form(make_builder):
    spacing = make_builder(protocol='e3relax', overrides={'vasp': {'vasp': {'kpoints_spacing': 0.05}}}).vasp.vasp
    assert ('kpoints' in spacing, spacing.kpoints_spacing.value) == (False, 0.05)
    mesh = make_builder(overrides={'vasp': {'vasp': {'kpoints': [2, 3, 4]}}}).vasp.vasp
    assert ('kpoints_spacing' in mesh, mesh.kpoints.get_kpoints_mesh()[0]) == (False, [2, 3, 4])
    with pytest.raises(ValueError, match=r'has both `kpoints`.*and `kpoints_spacing`.*remove the other'):
        make_builder(overrides={'vasp': {'vasp': {'kpoints': [2, 3, 4], 'kpoints_spacing': 0.05}}})
    with pytest.raises(ValueError, match=r'expected three numbers of points such as \[6, 6, 6\], found \[2, 0, 4\]'):
        make_builder(overrides={'vasp': {'vasp': {'kpoints': [2, 0, 4]}}})


def test_a_misspelt_protocol_is_named_with_the_nearest_one():
    with pytest.raises(ValueError, match='did you mean `balanced`'):
        E3RelaxVaspWorkChain.get_protocol_inputs('balancd')
    with pytest.raises(ValueError, match='unknown key `pbe`'):
        E3RelaxVaspWorkChain.get_protocol_inputs('pbe')


def test_builder_has_all_inputs(make_builder):
    builder = make_builder(freedom='positions', options={'max_wallclock_seconds': 60}, reference_leg='never')
    assert builder.freedom.value == 'positions'
    assert builder.reference_leg.value == 'never'
    assert builder.vasp.vasp.calc.metadata.options['max_wallclock_seconds'] == 60
    assert builder.vasp.vasp.calc.metadata.options['resources'] == {'num_machines': 1}
    assert builder.vasp.vasp.potential_mapping.get_dict() == {'Cu': 'Cu', 'Au': 'Au'}
    assert builder.vasp.relax_settings['convergence_on'] is False
    assert builder.network.predict.model.is_stored
    assert builder.network.predict.parameters['device'] == 'auto'


def test_builder_without_a_network_has_no_such_inputs(make_builder):
    assert 'predict' not in make_builder(network_code=None)._inputs(prune=True).get('network', {})


def test_magnetic_elements_are_computed_with_spin_by_aiida_vasp(make_builder):
    mapping = make_builder().vasp.vasp.magmom_mapping
    assert mapping['Fe'] == 5.0
    assert 'Cu' not in mapping.get_dict()


def nickel() -> orm.StructureData:
    return orm.StructureData(ase=ase.build.bulk('Ni', cubic=True))


def incar_overrides(incar, **vasp):
    return {'vasp': {'vasp': {'parameters': {'incar': incar}, **vasp}}}


@pytest.mark.parametrize('tag', ['magmom', 'MAGMOM'])
def test_magnetic_moments_in_the_incar_are_not_replaced_by_the_protocol(make_builder, tag):
    overrides = incar_overrides({'ispin': 2, tag: [3, -3, 3, -3]})
    vasp = make_builder(structure=nickel(), overrides=overrides).vasp.vasp
    assert 'magmom_mapping' not in vasp
    assert vasp.parameters['incar']['magmom'] == [3, -3, 3, -3]


def test_vasp_gets_the_magnetic_moments_in_the_incar(make_builder, make_scripted_code):
    code = make_scripted_code('exit 1', 'e3relax-vasp-standin', 'vasp.vasp')
    overrides = incar_overrides({'ispin': 2, 'magmom': [3, -3, 3, -3]}, max_iterations=1)
    builder = make_builder(structure=nickel(), vasp_code=code, network_code=None, overrides=overrides)
    chain = run_get_node(builder).node
    (job,) = {node for node in chain.called_descendants if isinstance(node, orm.CalcJobNode)}
    assert 'MAGMOM = 3 -3 3 -3' in job.base.repository.get_object_content('INCAR')


def test_moments_asked_for_twice_are_refused(make_builder):
    overrides = incar_overrides({'ispin': 2, 'magmom': [3, -3, 3, -3]}, magmom_mapping={'Ni': 2.0})
    with pytest.raises(ValueError, match='`magmom_mapping` says; remove one'):
        make_builder(structure=nickel(), overrides=overrides)


def test_overrides_hold_where_no_argument_is_given(make_builder, model):
    other_model = model.clone().store()
    overrides = {
        'freedom': 'positions',
        'reference_leg': 'never',
        'vasp': {'vasp': {'potential_mapping': {'Cu': 'Cu_pv', 'Ga': 'Ga'}}},
        'network': {'predict': {'model': other_model}},
    }
    builder = make_builder(overrides=overrides)
    assert builder.freedom.value == 'positions'
    assert builder.reference_leg.value == 'never'
    assert builder.vasp.vasp.potential_mapping.get_dict() == {'Cu': 'Cu_pv', 'Au': 'Au'}
    assert builder.network.predict.model.uuid == other_model.uuid


def test_arguments_go_over_overrides(make_builder):
    overrides = {
        'freedom': 'positions',
        'reference_leg': 'never',
        'vasp': {'vasp': {'potential_mapping': {'Cu': 'Cu_pv'}}},
    }
    builder = make_builder(overrides=overrides, freedom='cell', reference_leg='always', potential_mapping={'Cu': 'Cu'})
    assert (builder.freedom.value, builder.reference_leg.value) == ('cell', 'always')
    assert builder.vasp.vasp.potential_mapping['Cu'] == 'Cu'


@pytest.mark.parametrize('port', ['code', 'potential_family'])
def test_overrides_of_what_an_argument_must_give_are_refused(make_builder, port):
    with pytest.raises(ValueError, match=f'`vasp.vasp.{port}` is set by the argument'):
        make_builder(overrides={'vasp': {'vasp': {port: 'other'}}})


@pytest.mark.parametrize('overrides', [{'vasp': None}, {'vasp': {'vasp': {'parameters': 'encut'}}}])
def test_overrides_without_a_mapping_where_one_belongs_are_refused(make_builder, overrides):
    with pytest.raises(ValueError, match='expected a mapping with keys such as'):
        make_builder(overrides=overrides)


def test_bad_inputs_are_refused_when_the_builder_is_made(make_builder):
    for changes, message in (
        ({'freedom': 'all'}, 'expected positions, cell, shape, volume or in-plane'),
        ({'overrides': {'guard': {'mode': 'maybe'}}}, 'expected reject, warn, off'),
        ({'structure': orm.StructureData(cell=[[1, 0, 0], [0, 1, 0], [0, 0, 1]])}, '^`structure` cannot be relaxed'),
    ):
        with pytest.raises(ValueError, match=message):
            make_builder(**changes)


def test_an_incar_tag_that_contradicts_freedom_is_refused_before_anything_runs(make_builder):
    with pytest.raises(ValueError, match='NSW is set by'):
        make_builder(overrides=incar_overrides({'nsw': 3}))
    builder = make_builder()
    builder.vasp.vasp.parameters = {'incar': {'nsw': 3}}
    with pytest.raises(ValueError, match='NSW is set by'):
        run(builder)


def test_a_misspelt_override_is_named_with_the_nearest_port(make_builder):
    with pytest.raises(ValueError, match='did you mean `kpoints_spacing`'):
        make_builder(overrides={'vasp': {'vasp': {'kpoint_spacing': 0.1}}})


def test_potentials_are_the_recommended_ones_where_the_family_has_them(potential_family):
    assert choose_potentials(['Cu', 'Ga'], potential_family) == {'Cu': 'Cu', 'Ga': 'Ga_d'}
    assert choose_potentials(['Ga'], potential_family, {'Ga': 'Ga'}) == {'Ga': 'Ga'}


@pytest.mark.usefixtures('aiida_profile')
def test_potentials_fall_back_on_the_plain_name(tmp_path):
    (tmp_path / 'Ga').mkdir()
    (tmp_path / 'Ga' / 'POTCAR').write_text(potential_text('Ga'), encoding='utf-8')
    PotcarData.upload_potcar_family(str(tmp_path), tmp_path.name, 'gallium alone', stop_if_existing=False)
    assert choose_potentials(['Ga'], tmp_path.name) == {'Ga': 'Ga'}


def test_missing_potentials_and_families_are_named(potential_family):
    with pytest.raises(ValueError, match=r'expected Cu_new for Cu, found .*Cu_pv'):
        choose_potentials(['Cu'], potential_family, {'Cu': 'Cu_new'})
    with pytest.raises(ValueError, match=r'it has no potential for Xe; upload a family that has one'):
        choose_potentials(['Xe'], potential_family)
    with pytest.raises(ValueError, match='potential family `PBE`: there is none'):
        choose_potentials(['Cu'], 'PBE')


def test_builder_takes_a_stored_structure_and_codes_by_label(make_builder, standin_code):
    structure = orm.StructureData(ase=copper_gold()).store()
    builder = make_builder(structure=structure, vasp_code=standin_code.full_label)
    assert (builder.structure, builder.vasp.vasp.code.pk) == (structure, standin_code.pk)


def test_potentials_may_be_named_by_kind(potential_family):
    assert choose_for_structure(manganese_nitride(), potential_family, {'Mn': 'Mn', 'Mn2': 'Mn_pv'}) == {
        **{'Mn': 'Mn', 'N': 'N'},
        'Mn2': 'Mn_pv',
    }
    with pytest.raises(ValueError, match='expected Mn_new for Mn'):
        choose_for_structure(manganese_nitride(), potential_family, {'Mn2': 'Mn_new'})


def test_a_freedom_may_be_given_in_three_ways(make_builder):
    whole = Freedom('shape', fixed={'c': [0]})
    assert read_freedom(make_builder(freedom=whole).freedom) == whole
    assert read_freedom(make_builder(freedom={'moves': 'shape', 'fixed': {'c': [0]}}).freedom) == whole
    assert read_freedom(make_builder(freedom=Moves.SHAPE).freedom) == Freedom('shape')


def test_a_freedom_that_vasp_cannot_honour_is_refused_when_the_builder_is_made(make_builder):
    with pytest.raises(ValueError, match='needs to know the vacuum'):
        make_builder(freedom='in-plane')
