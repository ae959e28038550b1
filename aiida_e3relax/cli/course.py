"""The course of a relaxation, step by step: in a line of text, and as a figure of both legs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.links import LinkType
from numpy.typing import NDArray
from rich.text import Text

from aiida_e3relax.gnn.figures import COLOURS, GREY, new_figure
from aiida_e3relax.workflows.legs import vasp_runs
from aiida_e3relax.workflows.reference import RAW_LEG, earlier_chain, find_raw_leg
from aiida_e3relax.workflows.story import LEG_NAMES

BARS = '▁▂▃▄▅▆▇█'
LEG_COLOURS = {'raw': COLOURS[1], 'predicted': COLOURS[0]}


@dataclasses.dataclass(frozen=True)
class Course:
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


def read_courses(chain: orm.WorkChainNode) -> dict[str, Course]:
    """Return the courses of the legs of a chain, by leg; those without a single finished step are left out."""
    links = chain.base.links.get_outgoing(link_type=LinkType.CALL_WORK).all()
    called: dict[str, Any] = {link.link_label: link.node for link in links}
    legs = {leg: called[f'relax_{leg}'] for leg in LEG_NAMES if f'relax_{leg}' in called}
    if RAW_LEG not in called and (earlier := earlier_chain(chain.inputs.reference_leg.value)):
        legs['raw'] = find_raw_leg(earlier)
    courses = {leg: read_course(process) for leg, process in legs.items()}
    return {leg: course for leg, course in courses.items() if len(course.energies)}


def read_course(leg: orm.WorkChainNode) -> Course:
    """Return the course of a `vasp.v2.relax` work chain."""
    energies: list[float] = []
    forces: list[float] = []
    starts: list[int] = []
    for run in vasp_runs(leg, 'relax_%'):
        arrays = run.outputs.trajectory if 'trajectory' in run.outputs else None
        if arrays is None or not {'energy_extrapolated', 'forces'} <= set(arrays.get_arraynames()):
            continue
        starts.append(len(energies))
        of_run = arrays.get_array('energy_extrapolated')
        for energy, force in zip(of_run, arrays.get_array('forces'), strict=False):  # one step gives two frames
            energies.append(energy / len(force))
            forces.append(np.linalg.norm(force, axis=1).max())
    return Course(np.array(energies), np.array(forces), tuple(starts))


def tell_courses(courses: Mapping[str, Course]) -> Text:
    """Return a line of text for each leg and quantity, from the first ionic step to the last."""
    lines = [
        f'{quantity:13} from {LEG_NAMES[leg]:17} {sparkline(values)}'
        for quantity, attribute in (('energy', 'energies'), ('largest force', 'max_forces'))
        for leg, course in courses.items()
        for values in [getattr(course, attribute)]
    ]
    return Text('\n'.join(lines))


def sparkline(values: NDArray[np.float64]) -> str:
    """Return a bar of text for each value, the smallest the lowest."""
    span = values.max() - values.min()
    heights = (values - values.min()) / span if span > 0 else np.zeros(len(values))
    return ''.join(BARS[round(height * (len(BARS) - 1))] for height in heights)


def draw_courses(courses: Mapping[str, Course], title: str, path: Path) -> None:
    """Draw energy and largest force against the ionic step for both legs, with a line where a VASP run starts anew."""
    figure = new_figure(6.0, 5.0)
    above, below = figure.subplots(2, 1, sharex=True)
    lowest = min(course.energies.min() for course in courses.values())
    for leg, course in courses.items():
        steps = np.arange(1, len(course.energies) + 1)
        style = {'color': LEG_COLOURS[leg], 'marker': 'o', 'markersize': 4, 'label': f'from {LEG_NAMES[leg]}'}
        above.plot(steps, 1e3 * (course.energies - lowest), **style)
        below.plot(steps, course.max_forces, **style)
        for axes in (above, below):
            for start in course.starts[1:]:
                axes.axvline(start + 0.5, color=GREY, linewidth=0.8, linestyle=':')
    above.set(title=title, ylabel='energy above the lowest\n(meV/atom)')
    above.legend(frameon=False)
    below.set(xlabel='ionic step', ylabel='largest force (eV/Å)', yscale='log')
    below.xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(path, dpi=150)
