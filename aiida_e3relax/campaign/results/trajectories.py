"""The trajectories of relaxations: energy and largest force at each ionic step, read from the graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.links import LinkType
from numpy.typing import NDArray

from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.results.records import chain_query
from aiida_e3relax.workflows.comparison.legs import vasp_runs
from aiida_e3relax.workflows.comparison.reference import RAW_LEG, Reference, earlier_chain, find_raw_leg
from aiida_e3relax.workflows.vasp.messages import LEG_NAMES

LEG_LINKS = {f'relax_{leg}': leg for leg in LEG_NAMES}
ARRAYS = ('energy_extrapolated', 'forces')


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """The ionic steps of one leg, over all its VASP runs, failed and restarted ones included.

    Attributes
    ----------
    energies
        ``(n,)`` in eV/atom.
    max_forces
        ``(n,)`` the largest force on an atom, in eV/A.
    starts
        At which of these steps a VASP run starts, counted from 0.
    """

    energies: NDArray[np.float64]
    max_forces: NDArray[np.float64]
    starts: tuple[int, ...]


def read_trajectories(chain: orm.WorkChainNode) -> dict[str, Trajectory]:
    """Return the trajectories of the legs of a chain, by leg; those without a single finished step are left out."""
    links = chain.base.links.get_outgoing(link_type=LinkType.CALL_WORK).all()
    called: dict[str, Any] = {link.link_label: link.node for link in links}
    legs = {leg: called[link] for link, leg in LEG_LINKS.items() if link in called}
    if RAW_LEG not in called and (earlier := earlier_chain(chain.inputs.reference_leg.value)):
        legs['raw'] = find_raw_leg(earlier)
    trajectories = {leg: read_trajectory(process) for leg, process in legs.items()}
    return {leg: trajectory for leg, trajectory in trajectories.items() if len(trajectory.energies)}


def campaign_trajectories(name: str) -> dict[str, dict[str, Trajectory]]:
    """Return what `read_trajectories` does for all chains of a campaign, by label, in a query instead of ten for each.

    Chains that have not finished an ionic step are left out. Raises ValueError when there is no such campaign.
    """
    group = load_campaign(name)
    settings, labels = group.settings_node, group.settings.structures.keys()
    arrays_of_leg: dict[tuple[str, str], list[orm.ArrayData]] = {}
    found = chain_query(settings, ['id', 'label']).iterall(batch_size=1000)
    newest = {label: pk for pk, label in found if label in labels}
    query = chain_query(settings, ['id', 'label'])
    query.append(
        orm.WorkChainNode,
        with_incoming='chain',
        edge_filters={'label': {'in': list(LEG_LINKS)}},
        edge_project='label',
        tag='leg',
    )
    query.append(orm.WorkChainNode, with_incoming='leg', edge_filters={'label': {'like': 'relax_%'}}, tag='base')
    query.append(orm.CalcJobNode, with_incoming='base', tag='run')
    query.append(orm.ArrayData, with_incoming='run', edge_filters={'label': 'trajectory'}, project='*')
    query.order_by({'run': {'id': 'asc'}})
    for pk, label, arrays, link in query.iterall(batch_size=1000):
        if newest.get(label) == pk:
            arrays_of_leg.setdefault((label, LEG_LINKS[link]), []).append(arrays)
    trajectories: dict[str, dict[str, Trajectory]] = {}
    for (label, leg), runs in arrays_of_leg.items():
        trajectories.setdefault(label, {})[leg] = _join_runs(runs)
    for chain in _query_referring(settings):
        if newest.get(chain.label) == chain.pk:
            trajectories[chain.label] = read_trajectories(chain)
    return trajectories


def read_trajectory(leg: orm.WorkChainNode) -> Trajectory:
    """Return the trajectory of a `vasp.v2.relax` work chain."""
    runs = vasp_runs(leg, 'relax_%')
    return _join_runs(run.outputs.trajectory for run in runs if 'trajectory' in run.outputs)


def _join_runs(runs: Iterable[orm.ArrayData]) -> Trajectory:
    """Return the trajectory of VASP runs that follow one another; those that left no forces are passed over."""
    energies: list[float] = []
    forces: list[float] = []
    starts: list[int] = []
    for arrays in runs:
        if not set(ARRAYS) <= set(arrays.get_arraynames()):
            continue
        starts.append(len(energies))
        of_run = zip(*(arrays.get_array(name) for name in ARRAYS), strict=False)  # one step gives two frames
        for energy, force in of_run:
            energies.append(energy / len(force))
            forces.append(np.linalg.norm(force, axis=1).max())
    return Trajectory(np.array(energies), np.array(forces), tuple(starts))


def _query_referring(settings: orm.Dict) -> list[orm.WorkChainNode]:
    """Return the chains of a campaign that take their raw leg from an earlier chain."""
    query = chain_query(settings, ['*'])
    query.append(
        orm.Str,
        with_outgoing='chain',
        edge_filters={'label': 'reference_leg'},
        filters={'attributes.value': {'!in': list(Reference)}},
    )
    return query.all(flat=True)
