"""`E3RelaxCalculation` and its parser, in real runs of the network and of programs that fail."""

import zipfile
from types import SimpleNamespace

import ase.build
import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node, submit

from aiida_e3relax.calculations.predict import E3RelaxCalculation, find_weights_fault
from aiida_e3relax.data.model import E3RelaxModelData, hash_file
from aiida_e3relax.data.potential import E3RelaxPotentialData

EXIT_CODES = E3RelaxCalculation.exit_codes


@pytest.fixture
def make_program(make_code, find_program, tmp_path):
    """A factory of codes that run a few lines of shell instead of the network."""

    def make(lines: str) -> orm.InstalledCode:
        path = tmp_path / 'program.sh'
        path.write_text(f'#!/bin/bash\nPATH={find_program("e3relax").parent}:$PATH\n{lines}\n')
        path.chmod(0o755)
        return make_code(path, 'program', 'e3relax.predict')

    return make


def make_single_site(symbol: str, cell: list[list[float]]) -> orm.StructureData:
    structure = orm.StructureData(cell=cell)
    structure.append_atom(symbols=symbol, position=(0, 0, 0))
    return structure


def run(code, model, structures, **parameters):
    _, node = run_get_node(
        E3RelaxCalculation, code=code, model=model, structures=structures, parameters={'device': 'cpu', **parameters}
    )
    return node


class TestNetwork:
    def test_one_bad_structure_takes_no_other_down(self, e3relax_code, model, make_structure):
        """Predicts two crystals beside three that cannot be predicted."""
        structures = {
            'mgo': make_structure(ase.build.bulk('MgO', 'rocksalt', a=4.212, cubic=True)),
            'gaas': make_structure('GaAs'),
            'empty': orm.StructureData(cell=(4 * np.eye(3)).tolist()),
            'unknown': make_single_site('X', (4 * np.eye(3)).tolist()),
            'flat': make_single_site('Cu', [[4, 0, 0], [4, 1e-9, 0], [0, 0, 4]]),
        }
        node = run(e3relax_code, model, structures)
        assert node.is_finished_ok, node.exit_message

        assert sorted(node.outputs.structures) == ['gaas', 'mgo']
        predicted = node.outputs.structures.mgo
        assert predicted.get_site_kindnames() == structures['mgo'].get_site_kindnames()
        assert predicted.pbc == (True, True, True)
        assert not np.array_equal(predicted.cell, structures['mgo'].cell)

        report = node.outputs.report.get_dict()
        assert {entry['label']: entry['status'] for entry in report['structures']} == {
            'mgo': 'ok',
            'gaas': 'ok',
            'empty': 'empty',
            'unknown': 'unknown_element',
            'flat': 'singular_cell',
        }
        assert report['model']['content_hash'] == model.content_hash
        assert report['device']['used'] == 'cpu'

    def test_files_and_parameters_reach_the_program(self, e3relax_code, model, make_structure):
        node = run(e3relax_code, model, {'cu': make_structure('Cu')}, dtype='float64', max_edges=1234)
        assert node.is_finished_ok, node.exit_message
        script = node.base.repository.get_object_content('_aiidasubmit.sh')
        assert "'--dtype' 'float64' '--max-edges' '1234'" in script
        assert node.outputs.report['dtype'] == 'float64'
        assert set(node.outputs.retrieved.base.repository.list_object_names()) >= {'predictions.npz', 'report.json'}
        assert 'model.pt' not in node.outputs.retrieved.base.repository.list_object_names()

    def test_no_gpu(self, e3relax_code, model, make_structure):
        node = run(e3relax_code, model, {'cu': make_structure('Cu')}, device='cuda:63')
        assert node.exit_status == EXIT_CODES.ERROR_NO_DEVICE.status
        assert 'cuda:63' in node.exit_message
        assert '`auto` or `cpu`' in node.exit_message

    def test_archive_that_is_no_checkpoint(self, e3relax_code, model, make_structure, tmp_path):
        path = tmp_path / 'other.pt'
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('weights', 'none')
        other = E3RelaxModelData(path, {**model.card, 'content_hash': hash_file(path)})
        node = run(e3relax_code, other, {'cu': make_structure('Cu')})
        assert node.exit_status == EXIT_CODES.ERROR_BAD_CHECKPOINT.status
        assert 'E3RelaxModelData.default()' in node.exit_message

    def test_checkpoint_damaged_on_the_way(self, make_program, model, make_structure):
        node = run(make_program('printf x >> model.pt; e3relax "$@"'), model, {'cu': make_structure('Cu')})
        assert node.exit_status == EXIT_CODES.ERROR_BAD_CHECKPOINT.status
        assert model.content_hash in node.exit_message

    @pytest.mark.slow
    @pytest.mark.daemon
    def test_submitted_to_the_daemon(self, e3relax_code, model, make_structure, submit_and_await):
        builder = e3relax_code.get_builder()
        builder.model = model
        builder.structures = {'cu': make_structure('Cu')}
        builder.parameters = {'device': 'cpu'}
        node = submit_and_await(submit(builder), timeout=120)
        assert node.is_finished_ok, node.exit_message
        assert list(node.outputs.structures) == ['cu']


