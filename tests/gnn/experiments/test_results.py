"""What a result covers, and what is left to measure."""

import json

import pytest

from aiida_e3relax.gnn.experiments.plan import Measurement
from aiida_e3relax.gnn.experiments.results import Result, clear_error, read_result, together, write_error, write_result

WHOLE = Measurement(('test', 'val'), True, (1, 32))


@pytest.mark.parametrize(
    'less',
    [
        Measurement(('test',), True, (1, 32)),
        Measurement(('test', 'val'), False, (1, 32)),
        Measurement(('val',), False, ()),
        WHOLE,
    ],
)
def test_result_covers_what_is_less(less):
    assert Result(measurement=together({}, WHOLE)).covers(less)
    assert not Result(measurement=together({}, WHOLE), error='it failed').covers(less)


def test_what_is_missing_is_what_was_not_measured():
    stored = together(together({}, Measurement(('test',), True, (1,))), Measurement(('val',), False, (32,)))
    assert stored == {'splits': ['test', 'val'], 'match': ['test'], 'inference_batches': [1, 32]}
    missing = Result(measurement=stored).missing(Measurement(('test', 'val', 'new'), True, (1, 32, 512)))
    assert missing == Measurement(('val', 'new'), True, (512,))
    assert Result().missing(WHOLE) == WHOLE


def test_result_of_an_earlier_release_is_read(tmp_path):
    old = {'measurement': {'splits': ['test'], 'match': True, 'inference_batches': [1]}, 'machine': {'device': 'cpu'}}
    (tmp_path / 'result.json').write_text(json.dumps(old))
    result = read_result(tmp_path)
    assert result.covers(Measurement(('test',), True, ()))
    assert not result.covers(Measurement(('val',), False, ()))
    assert result.sessions == [{'device': 'cpu'}]
    assert not Result(measurement=old['measurement'] | {'match': False}).covers(Measurement(('test',), True, ()))


def test_error_leaves_what_was_measured(tmp_path):
    write_result(tmp_path, Result(measurement=together({}, WHOLE), parameters=7))
    write_error(tmp_path, 'no memory')
    assert (read_result(tmp_path).error, read_result(tmp_path).parameters) == ('no memory', 7)
    clear_error(tmp_path)
    assert read_result(tmp_path) == Result(measurement=together({}, WHOLE), parameters=7)
    write_result(tmp_path, Result(error='it failed'))
    clear_error(tmp_path)
    assert read_result(tmp_path) is None
