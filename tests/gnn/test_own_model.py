"""The example of a model from another package, as docs/own_model.md tells to make one: installed, trained, asked."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from e3nn import o3

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.crystals.structures import write_npz
from aiida_e3relax.gnn.graph.batch import make_batch
from aiida_e3relax.gnn.models.equivariance import deviations, predicted_change
from aiida_e3relax.gnn.models.registry import GROUP, MODELS, Models
from tests.gnn.crystals import PROTOTYPES, batch_of, rattled
from tests.gnn.pairs import made_pairs

EXAMPLE = Path(__file__).parents[2] / 'docs' / 'examples' / 'own-model'


@pytest.fixture(scope='module')
def model():
    spec = importlib.util.spec_from_file_location('visnet_relaxation', EXAMPLE / 'visnet_relaxation.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    torch.manual_seed(8)
    kind = module.ViSNetRelaxation
    model = kind(kind.Hyperparameters(features=16, layers=2, radial_functions=8, max_neighbours=10)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    yield model
    del sys.modules[spec.name]


def test_example_follows_what_it_does_not_say_it_breaks(model):
    torch.manual_seed(3)
    rotation = o3.rand_matrix(dtype=torch.float64).numpy()
    prototypes = batch_of(*(PROTOTYPES[name]() for name in ('perovskite', 'rutile', 'hcp')))
    assert predicted_change(model, batch_of(*rattled())).positions > 1e-3
    for transformation, found in deviations(model, batch_of(*rattled()), prototypes, rotation).items():
        assert found.positions < 1e-9
        assert (found.cell < 1e-9) == (transformation not in model.breaks)


def test_example_predicts_an_atom_without_neighbours(model):
    with torch.no_grad():
        (geometry,) = model(
            make_batch(batch_of(Atoms('He', cell=np.eye(3) * 20, pbc=True)), model.graph, dtype=torch.float64)
        )
    assert torch.isfinite(geometry.fractional).all()


def install(folder: Path, entry_points: dict[str, str]) -> None:
    """Write what tells Python that a package with these entry points is installed in `folder`."""
    info = folder / 'another-1.0.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: another\nVersion: 1.0\n')
    lines = [f'[{GROUP}]', *(f'{name} = {entry}' for name, entry in entry_points.items())]
    (info / 'entry_points.txt').write_text('\n'.join(lines) + '\n')


TRAIN_AND_PREDICT = """
from aiida_e3relax.gnn.cli import main
predict = ['predict', 'crystals.npz', '--model', 'run/best.pt', '--output', 'out.npz', '--report', 'report.json']
for arguments in (['train', 'run.json'], predict):
    if main([*arguments, '--threads', '1']):
        raise SystemExit(arguments[0])
"""


def test_example_trains_and_predicts_by_its_entry_point(tmp_path):
    project = tomllib.loads((EXAMPLE / 'pyproject.toml').read_text())
    assert [f'{name}.py' for name in project['tool']['setuptools']['py-modules']] == ['visnet_relaxation.py']
    install(tmp_path / 'site', project['project']['entry-points'][GROUP])
    shutil.copy(EXAMPLE / 'visnet_relaxation.py', tmp_path / 'site')
    write_pairs(tmp_path / 'pairs.npz', made_pairs())
    write_npz(tmp_path / 'crystals.npz', made_pairs().of_split('test').unrelaxed)
    sizes = {'features': 8, 'layers': 2, 'heads': 2, 'radial_functions': 8}
    config = {'data': 'pairs.npz', 'output': 'run', 'steps': 4, 'batch_size': 4, 'architecture': 'visnet'}
    (tmp_path / 'run.json').write_text(json.dumps({**config, 'hyperparameters': sizes}))
    path = os.pathsep.join([str(tmp_path / 'site'), str(EXAMPLE.parents[2])])
    done = subprocess.run(
        [sys.executable, '-c', TRAIN_AND_PREDICT],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'out.npz').is_file()


def test_a_model_of_another_package_never_takes_the_name_of_one(tmp_path, monkeypatch):
    install(tmp_path, {'egnn': 'another:Model', 'another': 'json:JSONDecoder'})
    monkeypatch.syspath_prepend(tmp_path)
    models = Models({'egnn': MODELS.data['egnn']})
    with pytest.warns(UserWarning, match='model egnn of another:Model is left out'):
        models.add_installed()
    assert models.data['egnn'] == MODELS.data['egnn']
    with pytest.raises(
        InputError, match=r'model another: expected the class of a `RelaxationModel` in json:JSONDecoder'
    ):
        models['another']
