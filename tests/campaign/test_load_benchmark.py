"""`benchmarks/load.py`: its audit finds what was lost, done twice or left behind, and its tables tell it."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math

import pytest
from aiida import orm
from aiida.common.links import LinkType

from aiida_e3relax.campaign.submission.processes import Process, State
from benchmarks import load
from benchmarks.load_audit import Audit, Campaign, End, Job, audit, count_at_once, find_begun_twice
from benchmarks.load_cluster import SlurmJob
from benchmarks.load_faults import SCENARIOS, Fault, Timeline

ENDS = {'a': End(-3.0, 5, 'predicted'), 'b': End(-4.0, 7, 'predicted')}
SOUND = Campaign(
    chains={'a': [State.FINISHED], 'b': [State.FINISHED]},
    ends=ENDS,
    processes={'VaspCalculation': {'finished': 2}},
    unended=[],
    jobs=[Job(11, '/work/11'), Job(12, '/work/12')],
    begun_twice=[],
    most_at_once=2,
)
JOBS = [SlurmJob('1', 'COMPLETED', '/work/11'), SlurmJob('2', 'COMPLETED', '/work/12')]


def check(of_slurm: list[SlurmJob] = JOBS, **changes) -> Audit:
    return audit(dataclasses.replace(SOUND, **changes), of_slurm, ENDS)


def test_nothing_is_amiss():
    found = check()
    assert found.is_sound
    assert (found.n_jobs, found.largest_difference, found.more_steps, found.failed) == (2, 0.0, 0, {})


def test_an_end_may_differ_a_little_after_a_restart():
    found = check(ends=ENDS | {'a': End(-2.9995, 9, 'predicted')})
    assert found.is_sound
    assert found.largest_difference == pytest.approx(0.5)
    assert found.more_steps == 4


def test_structures_that_the_faultless_run_had_not_are_not_compared():
    found = audit(SOUND, JOBS, {'a': ENDS['a']})
    assert found.is_sound
    assert found.largest_difference == 0.0
    assert audit(SOUND, JOBS).largest_difference is None


def test_another_start_is_told():
    found = check(ends=ENDS | {'a': End(-3.0, 5, 'raw')})
    assert found.is_sound
    assert found.other_leg == ['a']


def test_steps_that_a_failed_run_did_not_tell_are_none_too_many():
    found = check(ends=ENDS | {'a': End(-3.0, None, 'predicted')})
    assert found.is_sound
    assert found.more_steps == 0


def test_a_chain_after_one_that_failed_is_not_twice():
    found = check(chains={'a': [State.EXCEPTED, State.FINISHED], 'b': [State.FINISHED]})
    assert found.is_sound
    assert (found.tried_again, found.failed) == (['a'], {'excepted': 1})


@pytest.mark.parametrize(
    ('changes', 'field', 'told'),
    [
        ({'chains': {'a': [], 'b': [State.FINISHED]}, 'ends': {'b': ENDS['b']}}, 'lost', ['a']),
        ({'chains': {'a': [State.EXCEPTED], 'b': [State.FINISHED]}, 'ends': {'b': ENDS['b']}}, 'lost', ['a']),
        ({'ends': {'b': ENDS['b']}}, 'lost', ['a']),
        ({'chains': {'a': [State.FINISHED] * 2, 'b': [State.FINISHED]}}, 'twice', ['a']),
        ({'chains': {'a': [State.FINISHED, State.KILLED], 'b': [State.FINISHED]}}, 'twice', ['a']),
        ({'chains': {'a': [State.FINISHED, State.RUNNING], 'b': [State.FINISHED]}}, 'twice', ['a']),
        ({'unended': [7]}, 'unended', [7]),
        ({'begun_twice': ['7: relax_raw']}, 'begun_twice', ['7: relax_raw']),
        ({'jobs': [Job(11, '/work/11'), Job(12, None)]}, 'strays', ['2']),
        ({'of_slurm': [*JOBS, SlurmJob('3', 'COMPLETED', '/work/11')]}, 'submitted_twice', {11: 1}),
        ({'of_slurm': [JOBS[0], SlurmJob('2', 'PENDING', '/work/12')]}, 'left', ['2']),
        ({'ends': ENDS | {'a': End(-2.99, 5, 'predicted')}}, 'different', {'a': pytest.approx(10.0)}),
        (
            {'ends': ENDS | {'a': End(math.nan, 5, 'predicted')}},
            'different',
            {'a': pytest.approx(math.nan, nan_ok=True)},
        ),
    ],
)
def test_what_is_amiss_is_found(changes, field, told):
    found = check(**changes)
    assert not found.is_sound
    assert getattr(found, field) == told


def test_chains_at_once_are_counted():
    begin = datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC)

    def chain(first: int, last: int) -> Process:
        times = (begin + datetime.timedelta(seconds=seconds) for seconds in (first, last))
        return Process(1, 'uuid', 'a', 'chain', 'finished', 0, None, False, True, *times)

    assert count_at_once([chain(0, 10), chain(2, 5), chain(5, 9), chain(11, 12)]) == 2
    assert count_at_once([]) == 0


def test_one_thing_is_broken_at_a_time_and_all_is_mended(monkeypatch):
    done: list[str] = []
    now = 0.0
    monkeypatch.setattr('benchmarks.load_faults.time.monotonic', lambda: now)
    faults = [Fault(10.0, 5.0, 'down', lambda: done.append('down'), 'up', lambda: done.append('up'))]
    faults += [Fault(12.0, 0.0, 'killed', lambda: done.append('killed'))]
    timeline = Timeline(iter(faults), lambda: now >= 100.0)
    told = []
    for now in (0.0, 50.0, 100.0, 110.0, 112.0, 115.0, 116.0):  # noqa: B007
        timeline.advance()
        told.append((list(done), timeline.is_broken))
    assert told[:5] == [([], False)] * 3 + [(['down'], True)] * 2
    assert told[-1] == (['down', 'up', 'killed'], False)
    assert timeline.done == [(110.0, 'down'), (115.0, 'up'), (115.0, 'killed')]


def make_result(found: Audit) -> dict:
    return {
        'title': 'PostgreSQL stopped',
        'structures': 2,
        'seconds': 90.0,
        'has_ended': True,
        'faults': [[4.0, 'PostgreSQL stopped'], [5.0, 'PostgreSQL started'], [9.0, 'PostgreSQL stopped']],
        'given': [[55.0, 'campaign run'], [60.0, 'campaign run']],
        'ends_of_run': [[1, 'the database does not answer'], [0, 'All has ended.']],
        'audit': dataclasses.asdict(found),
    }


def test_tables_tell_what_is_amiss_and_so_does_the_exit_status(tmp_path, capsys):
    for jobs, status, counts in ((JOBS, 0, '2 | 0'), ([*JOBS, JOBS[0]], 1, '3 | 1')):
        (tmp_path / 'database.json').write_text(json.dumps(make_result(check(jobs))), encoding='utf-8')
        assert load.main([str(tmp_path)]) == status
        printed = capsys.readouterr().out
        row = f'| PostgreSQL stopped, twice | 2 | 2 | 0 | 0 | {counts} | 0 | 0 | 0 | `campaign run` x2 | 1.5 |'
        assert row in printed.splitlines()
        assert '`run` ended with 1: the database does not answer' in printed


def test_a_prediction_that_comes_back_in_another_place_is_amiss(tmp_path, capsys):
    way = {'jobs_of_aiida': 1, 'seconds': 9.0, 'seconds_of_network': 3.0, 'cpu_of_aiida': 2.0, 'statuses': {'ok': 20}}
    result = {
        **{'structures': 20, 'atoms': 200, 'batches': 10, 'one': way, 'some': way | {'jobs_of_aiida': 10}},
        **{'in_order': True, 'same_sites': True, 'moved': 0.3, 'between_ways': 1e-6, 'from_here': 1e-6},
        **{'sample': 10, 'jobs_of_slurm': 11},
    }
    for changes, status in (
        ({}, 0),
        ({'in_order': False}, 1),
        ({'same_sites': False}, 1),
        ({'jobs_of_slurm': 12}, 1),
        ({'from_here': 0.1}, 1),
        ({'from_here': math.nan}, 1),
        ({'one': way | {'statuses': {'ok': 19}}}, 1),
    ):
        (tmp_path / 'prediction.json').write_text(json.dumps(result | changes), encoding='utf-8')
        assert load.main([str(tmp_path)]) == status, changes
    assert '| in one job | 20 |' in capsys.readouterr().out


def test_a_scenario_that_is_not_there_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        load.main([str(tmp_path), 'earthquake'])
    printed = capsys.readouterr().err
    assert all(name in printed for name in (*SCENARIOS, *load.SIZES))


def test_what_two_workers_began_for_one_chain_is_found(aiida_profile):
    first = orm.WorkChainNode().store()
    for label in ('relax_01', 'relax_02', 'relax_02', 'CALL', 'CALL'):
        child = orm.WorkChainNode()
        child.base.links.add_incoming(first, LinkType.CALL_WORK, label)
        child.store()
    second = orm.WorkChainNode().store()
    for _ in range(2):
        job = orm.CalcJobNode()
        job.base.links.add_incoming(second, LinkType.CALL_CALC, 'iteration_01')
        job.store()
    found = find_begun_twice(first.pk - 1)
    assert found == [f'{first.pk}: relax_02', f'{second.pk}: iteration_01']
    assert find_begun_twice(second.pk) == []
