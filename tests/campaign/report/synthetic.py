"""Campaigns that were never run: numbers drawn at random in the form and the size of real ones."""

import functools

import numpy as np
import pandas as pd
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

from aiida_e3relax.campaign.report.contents import Contents
from aiida_e3relax.campaign.results.statistics import summarise
from aiida_e3relax.campaign.results.table import make_frame
from aiida_e3relax.campaign.results.trajectories import Trajectory
from aiida_e3relax.crystals.structures import Crystals, make_crystals

CATIONS = ('Mg', 'Ca', 'Sr', 'Ba', 'Mn', 'Fe', 'Co', 'Ni', 'Zn', 'Cd')
ANIONS = ('O', 'S', 'Se', 'Te')
TETRAVALENT = ('Ti', 'Zr', 'Hf', 'Sn')


@functools.cache
def make_contents(n_structures: int, seed: int = 0) -> Contents:
    """Return a report's contents with about 4 % of failures, 6 % of rejections and some unfinished structures."""
    rng = np.random.default_rng(seed)
    relaxed = [make_crystal(rng, index) for index in range(n_structures)]
    labels = [f'{atoms.get_chemical_formula("hill")}-{index:04d}' for index, atoms in enumerate(relaxed)]
    rows, trajectories = [], {}
    for index, (label, atoms) in enumerate(zip(labels, relaxed, strict=True)):
        row, legs = make_row(rng, index, label, atoms)
        rows.append(row)
        trajectories[label] = legs
    frame = make_frame(rows)
    return Contents(
        name='synthetic-oxides',
        settings={
            'schema': 1,
            'name': 'synthetic-oxides',
            'structures': {label: uuid(index) for index, label in enumerate(labels)},
            'reference_sample': 'all',
            'protocol': 'balanced',
            'seed': seed,
            'potential_family': 'standin',
        },
        settings_uuid=uuid(10**6),
        frame=frame,
        summary=summarise(frame),
        trajectories={label: legs for label, legs in trajectories.items() if legs},
        structures=make_structures(rng, relaxed, frame),
    )


