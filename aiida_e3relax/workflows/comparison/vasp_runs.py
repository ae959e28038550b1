"""The cost of a VASP run and its first and last ionic step, read from the nodes that aiida-vasp makes of its files."""

from __future__ import annotations

import dataclasses
import re
from itertools import chain, islice
from typing import Any

import numpy as np
from aiida import orm
from numpy.typing import NDArray

from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.data.structures import structures_to_crystals
from aiida_e3relax.workflows.vasp.job_output import open_retrieved_text

HEADER_LINES = 20
ITERATION = re.compile(r'Iteration +(\d+)\( *\d+\)')
VERSION = re.compile(r'^\s*vasp\.(\S+)')
CORES = re.compile(r'running on\s+(\d+) total cores')
RANKS = re.compile(r'running\s+(\d+) mpi-ranks, with\s+(\d+) threads/rank')
ELAPSED = re.compile(r'Elapsed time \(sec\): *(\d+\.?\d*)')
NELM = re.compile(r'\s*NELM\s*=\s*(\d+)')
CONVERGED = 'aborting loop because EDIFF is reached'
STEP_ARRAYS = ('energy_extrapolated', 'forces', 'stress')


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
    starts_converged
        Whether the first ionic step got self-consistent, before NELM electronic steps were over.
    """

    code_version: str | None
    cores: int | None
    ionic_steps: int | None
    electronic_steps: int | None
    wall_time: float | None
    starts_converged: bool | None = None

    @property
    def core_time(self) -> float | None:
        """The wall time of all cores together, in s."""
        return None if self.wall_time is None or self.cores is None else self.wall_time * self.cores


NOTHING_KNOWN = VaspRun(code_version=None, cores=None, ionic_steps=None, electronic_steps=None, wall_time=None)


@dataclasses.dataclass(frozen=True)
class MeasuredStep:
    """The measures of one ionic step.

    Attributes
    ----------
    crystal
        Its geometry.
    energy
        In eV/atom, extrapolated to no smearing.
    max_force
        The largest force on an atom, in eV/A.
    max_free_force
        The largest force on an atom that may move along all lattice vectors, in eV/A; None where there is none.
    pressure
        In kB, positive where the cell wants to grow.
    """

    crystal: Crystals
    energy: float
    max_force: float
    pressure: float
    max_free_force: float | None = None


def read_run(retrieved: orm.FolderData | None, misc: orm.Dict | None) -> VaspRun:
    """Return the cost of a run that left these nodes, each of which a failed run may lack."""
    run = _read_outcar(retrieved)
    status = _section(misc, 'run_status')
    if 'last_iteration_index' in status:  # the frames of the trajectory do not count the steps: one step gives two
        last = status['last_iteration_index']
        run = dataclasses.replace(run, ionic_steps=last[0] if last else 0)
    elapsed = elapsed_time(misc)
    return run if elapsed is None else dataclasses.replace(run, wall_time=elapsed)


def elapsed_time(misc: orm.Dict | None) -> float | None:
    """Return the wall time in VASP's own accounting, in s; None when VASP was killed before it wrote it."""
    return _section(misc, 'run_stats').get('elapsed_time')


def first_step(structure: orm.StructureData, trajectory: orm.TrajectoryData) -> MeasuredStep | None:
    """Return the first ionic step of a run that started from `structure`; None when VASP did not finish it."""
    if not set(STEP_ARRAYS) <= set(trajectory.get_arraynames()):
        return None
    energies, forces, stresses = (trajectory.get_array(name) for name in STEP_ARRAYS)
    return _make_step(structure, energies[0], forces[0], stresses[0]) if len(forces) else None


def last_step(
    structure: orm.StructureData, misc: orm.Dict | None, movable: NDArray[np.bool_] | None = None
) -> MeasuredStep | None:
    """Return the last ionic step of a run that ended at `structure`; None when its energy or forces are not known.

    `movable` says ``(N, 3)`` which coordinates may change, for `max_free_force`; without it that is None.
    """
    energy = _section(misc, 'total_energies').get('energy_extrapolated')
    forces, stress = _section(misc, 'forces'), _section(misc, 'stress')
    if energy is None or not forces or not stress:
        return None
    step = _make_step(structure, energy, np.array(forces), np.array(stress))
    if movable is None or not movable.all(axis=1).any():
        return step
    return dataclasses.replace(step, max_free_force=_largest(np.array(forces)[movable.all(axis=1)]))


def _make_step(
    structure: orm.StructureData, energy: float, forces: NDArray[np.float64], stress: NDArray[np.float64]
) -> MeasuredStep:
    """Return a step from its energy in eV, forces ``(N, 3)`` in eV/A and stress ``(3, 3)`` in kB."""
    return MeasuredStep(
        crystal=structures_to_crystals({'step': structure}),
        energy=float(energy) / len(forces),
        max_force=_largest(forces),
        pressure=float(np.trace(stress)) / 3,
    )


def _largest(forces: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(forces, axis=1).max())


def _section(misc: orm.Dict | None, name: str) -> Any:
    """Return an entry of misc; empty where there is none, since aiida-vasp drops what is empty."""
    return (misc.get_dict().get(name) if misc else None) or {}


def _read_outcar(retrieved: orm.FolderData | None) -> VaspRun:
    """Return what OUTCAR says of a run, nothing if that is missing or empty.

    aiida-vasp cuts the version to its numbers, counts one electronic step for each ionic one, and has no `misc` where
    another file is missing.
    """
    if retrieved is None or 'OUTCAR' not in retrieved.base.repository.list_object_names():
        return NOTHING_KNOWN
    ionic_steps: list[int] = []
    wall_time, nelm, has_converged = None, None, False
    with open_retrieved_text(retrieved, 'OUTCAR') as handle:
        header = ''.join(islice(handle, HEADER_LINES))
        for line in chain(header.splitlines(), handle):
            if match := ITERATION.search(line):
                ionic_steps.append(int(match[1]))
            elif match := ELAPSED.search(line):
                wall_time = float(match[1])
            elif not ionic_steps and (match := NELM.match(line)):
                nelm = int(match[1])
            elif CONVERGED in line and ionic_steps and ionic_steps[-1] == 1:
                has_converged = True
    if not header:
        return NOTHING_KNOWN
    of_first = ionic_steps.count(1)
    version, cores, ranks = VERSION.search(header), CORES.search(header), RANKS.search(header)
    return VaspRun(
        code_version=version[1] if version else None,
        cores=int(ranks[1]) * int(ranks[2]) if ranks else int(cores[1]) if cores else None,
        ionic_steps=max(ionic_steps, default=0),
        electronic_steps=len(ionic_steps),
        wall_time=wall_time,
        starts_converged=has_converged or of_first < nelm if of_first and nelm else None,
    )
