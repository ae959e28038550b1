"""`E3RelaxParser` beside the scheduler's own parser, which speaks first."""

import io
import json

import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.plugins.entry_point import format_entry_point_string

from aiida_e3relax.calculations.predict import E3RelaxCalculation
from aiida_e3relax.data.potential import E3RelaxPotentialData
from aiida_e3relax.parsers.predict import E3RelaxParser

EXIT_CODES = E3RelaxCalculation.exit_codes


@pytest.fixture
def parse(aiida_computer_local, make_structure):
    """A factory: parse retrieved files after the scheduler's parser has set `exit_status`."""

    def parse_files(exit_status: int, files: dict[str, str], **inputs: orm.Data):
        entry_point = format_entry_point_string('aiida.calculations', 'e3relax.predict')
        node = orm.CalcJobNode(computer=aiida_computer_local(), process_type=entry_point)
        node.set_option('resources', {'num_machines': 1})
        node.base.links.add_incoming(make_structure('Cu').store(), LinkType.INPUT_CALC, 'structures__cu')
        for name, given in inputs.items():
            node.base.links.add_incoming(given.store(), LinkType.INPUT_CALC, name)
        node.store()
        retrieved = orm.FolderData()
        for name, content in files.items():
            retrieved.base.repository.put_object_from_filelike(io.BytesIO(content.encode()), name)
        retrieved.base.links.add_incoming(node, LinkType.CREATE, 'retrieved')
        retrieved.store()
        node.set_exit_status(exit_status)
        parser = E3RelaxParser(node)
        exit_code = parser.parse()
        return (exit_code, parser.outputs) if inputs else exit_code

    return parse_files


@pytest.mark.parametrize('status', [110, 120, 140])
@pytest.mark.parametrize('files', [{}, {'e3relax.err': 'CUDA out of memory'}, {'report.json': '{"schema":'}])
def test_scheduler_keeps_its_status(parse, status, files):
    assert parse(status, files) is None


def test_report_says_more_than_the_scheduler(parse):
    error = {'code': 'no_device', 'message': 'no CUDA device'}
    exit_code = parse(120, {'report.json': json.dumps({'schema': 1, 'error': error})})
    assert exit_code.status == EXIT_CODES.ERROR_NO_DEVICE.status


def test_memory_that_runs_out_where_the_program_does_not_expect_it(parse):
    error = {'code': 'unexpected', 'message': 'OutOfMemoryError: CUDA out of memory.'}
    exit_code = parse(0, {'report.json': json.dumps({'schema': 1, 'error': error})})
    assert exit_code.status == EXIT_CODES.ERROR_OUT_OF_MEMORY.status


def test_status_of_an_earlier_parse_is_not_the_schedulers(parse):
    exit_code = parse(EXIT_CODES.ERROR_OUTPUT_INVALID.status, {'e3relax.err': 'no torch'})
    assert exit_code.status == EXIT_CODES.ERROR_PROGRAM_CRASHED.status


def test_an_interrupt_is_the_schedulers_doing_where_it_says_so(parse):
    error = {'code': 'interrupted', 'message': 'ended by SIGTERM'}
    files = {'report.json': json.dumps({'schema': 1, 'error': error})}
    assert parse(120, files) is None
    assert parse(0, files).status == EXIT_CODES.ERROR_PROGRAM_FAILED.status


def test_a_message_is_told_on_one_line_and_in_part(parse):
    error = {'code': 'bad_input', 'message': '{detail} %s \x1b[31m\n' + 'x' * 5000}
    exit_code = parse(0, {'report.json': json.dumps({'schema': 1, 'error': error})})
    assert exit_code.status == EXIT_CODES.ERROR_BAD_INPUT.status
    assert r'({detail} %s \x1b[31m\nxxx' in exit_code.message
    assert len(exit_code.message) < 1300


def test_the_report_has_what_is_known_of_weights_that_a_node_holds(parse, tmp_path):
    path = tmp_path / 'small.model'
    path.write_bytes(b'weights')
    weights = E3RelaxPotentialData(path, 'mace', licence='MIT', functional='PBE')
    potential = {'potential': 'mace', 'version': '0.3.16', 'steps': 20, 'start': 'input', 'licence': None}
    content = {'schema': 1, 'error': {'code': 'bad_input', 'message': ''}, 'potential': potential}
    _, outputs = parse(0, {'report.json': json.dumps(content)}, potential_weights=weights)
    facts = {'licence': 'MIT', 'training_data': None, 'functional': 'PBE'}
    assert outputs['report']['potential'] == potential | facts


GOOD = {'schema': 1, 'error': None, 'structures': [], 'device': {'used': 'cpu'}, 'timings_s': {'total': 1.0}}
OF_NETWORK = GOOD | {'model': {'content_hash': 'sha256:0'}}
OF_POTENTIAL = GOOD | {'model': None, 'potential': {'potential': 'chgnet', 'start': 'input', 'steps': 9}}
OF_OPINION = OF_NETWORK | {'second_opinion': {'potential': 'chgnet', 'steps': 9}}


@pytest.mark.parametrize(
    ('parameters', 'report', 'words'),
    [
        ({'potential': 'chgnet', 'start': 'input'}, OF_NETWORK, ('chgnet', 'network')),
        ({'potential': 'sevennet-0', 'start': 'input'}, OF_POTENTIAL, ('sevennet-0', 'chgnet')),
        ({'potential': 'chgnet'}, OF_POTENTIAL, ('network+chgnet', 'chgnet')),
        ({'device': 'cpu'}, OF_POTENTIAL, ('network', 'chgnet')),
        ({'second_opinion': 'chgnet', 'second_opinion_steps': 9}, OF_NETWORK, ('network+chgnet', 'network')),
        ({'potential': 'chgnet', 'start': 'input'}, OF_POTENTIAL, None),
        ({'second_opinion': 'chgnet', 'second_opinion_steps': 9}, OF_OPINION, None),
        ({}, OF_NETWORK, None),
    ],
)
def test_predictions_are_by_the_pre_relaxer_that_was_asked_for(parse, parameters, report, words):
    exit_code, _ = parse(0, {'report.json': json.dumps(report)}, parameters=orm.Dict(parameters))
    assert exit_code.status == EXIT_CODES.ERROR_OUTPUT_INVALID.status  # without predictions.npz in any case
    told = 'report.json: expected predictions by {}, which `parameters` ask for, found those by {}'
    assert (told.format(*words) in exit_code.message) if words else 'predictions.npz' in exit_code.message


def test_a_fault_of_the_parser_is_an_exit_code(parse, monkeypatch):
    def fail(*_):
        raise TypeError('unhashable')

    monkeypatch.setattr('aiida_e3relax.parsers.predict.read_report', fail)
    exit_code = parse(0, {'report.json': '{}'})
    assert exit_code.status == EXIT_CODES.ERROR_OUTPUT_INVALID.status
    assert 'TypeError: unhashable' in exit_code.message