def make_crystal(rng: np.random.Generator, index: int) -> Atoms:
    """Return one of four prototypes with elements at random."""
    cation, anion = str(rng.choice(CATIONS)), str(rng.choice(ANIONS))
    edge = float(rng.uniform(4.2, 6.0))
    match index % 4:
        case 0:
            return bulk(cation + anion, 'rocksalt', edge)
        case 1:
            return bulk(cation + anion, 'zincblende', edge, cubic=True)
        case 2:
            sites = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)]
            symbols = [cation, str(rng.choice(TETRAVALENT)), anion]
            return crystal(symbols, sites, spacegroup=221, cellpar=[edge, edge, edge, 90, 90, 90])
    symbols = [str(rng.choice(TETRAVALENT)), anion]
    return crystal(
        symbols, [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[edge, edge, 0.65 * edge, 90, 90, 90]
    )


def make_row(rng: np.random.Generator, index: int, label: str, atoms: Atoms) -> tuple[dict, dict[str, Trajectory]]:
    """Return what the frame says of a structure, and its trajectories."""
    row = {
        'label': label,
        'structure_uuid': uuid(index),
        'state': 'waiting',
        'formula': atoms.get_chemical_formula('hill', empirical=True),
        'n_atoms': len(atoms),
        'elements': sorted(set(atoms.get_chemical_symbols())),
        'in_sample': True,
    }
    lot = rng.random()
    if index > 5 and lot < 0.03:
        return row, {}
    row |= {'chain_uuid': uuid(10**5 + index), 'chain_pk': 1000 + index, 'state': 'finished', 'exit_status': 0}
    if index == 3 or (index > 5 and lot < 0.05):
        return row | {
            'state': 'failed',
            'exit_status': 410,
            'exit_message': 'No VASP relaxation finished <b>(x)</b>.',
        }, {}
    if index > 5 and lot < 0.055:
        return row | {'state': 'excepted', 'exit_status': None, 'exit_message': None}, {}
    rejected = index == 4 or lot > 0.94
    trajectories = {'raw': make_trajectory(rng, int(rng.integers(6, 30)), rng.lognormal(5, 0.8))}
    row |= {
        'verdict': 'rejected' if rejected else 'accepted with warnings' if lot > 0.9 else 'accepted',
        'reasons': ['the volume changes by a factor of 7.1 (bounds 0.4 to 6)'] if lot > 0.9 else [],
        'remarks': ['The guard rejected the prediction'] if rejected else [],
        'model': '9d3f' * 16,
        'device': 'cpu',
        'network_wall_time_s': 0.1,
        'uncertainty_A': float(rng.lognormal(-3, 0.6)),
    }
    if not rejected:
        trajectories['predicted'] = make_trajectory(
            rng, max(2, int(len(trajectories['raw'].energies) * rng.normal(0.5, 0.2))), rng.lognormal(2, 0.8)
        )
    errors = {'raw': 0.15, 'predicted': 0.6 * row['uncertainty_A']}
    for leg, trajectory in trajectories.items():
        row |= make_leg(rng, leg, trajectory, errors[leg])
    if not rejected:
        row |= tell_savings(rng, row)
    return row, trajectories


def make_trajectory(rng: np.random.Generator, n_steps: int, height: float) -> Trajectory:
    """Return a relaxation that falls by `height` meV/atom."""
    fall = np.exp(-np.arange(n_steps) / (0.25 * n_steps))
    forces = 0.02 + 2e-3 * height * fall * rng.uniform(0.7, 1.3, n_steps)
    return Trajectory(-6 + 1e-3 * height * (fall - fall[-1]), forces, (0, n_steps // 2) if rng.random() < 0.1 else (0,))


def make_leg(rng: np.random.Generator, leg: str, trajectory: Trajectory, error: float) -> dict[str, object]:
    n_steps = len(trajectory.energies)
    time = float(n_steps * rng.lognormal(3, 0.5))
    values = {
        'code_version': '6.4.2',
        'stand_in': 'ionic',
        'finished': True,
        'cores': 4,
        'vasp_runs': len(trajectory.starts),
        'ionic_steps': n_steps,
        'electronic_steps': 9 * n_steps,
        'wall_time_s': time / 4,
        'core_time_s': time,
        'energy_first_step_eV_per_atom': trajectory.energies[0],
        'energy_final_eV_per_atom': trajectory.energies[-1],
        'max_force_first_step_eV_per_A': trajectory.max_forces[0],
        'max_force_final_eV_per_A': trajectory.max_forces[-1],
        'start_energy_error_meV_per_atom': 1e3 * (trajectory.energies[0] - trajectory.energies[-1]),
        'start_coordinate_mae_A': error * rng.lognormal(0, 0.4),
        'start_cell_shape_deviation_A2': 40 * error * rng.lognormal(0, 0.4),
        'start_volume_error_A3': 60 * error * rng.lognormal(0, 0.4),
    }
    return {f'{leg}_{key}': value for key, value in values.items()}


def tell_savings(rng: np.random.Generator, row: dict) -> dict[str, object]:
    saved = {
        f'{cost}_saved{unit}': row[f'raw_{cost}{unit}'] - row[f'predicted_{cost}{unit}']
        for cost, unit in (('ionic_steps', ''), ('electronic_steps', ''), ('wall_time', '_s'), ('core_time', '_s'))
    }
    same = bool(rng.random() < 0.96)
    return saved | {
        'ionic_steps_saved_percent': 100 * saved['ionic_steps_saved'] / row['raw_ionic_steps'],
        'energy_difference_final_meV_per_atom': float(rng.normal(0, 0.4 if same else 20)),
        'same_minimum': same,
    }


def make_structures(rng: np.random.Generator, relaxed: list[Atoms], frame: pd.DataFrame) -> dict[str, Crystals]:
    """Return the relaxed crystals of the structures that have some, and what came before, distorted by degrees."""
    stages = {'raw': (0.05, frame['state'].notna()), 'predicted': (0.02, frame['verdict'].notna())}
    stages['relaxed'] = (0.0, frame['raw_ionic_steps'].notna())
    structures = {}
    for stage, (size, there) in stages.items():
        chosen = [atoms.copy() for atoms, exists in zip(relaxed, there, strict=True) if exists]
        for atoms in chosen:
            atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(0, size, (3, 3))), scale_atoms=True)
            atoms.positions += rng.normal(0, size, (len(atoms), 3))
        structures[stage] = make_crystals(
            [atoms.numbers for atoms in chosen],
            [atoms.positions for atoms in chosen],
            [atoms.cell.array for atoms in chosen],
            list(frame.index[there]),
        )
    return structures


def uuid(number: int) -> str:
    return f'00000000-0000-4000-8000-{number:012d}'
