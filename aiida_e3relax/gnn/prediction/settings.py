"""How to run a prediction. Needs no torch."""

import dataclasses
import math
from pathlib import Path

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.freedom.freedom import Freedom, Moves
from aiida_e3relax.gnn.potentials.registry import DLS_VOLUME

ENGINES = ('fast', 'reference')
"""The fast engine, and the plain layers that it is tested against: see `accelerate`."""

SCALED_BY = (Moves.CELL, Moves.VOLUME)
"""What has to move where a crystal is scaled."""

MOST_STEPS, MOST_CANDIDATES = 100_000, 1000
"""Larger numbers are slips of the hand; of candidates they take all memory."""

OF_OPTIMISER = ('steps', 'force_max_eV_per_A', 'stress_max_kB', 'candidates', 'seed')
"""What only an interatomic potential can be told."""

STARTS = ('network', 'input')
"""Where a potential begins: at the network's predictions, or at the crystals as they came, without a network."""


@dataclasses.dataclass(frozen=True)
class PotentialSettings:
    """How an interatomic potential relaxes crystals before VASP does. Raises ValueError for what has no meaning.

    Attributes
    ----------
    name
        The potential, or what takes its place, a word of `PRE_RELAXERS`.
    start
        ``network``: it relaxes the network's predictions. ``input``: the crystals as they came; no network is loaded.
    steps
        Most steps of the optimiser, `MOST_STEPS` at most; with 0 it computes and nothing moves.
    force_max_eV_per_A, stress_max_kB
        It stops below both: the largest force on an atom, and of a cell that is free to move the largest principal
        stress, in kB; without the parts of both along what may not move.
    weights
        The file of its weights, of potentials that do not bring them.
    only_if_lower
        Whether a prediction of the network stands as it was where the energy of the potential has not fallen.
    in_batches
        Whether several crystals are computed at once; None, the default, where that can be done on a GPU.
    candidates
        From how many perturbed crystals it starts beside each unperturbed one, for a lower symmetry; 0 for none,
        `MOST_CANDIDATES` at most.
    seed
        Draws the perturbations.
    """

    name: str
    start: str = STARTS[0]
    steps: int = 200
    force_max_eV_per_A: float = 0.02  # noqa: N815
    stress_max_kB: float = 1.0  # noqa: N815
    weights: Path | None = None
    only_if_lower: bool = True
    in_batches: bool | None = None
    candidates: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.weights is not None:
            object.__setattr__(self, 'weights', Path(self.weights))
        if self.start not in STARTS:
            raise ValueError(f'`start`: expected {" or ".join(STARTS)}, found {self.start!r}')
        for name, most in (('steps', MOST_STEPS), ('candidates', MOST_CANDIDATES), ('seed', math.inf)):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= most:
                limit = 'on' if most == math.inf else f'to {most}'
                raise ValueError(f'`{name}`: expected an integer from 0 {limit}, found {number!r}')
        if self.candidates and not self.steps:
            raise ValueError('`candidates`: expected `steps` above 0, found 0; perturbed crystals have to be relaxed')
        for name in ('force_max_eV_per_A', 'stress_max_kB'):
            bound = getattr(self, name)
            if isinstance(bound, bool) or not isinstance(bound, int | float) or not 0 < bound < math.inf:
                raise ValueError(f'`{name}`: expected a number above 0, found {bound!r}')
        if self.name == DLS_VOLUME:
            self._check_scaling()

    def _check_scaling(self) -> None:
        """Raise ValueError for what a scaling to a predicted volume, which takes no steps, cannot be told."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        given = [name for name in OF_OPTIMISER if getattr(self, name) not in (defaults[name], 0)]
        if given:
            names = ', '.join(f'`{name}`' for name in given)
            raise ValueError(f'{names}: {DLS_VOLUME} scales crystals once, and takes no steps: leave it out')

    def check_freedom(self, freedom: Freedom | None) -> None:
        """Raise InputError for a scaling, or candidates of a lower symmetry, for which `freedom` leaves no room."""
        if self.name == DLS_VOLUME and freedom is not None and freedom.moves not in SCALED_BY:
            raise InputError(
                f'{DLS_VOLUME} scales crystals alike in all directions, which `{freedom.moves}` does not let it: '
                f'expected the freedom {" or ".join(SCALED_BY)}, or another pre-relaxer'
            )
        if not self.candidates or freedom is None:
            return
        if freedom.keep_symmetry:
            raise InputError('candidates break the symmetry that `keep_symmetry` keeps: leave one of the two out')
        if freedom.moves == Moves.VOLUME:
            raise InputError('candidates: with the freedom `volume` nothing moves that could break a symmetry')


@dataclasses.dataclass(frozen=True)
class Details:
    """What is told of predictions beside the structures: those after every `layers`, and all `bonds`."""

    layers: bool = False
    bonds: bool = False


@dataclasses.dataclass(frozen=True)
class PredictionSettings:
    """Device (``auto|cpu|cuda[:n]``), precision, edges in a batch, CPU threads (None: torch's own), and engine.

    The precision is ``float32``, ``float64``, or ``auto``, by the device.
    And what may move: None for atoms and cell, but for the cell of a structure with a vacuum. And the details that
    stand beside the output, and the folder for figures of bonds. And the potential that relaxes what the network has
    predicted, or the crystals in its place (None: none does). And a JSON file with the sites that are held in crystals
    beside those that their own file holds, by label.

    `second_opinion` and `second_opinion_steps` are the older form of `potential`, with a row of its own in the report.
    `restore_symmetry` says whether the rounding of float32 is taken out of predictions of symmetric crystals; None is
    for where ``auto`` has chosen float32 alone, as it takes longer than a prediction.
    """

    device: str = 'auto'
    dtype: str = 'float32'
    max_edges: int = 50_000  # on a CPU more cost memory and gained nothing (`benchmarks/stream.py`)
    threads: int | None = None
    engine: str = ENGINES[0]
    second_opinion: str | None = None
    second_opinion_steps: int = 0
    freedom: Freedom | None = None
    details: Details = Details()
    plot: Path | None = None
    potential: PotentialSettings | None = None
    fixed_sites: Path | None = None
    restore_symmetry: bool | None = None

    def __post_init__(self) -> None:
        if self.potential is not None and self.second_opinion is not None:
            raise ValueError('`second_opinion` is the older form of `potential`: expected one of the two')
        if self.max_edges < 1:
            raise ValueError(f'`max_edges`: expected a number above 0, found {self.max_edges}')
        self.pre_relaxation  # noqa: B018 (its settings are checked where they are made)

    @property
    def pre_relaxation(self) -> PotentialSettings | None:
        """What a potential does, whichever form says so."""
        if self.second_opinion is None:
            return self.potential
        return PotentialSettings(self.second_opinion, steps=self.second_opinion_steps)

    @property
    def restores_symmetry(self) -> bool:
        """Whether symmetry that rounding hides is restored."""
        return self.dtype == 'auto' if self.restore_symmetry is None else self.restore_symmetry

    @property
    def has_network(self) -> bool:
        """Whether a network predicts."""
        return self.potential is None or self.potential.start == STARTS[0]
