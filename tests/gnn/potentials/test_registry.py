"""Potentials by name: what is refused before anything is imported, and what the adapters ask of the packages."""

import hashlib
import importlib.util
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_e3relax.common.errors import DeviceError, InputError, MissingPackageError, WeightsError
from aiida_e3relax.gnn.potentials import registry
from aiida_e3relax.gnn.potentials.base import DTYPES, Potential, first_of_kind
from aiida_e3relax.gnn.potentials.registry import POTENTIALS, load_potential
from tests.gnn.potentials.conftest import ADAPTERS, forget

CPU = torch.device('cpu')
OF_THE_USER = ('mace', 'matgl', 'nequip', 'mattersim', 'orb', 'fairchem')


def test_all_potentials_are_known_in_a_fixed_order():
    assert tuple(POTENTIALS) == ('chgnet', 'sevennet-0', 'sevennet-mf-0', 'sevennet-l3i5', *OF_THE_USER)
    for name, known in POTENTIALS.items():
        assert known.name == name
        assert importlib.util.find_spec(f'{ADAPTERS}.{known.module}')
        assert known.needs_weights is (name in OF_THE_USER)
        facts = (known.licence, known.training_data, known.functional, known.weights)
        assert not any(facts) if known.needs_weights else all(facts)
        assert {*known.dtypes} <= {*DTYPES}


@pytest.mark.parametrize(
    ('name', 'dtype', 'file', 'words'),
    [
        ('chgnot', 'float32', None, "unknown potential 'chgnot': did you mean 'chgnet'"),
        ('chgnet', 'float64', None, 'chgnet computes in float32, not in float64'),
        ('mace', 'float16', None, 'computes in float32 or float64, not in float16'),
        ('chgnet', 'float32', 'weights.model', 'it takes no file'),
        ('mace', 'float32', None, 'expected a file of its weights'),
        ('mace', 'float32', 'absent.model', 'no such file'),
    ],
)
def test_what_cannot_be_loaded_is_told_before_a_package_is_imported(monkeypatch, weights, name, dtype, file, words):
    for package in ('chgnet', 'mace'):
        monkeypatch.setitem(sys.modules, package, None)
    path = file and weights().with_name(file)
    with pytest.raises(InputError, match=words):
        load_potential(name, CPU, dtype, path)


@pytest.mark.parametrize('name', POTENTIALS)
def test_missing_packages_are_named_with_the_remedy(monkeypatch, weights, name):
    known = POTENTIALS[name]
    forget(monkeypatch, known.module)
    for package in ('chgnet', 'sevenn', 'mace', 'matgl', 'nequip', 'mattersim', 'orb_models', 'fairchem'):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingPackageError, match=f'install it where the network runs, with `pip install {known.package}`'
    ):
        load_potential(name, CPU, 'float32', weights() if known.needs_weights else None)


def test_packages_of_another_version_are_told_from_missing_ones(install, weights):
    install('mace', {'mace.calculators': {}})  # without its calculator
    with pytest.raises(
        MissingPackageError, match=r'does not work here \(ImportError: .*`pip install --upgrade mace-torch`'
    ):
        load_potential('mace', CPU, weights=weights())


def test_files_that_are_no_weights_are_named(install, weights):
    def refuse():
        raise KeyError('model')

    install('mace', {'mace.calculators': {'MACECalculator': refuse}})
    with pytest.raises(
        WeightsError, match=r"weights\.model: expected weights of mace .* found KeyError: 'model'"
    ) as raised:
        load_potential('mace', CPU, weights=weights())
    assert (raised.value.code, raised.value.exit_status) == ('bad_checkpoint', 4)


def test_an_error_of_the_gpu_is_no_fault_of_the_weights(install, weights):
    def refuse(**options):
        raise RuntimeError('CUDA error: an illegal memory access was encountered')

    install('mace', {'mace.calculators': {'MACECalculator': refuse}})
    with pytest.raises(RuntimeError, match=r'^CUDA error'):
        load_potential('mace', CPU, weights=weights())


def test_a_package_that_has_moved_its_own_weights_is_told(monkeypatch):
    def move(known):
        raise FileNotFoundError('0.3.0 is not there')

    adapter = types.SimpleNamespace(find_weights=move)
    monkeypatch.setattr(registry, '_import_adapter', lambda known: adapter)
    with pytest.raises(InputError, match=r'0\.3\.0: expected weights of chgnet .* found .*is not there'):
        load_potential('chgnet', CPU)


def test_what_is_not_known_to_gain_from_compiling_is_refused(install, weights):
    install('mace', {'mace.calculators': {'MACECalculator': EMT}})
    with pytest.raises(InputError, match='mace: nothing of it is known to be faster when compiled'):
        load_potential('mace', CPU, 'float64', weights(), is_compiled=True)


