"""The files of a prediction run: what is taken from them and what is refused."""

import json

import numpy as np
import pytest
from aiida.orm.implementation.utils import clean_value
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.crystals.bonds import StatedBonds
from aiida_e3relax.crystals.files.details import BondsWriter, LayersWriter
from aiida_e3relax.crystals.structures import Crystals, make_crystals, write_npz
from aiida_e3relax.parsers.prediction_files import (
    PredictionFilesError,
    find_last_words,
    find_out_of_memory,
    read_all_bonds,
    read_predictions,
    read_report,
    read_trajectories,
)
from aiida_e3relax.workflows.network.report import network_facts, stated_energy_rise, stated_uncertainty

GIVEN = make_crystals(
    numbers=[[29], [12, 8]],
    positions=[np.zeros((1, 3)), np.array([[0, 0, 0], [2.1, 0, 0]])],
    cells=[3.6 * np.eye(3), 4.2 * np.eye(3)],
    labels=['cu', 'mgo'],
)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(['ok', 'cu', 1, 0.5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
"""Any JSON, and NaN and lone surrogates, which are none."""

OPINION = {'energy_input_eV_per_atom': -1.0, 'energy_prediction_eV_per_atom': -1.5}
RELAXED = OPINION | {
    'max_force_prediction_eV_per_A': 0.01,
    'converged': True,
    'steps': 7,
    'left_basin': False,
    'basin': [],
}
SCALED = {'volume_ratio': 1.2, 'wall_time_s': 0.1}
POTENTIAL = {'potential': 'chgnet', 'start': 'input', 'steps': 200, 'weights': '0.3.0'}

PLACES = [
    *((key,) for key in ('schema', 'error', 'structures', 'batches', 'model', 'device', 'timings_s', 'second_opinion')),
    *(('structures', 0, key) for key in ('label', 'status', 'message', 'n_atoms', 'uncertainty_A', 'second_opinion')),
    *(('structures', 0, 'potential', key) for key in ('error', 'steps', 'converged', 'basin', 'wall_time_s')),
    *(('potential', key) for key in ('potential', 'start', 'steps', 'weights')),
    *(('potential',), ('structures', 0, 'potential')),
    *(('structures', 0, 'second_opinion', key) for key in ('error', 'energy_input_eV_per_atom')),
    *(('structures', 1), ('model', 'content_hash'), ('device', 'used'), ('timings_s', 'total'), ('batches', 0), ('x',)),
]


def make_report(statuses=('ok', 'ok'), labels=('cu', 'mgo'), **changes):
    rows = zip(labels, statuses, GIVEN.n_atoms.tolist(), strict=True)
    return {
        'schema': 1,
        'error': None,
        'structures': [{'label': a, 'status': b, 'message': '', 'n_atoms': n} for a, b, n in rows],
        'model': {'content_hash': 'sha256:0'},
        'device': {'used': 'cpu'},
        'timings_s': {'total': 1.5},
        **changes,
    }


def write_report(path, *arguments, **changes):
    path.write_text(json.dumps(make_report(*arguments, **changes)))
    return path


def row(**changes):
    """The rows of a report whose first one is changed."""
    first, *others = make_report()['structures']
    return {'structures': [{**first, **changes}, *others]}


def write_predictions(path, crystals: Crystals = GIVEN):
    write_npz(path, crystals, status=np.array(['ok'] * len(crystals)))
    return path


class TestReport:
    def test_statuses_in_order(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json', ['ok', 'empty']))
        assert report.error is None
        assert [(s.label, s.status) for s in report.structures] == [('cu', 'ok'), ('mgo', 'empty')]

    def test_error(self, tmp_path):
        error = {'code': 'no_device', 'message': 'no CUDA device', 'remedy': 'use --device cpu'}
        report = read_report(write_report(tmp_path / 'report.json', error=error))
        assert (report.error.code, report.error.message) == ('no_device', 'no CUDA device')

    @pytest.mark.parametrize(
        ('text', 'message'),
        [
            (b'', 'expected JSON'),
            (b'{"schema": 1, "structures"', 'expected JSON'),
            (b'\xff\xfe{', "can't decode"),
            (b'\xef\xbb\xbf{}', 'expected JSON'),
            (b'[' * 100_000, 'expected JSON at most 32 deep'),
            (b'{"schema": 1, "peak_memory_mb": NaN}', 'the constant NaN'),
            (b'{"schema": 1, "peak_memory_mb": 1e999}', 'expected finite numbers, found 1e999'),
            (b'{"schema": 1, "x": ' + b'9' * 5000 + b'}', 'expected whole numbers up to'),
            (b'{"schema": 1, "schema": 2}', 'each key of an object once'),
            (rb'{"schema": 1, "x": "\ud800"}', r"expected text, found '\\ud800'"),
            (rb'{"schema": 1, "x": "\u0000"}', r"expected text, found '\\x00'"),
            (rb'{"schema": 1, "a\u0000b": 1}', 'expected keys that are printable text'),
            (b'{"schema": 1, "": 1}', 'expected keys that are printable text'),
            (b'[]', 'expected an object, found list'),
            (b'{"schema": 2}', 'expected `schema` 1, found 2'),
            (b'{"schema": 1.0}', 'expected `schema` 1, found 1.0'),
            (b'{"schema": true}', 'expected `schema` 1, found True'),
            (b'{"schema": 1, "structures": []}', '`error` is missing'),
            (b'{"schema": 1, "error": null}', '`structures` is missing'),
            (b'{"schema": 1, "error": "no", "structures": []}', "`error`: .*found 'no'"),
        ],
    )
    def test_garbage(self, tmp_path, text, message):
        path = tmp_path / 'report.json'
        path.write_bytes(text)
        with pytest.raises(PredictionFilesError, match=message):
            read_report(path)

    @pytest.mark.parametrize(
        ('changes', 'message'),
        [
            ({'structures': {'label': 1}}, '`structures`'),
            ({'structures': [{}]}, r'`structures\.0\.label`'),
            (row(label=5), r'`structures\.0\.label`.*found 5'),
            (row(status=['ok']), r'`structures\.0\.status`'),
            (row(message=None), r'`structures\.0\.message`'),
            (row(n_atoms='4'), r'`structures\.0\.n_atoms`'),
            (row(n_atoms=True), r'`structures\.0\.n_atoms`'),
            (row(n_atoms=0), 'structure `cu` is `ok`: expected `n_atoms`'),
            (row(n_atoms=None), 'structure `cu` is `ok`: expected `n_atoms`'),
            (row(uncertainty_A=-0.1), r'`structures\.0\.uncertainty_A`.*found -0\.1'),
            (row(uncertainty_A='0.1'), r'`structures\.0\.uncertainty_A`'),
            (row(distance_to_training=-1.0), r'`structures\.0\.distance_to_training`.*found -1'),
            (row(unlike_training='yes'), r'`structures\.0\.unlike_training`'),
            (row(nearest_training={'label': 'mp-1'}), r'`structures\.0\.nearest_training\.formula`'),
            (row(second_opinion=None) | {'second_opinion': {}}, r'`structures\.0\.second_opinion`'),
            (row(second_opinion={}) | {'second_opinion': {}}, 'expected `error`, or the energies'),
            (row(second_opinion={'error': 'no'}), '`second_opinion` is missing'),
            (row(potential={'error': 'no'}), '`potential` is missing'),
            (row(potential=RELAXED | {'steps': None}) | {'potential': POTENTIAL}, 'expected `error`, or `steps`'),
            (row(potential=RELAXED | {'basin': 'x'}) | {'potential': POTENTIAL}, r'`structures\.0\.potential\.basin`'),
            (row(potential=SCALED | {'volume_ratio': -1.0}) | {'potential': POTENTIAL}, r'potential\.volume_ratio`'),
            (row(second_opinion=SCALED) | {'second_opinion': {}}, 'expected `error`, or the energies'),
            ({'potential': POTENTIAL | {'potential': ''}}, r'`potential\.potential`'),
            ({'model': None}, '`model`: expected the model that predicted, found none'),
            ({'model': None, 'potential': POTENTIAL | {'start': 'network'}}, '`model`: expected the model'),
            ({'device': None}, '`device`'),
            ({'device': {'used': 1}}, r'`device\.used`'),
            ({'model': {}}, r'`model\.content_hash`'),
            ({'timings_s': {}}, '`total` is missing'),
            ({'timings_s': {'total': '1'}}, r'`timings_s\.total`'),
            ({'timings_s': {'total': -1}}, r'`timings_s\.total`'),
            ({'batches': [['a']]}, r'`batches\.0\.0`'),
            ({'error': {'code': {}, 'message': 'm'}}, r'`error\.code`'),
            ({'error': {'code': 'x', 'message': 5}}, r'`error\.message`'),
        ],
    )
    def test_what_is_read_later_has_its_type(self, tmp_path, changes, message):
        with pytest.raises(PredictionFilesError, match=message):
            read_report(write_report(tmp_path / 'report.json', **changes))

    def test_a_scaling_has_a_volume_and_no_energies(self, tmp_path):
        changes = row(potential=SCALED) | {'potential': POTENTIAL}
        content = read_report(write_report(tmp_path / 'report.json', **changes)).content
        assert stated_energy_rise(content, 'cu') is None
        assert network_facts(content, 'cu')['potential']['volume_ratio'] == SCALED['volume_ratio']

    def test_a_report_larger_than_its_structures_account_for(self, tmp_path):
        path = write_report(tmp_path / 'report.json', padding='x' * 3_000_000)
        with pytest.raises(PredictionFilesError, match='expected at most 2,105,344 bytes for 2 structure'):
            read_report(path, 2)

    def test_no_terminal_obeys_a_message(self, tmp_path):
        error = {'code': 'bad_input', 'message': '\x1b[31m{detail}\n%s'}
        report = read_report(write_report(tmp_path / 'report.json', error=error))
        assert report.error.message == report.content['error']['message'] == r'\x1b[31m{detail}\n%s'

    @settings(max_examples=100, deadline=None)
    @given(text=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
    def test_nothing_else_is_ever_raised(self, tmp_path_factory, text):
        path = tmp_path_factory.getbasetemp() / 'any.json'
        path.write_bytes(text)
        with pytest.raises(PredictionFilesError):
            read_report(path)

    @settings(max_examples=200, deadline=None)
    @given(place=st.sampled_from(PLACES), value=JSON)
    def test_what_is_read_can_be_stored_and_used(self, tmp_path_factory, place, value):
        """Any value in any place of a good report."""
        content = make_report(second_opinion={'potential': 'p'}, batches=[[0, 1]])
        content['structures'][0] |= {'second_opinion': dict(OPINION), 'potential': dict(RELAXED)}
        content['potential'] = dict(POTENTIAL)
        part = content
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = value
        path = tmp_path_factory.getbasetemp() / 'any.json'
        path.write_text(json.dumps(content))
        try:
            report = read_report(path)
        except PredictionFilesError:
            return
        assert clean_value(report.content).keys() == report.content.keys()
        assert r'\u0000' not in json.dumps(report.content, allow_nan=False)
        for label in {structure.label for structure in report.structures if structure.status == 'ok'}:
            if report.error is None:
                assert network_facts(report.content, label)['wall_time_s'] >= 0
            stated_uncertainty(report.content, label)
            stated_energy_rise(report.content, label)


class TestPredictions:
    def test_only_ok_ones(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json', ['singular_cell', 'ok']))
        moved = GIVEN.replace(GIVEN.positions + 0.1, 1.1 * GIVEN.cell)
        predictions = read_predictions(write_predictions(tmp_path / 'p.npz', moved), report, GIVEN)
        assert predictions.labels.tolist() == ['mgo']
        np.testing.assert_array_equal(predictions.cell[0], 1.1 * GIVEN.cell[1])
        np.testing.assert_array_equal(predictions.positions, GIVEN.positions[1:] + 0.1)

    def test_missing_file(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json'))
        with pytest.raises(PredictionFilesError, match='no such file'):
            read_predictions(tmp_path / 'p.npz', report, GIVEN)

    def test_file_cut_off(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json'))
        path = write_predictions(tmp_path / 'p.npz')
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(PredictionFilesError, match='cannot be read'):
            read_predictions(path, report, GIVEN)

    def test_report_of_another_run(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json', labels=['cu', 'nacl']))
        with pytest.raises(PredictionFilesError, match=r'labels of report\.json'):
            read_predictions(write_predictions(tmp_path / 'p.npz'), report, GIVEN)

    def test_sites_in_another_order(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json'))
        swapped = make_crystals([[29], [8, 12]], np.split(GIVEN.positions, [1]), GIVEN.cell, GIVEN.labels)
        with pytest.raises(PredictionFilesError, match=r'elements.* \[29, 12, 8\], found \[29, 8, 12\]'):
            read_predictions(write_predictions(tmp_path / 'p.npz', swapped), report, GIVEN)

    def test_structure_missing(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json'))
        with pytest.raises(PredictionFilesError, match=r'labels of p\.npz'):
            read_predictions(write_predictions(tmp_path / 'p.npz', GIVEN.select([0])), report, GIVEN)

    @pytest.mark.parametrize('value', [np.nan, np.inf, 1e18])
    @pytest.mark.parametrize('name', ['positions', 'cell'])
    def test_ok_but_no_crystal(self, tmp_path, name, value):
        report = read_report(write_report(tmp_path / 'report.json'))
        arrays = {'positions': GIVEN.positions.copy(), 'cell': GIVEN.cell.copy()}
        arrays[name][1, 0] = value
        path = write_predictions(tmp_path / 'p.npz', GIVEN.replace(**arrays))
        with pytest.raises(PredictionFilesError, match='`mgo` is `ok`, but not finite or further'):
            read_predictions(path, report, GIVEN)

    def test_ok_but_flat(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json'))
        path = write_predictions(tmp_path / 'p.npz', GIVEN.replace(GIVEN.positions, 0 * GIVEN.cell))
        with pytest.raises(PredictionFilesError, match='`cu` is `ok`, but has no volume'):
            read_predictions(path, report, GIVEN)

    def test_report_of_other_sites(self, tmp_path):
        report = read_report(write_report(tmp_path / 'report.json', **row(n_atoms=7)))
        with pytest.raises(PredictionFilesError, match='`n_atoms` of report'):
            read_predictions(write_predictions(tmp_path / 'p.npz'), report, GIVEN)


class TestDetails:
    """Files of layers and bonds; what their arrays must be is tested where they are written."""

    MOVED = GIVEN.replace(GIVEN.positions + 0.1, 1.1 * GIVEN.cell)

    @staticmethod
    def write_layers(path, steps):
        with LayersWriter(path) as writer:
            writer.write(steps, [])
            writer.close()
        return path

    def test_trajectories_go_from_the_input_to_the_prediction(self, tmp_path):
        steps = [GIVEN, GIVEN.replace(GIVEN.positions + 0.05, GIVEN.cell), self.MOVED]
        path = self.write_layers(tmp_path / 'x.npz', [step.select([1]) for step in steps])
        read = read_trajectories(path, self.MOVED, GIVEN)
        assert list(read) == ['mgo']
        positions, cells = read['mgo']
        np.testing.assert_array_equal(positions, [step.positions[1:] for step in steps])
        np.testing.assert_array_equal(cells, [step.cell[1] for step in steps])

    @pytest.mark.parametrize(
        ('places', 'value', 'message'),
        [
            ([0], 0.1, '`cu` begins otherwise than with its input'),
            ([2], 0.1, '`cu` ends otherwise than with its prediction'),
            ([1], np.nan, '`cu` is not finite or further'),
            ([1], 1e9, '`cu` is not finite or further'),
        ],
    )
    def test_trajectories_that_cannot_be(self, tmp_path, places, value, message):
        steps = [GIVEN, GIVEN, self.MOVED]
        for place in places:
            steps[place] = steps[place].replace(steps[place].positions + value, steps[place].cell)
        with pytest.raises(PredictionFilesError, match=rf'x\.npz: structure {message}'):
            read_trajectories(self.write_layers(tmp_path / 'x.npz', steps), self.MOVED, GIVEN)

    @pytest.mark.parametrize(
        'reader', [lambda p: read_trajectories(p, GIVEN, GIVEN), lambda p: read_all_bonds(p, GIVEN)]
    )
    @pytest.mark.parametrize('content', [None, b'', b'PK\x03\x04'])
    def test_no_file_of_this_kind(self, tmp_path, reader, content):
        if content is not None:
            (tmp_path / 'x.npz').write_bytes(content)
        with pytest.raises(PredictionFilesError, match=r'^x\.npz: '):
            reader(tmp_path / 'x.npz')

    def test_bonds_of_every_structure(self, tmp_path):
        numbers = np.ones(1)
        one = StatedBonds(np.zeros(1, int), np.zeros(1, int), np.ones((1, 3), int), numbers, numbers, numbers, numbers)
        for chosen in ([0, 1], [0]):
            with BondsWriter(tmp_path / 'x.npz') as writer:
                writer.write(GIVEN.select(chosen), [one] * len(chosen))
                writer.close()
            if len(chosen) == 2:
                assert read_all_bonds(tmp_path / 'x.npz', GIVEN)['mgo']['offset'].tolist() == [[1, 1, 1]]
        with pytest.raises(PredictionFilesError, match='structure `mgo` is missing'):
            read_all_bonds(tmp_path / 'x.npz', GIVEN)


@pytest.mark.parametrize(
    'stderr',
    [
        'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB',
        "RuntimeError: [enforce fail at alloc_cpu.cpp:125] DefaultCPUAllocator: can't allocate memory",
        'submit.sh: line 12: 4242 Killed    e3relax predict structures.npz',
        'slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch',
        'MemoryError',
    ],
)
def test_memory_runs_out_in_many_words(stderr):
    assert find_out_of_memory(f'predicting 3/7\n{stderr}\nbye\n') == stderr


def test_last_words():
    stderr = 'Traceback (most recent call last):\n  File "x"\nImportError: no torch\n\n'
    assert find_out_of_memory(stderr) is None
    assert find_last_words(stderr) == 'ImportError: no torch'
    assert find_last_words('\n') is None
