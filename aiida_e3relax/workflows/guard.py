"""The guard: whether VASP may start from a prediction."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
from aiida import orm
from aiida.engine import calcfunction

from aiida_e3relax.calculations.predict_parameters import PredictParameters
from aiida_e3relax.common.mappings import check_keys
from aiida_e3relax.crystals.cells import FURTHEST
from aiida_e3relax.crystals.freedom.projection import restrict
from aiida_e3relax.crystals.geometry import closest_contact, displacements, principal_strains
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.crystals.validation import geometry_fault
from aiida_e3relax.data.structures import moved_structure, structures_to_crystals
from aiida_e3relax.workflows.allowed_values import VERDICTS, GuardMode
from aiida_e3relax.workflows.network.report import stated_distance, stated_energy_rise, stated_uncertainty
from aiida_e3relax.workflows.vasp.inputs.freedom import freedom_value, read_freedom

ACCEPTED, WARNED, UNCHECKED, REJECTED = VERDICTS

SETTING_RANGES = {
    'contact_ratio_min': (0.0, 1.0),
    'volume_ratio_min': (0.0, 1.0),
    'volume_ratio_max': (1.0, 1e3),
    'strain_min': (-1.0, 0.0),
    'strain_max': (0.0, 10.0),
    'displacement_max_A': (0.0, 1e3),
    'uncertainty_max_A': (0.0, 1e3),
    'distance_to_training_max': (0.0, 1e3),
    'energy_rise_max_eV_per_atom': (-1e3, 1e3),
}
NOT_LOOKED_AT = ('uncertainty_max_A', 'distance_to_training_max', 'energy_rise_max_eV_per_atom')
"""Bounds that may be None."""
OF_NETWORKS = ('uncertainty_max_A', 'distance_to_training_max')
"""Those on what a network alone can state."""
OF_POTENTIALS = ('energy_rise_max_eV_per_atom',)
"""That on what an interatomic potential alone can state."""


@dataclasses.dataclass(frozen=True)
class GuardSettings:
    """The bounds that a prediction must keep; they are wide, made to stop nonsense and not to judge chemistry.

    A prediction that cannot be computed with at all is rejected in every mode: other sites, numbers that are not finite
    or out of range, a cell without volume, mirrored, or so thin that an atom overlaps with its own image. The defaults
    are taken from 28,859 real relaxations, the training sets `pnictides` and `substitution`, by
    `benchmarks/guard_bounds.py`: each bound is the 1st or 99th percentile of the wider set, rounded outwards, unless
    its own reason stands below. A wrong rejection costs what the prediction would have saved, a wrong acceptance a
    whole relaxation from nonsense.

    Attributes
    ----------
    mode
        `reject`, `warn` or `off`; see `GuardMode`.
    contact_ratio_min
        Smallest distance between two atoms over the sum of their covalent radii: just below that of any relaxed crystal
        (0.64 and 0.63 in the two sets), since nothing sound is beyond.
    volume_ratio_min, volume_ratio_max
        Predicted volume over raw volume. Cells of hypothetical crystals do grow by several times (99 %: 5.8 and 1.5).
        Shrinking makes overlaps, which is rarer: the bound is the thousandth (0.41 and 0.41).
    strain_min, strain_max
        Bounds on the principal strains of the cell; 0.1 is a stretch by 10 % (1 %: -0.45 and -0.26; 99 %: 1.43 and
        0.19).
    displacement_max_A
        Largest shift of a site relative to the common drift of all sites, in A (99 %: 7.0 and 1.6).
    uncertainty_max_A
        Largest uncertainty that the network may state of the lengths of the crystal's bonds, in A. None does not look
        at it: single networks and potentials state none, and where ensembles do, those least sure are still better than
        the raw crystals on average (`benchmarks/uncertainty.py`). With a bound, a prediction without one is rejected.
    distance_to_training_max
        How far the raw crystal may be from those that the network was trained on, in their unit (above 1 it is unlike
        them). None does not look at it. With a bound, a prediction of a network that cannot tell is rejected.
    energy_rise_max_eV_per_atom
        By how much the prediction may lie above the raw crystal in energy, by the interatomic potential that takes part
        (`potential` in the parameters of the run), in eV/atom. None does not look at it.
        It is right about most rises in one set and wrong in the other (`benchmarks/second_opinion.py`). With a bound, a
        prediction of which no potential says so is rejected.
    """

    mode: str = GuardMode.REJECT.value
    contact_ratio_min: float = 0.6
    volume_ratio_min: float = 0.4
    volume_ratio_max: float = 6.0
    strain_min: float = -0.5
    strain_max: float = 1.5
    displacement_max_A: float = 7.0  # noqa: N815 (the unit)
    uncertainty_max_A: float | None = None  # noqa: N815
    distance_to_training_max: float | None = None
    energy_rise_max_eV_per_atom: float | None = None  # noqa: N815

    def __post_init__(self) -> None:
        modes = [mode.value for mode in GuardMode]
        if self.mode not in modes:
            raise ValueError(f'`mode`: expected {", ".join(modes)}, found {self.mode!r}')
        for name, (lowest, highest) in SETTING_RANGES.items():
            value = getattr(self, name)
            if value is None and name in NOT_LOOKED_AT:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
                raise ValueError(f'`{name}`: expected a number from {lowest:g} to {highest:g}, found {value!r}')

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Return the settings with `values` over the defaults; ValueError names an unknown key or a bad value."""
        check_keys(values, [field.name for field in dataclasses.fields(cls)])
        return cls(**values)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the guard found.

    Attributes
    ----------
    accepted
        Whether VASP may start from the prediction.
    reasons
        One sentence for each bound that the prediction breaks, also where it is accepted with a warning.
    numbers
        What was measured, by name with its unit; of a prediction that cannot be computed with, no more than its cell.
    is_checked
        Whether the bounds have been looked at.
    """

    accepted: bool
    reasons: tuple[str, ...]
    numbers: dict[str, float | str | None]
    is_checked: bool = True

    @property
    def word(self) -> str:
        """One of `VERDICTS`."""
        if not self.accepted:
            return REJECTED
        if not self.is_checked:
            return UNCHECKED
        return WARNED if self.reasons else ACCEPTED


def find_unstated_bound(guard: Mapping[str, Any], parameters: PredictParameters) -> str | None:
    """Return which bound would reject every prediction of a run, since nothing in it states what is bounded; or None.

    `guard` are fields of `GuardSettings` that differ from their defaults, `parameters` those of the run. Networks that
    state no uncertainty or no distance are not told apart from others here.
    """
    if guard.get('mode', GuardMode.REJECT) != GuardMode.REJECT:
        return None
    chosen = parameters.pre_relaxer
    for states, bounds, who in (
        (chosen.has_network, OF_NETWORKS, 'network'),
        (parameters.states_energies, OF_POTENTIALS, 'potential'),
    ):
        if not states and (given := [name for name in bounds if guard.get(name) is not None]):
            return (
                f'`guard`: `{given[0]}` would reject every prediction by {chosen}, since only a {who} states what it '
                'bounds; leave the bound out, give `mode: warn`, or choose another pre-relaxer'
            )
    return None


def describe_verdict(record: Mapping[str, Any]) -> str:
    """Return in a sentence what a verdict says, as it is stored, of a prediction that VASP starts from."""
    if record['verdict'] == UNCHECKED:
        return "The guard's bounds were not looked at (mode off)"
    return '; '.join([f'The prediction was {record["verdict"]} by the guard', *record['reasons']])


def judge(
    raw: Crystals,
    prediction: Crystals,
    settings: GuardSettings,
    uncertainty: float | None = None,
    energy_rise: float | None = None,
    distance: float | None = None,
) -> Verdict:
    """Return whether VASP may start from `prediction`, a relaxed geometry guessed for `raw`. Each holds one crystal.

    `uncertainty` is what the network states of it, in A, if it states any, `distance` how far it says that `raw` is
    from its training, and `energy_rise` what a potential says of its energy over that of `raw`, in eV/atom.
    """
    numbers = _measure_cell(raw, prediction)
    unusable = tuple(_find_unusable(raw, prediction))
    if unusable:
        return Verdict(accepted=False, reasons=unusable, numbers=numbers)
    try:
        numbers |= _measure_sites(raw, prediction)
    except ValueError as error:  # more pairs of atoms than can be looked at
        return Verdict(accepted=False, reasons=(f'contacts cannot be measured: {error}',), numbers=numbers)
    numbers |= {'uncertainty_A': uncertainty, 'energy_rise_eV_per_atom': energy_rise}
    numbers |= {'distance_to_training': distance}
    if settings.mode == GuardMode.OFF:
        return Verdict(accepted=True, reasons=(), numbers=numbers, is_checked=False)
    reasons = tuple(_find_broken_bounds(numbers, settings))
    return Verdict(accepted=not reasons or settings.mode == GuardMode.WARN, reasons=reasons, numbers=numbers)


@calcfunction
def guard_prediction(
    structure: orm.StructureData,
    prediction: orm.StructureData,
    freedom: orm.Str | orm.Dict,
    settings: orm.Dict,
    network_report: orm.Dict | None = None,
    label: orm.Str | None = None,
) -> dict[str, orm.Data]:
    """Keep of a prediction what may move, and decide whether VASP may start from it.

    Parameters
    ----------
    structure
        The raw crystal.
    prediction
        The network's relaxed crystal, with the same sites in the same order.
    freedom
        A value of `Moves`, or the fields of `Freedom`.
    settings
        The fields of `GuardSettings` that differ from their defaults.
    network_report
        The report of the run that predicted this crystal: its uncertainty, its distance to what the network was
        trained on, and what a potential says of it.
    label
        The crystal's name in that report; not needed where it was predicted alone.

    Returns
    -------
    dict
        `verdict`: the settings, the numbers measured, the verdict and its reasons; and, unless it is a rejection,
        `structure`: where VASP starts.
    """
    bounds = GuardSettings.from_mapping(settings.get_dict())
    crystals = structures_to_crystals({'raw': structure, 'prediction': prediction})
    raw, predicted = crystals.select([0]), crystals.select([1])
    start = predicted
    if not tuple(_find_unusable(raw, predicted)):
        kinds = [site.kind_name for site in structure.sites]
        start = restrict(raw, predicted, read_freedom(freedom), kinds)
    stated: dict[str, float | None] = {}
    if network_report:
        report, name = network_report.get_dict(), label.value if label else None
        stated = {
            'uncertainty': stated_uncertainty(report, name),
            'energy_rise': stated_energy_rise(report, name),
            'distance': stated_distance(report, name),
        }
    verdict = judge(raw, start, bounds, **stated)
    outputs: dict[str, orm.Data] = {
        'verdict': orm.Dict(
            {
                'verdict': verdict.word,
                'accepted': verdict.accepted,
                'reasons': list(verdict.reasons),
                'numbers': verdict.numbers,
                'settings': dataclasses.asdict(bounds),
                'freedom': freedom_value(freedom),
            }
        )
    }
    if verdict.accepted:
        outputs['structure'] = moved_structure(structure, start.positions, start.cell[0])
    return outputs


def _find_unusable(raw: Crystals, prediction: Crystals) -> Iterator[str]:
    """Yield why no relaxation can start from `prediction`, whatever the bounds."""
    if fault := geometry_fault(raw):
        yield f'the raw structure cannot be computed with: {fault[1]}'
    if raw.numbers.tolist() != prediction.numbers.tolist():
        yield 'the prediction has other sites than the raw structure, or the same in another order'
    elif not (np.isfinite(prediction.positions).all() and np.isfinite(prediction.cell).all()):
        yield 'the predicted geometry is not finite'
    elif fault := geometry_fault(prediction):
        yield f'the predicted geometry cannot be computed with: {fault[1]}'
    elif prediction.volumes[0] < 0:
        yield f'the predicted cell is mirrored: its volume is {prediction.volumes[0]:.3g} A^3'


def _measure_cell(raw: Crystals, prediction: Crystals) -> dict[str, float | str | None]:
    """Return the measures of the cells, as far as they can be computed."""
    if geometry_fault(raw) or not (np.abs(prediction.cell) <= FURTHEST).all():
        return {}
    strains = principal_strains(raw, prediction)
    return {
        'volume_ratio': float(prediction.volumes[0] / raw.volumes[0]),
        'strain_min': float(strains[0]),
        'strain_max': float(strains[-1]),
    }


def _measure_sites(raw: Crystals, prediction: Crystals) -> dict[str, float | str | None]:
    contact = closest_contact(prediction)
    return {
        'contact_ratio': contact.ratio if contact else None,
        'contact_distance_A': contact.distance if contact else None,
        'contact_atoms': contact.atoms if contact else None,
        'displacement_max_A': float(np.linalg.norm(displacements(raw, prediction), axis=1).max()),
    }


def _find_broken_bounds(numbers: Mapping[str, Any], settings: GuardSettings) -> Iterator[str]:
    """Yield a sentence for each bound that is broken; NaN, which compares as nothing, breaks all."""
    ratio = numbers['contact_ratio']
    if ratio is not None and not ratio >= settings.contact_ratio_min:
        yield (
            f'the atoms {numbers["contact_atoms"]} come as close as {numbers["contact_distance_A"]:.2f} A, '
            f'{ratio:.2f} of their covalent radii (bound {settings.contact_ratio_min:g})'
        )
    if not settings.volume_ratio_min <= numbers['volume_ratio'] <= settings.volume_ratio_max:
        yield (
            f'the volume changes by a factor of {numbers["volume_ratio"]:.3g} '
            f'(bounds {settings.volume_ratio_min:g} to {settings.volume_ratio_max:g})'
        )
    if not settings.strain_min <= numbers['strain_min'] <= numbers['strain_max'] <= settings.strain_max:
        yield (
            f'the cell is strained by {numbers["strain_min"]:+.2f} to {numbers["strain_max"]:+.2f} '
            f'(bounds {settings.strain_min:+g} to {settings.strain_max:+g})'
        )
    if not numbers['displacement_max_A'] <= settings.displacement_max_A:
        yield (
            f'a site moves by {numbers["displacement_max_A"]:.2f} A against the others '
            f'(bound {settings.displacement_max_A:g} A)'
        )
    uncertainty, bound = numbers['uncertainty_A'], settings.uncertainty_max_A
    if bound is not None and uncertainty is None:
        yield (
            f'no uncertainty is stated (bound {bound:g} A), as a potential or a single network states none: predict '
            'with an ensemble, or give no such bound'
        )
    elif bound is not None and not uncertainty <= bound:
        yield f'the network expects errors of {uncertainty:.2g} A in the lengths of bonds (bound {bound:g} A)'
    distance, bound = numbers['distance_to_training'], settings.distance_to_training_max
    if bound is not None and distance is None:
        yield (
            f'no distance to the training data is stated (bound {bound:g}): predict with a checkpoint to which '
            '`e3relax ensemble --reference` gave what it was trained on, or give no such bound'
        )
    elif bound is not None and not distance <= bound:
        yield f'the crystal is unlike what the network was trained on: distance {distance:.2f} (bound {bound:g})'
    rise, bound = numbers['energy_rise_eV_per_atom'], settings.energy_rise_max_eV_per_atom
    if bound is not None and rise is None:
        yield (
            f'no potential tells by how much the energy changes (bound {bound:g} eV/atom): predict with '
            '`potential`, or see in the report of the run why it failed, or give no such bound'
        )
    elif bound is not None and not rise <= bound:
        yield (
            f'the prediction lies {rise:+.3f} eV/atom above the raw structure by the potential '
            f'(bound {bound:g} eV/atom)'
        )