def test_a_compiler_that_is_missing_is_told_before_a_step(monkeypatch, weights):
    compiled = []

    class Compiled(EMT):
        def calculate(self, *arguments, **options):
            raise RuntimeError('No working C++ compiler found')

    adapter = types.SimpleNamespace(
        find_weights=lambda known: weights(),
        make_calculator=lambda *arguments: Compiled(),
        compile_products=compiled.append,
    )
    monkeypatch.setattr(registry, '_import_adapter', lambda known: adapter)
    with pytest.raises(MissingPackageError, match=r'needs a C\+\+ compiler .* found .*No working .* leave'):
        load_potential('chgnet', CPU, is_compiled=True)
    assert len(compiled) == 1


def test_facts_say_where_numbers_come_from(install, weights):
    install('mace', {'mace.calculators': {'MACECalculator': EMT}})
    assert load_potential('mace', CPU, 'float64', weights()).facts() == {
        'potential': 'mace',
        'version': registry.installed_version(POTENTIALS['mace']) or 'of unknown version',
        'weights': 'weights.model',
        'content_hash': f'sha256:{hashlib.sha256(b"weights").hexdigest()}',
        'licence': None,
        'training_data': None,
        'functional': None,
        'dtype': 'float64',
        'evaluation': 'one after the other, as on a CPU unless batches are asked for',
    }
    assert Potential(EMT(), 'emt', '3', 'of ASE').facts()['potential'] == 'emt'


def test_what_a_package_sets_in_torch_is_its_own(install, weights):
    seen = []

    class Setting(EMT):
        def __init__(self):
            super().__init__()
            assert torch.get_default_dtype() is torch.float64  # which was asked for
            torch.set_default_dtype(torch.float16)
            torch.set_float32_matmul_precision('medium')

        def calculate(self, *arguments, **options):
            seen.append((torch.get_default_dtype(), torch.get_float32_matmul_precision()))
            super().calculate(*arguments, **options)
            torch.set_default_dtype(torch.float64)

    before = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    install('mace', {'mace.calculators': {'MACECalculator': Setting}})
    atoms = bulk('Cu')
    atoms.calc = load_potential('mace', CPU, 'float64', weights()).calculator
    assert (torch.get_default_dtype(), torch.get_float32_matmul_precision()) == before
    atoms.get_forces()
    assert (torch.get_default_dtype(), torch.get_float32_matmul_precision()) == before
    atoms.rattle(0.1)
    np.testing.assert_allclose(atoms.get_forces(), [[0, 0, 0]], atol=1e-9)
    assert seen == [(torch.float16, 'medium'), (torch.float64, 'medium')]


def test_mace_gets_the_very_path_and_the_precision(install, weights, calls):
    install('mace', {'mace.calculators': {'MACECalculator': EMT}})
    path = weights('mace[1].model')  # which a pattern of names would not match
    load_potential('mace', CPU, 'float64', path)
    assert calls == [('MACECalculator', (), {'model_paths': [str(path)], 'device': 'cpu', 'default_dtype': 'float64'})]


class FakeModel:
    """A network that can be moved."""

    def to(self, device):
        assert device == CPU
        return self

    def eval(self):
        return self


def matgl_archive(folder, names=('model.json', 'model.pt', 'state.pt')):
    path = folder / 'tensornet.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        for name in names:
            archive.writestr(f'tensornet/{name}', 'content')
    return path


def test_matgl_gets_the_folder_of_the_archive_and_states_the_stress_as_ase_has_it(install, tmp_path, calls):
    install('matgl', {'matgl': {'load_model': FakeModel}, 'matgl.ext.ase': {'PESCalculator': EMT}})
    load_potential('matgl', CPU, weights=matgl_archive(tmp_path))
    (_, (folder,), _), (name, (model,), options) = calls
    assert (folder.name, name, type(model)) == ('tensornet', 'PESCalculator', FakeModel)
    assert options == {'stress_unit': 'eV/A3', 'use_voigt': True}


def test_matgl_archives_without_a_model_are_refused(install, weights, tmp_path):
    install('matgl', {'matgl': {'load_model': FakeModel}, 'matgl.ext.ase': {'PESCalculator': EMT}})
    for path in (weights('tensornet.pt'), matgl_archive(tmp_path, ['model.json', 'model.pt'])):
        with pytest.raises(InputError, match=r'expected a zip or tar file of the folder of a model, with model\.json'):
            load_potential('matgl', CPU, weights=path)


def compiled(folder, name='crystal.nequip.pth', member='crystal/extra/model_dtype', content='float64'):
    path = folder / name
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr(member, content)
    return path


def nequip(result=EMT):
    class NequIPCalculator:
        from_compiled_model = staticmethod(result)

    return NequIPCalculator


