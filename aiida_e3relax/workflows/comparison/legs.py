"""One leg of the comparison: a `vasp.v2.relax` work chain, its data nodes, and the figures read from them."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiida import orm

from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.workflows.comparison.vasp_runs import (
    MeasuredStep,
    VaspRun,
    elapsed_time,
    first_step,
    last_step,
    read_run,
)
from aiida_e3relax.workflows.vasp.inputs.incar import read_number
from aiida_e3relax.workflows.vasp.inputs.surface import other_surface
from aiida_e3relax.workflows.vasp.restarts import ResilientVaspRelaxWorkChain, created_nodes, usable_structure

RUN_OUTPUTS = frozenset({'retrieved', 'misc', 'trajectory'})
FOLDER = 'remote_folder'
"""All that a run leaves which was killed before its files came back; it has been run all the same."""
NUMBERED = re.compile(r'\w+_(\d+)')
STAND_IN = re.compile(r'-standin-(\w+)')
ALGOS = {1: 'rd', 2: 'cg', 3: 'damped dynamics'}
"""By IBRION how VASP moves the ions, the first two in the words of aiida-vasp."""
CHANGE = ', then '
"""Between the words of `find_algo` for the runs of one relaxation."""
ENVIRONMENT = ('prepend_text', 'environment_variables')
"""The options of a job that may change what VASP computes, and not only how fast."""


@dataclasses.dataclass(frozen=True)
class Leg:
    """A relaxation by VASP.

    Attributes
    ----------
    runs
        The VASP runs of the relaxation, failed and restarted ones included, and not the static run at its end.
    static_wall_time
        Of the static run, in s; None when there was none.
    first
        The first ionic step, where the leg started; None when VASP did not finish it.
    last
        The relaxed crystal, by the static run if there is one; None when the leg failed or left no energy of it.
    runs_from_cache
        How many of `runs` AiiDA took from its cache, with the times of when they were run.
    algo
        How VASP moved the ions, of `find_algo`; None where nobody says.
    other_surface
        The INCAR tags by which the energy of `last` does not compare with that of `first`.
    force_cutoff
        The largest force that VASP was to leave where sites may move, in eV/A; None where it had another bound.
    """

    runs: tuple[VaspRun, ...]
    static_wall_time: float | None
    first: MeasuredStep | None
    last: MeasuredStep | None
    runs_from_cache: int = 0
    algo: str | None = None
    other_surface: tuple[str, ...] = ()
    force_cutoff: float | None = None

    @property
    def starts_converged(self) -> bool:
        """Whether `first` is self-consistent, as far as anybody knows."""
        return not self.runs or self.runs[0].starts_converged is not False

    @property
    def code_version(self) -> str | None:
        """As VASP prints it at the head of OUTCAR."""
        return next((run.code_version for run in self.runs if run.code_version), None)

    @property
    def cores(self) -> int | None:
        """The cores of a run."""
        return next((run.cores for run in self.runs if run.cores), None)

    @property
    def stand_in(self) -> str | None:
        """The engine behind the stand-in; None for VASP itself."""
        return find_stand_in(self.code_version)

    def total(self, cost: Callable[[VaspRun], float | None]) -> float | None:
        """Return the sum of a cost over all runs, or None when a run did not write it.

        Of a leg that failed it is the sum over those that wrote it, the least that it spent, or None where none did.
        """
        costs = [cost(run) for run in self.runs]
        known = [value for value in costs if value is not None]
        return sum(known) if len(known) == len(costs) or (known and self.last is None) else None


def find_stand_in(code_version: str | None) -> str | None:
    """Return the engine behind the stand-in by the version that a run printed; None for VASP itself."""
    match = STAND_IN.search(code_version or '')
    return match[1] if match else None


def collect_leg(leg: orm.WorkChainNode) -> dict[str, orm.Data]:
    """Return the data nodes that say what a `vasp.v2.relax` did: the input of `read_leg`.

    For the n-th VASP run of the relaxation its `RUN_OUTPUTS`, such as `misc_n`, as far as they exist, or else its
    `FOLDER`, for the static run `misc_static`, `incar_first` and `incar_last`, the tags of the runs of the first and
    of the last energy, and `structure`, the relaxed crystal, when the leg finished.
    """
    nodes: dict[str, orm.Data] = {}
    for number, run in enumerate(vasp_runs(leg, 'relax_%'), start=1):
        outputs = created_nodes(run)
        left = RUN_OUTPUTS & outputs.keys() or {FOLDER} & outputs.keys()
        nodes |= {f'{name}_{number}': outputs[name] for name in left}
        nodes.setdefault('incar_first', run.inputs.parameters)
        nodes['incar_last'] = run.inputs.parameters
    for run in vasp_runs(leg, 'singlepoint'):
        outputs = created_nodes(run)
        if 'misc' in outputs:
            nodes |= {'misc_static': outputs['misc'], 'incar_last': run.inputs.parameters}
    if leg.is_finished_ok:
        nodes['structure'] = leg.outputs.relax.structure
    return nodes


def count_from_cache(leg: orm.WorkChainNode) -> int:
    """Return how many VASP runs of the relaxation AiiDA took from its cache, which none of their data nodes says."""
    return sum(run.base.caching.is_created_from_cache for run in vasp_runs(leg, 'relax_%'))


def find_algo(leg: orm.WorkChainNode) -> str | None:
    """Return how VASP moved the ions by the IBRION of each run; several words where a restart changed it, or None."""
    tags = [run.inputs.parameters.get_dict().get('ibrion') for run in vasp_runs(leg, 'relax_%')]
    words = [ALGOS.get(tag, f'IBRION = {tag}') for tag in tags]
    return CHANGE.join(word for word, _ in itertools.groupby(words)) or None


def find_other_environment(legs: Iterable[orm.WorkChainNode]) -> list[str]:
    """Return which options of `ENVIRONMENT` the first VASP runs of relaxations do not have in common."""
    first = [runs[0] for leg in legs if (runs := vasp_runs(leg, 'relax_%'))]
    values = {name: [run.get_option(name) or None for run in first] for name in ENVIRONMENT}
    return [name for name, found in values.items() if any(value != found[0] for value in found)]


def last_structure(leg: orm.WorkChainNode) -> orm.StructureData | None:
    """Return the last whole geometry of a relaxation, which its work chain hands on only if it finished.

    There is none to go on from where VASP moved what it may not.
    """
    if leg.exit_status == ResilientVaspRelaxWorkChain.exit_codes.ERROR_VACUUM_MOVED.status:
        return None
    structures = (usable_structure(run) for run in reversed(vasp_runs(leg, 'relax_%')))
    return next((structure for structure in structures if structure), None)


def read_leg(
    start: orm.StructureData,
    nodes: Mapping[str, Any],
    runs_from_cache: int = 0,
    algo: str | None = None,
    freedom: Freedom | None = None,
) -> Leg:
    """Return the leg that started from `start` and left the `nodes` of `collect_leg`; by default all may move."""
    numbers = sorted({int(match[1]) for name in nodes if (match := NUMBERED.fullmatch(name))})
    first_trajectory = nodes.get(f'trajectory_{numbers[0]}') if numbers else None
    static = nodes.get('misc_static')
    last_misc = static or (nodes.get(f'misc_{numbers[-1]}') if numbers else None)
    freedom, n_sites = freedom or Freedom(), len(start.sites)
    first_tags, last_tags = (nodes[name].get_dict() if name in nodes else {} for name in ('incar_first', 'incar_last'))
    bound = read_number(first_tags, 'ediffg', 0.0) if freedom.relax_flags(n_sites)['positions'] else 0.0
    return Leg(
        runs=tuple(read_run(nodes.get(f'retrieved_{number}'), nodes.get(f'misc_{number}')) for number in numbers),
        static_wall_time=elapsed_time(static),
        first=first_step(start, first_trajectory) if first_trajectory else None,
        last=last_step(nodes['structure'], last_misc, freedom.movable(n_sites)) if 'structure' in nodes else None,
        runs_from_cache=runs_from_cache,
        algo=algo,
        other_surface=tuple(other_surface(first_tags, last_tags)),
        force_cutoff=-bound if bound < 0 else None,
    )


def vasp_runs(leg: orm.WorkChainNode, link_label: str) -> list[orm.CalcJobNode]:
    """Return the VASP calculations, in order, under the work chains that `leg` called by `link_label`."""
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={'id': leg.pk}, tag='leg')
    query.append(orm.WorkChainNode, with_incoming='leg', edge_filters={'label': {'like': link_label}}, tag='base')
    query.append(orm.CalcJobNode, with_incoming='base', tag='run', project='*')
    query.order_by({'run': {'id': 'asc'}})
    return query.all(flat=True)
