"""What single VASP runs tell of themselves in the nodes that aiida-vasp makes of their files."""

from __future__ import annotations

import dataclasses
import re
from itertools import chain, islice

import numpy as np
from aiida import orm
from numpy.typing import NDArray

from aiida_e3relax.data.structures import structures_to_crystals
from aiida_e3relax.gnn.structures import Crystals

HEADER_LINES = 20
ELECTRONIC_STEP = re.compile(r'Iteration +\d+\( *\d+\)')
VERSION = re.compile(r'^\s*vasp\.(\S+)')
CORES = re.compile(r'running on\s+(\d+) total cores')
RANKS = re.compile(r'running\s+(\d+) mpi-ranks, with\s+(\d+) threads/rank')


@dataclasses.dataclass(frozen=True)
class VaspRun:
    """The cost of one VASP run; a value is None where the run did not write it.

    Attributes
    ----------
    code_version, cores
        As VASP prints them at the head of OUTCAR.
    ionic_steps, electronic_steps
        Ionic steps, and the electronic steps of all of them.
    wall_time
        In VASP's own accounting, in s.
    """

    code_version: str | None
    cores: int | None
    ionic_steps: int
    electronic_steps: int | None
    wall_time: float | None

    @property
    def core_time(self) -> float | None:
        """The wall time of all cores together, in s."""
        return None if self.wall_time is None or self.cores is None else self.wall_time * self.cores


@dataclasses.dataclass(frozen=True)
class Step:
    """One ionic step.

    Attributes
    ----------
    crystal
        Its geometry.
    energy
        In eV/atom, extrapolated to no smearing.
    max_force
        The largest force on an atom, in eV/A.
    pressure
        In kB, positive where the cell wants to grow.
    """

    crystal: Crystals
    energy: float
    max_force: float
    pressure: float


def read_run(retrieved: orm.FolderData | None, misc: orm.Dict | None) -> VaspRun:
    """Return the cost of a run that left these nodes, each of which a failed run may lack."""
    version, cores, electronic_steps = _read_outcar(retrieved) if retrieved else (None, None, None)
    return VaspRun(
        code_version=version,
        cores=cores,
        ionic_steps=_count_ionic_steps(misc) if misc else 0,
        electronic_steps=electronic_steps,
        wall_time=elapsed_time(misc),
    )


def elapsed_time(misc: orm.Dict | None) -> float | None:
    """Return the wall time in VASP's own accounting, in s."""
    return misc['run_stats'].get('elapsed_time') if misc else None


def first_step(structure: orm.StructureData, trajectory: orm.TrajectoryData) -> Step | None:
    """Return the first ionic step of a run that started from `structure`; None when VASP did not finish it."""
    if not len(trajectory.get_array('forces')) or 'energy_extrapolated' not in trajectory.get_arraynames():
        return None
    energy, forces, stress = (trajectory.get_array(name)[0] for name in ('energy_extrapolated', 'forces', 'stress'))
    return _make_step(structure, energy, forces, stress)


def last_step(structure: orm.StructureData, misc: orm.Dict) -> Step:
    """Return the last ionic step of a run that ended at `structure`."""
    energy = misc['total_energies']['energy_extrapolated']
    return _make_step(structure, energy, np.array(misc['forces']), np.array(misc['stress']))


def _make_step(
    structure: orm.StructureData, energy: float, forces: NDArray[np.float64], stress: NDArray[np.float64]
) -> Step:
    """Return a step from its energy in eV, forces ``(N, 3)`` in eV/A and stress ``(3, 3)`` in kB."""
    return Step(
        crystal=structures_to_crystals({'step': structure}),
        energy=float(energy) / len(forces),
        max_force=float(np.linalg.norm(forces, axis=1).max()),
        pressure=float(np.trace(stress)) / 3,
    )


def _read_outcar(retrieved: orm.FolderData) -> tuple[str | None, int | None, int | None]:
    """Return what OUTCAR alone tells: the version, the number of cores, and the electronic steps.

    aiida-vasp cuts the version to its numbers, and counts one electronic step for each ionic one.
    """
    if 'OUTCAR' not in retrieved.base.repository.list_object_names():
        return None, None, None
    with retrieved.base.repository.open('OUTCAR', 'r') as handle:
        header = ''.join(islice(handle, HEADER_LINES))
        electronic_steps = sum(1 for line in chain(header.splitlines(), handle) if ELECTRONIC_STEP.search(line))
    version, cores, ranks = VERSION.search(header), CORES.search(header), RANKS.search(header)
    count = int(ranks[1]) * int(ranks[2]) if ranks else int(cores[1]) if cores else None
    return version[1] if version else None, count, electronic_steps


def _count_ionic_steps(misc: orm.Dict) -> int:
    """Return the ionic steps of a run; the frames of its trajectory do not count them, one step gives two frames."""
    last = misc['run_status']['last_iteration_index']
    return last[0] if last else 0
