"""What files and command lines say of an experiment, and what is refused before anything starts."""

import json

import pytest

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.gnn.experiments.ablations import ABLATIONS
from aiida_e3relax.gnn.experiments.config import parsed_values, read_experiment
from aiida_e3relax.gnn.experiments.execution import prepare
from aiida_e3relax.gnn.models.registry import MODELS
from aiida_e3relax.gnn.training.config import read_config
from tests.gnn.pairs import made_pairs

GIVEN = {'data': ['a.npz'], 'output': 'out', 'seeds': 2}


def benchmark(**given):
    return read_experiment('benchmark', None, {**GIVEN, 'models': ['painn'], **given}, [])


def test_file_and_command_line_say_the_same(tmp_path):
    content = {
        'data': 'a.npz',
        'output': 'out',
        'seeds': [4, 7],
        'settings': {'steps': 50},
        'hyperparameters': {'features': 8, 'radial_functions': 6},
        'models': {'painn': {'layers': 1}, 'egnn': {}},
    }
    (tmp_path / 'file.json').write_text(json.dumps(content))
    from_file = read_experiment('benchmark', tmp_path / 'file.json', {}, [])
    changes = ['steps=50', 'features=8', 'radial_functions=6']
    same = read_experiment(
        'benchmark', None, content | {'data': ['a.npz'], 'settings': {}, 'hyperparameters': {}}, changes
    )
    assert from_file == same
    painn, egnn = (run.settings for run in from_file.runs if run.seed == 4)
    assert painn.hyperparameters == {'features': 8, 'radial_functions': 6, 'layers': 1}
    assert egnn.hyperparameters == {'features': 8}  # it has no radial functions
    assert {painn.steps, egnn.steps} == {50}
    assert read_experiment('benchmark', tmp_path / 'file.json', {'seeds': 1}, []).runs[1].seed == 0


def test_first_seed_comes_first_and_a_model_may_have_fewer():
    runs = benchmark(models={'painn': {}, 'egnn': {'seeds': 1}}).runs
    assert [(run.variant, run.seed) for run in runs] == [('dummy', 0), ('painn', 0), ('egnn', 0), ('painn', 1)]


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'models': ['pain']}, r"benchmark: pain: unknown model 'pain': did you mean 'painn'"),
        ({'models': {'painn': {'steps': 5}}}, r'painn: steps: all models have the same'),
        ({'models': {'painn': {'feature': 5}}}, r"'feature' is neither a setting .* did you mean 'features'"),
        ({'models': []}, r'models: expected names of models'),
        ({'models': ['painn', 'painn']}, r"'painn' stands there twice"),
        ({'hyperparameters': {'l_max': 2}}, r"no model here has 'l_max'"),
        ({'settings': {'step': 2}}, r"unknown setting 'step': did you mean 'steps'"),
        ({'seeds': 0}, r'seeds: expected how many'),
        ({'seeds': [1, 1]}, r'seeds: expected how many'),
        ({'data': ['a.npz', 'b/a.npz']}, r"data: 'a' stands there twice"),
        ({'data': []}, r'data: expected training files'),
        ({'output': ''}, r'output: expected the folder'),
        ({'inference_batches': [0]}, r'inference_batches: expected numbers of crystals'),
        ({'reference': 'egnn'}, r"reference: 'egnn' is no row"),
        ({'sweep': {'layers': [1]}}, r'sweep: is for `e3relax sweep`'),
        ({'model': 'painn'}, r'model: is for `e3relax'),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        benchmark(**given)


def test_model_without_its_package_is_a_run_with_a_fault(monkeypatch):
    monkeypatch.setitem(MODELS.data, 'absent', 'no_such_package.model:Model')
    runs = benchmark(models=['absent', 'painn']).runs
    assert [run.variant for run in runs if run.settings is None] == ['absent', 'absent']
    assert 'no-such-package' in runs[1].fault


def test_rows_of_equal_settings_share_a_run():
    given = {**GIVEN, 'seeds': 1, 'sweep': {'layers': [1, 3], 'features': [128, 64]}}  # 3 layers of 128 are the default
    runs = read_experiment('sweep', None, given, []).runs
    folders = {run.variant: run.folder for run in runs}
    assert folders['layers=3'] == folders['features=128']
    assert len(set(folders.values())) == 4


def test_ablations_are_those_that_a_model_has():
    def rows(model):
        return [v.name for v in read_experiment('ablate', None, {**GIVEN, 'model': model}, []).variants]

    assert rows('e3relax-h2')[:3] == ['e3relax-h2', 'w/o lattice nodes', 'w/o H2-MP']
    assert 'w/o centred positions' in rows('e3relax-h2-published')
    assert not {'w/o refinement', 'w/o layer-wise supervision'} & set(rows('painn'))
    assert 'PACD loss' not in rows('deeprelax')  # its loss is its own
    assert 'fractional loss' in rows({'architecture': 'e3relax-h2', 'loss': 'pacd'})
    everything = set().union(*(rows(name) for name in ('e3relax-h2', 'e3relax-h2-published', 'deeprelax-published')))
    assert set(ABLATIONS) - everything == {'fractional loss', 'w/o vectors along edges'}
    weighed = {'architecture': 'e3relax-h2', 'layers': 3, 'layer_weights': [0.25, 0.5, 1.0]}
    assert 'w/o refinement' in rows(weighed)
    named = read_experiment('ablate', None, {**GIVEN, 'variants': {'short': {'cutoff': 3.0}}}, [])
    assert named.runs[2].settings.hyperparameters == {'cutoff': 3.0}
    with pytest.raises(InputError, match="'w/o anything' is not known"):
        read_experiment('ablate', None, {**GIVEN, 'variants': ['w/o anything']}, [])


def test_values_of_a_sweep():
    assert parsed_values('1,2.5,3') == [1, 2.5, 3]
    assert parsed_values('last,none') == ['last', 'none']
    assert parsed_values('[1, 2],[3, 4]') == [[1, 2], [3, 4]]


def test_files_of_the_runs_are_those_of_the_command_train(tmp_path):
    write_pairs(tmp_path / 'a.npz', made_pairs(3))
    given = {'data': [str(tmp_path / 'a.npz')], 'output': str(tmp_path / 'out'), 'models': ['painn']}
    experiment = benchmark(**given)
    prepare(experiment)
    run = experiment.runs[-1]
    config = read_config(run.folder / 'run.json', [])
    assert (config.settings, config.output, config.data) == (run.settings, run.folder, [run.file])
    with pytest.raises(InputError, match=r"no pair of the split 'val_ood'; it has test, train, val"):
        prepare(benchmark(**given, splits=['val_ood']))
