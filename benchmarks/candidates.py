"""How many of the crystals whose symmetry breaks `e3relax predict --candidates` finds.

    python benchmarks/candidates.py pnictides.npz candidates.jsonl

The data set is one that `e3relax data` wrote. Of its test split those pairs are taken whose relaxed crystal has not the
symmetry of the unrelaxed one: the symmetric part of the relaxation is off by more than 0.02 A in the mean coordinate,
or 0.5 A^2 in the metric tensor. Some are drawn, of up to `--most-atoms` atoms. The network predicts, `--potential`
relaxes the prediction, the candidates, and the relaxed crystal of the data; `--judge`, another potential, says what it
thinks of all these ends, without a step. So no crystal lies at a minimum of the potential that another one was not
brought to. One line of JSON for each crystal is added to the file: a run that was stopped goes on. Needs both
potentials (`pip install '.[mlip]'`). Has one thread; writes Markdown to standard output.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from aiida_e3relax.common.progress import NoProgress, ProgressLine
from aiida_e3relax.crystals.datasets.pairs_file import read_pairs
from aiida_e3relax.crystals.metrics import cell_shape_deviation, coordinate_mae, matches
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.crystals.symmetry import SpaceGroup
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.potentials.base import Potential
from aiida_e3relax.gnn.potentials.evaluation import evaluate_alone
from aiida_e3relax.gnn.potentials.registry import POTENTIALS, load_potential
from aiida_e3relax.gnn.prediction.candidates import DISPLACEMENT, STRAIN
from aiida_e3relax.gnn.prediction.pre_relaxation import PreRelaxation
from aiida_e3relax.gnn.prediction.predictor import Predictor
from aiida_e3relax.gnn.prediction.settings import PotentialSettings, PredictionSettings
from aiida_e3relax.gnn.training.targets import TARGET_SYMMETRY_DISTANCE, symmetrised_targets

LOWER = 1e-3
"""In eV/atom: an end that lies lower by more is found."""

RULES = 3
"""Of what is compared; rows of other rules are others."""


def main() -> None:
    """Draw, relax what is not in the file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', type=Path)
    parser.add_argument('results', type=Path, help='a line of JSON for each crystal; read and added to')
    parser.add_argument('--model', type=Path, default=DEFAULT_CHECKPOINT)
    parser.add_argument('--potential', choices=POTENTIALS, default='chgnet', help='default: %(default)s')
    parser.add_argument('--judge', choices=POTENTIALS, default='sevennet-mf-0', help='default: %(default)s')
    parser.add_argument('--in-batches', action='store_true', help='the candidates of a crystal at once, as on a GPU')
    parser.add_argument('--candidates', type=int, default=4, help='of each crystal (default: %(default)s)')
    parser.add_argument('--count', type=int, default=50, help='crystals to draw (default: %(default)s)')
    parser.add_argument('--most-atoms', type=int, default=16, help='in a crystal (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='draws crystals and candidates (default: %(default)s)')
    options = parser.parse_args()
    os.nice(10)
    torch.set_num_threads(1)
    pairs = read_pairs(options.pairs).of_split('test')
    broken = find_broken(pairs)
    small = broken[pairs.unrelaxed.n_atoms[broken] <= options.most_atoms]
    chosen = np.random.default_rng(options.seed).permutation(small)[: options.count]
    print(f'{len(broken)} of {len(pairs)} pairs break their symmetry, {len(small)} of them small enough\n')
    done = read_results(options)
    if others := count_lines(options.results) - len(done):
        print(
            f'{others} lines of {options.results} were made with other options or another version, and do not count\n'
        )
    waiting = [index for index in chosen.tolist() if str(pairs.unrelaxed.labels[index]) not in done]
    if waiting:
        relax(pairs, waiting, options)
    rows = list(read_results(options).values())
    wanted = set(pairs.unrelaxed.labels[chosen].tolist())
    print_table([row for row in rows if row['label'] in wanted], options)


def find_broken(pairs: Pairs) -> NDArray[np.int64]:
    """Return the pairs whose relaxed crystal has not the symmetry of the unrelaxed one."""
    target = pairs.centred(aligned(pairs).relaxed)
    symmetric = symmetrised_targets(pairs).relaxed.with_centroids_of(pairs.unrelaxed)
    off = (coordinate_mae(symmetric, target) > 0.02) | (cell_shape_deviation(symmetric, target) > 0.5)
    return np.flatnonzero(off)


def count_lines(path: Path) -> int:
    """Return how many rows the file has."""
    return len(path.read_text(encoding='utf-8').splitlines()) if path.exists() else 0


def made_with(options: argparse.Namespace) -> dict[str, Any]:
    """Return what a row depends on besides its pair."""
    names = ('potential', 'judge', 'candidates', 'seed')
    of_model = {'model': load_checkpoint(options.model).content_hash, 'rules': RULES}
    return of_model | {name: str(getattr(options, name)) for name in names}


def read_results(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the rows of the file that these options made, by label; a line that was cut off is left out."""
    rows, path = {}, options.results
    for line in path.read_text(encoding='utf-8').splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row.get('made_with') == made_with(options):
            rows[row['label']] = row
    return rows


def relax(pairs: Pairs, waiting: list[int], options: argparse.Namespace) -> None:
    """Add the rows of the pairs at `waiting` to the file."""
    device = torch.device('cpu')
    settings = PotentialSettings(options.potential, candidates=options.candidates, seed=options.seed)
    potential = load_potential(options.potential, device, in_batches=options.in_batches or None)
    judge = load_potential(options.judge, device)
    checkpoint = load_checkpoint(options.model)
    network, both, alone = (
        Predictor(model, device, torch.float32, PredictionSettings.engine, relaxation)
        for model, relaxation in (
            (checkpoint, None),
            (checkpoint, PreRelaxation(potential, settings)),
            (None, PreRelaxation(potential, PotentialSettings(options.potential, start='input'))),
        )
    )
    line = ProgressLine('crystals', len(waiting))
    with options.results.open('a', encoding='utf-8') as handle:
        for index in waiting:
            row = relax_one(pairs.select(np.array([index])), network, both, alone, judge)
            handle.write(json.dumps(row | {'made_with': made_with(options)}) + '\n')
            handle.flush()
            line.advance()
    line.close()


def relax_one(pair: Pairs, network: Predictor, both: Predictor, alone: Predictor, judge: Potential) -> dict[str, Any]:
    """Return what becomes of one pair; its relaxed crystal is relaxed by the potential `alone`."""
    most_edges = PredictionSettings.max_edges
    predicted, _, _ = network.predict(pair.unrelaxed, [None], None, most_edges, NoProgress())
    start = time.process_time()
    result, _, (row,) = both.predict(pair.unrelaxed, [None], None, most_edges, NoProgress())
    seconds = time.process_time() - start
    found: dict[str, Any] = {'label': row['label'], 'n_atoms': row['n_atoms']}
    if not result.candidates:
        return found | {'failed_as': row['message'] or row['status']}
    ends, told = result.candidates[0].crystals, row['potential']
    of_ends = [ends.select([k]) for k in range(len(ends))]
    reference, _, (of_data,) = alone.predict(aligned(pair).relaxed, [None], None, most_edges, NoProgress())
    if of_data['status'] != 'ok':
        return found | {'failed_as': f'the relaxed crystal of the data: {of_data["message"] or of_data["status"]}'}
    if not of_data['potential'].get('converged'):
        return found | {'failed_as': 'the relaxed crystal of the data: the potential did not converge'}
    return found | {
        'cpu_s': seconds,
        'candidates': told['candidates'],
        'failed': told['candidates_failed'],
        'error': told.get('candidates_error'),
        'judged': [energy(end, judge) for end in of_ends],
        'matched': matches(ends, Crystals.concatenate([aligned(pair).relaxed] * len(ends))).tolist(),
        'data': [of_data['potential']['energy_prediction_eV_per_atom'], energy(reference.crystals, judge)],
        'coordinates': [coordinate_error(end, pair) for end in of_ends],
        'coordinates_network': coordinate_error(predicted.crystals, pair),
    }


def energy(crystal: Crystals, potential: Potential) -> float:
    """Return the energy of one crystal, in eV/atom."""
    atoms = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell[0], pbc=True)
    return evaluate_alone(potential.calculator, atoms).energy / len(atoms)


def coordinate_error(crystal: Crystals, pair: Pairs) -> float:
    """Return the mean error of a crystal's coordinates in the aligned frame, in A, of the nearest of its variants.

    What breaks a symmetry may do so in as many ways as there are operations, all of them the same crystal.
    """
    target = pair.centred(aligned(pair).relaxed)
    start = pair.unrelaxed
    end = aligned(dataclasses.replace(pair, relaxed=start.replace(crystal.positions, crystal.cell))).relaxed
    cell, fractional = start.cell[0], start.fractional()
    moves, stretch = end.fractional() - fractional, np.linalg.solve(cell, end.cell[0])
    group = SpaceGroup.of(start, start.numbers.astype(str), TARGET_SYMMETRY_DISTANCE)
    nearest = np.inf
    for rotation, images in zip(group.rotations, group.images, strict=True):
        turned, turn = np.empty_like(moves), np.linalg.solve(cell, rotation.T @ cell)
        turned[images] = moves @ rotation.T
        new_cell = cell @ turn.T @ stretch @ turn
        variant = start.replace((fractional + turned) @ new_cell, new_cell[None])
        nearest = min(nearest, float(coordinate_mae(pair.centred(variant), target)[0]))
    return nearest


def print_table(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print what was found."""
    if failed := [row for row in rows if 'failed_as' in row]:
        print(f'{len(failed)} crystals left out: {"; ".join(row["failed_as"] for row in failed)}\n')
    rows = [row for row in rows if 'failed_as' not in row]
    if not rows:
        return
    unperturbed = [[one['unperturbed'] for one in row['candidates']].index(True) for row in rows]
    own = np.array(
        [[row['candidates'][k]['energy_eV_per_atom'] for k in (0, u)] for row, u in zip(rows, unperturbed, strict=True)]
    )
    judged = np.array([[row['judged'][k] for k in (0, u)] for row, u in zip(rows, unperturbed, strict=True)])
    of_data = np.array([row['data'] for row in rows])
    coordinates = np.array(
        [
            [row['coordinates_network'], row['coordinates'][u], row['coordinates'][0], min(row['coordinates'])]
            for row, u in zip(rows, unperturbed, strict=True)
        ]
    )
    falls = [energies[1] - energies[0] > LOWER for energies in (own.T, judged.T)]
    starts = [
        sum(one['perturbed_starts'] for one in row['candidates'] if energies[1] - one['energy_eV_per_atom'] > LOWER)
        for row, energies in zip(rows, own, strict=True)
    ]
    tried = options.candidates * len(rows) - sum(row['failed'] for row in rows)
    names = f'{options.potential} | {options.judge}'
    print(f'| of {len(rows)} crystals, {options.candidates} perturbed starts each | {names} |')
    print('|---|---|---|')
    print(f'| lowest end below the unperturbed one by more than 1 meV/atom | {falls[0].sum()} | {falls[1].sum()} |')
    print(f'| both potentials agree that it is | {(falls[0] & falls[1]).sum()} | |')
    for words, k in (('unperturbed end', 1), ('lowest end', 0)):
        counts = [(e[:, k] < of_data[:, j] + LOWER).sum() for j, e in enumerate((own, judged))]
        print(f'| {words} as low as the relaxed crystal of the data, relaxed too | {counts[0]} | {counts[1]} |')
    matched = [
        [row['matched'][u], row['matched'][0], any(row['matched'])] for row, u in zip(rows, unperturbed, strict=True)
    ]
    for words, count in zip(('unperturbed end', 'lowest end', 'one of the ends'), np.sum(matched, axis=0), strict=True):
        print(f'| {words} is the relaxed crystal of the data (StructureMatcher) | {count} | |')
    gains = [1000 * (e[:, 1] - e[:, 0])[falls[0]] for e in (own, judged)]
    print(f'| gain where found, meV/atom, median | {np.median(gains[0]):.1f} | {np.median(gains[1]):.1f} |')
    print('\n| error of coordinates, A | mean | median | halves that of the unperturbed end |')
    print('|---|---|---|---|')
    names = ('the network', 'unperturbed end', 'lowest end', 'best of the ends')
    for name, values in zip(names, coordinates.T, strict=True):
        halves = (values < coordinates[:, 1] / 2).sum()
        print(f'| {name} | {values.mean():.3f} | {np.median(values):.3f} | {halves} |')
    distinct, seconds = (
        np.mean(values) for values in ([len(r['candidates']) for r in rows], [r['cpu_s'] for r in rows])
    )
    print(
        f'\n{sum(starts)} of {tried} perturbed starts end lower; {distinct:.1f} distinct candidates and {seconds:.1f} '
        f'CPU-s a crystal. Steps of {DISPLACEMENT:g} A and a strain of {STRAIN:g}, seed {options.seed}, up to '
        f'{options.most_atoms} atoms. {datetime.datetime.now(datetime.UTC).date()}, {platform.machine()}, torch '
        f'{version("torch")}, chgnet {version("chgnet")}, sevenn {version("sevenn")}.'
    )


if __name__ == '__main__':
    main()