@pytest.mark.parametrize(
    ('name', 'member', 'content'),
    [
        ('a.nequip.pth', 'a/extra/model_dtype', 'float64'),
        ('a.nequip.pt2', 'a/data/aotinductor/model/x.wrapper_metadata.json', '{"model_dtype": "float64"}'),
    ],
)
def test_nequip_has_the_precision_that_it_was_compiled_for(
    monkeypatch, install, tmp_path, calls, name, member, content
):
    path = compiled(tmp_path, name, member, content)
    install('nequip', {'nequip.integrations.ase': {'from_compiled_model': EMT}})
    module = sys.modules['nequip.integrations.ase']
    monkeypatch.setattr(module, 'NequIPCalculator', nequip(module.from_compiled_model), raising=False)
    assert [load_potential('nequip', CPU, dtype, path).dtype for dtype in DTYPES] == ['float64', 'float64']
    assert calls == 2 * [('from_compiled_model', (str(path),), {'device': 'cpu'})]


def test_nequip_takes_compiled_models_alone(install, weights):
    install('nequip', {'nequip.integrations.ase': {'NequIPCalculator': EMT}})
    with pytest.raises(InputError, match=r'ends in \.nequip\.pt2 or \.nequip\.pth; make one with `nequip-compile'):
        load_potential('nequip', CPU, weights=weights('last.ckpt'))


def test_mattersim_gets_an_absolute_path_that_it_takes_for_no_name(monkeypatch, install, weights, tmp_path, calls):
    install('mattersim', {'mattersim.forcefield.potential': {'MatterSimCalculator': EMT, 'from_checkpoint': FakeModel}})
    module = sys.modules['mattersim.forcefield.potential']
    potential = types.SimpleNamespace(from_checkpoint=module.from_checkpoint)
    monkeypatch.setattr(module, 'Potential', potential, raising=False)
    path = weights('mattersim-v1.0.0-1M.pth')
    monkeypatch.chdir(tmp_path)
    load_potential('mattersim', CPU, weights=path.name)
    (_, _, first), (_, _, second) = calls
    assert first == {'load_path': str(path.resolve()), 'device': 'cpu', 'load_training_state': False}
    assert (type(second['potential']), second['device']) == (FakeModel, 'cpu')


@pytest.mark.parametrize(('dtype', 'precision'), [('float32', 'float32-highest'), ('float64', 'float64')])
@pytest.mark.parametrize('made', [('network',), ('network', 'graphs')])
def test_orb_takes_the_network_that_the_name_of_the_file_tells(
    monkeypatch, install, weights, calls, dtype, precision, made
):
    install('orb', {'orb_models.forcefield.calculator': {'ORBCalculator': EMT}, 'orb_models.forcefield.pretrained': {}})

    def make(**options):
        calls.append(options)
        return made if len(made) > 1 else made[0]

    models = {'orb-v3': None, 'orb-v3-conservative-inf-omat': make, 'orb-v2': None}
    monkeypatch.setattr(sys.modules['orb_models.forcefield.pretrained'], 'ORB_PRETRAINED_MODELS', models, raising=False)
    path = weights('orb-v3-conservative-inf-omat-20250404.ckpt')
    load_potential('orb', CPU, dtype, path)
    assert calls == [
        {'weights_path': str(path), 'device': 'cpu', 'precision': precision, 'compile': False},
        ('ORBCalculator', made, {'device': 'cpu'}),
    ]
    with pytest.raises(InputError, match='begins with that of its model: orb-v3, orb-v3-conservative-inf-omat, orb-v2'):
        load_potential('orb', CPU, dtype, weights('mine.ckpt'))


@pytest.mark.parametrize(('tasks', 'task'), [(('omol', 'omat'), 'omat'), (('mine',), None)])
def test_fairchem_computes_inorganic_crystals(install, weights, calls, tasks, task):
    unit = types.SimpleNamespace(dataset_to_tasks=dict.fromkeys(tasks))
    install(
        'fairchem',
        {
            'fairchem.core': {'FAIRChemCalculator': EMT},
            'fairchem.core.units.mlip_unit': {'load_predict_unit': lambda: unit},
            'fairchem.core.units.mlip_unit.api.inference': {'InferenceSettings': lambda: 'settings'},
        },
    )
    path = weights('uma-s-1p1.pt')
    load_potential('fairchem', CPU, 'float64', path)
    assert calls == [
        ('InferenceSettings', (), {'base_precision_dtype': torch.float64}),
        ('load_predict_unit', (path,), {'inference_settings': 'settings', 'device': 'cpu'}),
        ('FAIRChemCalculator', (unit,), {'task_name': task}),
    ]


def test_packages_that_know_the_first_gpu_alone_refuse_another():
    known = POTENTIALS['fairchem']
    assert [first_of_kind(known, torch.device(name)) for name in ('cpu', 'cuda', 'cuda:0')] == ['cpu', 'cuda', 'cuda']
    with pytest.raises(DeviceError, match='not on cuda:2: set CUDA_VISIBLE_DEVICES=2'):
        first_of_kind(known, torch.device('cuda:2'))
