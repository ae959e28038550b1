"""What is handed to `get_builder_from_protocol`: the right kind, or how to make it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from aiida import orm
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from aiida_e3relax.calculations.pre_relaxer import PreRelaxer, set_default_pre_relaxer
from aiida_e3relax.cli.relax_inputs import describe_relaxations
from aiida_e3relax.data.batch import StructureBatchData
from aiida_e3relax.data.potential import E3RelaxPotentialData
from aiida_e3relax.workflows.vasp.arguments import load_code
from aiida_e3relax.workflows.vasp.choices import ChainChoices

CUBE = Lattice.cubic(4.2)


@pytest.mark.parametrize(
    ('structure', 'words'),
    [
        (bulk('Cu'), r'make one with `orm\.StructureData\(ase=atoms\)`'),
        (Structure(CUBE, ['Mg'], [[0, 0, 0]]), r'make one with `orm\.StructureData\(pymatgen=structure\)`'),
        (Path('POSCAR'), r'orm\.StructureData\(ase=ase\.io\.read\(path\)\)'),
        (__file__, r'orm\.StructureData\(ase=ase\.io\.read\(path\)\)'),
        (4711, r'load the node with `orm\.load_node'),
        ('a-uuid', 'load the node'),
        (None, 'give one, as'),
    ],
)
def test_a_structure_is_structure_data(make_builder, structure, words):
    with pytest.raises(TypeError, match=f'`structure`: expected StructureData, found .*{words}'):
        make_builder(structure=structure)


def test_a_bound_of_the_guard_on_what_the_pre_relaxer_never_states_is_refused(make_builder):
    uncertain, rising = ({'guard': {name: 0.1}} for name in ('uncertainty_max_A', 'energy_rise_max_eV_per_atom'))
    with pytest.raises(ValueError, match='`uncertainty_max_A` would reject every prediction by chgnet'):
        make_builder(pre_relaxer='chgnet', overrides=uncertain)
    with pytest.raises(ValueError, match='`energy_rise_max_eV_per_atom` would reject every prediction by network'):
        make_builder(overrides=rising)
    make_builder(overrides=uncertain)
    make_builder(pre_relaxer='chgnet', overrides=rising)
    make_builder(network_code=None, model=None, overrides=rising)


def test_a_disordered_structure_is_refused_as_in_files(make_builder):
    structure = Structure(CUBE, [{'Mg': 0.5, 'Ni': 0.5}, 'O'], [[0, 0, 0], [0.5, 0.5, 0.5]])
    with pytest.raises(ValueError, match=r'site 0 \(Mg 0\.5 \+ Ni 0\.5\); order it first'):
        make_builder(structure=structure)


@pytest.mark.parametrize(
    ('argument', 'value', 'words'),
    [
        ('model', 'default', r'expected a model node: `E3RelaxModelData\.default\(\)`.*; found str \'default\''),
        ('potential_family', 3, 'expected the label of a family'),
        ('potential_mapping', ['Cu'], "expected a mapping such as {'Ga': 'Ga_d'}"),
        ('protocol', 3, 'expected the name of a protocol; found int 3'),
        ('overrides', 'overrides.yaml', 'expected a mapping nested as the inputs'),
        ('overrides', [1], 'expected a mapping nested as the inputs'),
        ('options', 'debug', r"expected a mapping such as {'resources'"),
        ('freedom', 3, "expected a word such as 'positions'"),
        ('reference_leg', 17, "expected 'always', 'sample', 'never', or an earlier chain; found int 17"),
        ('prediction', 'x', 'expected a mapping with `label`'),
        ('pre_relaxer', 3, "expected a pre-relaxer such as 'network'"),
        ('potential_weights', 'x.model', 'expected a node of weights'),
        ('campaign', {}, 'expected the node with the settings'),
        ('vasp_code', 1.5, 'expected a code or its label, found float 1.5'),
        ('network_code', ['e3relax'], 'expected a code or its label'),
    ],
)
def test_other_arguments_are_of_their_kind(make_builder, argument, value, words):
    with pytest.raises(TypeError, match=f'`{argument}`: {words}'):
        make_builder(**{argument: value})


def test_an_unknown_code_comes_with_those_that_are_there(make_builder, standin_code):
    listed = f'`vasp_code`: code `none@here` is not in this profile; codes for vasp.vasp are.*{standin_code.full_label}'
    with pytest.raises(ValueError, match=listed):
        make_builder(vasp_code='none@here')
    assert load_code(standin_code.full_label, 'vasp.vasp', 'x').uuid == standin_code.uuid
    assert load_code(standin_code.pk, 'vasp.vasp', 'x').uuid == standin_code.uuid


def test_a_label_goes_before_a_pk_and_the_start_of_a_uuid(standin_code, make_code):
    """By themselves these labels would name the other code."""
    for other in (str(standin_code.pk), standin_code.uuid[:4]):
        code = make_code('e3relax-vasp-standin', other, 'vasp.vasp')
        assert load_code(other, 'vasp.vasp', 'x').uuid == code.uuid
        assert load_code(f'{other}@localhost', 'vasp.vasp', 'x').uuid == code.uuid
    assert load_code(standin_code.pk, 'vasp.vasp', 'x').uuid == standin_code.uuid
    start = standin_code.uuid[:13]  # the first eight may all be digits, which would be a PK
    assert load_code(start, 'vasp.vasp', 'x').uuid == standin_code.uuid


def test_a_profile_without_codes_says_how_to_make_one():
    with pytest.raises(ValueError, match=r'make one with `verdi code create core\.code\.installed .* none'):
        load_code('none', 'none', '`vasp_code`')


def test_a_code_for_something_else_is_refused(make_builder, e3relax_code):
    with pytest.raises(ValueError, match=r'`vasp_code`: code .* one for vasp\.vasp, found one for e3relax'):
        make_builder(vasp_code=e3relax_code)


def test_structure_data_is_taken(make_builder):
    assert make_builder(structure=orm.StructureData(ase=bulk('Cu'))).structure.get_formula() == 'Cu'


def test_a_pre_relaxer_sets_parameters_and_model(make_builder, model):
    network = make_builder().network.predict
    assert (network.model, 'potential' in network.parameters.get_dict()) == (model, False)
    alone = make_builder(pre_relaxer='sevennet-mf-0').network.predict
    assert alone.model is None
    assert alone.parameters['potential'] == 'sevennet-mf-0'
    assert alone.parameters['start'] == 'input'
    both = make_builder(pre_relaxer='network+chgnet', overrides={'network': {'predict': {'parameters': {'steps': 7}}}})
    assert both.network.predict.model == model
    parameters = both.network.predict.parameters.get_dict()
    assert {key: parameters[key] for key in ('potential', 'start', 'steps')} == {
        'potential': 'chgnet',
        'start': 'network',
        'steps': 7,
    }
    by_overrides = {'network': {'predict': {'parameters': {'potential': 'chgnet', 'start': 'input'}}}}
    assert make_builder(overrides=by_overrides).network.predict.model is None
    plain = make_builder(pre_relaxer='network', overrides=by_overrides).network.predict
    assert (plain.model, plain.parameters.get_dict()) == (model, network.parameters.get_dict())


def test_weights_of_the_overrides_are_taken_for_their_potential(make_builder, tmp_path):
    (tmp_path / 'small.model').write_bytes(b'weights')
    weights = E3RelaxPotentialData(tmp_path / 'small.model', 'mace')
    parameters = {'potential': 'mace', 'start': 'input'}
    overrides = {'network': {'predict': {'potential_weights': weights, 'parameters': parameters}}}
    assert make_builder(overrides=overrides).network.predict.potential_weights == weights
    assert make_builder(overrides=overrides, pre_relaxer='network+mace').network.predict.potential_weights == weights
    assert make_builder(overrides=overrides, pre_relaxer='chgnet').network.predict.potential_weights is None


def test_the_run_of_a_campaign_has_the_same_pre_relaxer_as_a_chain(make_builder, standin_code, e3relax_code, model):
    steps = {'network': {'predict': {'parameters': {'steps': 7}}}}
    choices = ChainChoices(standin_code, e3relax_code, 'none', 'positions', overrides=steps)
    batch = StructureBatchData({'cu': orm.StructureData(ase=bulk('Cu'))})

    def run(**changes):
        return dataclasses.replace(choices, **changes).network_builder(batch, orm.Dict()).predict

    alone = run(pre_relaxer='network')
    assert (alone.model, 'steps' in alone.parameters.get_dict()) == (model, False)
    potential = run(pre_relaxer='chgnet')
    asked = {key: potential.parameters[key] for key in ('potential', 'start', 'steps', 'freedom')}
    assert potential.model is None
    assert asked == {'potential': 'chgnet', 'start': 'input', 'steps': 7, 'freedom': 'positions'}
    with pytest.raises(ValueError, match=r'`network\.predict\.parameters`: `steps`: expected `potential` beside it'):
        run()


@pytest.mark.parametrize('overrides', [{}, {'clean_workdir': False}])
def test_folders_of_the_network_go_or_stay_as_those_of_vasp(make_builder, standin_code, e3relax_code, overrides):
    choices = ChainChoices(standin_code, e3relax_code, 'none', 'positions', overrides=overrides)
    batch = StructureBatchData({'cu': orm.StructureData(ase=bulk('Cu'))})
    network, chain = choices.network_builder(batch, orm.Dict()), make_builder(overrides=overrides)
    assert network.clean_workdir.value == chain.clean_workdir.value == (not overrides)


@pytest.mark.parametrize('told', [{'freedom': 'positions'}, {'fixed': {'cu': {'abc': [0]}}}])
def test_a_network_is_told_by_the_chain_alone_what_may_move(standin_code, e3relax_code, told):
    message = rf'`{next(iter(told))}`: expected none, what may move is said by the input `freedom`'
    overrides = {'network': {'predict': {'parameters': told}}}
    choices = ChainChoices(standin_code, e3relax_code, 'none', 'cell', overrides=overrides)
    with pytest.raises(ValueError, match=message):
        choices.network_builder(StructureBatchData({'cu': orm.StructureData(ase=bulk('Cu'))}), orm.Dict())


def test_a_pre_relaxer_that_does_not_fit_is_refused(make_builder, model):
    with pytest.raises(ValueError, match='`pre_relaxer`: expected network, the name of a potential'):
        make_builder(pre_relaxer='emt')
    with pytest.raises(ValueError, match='`model`: expected none beside the pre-relaxer chgnet'):
        make_builder(pre_relaxer='chgnet', model=model)
    with pytest.raises(ValueError, match='mace brings no weights'):
        make_builder(pre_relaxer='mace')


@pytest.mark.parametrize(
    ('changes', 'told'),
    [
        (
            {'reference_leg': 'always'},
            'VASP runs two relaxations: from the prediction (network), and from the raw crystal',
        ),
        ({}, 'one from the raw crystal only where that fails or is rejected'),
        ({'pre_relaxer': 'chgnet'}, 'from the prediction (chgnet); one'),
        ({'reference_leg': 'sample'}, 'where the crystal is in the sample of 10 %'),
        ({'network_code': None}, 'VASP runs one relaxation, from the raw crystal.'),
    ],
)
def test_a_person_is_told_how_many_relaxations_will_run(make_builder, changes, told):
    assert told in describe_relaxations(make_builder(**changes))


def test_the_default_of_the_code_is_taken_unless_a_model_is_given(make_builder, e3relax_code, model):
    set_default_pre_relaxer(e3relax_code, PreRelaxer.parse('sevennet-mf-0'))
    predict = make_builder(network_code=e3relax_code).network.predict
    assert predict.parameters['potential'] == 'sevennet-mf-0'
    assert predict.parameters['start'] == 'input'
    assert predict.model is None
    assert make_builder(network_code=e3relax_code, model=model).network.predict.model == model


@pytest.fixture
def make_mpi_code(standin_code) -> Callable[..., orm.InstalledCode]:
    """A factory of codes that say whether they run by MPI."""

    def make(with_mpi: bool | None, plugin: str = 'vasp.vasp') -> orm.InstalledCode:
        return orm.InstalledCode(
            computer=standin_code.computer,
            filepath_executable=str(standin_code.filepath_executable),
            label=f'with-mpi-{with_mpi}',
            default_calc_job_plugin=plugin,
            with_mpi=with_mpi,
        ).store()

    return make


@pytest.mark.parametrize(('with_mpi', 'own', 'found'), [(True, {}, True), (None, {}, False), (None, True, True)])
def test_vasp_runs_by_mpi_where_its_code_says_so(make_builder, make_mpi_code, with_mpi, own, found):
    options = {'withmpi': own} if own else {}
    overrides = {'vasp': {'vasp': {'calc': {'metadata': {'options': options}}}}}
    builder = make_builder(vasp_code=make_mpi_code(with_mpi), overrides=overrides)
    assert builder.vasp.vasp.calc.metadata.options.withmpi is found


@pytest.mark.parametrize('with_mpi', [True, False])
def test_options_that_contradict_the_code_of_vasp_are_refused(make_builder, make_mpi_code, with_mpi):
    code = make_mpi_code(with_mpi)
    told = rf'`vasp\.vasp\.calc\.metadata\.options`: `withmpi`: found {not with_mpi}, .*{code.full_label} runs'
    with pytest.raises(ValueError, match=told):
        make_builder(vasp_code=code, options={'withmpi': not with_mpi})
    overrides = {'vasp': {'vasp': {'calc': {'metadata': {'options': {'withmpi': not with_mpi}}}}}}
    with pytest.raises(ValueError, match=told):
        make_builder(vasp_code=code, overrides=overrides)


def test_options_that_contradict_the_code_of_the_network_are_refused(make_builder, make_mpi_code):
    by_mpi, alone = make_mpi_code(True, 'e3relax.predict'), make_mpi_code(False, 'e3relax.predict')
    with pytest.raises(ValueError, match=r'`withmpi`: found False, .* runs by MPI'):
        make_builder(network_code=by_mpi, network_options={'withmpi': False})
    with pytest.raises(ValueError, match=r'`withmpi`: found True, .* runs without MPI'):
        make_builder(network_code=alone, network_options={'withmpi': True})


def test_options_of_the_network_go_over_those_of_the_overrides(make_builder, e3relax_code):
    overrides = {'network': {'predict': {'metadata': {'options': {'max_wallclock_seconds': 60, 'queue_name': 'gpu'}}}}}
    builder = make_builder(
        network_code=e3relax_code, overrides=overrides, network_options={'max_wallclock_seconds': 120}
    )
    options = builder.network.predict.metadata.options
    assert (options.max_wallclock_seconds, options.queue_name) == (120, 'gpu')


@pytest.mark.parametrize('with_mpi', [True, False, None])
def test_the_network_runs_by_mpi_where_its_code_says_so(make_builder, make_mpi_code, with_mpi):
    builder = make_builder(network_code=make_mpi_code(with_mpi, 'e3relax.predict'))
    assert builder.network.predict.metadata.options.get('withmpi', False) is bool(with_mpi)


def test_what_the_network_cannot_be_told_is_refused_before_anything_runs(make_builder):
    overrides = {'network': {'predict': {'parameters': {'candidates': 2}}}}
    freedom = {'moves': 'cell', 'keep_symmetry': True}
    with pytest.raises(ValueError, match=r'`network\.predict\.parameters`: .*candidates'):
        make_builder(pre_relaxer='chgnet', freedom=freedom, overrides=overrides)
