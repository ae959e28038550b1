import json
import subprocess
import sys

import pytest

from aiida_e3relax.common.errors import MissingPackageError
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.registry import MODELS, Models, make_model

LISTED = """
import sys
from aiida_e3relax.gnn.models.registry import MODELS, make_model
print(sorted(MODELS))
make_model('e3relax-h2', {'features': 8})
print(*(name for name in sys.modules if name.split('.')[0] in ('e3nn', 'torch_geometric', 'gotennet')))
"""


def test_models_load_no_package_of_another():
    done = subprocess.run([sys.executable, '-c', LISTED], capture_output=True, text=True, check=True)
    names, loaded = done.stdout.splitlines()
    assert names == str(sorted(MODELS))
    assert not loaded


def test_every_name_has_a_model():
    for name in MODELS:
        assert issubclass(MODELS[name], RelaxationModel)
        assert MODELS.get(name) is MODELS[name]
    assert MODELS.get('absent') is None


def test_a_missing_package_is_told_with_the_line_that_installs_it(tmp_path, monkeypatch):
    (tmp_path / 'model_of_another.py').write_text('import absent_package.part')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        MissingPackageError, match='model other needs the package absent-package, which is not installed'
    ):
        Models({'other': 'model_of_another:Model'})['other']
    with pytest.raises(ModuleNotFoundError, match=r'aiida_e3relax\.gnn\.absent'):
        Models({'wrong': 'aiida_e3relax.gnn.absent:Model'})['wrong']


@pytest.mark.parametrize(('name', 'package'), [('hegnn', 'e3nn'), ('gotennet', 'torch_geometric')])
def test_a_baseline_without_its_package_says_how_to_get_it(name, package, tmp_path, monkeypatch, capsys):
    module = f'aiida_e3relax.gnn.models.{name}'
    monkeypatch.setitem(MODELS.data, name, f'{module}:Model')
    for loaded in [loaded for loaded in sys.modules if loaded.startswith(f'{package}.')]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, module, raising=False)
    (tmp_path / 'run.json').write_text(json.dumps({'data': 'pairs.npz', 'output': 'run', 'architecture': name}))
    assert main(['train', str(tmp_path / 'run.json')]) == MissingPackageError.exit_status
    told = capsys.readouterr().err
    assert f'the model {name} needs the package {package.replace("_", "-")}, which is not installed' in told
    assert "pip install 'aiida-e3relax[baselines]'" in told


def test_unknown_names_are_told_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'e3relax-h2'"):
        make_model('e3relax-h3', {})
    with pytest.raises(ValueError, match="did you mean 'features'"):
        make_model('egnn', {'feature': 8})
