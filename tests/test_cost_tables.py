"""The tables of `benchmarks/cost_model.py`: lines through sizes, what they come to for 100,000, and what is missing."""

import dataclasses

import numpy as np
import pytest

from benchmarks.cost_tables import (
    AGAIN,
    BASE,
    MANY,
    TOTAL,
    Costs,
    Run,
    describe_costs,
    describe_knobs,
    describe_many,
    describe_sizes,
    fit_line,
    fit_sizes,
    main,
)

SIZES = (10, 20, 60)


def make_run(count, part='sizes', case=BASE, factor=1.0):
    """A campaign that took 3 s and 12 s a structure of its workers, 0.5 s a structure of their shells, and 50 nodes."""
    values = {
        'workers: CPU s': factor * (3 + 12 * count),
        'their shells: CPU s': factor * 0.5 * count,
        'PostgreSQL: CPU s': 0.0,
        'broker: CPU s': 0.0,
        '`create`: CPU s': 20.0,
        'database: MiB': 0.125 * count,
        'nodes': 50.0 * count,
        'jobs': 2.0 * count,
        'repository: MiB': 0.1 * count,
        'repository: MiB on disk': 0.2 * count,
        'repository: files': 20.0 * count,
        "the computer's folder: MiB": 0.3 * count,
    }
    return Run(f'{part}-{count}', part, case, count, wall=6.0 * count, load=2.5, values=values)


@pytest.fixture
def costs():
    """Three sizes, one of which is off the line, and a campaign with half the work beside one that has all of it."""
    runs = [make_run(count) for count in SIZES]
    runs[1] = dataclasses.replace(runs[1], values=runs[1].values | {'workers: CPU s': 240.0})
    runs += [make_run(10, 'knobs'), make_run(10, 'knobs', 'no static run', 0.5), make_run(10, 'knobs', AGAIN)]
    kinds = {
        'n_jobs': 4,
        'sizes': {'retrieved `OUTCAR`': 9000.0, 'inputs': 2500.0, 'retrieved `empty`': 0.0},
        'growth': {'retrieved `OUTCAR`': [3000.0, 500.0, 60.0]},
    }
    packing = {
        'as it was': {
            'database: MiB': 20.0,
            'repository: MiB': 10.0,
            'repository: MiB on disk': 30.0,
            'repository: files': 2000,
            'wall s': 0.0,
        }
    }
    controller = {'1000': {'look': 0.1, 'report': 5.0}, '10000': {'look': 1.0}}
    network = {'1': 3.5, '1000': 4.0}
    return Costs('a machine', runs, kinds, {'db_dbnode': 12.0}, packing, controller, network)


def cells_of(table, title):
    """The cells of the row of that title."""
    row = next(line for line in table.splitlines() if line.startswith(f'| {title} |'))
    return [cell.strip() for cell in row.strip('|').split('|')][1:]


def test_a_line_through_points_on_it():
    line = fit_line(SIZES, [3 + 12 * count for count in SIZES])
    assert (line.fixed, line.each) == (pytest.approx(3), pytest.approx(12))
    assert line.error == pytest.approx(0, abs=1e-6)
    assert line.deviation == pytest.approx(0, abs=1e-9)
    assert line.at(MANY)[0] == pytest.approx(3 + 12 * MANY)


def test_the_interval_holds_the_slope_as_often_as_it_says():
    generator = np.random.default_rng(0)
    counts = np.array([10, 10, 20, 60])
    lines = [fit_line(counts, 5 + 12 * counts + generator.normal(0, 20, len(counts))) for _ in range(1000)]
    assert np.mean([abs(line.each - 12) < line.error for line in lines]) == pytest.approx(0.95, abs=0.02)


def test_what_grows_faster_than_the_structures_is_off_the_line():
    assert fit_line(SIZES, [count**2 for count in SIZES]).deviation > 0.5


def test_one_size_makes_no_line():
    with pytest.raises(ValueError, match='at least two sizes, found'):
        fit_line([10, 10], [1.0, 2.0])


def test_two_sizes_have_no_interval():
    assert np.isnan(fit_line([10, 20], [1.0, 2.0]).error)


def test_the_campaigns_of_all_sizes_make_the_line_and_no_other(costs):
    lines = fit_sizes(costs)
    assert lines['workers: CPU s'] == fit_line(SIZES, [123.0, 240.0, 723.0])
    assert lines[TOTAL].each == pytest.approx(lines['workers: CPU s'].each + 0.5)
    assert lines['nodes'].each == pytest.approx(50)


def test_sizes_beside_the_line(costs):
    cells = cells_of(describe_sizes(costs), 'nodes')
    assert cells == ['500', '1,000', '3,000', '50.0 (50.0 to 50.0)', cells[4], '0 %']
    assert 'Campaigns of 10, 20, 60: load at the end 2.5, 2.5, 2.5; chains an hour 600, 600, 600.' in describe_sizes(
        costs
    )


def test_campaigns_of_one_size_are_shown_by_their_mean(costs):
    more = dataclasses.replace(costs, runs=[*costs.runs, make_run(60, factor=3.0)])
    assert cells_of(describe_sizes(more), 'workers: CPU s')[2] == '1,446'
    assert len(cells_of(describe_sizes(more), 'nodes')) == 6


def test_100_000_structures(costs):
    table = describe_many(costs)
    assert cells_of(table, 'nodes, thousands')[0] == '5,000'
    assert cells_of(table, 'database: GiB')[0] == '12.2'
    lines = fit_sizes(costs)
    hours = (lines['workers: CPU s'].at(MANY)[0] + 0.5 * MANY) / 3600
    workers = float(cells_of(table, 'workers that are never idle, for 720 h')[0])
    assert workers == pytest.approx(hours / 720, rel=0.01)


def test_a_knob_is_compared_with_the_campaign_of_its_own_run(costs):
    cells = cells_of(describe_knobs(costs), 'no static run')
    assert cells[:3] == ['64.0', '0.50', '500']
    assert cells_of(describe_knobs(costs), BASE)[1] == '1.00'


def test_bytes_looks_and_the_network(costs):
    told = describe_costs(costs)
    assert '| retrieved `OUTCAR` | 9.00 |' in told
    assert '| retrieved `OUTCAR` | 3000 | 500 | 60 |' in told
    assert 'retrieved `empty`' not in told
    assert '| each other look, s | 0.100 at 1,000, 1.00 at 10,000 | 1.00 |' in told
    assert '`report`, CPU s' not in told  # one size tells no growth
    assert '0.50 ms each' in told


def test_a_campaign_is_found_by_what_it_was_for(costs):
    assert costs.find_run('knobs', 'no static run', 10) is costs.runs[4]
    assert costs.find_run('sizes', BASE, 30) is None


def test_what_was_not_measured_is_left_out():
    assert describe_costs(Costs('a machine', [make_run(10)])) == 'a machine'


def test_the_file_gives_the_same_tables(costs, tmp_path, capsys):
    path = tmp_path / 'costs.json'
    costs.write(path)
    assert Costs.read(path) == costs
    main(['', str(path)])
    assert capsys.readouterr().out == f'{describe_costs(costs)}\n'
