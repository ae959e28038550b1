"""Remarks on the figures of a comparison: where one of them is not what it seems to be."""

from __future__ import annotations

from collections.abc import Iterator

from aiida_e3relax.workflows.comparison.legs import Leg
from aiida_e3relax.workflows.vasp.messages import LEG_NAMES

SAME_ENERGY = 0.005
"""In eV/atom; two legs that end further apart have not reached the same minimum."""
FORCE_FACTOR, FORCE_NOISE = 1.5, 0.001
"""How far above the force that was asked for, times the first plus the second in eV/A, a static run may be: it has the
plane waves of another cell than the relaxation."""


def find_remarks(raw: Leg | None, predicted: Leg | None) -> list[str]:
    """Return sentences, without a full stop, on figures of the legs that are left out or need a second look."""
    remarks = [
        remark
        for name, leg in (('predicted', predicted), ('raw', raw))
        if leg
        for remark in _remarks_on_leg(leg, LEG_NAMES[name])
    ]
    if raw and raw.last and predicted and predicted.last:
        remarks += _remarks_on_both(raw, predicted)
    return remarks


def cores_differ(raw: Leg, predicted: Leg) -> bool:
    """Return whether the legs are known to have run on different numbers of cores."""
    return None not in (raw.cores, predicted.cores) and raw.cores != predicted.cores


def _remarks_on_leg(leg: Leg, name: str) -> Iterator[str]:
    if leg.last and len(leg.runs) > 1:
        yield (
            f'The relaxation from {name} took {len(leg.runs)} VASP runs, each of which computes its first point again '
            'and begins its optimiser anew: it has more ionic steps than in one run'
        )
    if leg.first and not leg.starts_converged:
        yield (
            f'The first ionic step from {name} took all electronic steps that NELM allows without getting '
            'self-consistent: how far above its end the start lies is not known'
        )
    if not leg.last:
        costs = [(run.ionic_steps, run.wall_time) for run in leg.runs]
        if costs and set(costs) == {(None, None)}:
            yield f'No VASP run from {name} wrote what it cost: nobody knows what this relaxation, which failed, spent'
        elif n_lost := sum(None in cost for cost in costs):
            yield (
                f'{n_lost} of {len(costs)} VASP runs from {name} ended before they wrote all that they cost: the '
                'figures of this relaxation, which failed, are the least that it spent'
            )
        return
    if leg.other_surface:
        if leg.first:
            yield (
                f'The last run from {name} has another {", ".join(leg.other_surface)} than the first one: the energies '
                'of start and end do not compare'
            )
        return
    force = leg.last.max_free_force
    if leg.force_cutoff is not None and force is not None and force > FORCE_FACTOR * leg.force_cutoff + FORCE_NOISE:
        yield (
            f'The relaxation from {name} ends with a force of {force:.3g} eV/A where {leg.force_cutoff:g} eV/A was '
            'asked for: the last run may be in another electronic state; compare moments and energies of the runs'
        )


def _remarks_on_both(raw: Leg, predicted: Leg) -> Iterator[str]:
    if cores_differ(raw, predicted):
        yield (
            f'The relaxation from {LEG_NAMES["raw"]} ran on {raw.cores} cores, that from {LEG_NAMES["predicted"]} on '
            f'{predicted.cores}: their wall times do not compare, the times of all cores do'
        )
    if None not in (raw.code_version, predicted.code_version) and raw.code_version != predicted.code_version:
        yield (
            f'The relaxation from {LEG_NAMES["raw"]} is by VASP {raw.code_version}, that from '
            f'{LEG_NAMES["predicted"]} by VASP {predicted.code_version}: steps and energies may differ by that'
        )
    assert raw.last
    assert predicted.last
    lower = predicted.last.energy - raw.last.energy
    if lower >= SAME_ENERGY:
        yield (
            f'The relaxation from {LEG_NAMES["raw"]} ends {1e3 * lower:.1f} meV/atom lower: the output `structure` is '
            'the end from the prediction, the lower end is `raw.structure`'
        )
