"""Which pre-relaxer, model and weights the options of a command line and the overrides choose."""

import click
import pytest
import yaml

from aiida_e3relax.calculations.pre_relaxer import EXTRA, PreRelaxer, set_default_pre_relaxer
from aiida_e3relax.cli import chain_options as chain_options_module
from aiida_e3relax.cli.chain_choices import read_choices
from aiida_e3relax.cli.chain_options import chain_options
from aiida_e3relax.gnn.prediction.settings import MOST_STEPS
from aiida_e3relax.workflows.vasp.choices import ChainChoices

POTENTIAL = {'potential': 'chgnet', 'start': 'input', 'steps': 5}


def test_a_validation_has_no_guard_that_could_reject_all(e3relax_code, standin_code, potential_family, tmp_path):
    path = tmp_path / 'overrides.yaml'
    path.write_text('guard: {energy_rise_max_eV_per_atom: 0.0}', encoding='utf-8')
    command = click.command()(chain_options(lambda **options: options))
    codes = ['--vasp-code', standin_code.uuid, '--network-code', e3relax_code.uuid]
    words = [*codes, '--potential-family', potential_family, '--overrides', str(path)]
    options = command.make_context('relax', words).params
    with pytest.raises(ValueError, match='`energy_rise_max_eV_per_atom` would reject every prediction by network'):
        read_choices(options)
    assert read_choices(options, is_judged=False).overrides['guard'] == {'energy_rise_max_eV_per_atom': 0.0}


@pytest.fixture
def choose(e3relax_code, standin_code, potential_family, model, tmp_path):
    """A function that returns the choices of options, with parameters of the run in the overrides."""

    def choose(*words, **parameters):
        path = tmp_path / 'overrides.yaml'
        path.write_text(yaml.safe_dump({'network': {'predict': {'parameters': parameters}}}), encoding='utf-8')
        command = click.command()(chain_options(lambda **options: options))
        codes = ['--vasp-code', standin_code.uuid]
        if '--no-network' not in words:
            codes += ['--network-code', e3relax_code.uuid]
        words = [*codes, '--potential-family', potential_family, '--overrides', str(path), *words]
        return read_choices(command.make_context('relax', words).params)

    return choose


def test_without_an_option_the_overrides_choose(choose, model):
    choices = choose(**POTENTIAL)
    assert (choices.pre_relaxer, choices.model) == (None, None)
    assert (choose().pre_relaxer, choose().model) == (None, model)
    assert choose(**POTENTIAL | {'start': 'network'}).model == model


def test_an_option_goes_over_the_overrides(choose, model):
    choices = choose('--pre-relaxer', 'network', **POTENTIAL)
    assert (choices.pre_relaxer, choices.model) == ('network', model)
    choices = choose('--pre-relaxer', 'network+chgnet', steps=5)
    assert (choices.pre_relaxer, choices.model) == ('network+chgnet', model)


def test_what_does_not_fit_is_refused(choose):
    with pytest.raises(click.ClickException, match='--model default: the pre-relaxer chgnet has no network'):
        choose('--model', 'default', **POTENTIAL)
    with pytest.raises(click.ClickException, match='--pre-relaxer: expected network, the name of a potential'):
        choose('--pre-relaxer', 'emt')
    for option, value in (
        ('--pre-relaxer', 'chgnet'),
        ('--model', 'default'),
        ('--potential-weights', 'weights.pt'),
        ('--potential-steps', '5'),
        ('--network-code', 'e3relax@gpu'),
        ('--num-gpus', '0'),
        ('--predicted-algo', 'rd'),
    ):
        with pytest.raises(
            click.ClickException, match=f'--no-network: expected no {option} beside it, found {option} {value}'
        ):
            choose(option, value, '--no-network')
    with pytest.raises(ValueError, match=r'--overrides: `network\.predict\.parameters`: `steps`: expected `potential`'):
        choose(steps=5)


def test_how_far_a_potential_goes(choose):
    choices = choose('--potential-steps', '7', '--potential-stress-max', '2', **POTENTIAL)
    assert choices.overrides['network']['predict']['parameters'] == {**POTENTIAL, 'steps': 7, 'stress_max_kB': 2.0}
    for words in ([], ['--pre-relaxer', 'network'], ['--pre-relaxer', 'dls-volume']):
        with pytest.raises(click.ClickException, match=r'--potential-force-max 0\.1: expected a pre-rel'):
            choose('--potential-force-max', '0.1', *words)


def test_the_most_steps_are_those_of_a_run():
    assert chain_options_module.MOST_STEPS == MOST_STEPS


def test_raw_structures_alone_have_neither(choose):
    choices = choose('--no-network', **POTENTIAL)
    assert (choices.network_code, choices.model, choices.potential_weights) == (None, None, None)


class TestDefaultOfTheCode:
    """The pre-relaxer that a code has by default counts where nothing else names one."""

    @pytest.fixture(autouse=True)
    def _default(self, e3relax_code):
        set_default_pre_relaxer(e3relax_code, PreRelaxer.parse('sevennet-mf-0'))

    def test_it_is_written_into_the_choices(self, choose):
        choices = choose()
        assert (choices.pre_relaxer, choices.model) == ('sevennet-mf-0', None)

    def test_what_is_named_goes_over_it(self, choose, model):
        assert choose('--pre-relaxer', 'network').pre_relaxer == 'network'
        assert choose('--model', 'default').pre_relaxer is None
        assert choose('--model', 'default').model == model
        assert choose(**POTENTIAL).pre_relaxer is None
        assert choose(bonds=True).model == model
        assert choose('--no-network').pre_relaxer is None

    def test_settled_choices_keep_it_when_the_code_changes(self, e3relax_code, standin_code, potential_family):
        choices = ChainChoices(standin_code, e3relax_code, potential_family, 'cell')
        settled = choices.settle()
        set_default_pre_relaxer(e3relax_code, PreRelaxer.parse('network'))
        assert settled.pre_relaxer == 'sevennet-mf-0'
        assert settled.settle() == settled

    def test_what_is_no_pre_relaxer_is_refused(self, choose, e3relax_code):
        e3relax_code.base.extras.set(EXTRA, 'sevenet')
        with pytest.raises(ValueError, match='the pre-relaxer of the code `e3relax@localhost`: expected network'):
            choose()
        with pytest.raises(ValueError, match='mace: expected a potential whose package brings its weights'):
            set_default_pre_relaxer(e3relax_code, PreRelaxer.parse('mace'))