class TestRefusedBeforeSubmission:
    @pytest.mark.parametrize(
        ('symbol', 'cell', 'message'),
        [
            ('X', [[4, 0, 0], [0, 4, 0], [0, 0, 4]], 'structure `only`: kind `X`'),
            ('Cu', [[4, 0, 0], [8, 0, 0], [0, 0, 4]], 'structure `only`: the cell volume'),
        ],
    )
    def test_single_structure(self, e3relax_code, model, symbol, cell, message):
        with pytest.raises(ValueError, match=message):
            run(e3relax_code, model, {'only': make_single_site(symbol, cell)})

    def test_single_empty_structure(self, e3relax_code, model):
        with pytest.raises(ValueError, match='structure `only`: the structure holds no atoms'):
            run(e3relax_code, model, {'only': orm.StructureData(cell=np.eye(3).tolist())})

    def test_no_structure(self, e3relax_code, model):
        with pytest.raises(ValueError, match='found neither `structures` nor `batch`'):
            run(e3relax_code, model, {})

    def test_all_structures_are_named(self, e3relax_code, model):
        bad = {'a': orm.StructureData(cell=np.eye(3).tolist()), 'b': make_single_site('X', np.eye(3).tolist())}
        with pytest.raises(ValueError, match=r'structure `a`: the structure holds no atoms.*structure `b`: kind `X`'):
            run(e3relax_code, model, bad)

    def test_what_aiida_cannot_store_is_named_among_many(self, e3relax_code, model, make_structure):
        atoms = ase.build.bulk('Cu', 'fcc', a=3.615)
        atoms.positions[0, 0] = np.nan
        bad = {'sound': make_structure('Cu'), 'nan': make_structure(atoms)}
        with pytest.raises(ValueError, match=r'^((?!sound).)*structure `nan`: positions or cell hold NaN'):
            run(e3relax_code, model, bad)

    def test_keys_that_aiida_would_nest(self, e3relax_code, model, make_structure):
        with pytest.raises(ValueError, match='expected keys without a double underscore, found `a__b`: rename'):
            run(e3relax_code, model, {'a__b': make_structure('Cu'), 'a_b': make_structure('Cu')})

    def test_parameters(self, e3relax_code, model, make_structure):
        with pytest.raises(ValueError, match='unknown key `max_edge`; did you mean `max_edges`'):
            run(e3relax_code, model, {'cu': make_structure('Cu')}, max_edge=1)


class TestPotentials:
    """What is refused of a potential before submission; `tests/gnn/prediction` has what it computes."""

    @pytest.fixture
    def weights(self, aiida_profile, tmp_path):
        (tmp_path / 'small.model').write_bytes(b'weights')
        return E3RelaxPotentialData.get_or_create(tmp_path / 'small.model', 'mace')[0]

    @pytest.fixture
    def refuse(self, e3relax_code, make_structure):
        def refuse(message, parameters, **inputs):
            inputs |= {'code': e3relax_code, 'structures': {'cu': make_structure('Cu')}, 'parameters': parameters}
            with pytest.raises(ValueError, match=message):
                run_get_node(E3RelaxCalculation, **inputs)

        return refuse

    def test_model_and_weights_are_those_that_the_parameters_ask_for(self, refuse, model, weights):
        alone = {'potential': 'chgnet', 'start': 'input'}
        refuse('found no `model`, expected one', {})
        refuse('found no `model`, expected one', {'potential': 'chgnet'})
        refuse('`model`: expected none beside `start: input`', alone, model=model)
        refuse('weights of mace, expected those of `potential`, chgnet', alone, potential_weights=weights)
        refuse('weights of mace, expected those of `potential`, None', {}, model=model, potential_weights=weights)
        refuse('`potential_weights`: orb brings no weights', alone | {'potential': 'orb'})

    def test_sites_are_held_in_structures_that_are_there(self, refuse, model):
        """They would move in silence, and the report would have a row too many."""
        told = '`fixed` in `parameters`: no structure has the label Cu; expected one of cu'
        refuse(told, {'fixed': {'Cu': {'abc': [0]}, 'cu': {'abc': [0]}}}, model=model)

    def test_weights_of_a_potential_that_brings_its_own_are_refused(self):
        """An earlier version made such nodes."""
        weights = SimpleNamespace(potential='chgnet')
        assert 'the package of chgnet brings its weights' in find_weights_fault('chgnet', weights)

    def test_the_program_gets_weights_sites_and_no_network(self, make_program, make_structure, weights):
        code = make_program('ls weights fixed.json; cat fixed.json; ls model.pt')
        parameters = {'potential': 'mace', 'start': 'input', 'freedom': 'positions', 'fixed': {'cu': {'abc': [0]}}}
        inputs = {'code': code, 'structures': {'cu': make_structure('Cu')}, 'potential_weights': weights}
        _, node = run_get_node(E3RelaxCalculation, parameters=parameters, **inputs)
        script = node.base.repository.get_object_content('_aiidasubmit.sh')
        for words in (
            "'--potential-weights' 'weights/small.model'",
            "'--fixed-sites' 'fixed.json'",
            "'--start' 'input'",
        ):
            assert words in script
        assert '--model' not in script
        printed = node.outputs.retrieved.base.repository.get_object_content('e3relax.out')
        assert printed.split() == ['fixed.json', 'weights:', 'small.model', '{"cu":', '{"abc":', '[0]}}']


class TestProgramsThatFail:
    @pytest.mark.parametrize(
        ('lines', 'name', 'detail'),
        [
            ('echo "ImportError: no torch" >&2; exit 1', 'ERROR_PROGRAM_CRASHED', 'ImportError: no torch'),
            ('exit 0', 'ERROR_PROGRAM_CRASHED', 'standard error is empty'),
            ('kill -KILL $$', 'ERROR_OUT_OF_MEMORY', 'Killed'),
            ('echo "CUDA out of memory. Tried 20 GiB" >&2; exit 1', 'ERROR_OUT_OF_MEMORY', 'Tried 20 GiB'),
            ('echo "{" > report.json', 'ERROR_OUTPUT_INVALID', 'report.json: expected JSON'),
            (
                """echo '{"schema": 1, "structures": [], "error": null}' > report.json""",
                'ERROR_OUTPUT_INVALID',
                'report.json: `model` is missing',
            ),
            (
                'e3relax "$@"; rm predictions.npz',
                'ERROR_OUTPUT_INVALID',
                'no such file',
            ),
            (
                """echo '{"schema": 1, "structures": [], "error": {"code": "new", "message": "odd"}}' > report.json""",
                'ERROR_PROGRAM_FAILED',
                'odd',
            ),
        ],
    )
    def test_exit_code(self, make_program, model, make_structure, lines, name, detail):
        node = run(make_program(lines), model, {'cu': make_structure('Cu')})
        assert node.exit_status == EXIT_CODES[name].status, node.exit_message
        assert detail in node.exit_message
        assert 'structures' not in node.outputs

    @pytest.mark.parametrize(('sound', 'status'), [(['a'], 321), (['a', 'b'], 0)])
    def test_memory_that_does_not_do_for_one_structure(self, make_program, model, make_structure, sound, status):
        """The memory runs out for the first sound structure, beside one with a fault of its own."""
        program = make_program("""e3relax "$@"; sed -i '0,/"status": "ok"/s//"status": "out_of_memory"/' report.json""")
        structures = {label: make_structure('Cu') for label in sound} | {'empty': orm.StructureData(cell=4 * np.eye(3))}
        node = run(program, model, structures)
        assert node.exit_status == status, node.exit_message
        assert node.outputs.report['structures'][0]['status'] == 'out_of_memory'
        if status:
            assert '`a`: out_of_memory; `empty`: empty, the structure holds no atoms' in node.exit_message
        else:
            assert list(node.outputs.structures) == ['b']

    def test_garbage_after_a_good_report(self, make_program, model, make_structure):
        node = run(make_program('e3relax "$@" && echo garbage > predictions.npz'), model, {'cu': make_structure('Cu')})
        assert node.exit_status == EXIT_CODES.ERROR_OUTPUT_INVALID.status
        assert 'predictions.npz' in node.exit_message
        assert node.outputs.report['error'] is None
