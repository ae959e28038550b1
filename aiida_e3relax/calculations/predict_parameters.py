"""The parameters of a prediction run."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from aiida_e3relax.calculations.pre_relaxer import PreRelaxer, default_pre_relaxer
from aiida_e3relax.common.mappings import check_keys
from aiida_e3relax.common.threads import MOST_THREADS
from aiida_e3relax.crystals.freedom.freedom import NO_VACUUM, Freedom
from aiida_e3relax.gnn.potentials.registry import DLS_VOLUME, POTENTIALS, PRE_RELAXERS
from aiida_e3relax.gnn.prediction.settings import ENGINES, MOST_STEPS, PotentialSettings, PredictionSettings

if TYPE_CHECKING:
    from aiida import orm

POTENTIAL_OPTIONS = {
    'start': 'start',
    'steps': 'steps',
    'force_max_eV_per_A': 'force-max',
    'stress_max_kB': 'stress-max',
    'candidates': 'candidates',
    'seed': 'seed',
}
"""The parameters of a potential, and their options of `e3relax predict`."""
OF_POTENTIAL = ('potential', *POTENTIAL_OPTIONS, 'second_opinion_steps')
"""The parameters that the chain gives to a potential alone."""
NAMES_PRE_RELAXER = ('potential', 'start', 'second_opinion', 'layers', 'bonds')
"""The parameters that leave no choice of the pre-relaxer."""
OPINIONS = tuple(name for name, known in POTENTIALS.items() if not known.needs_weights)
"""The potentials that `second_opinion` can name: it takes no weights."""
DTYPES = ('auto', 'float32', 'float64')
DEVICE = re.compile(r'auto|cpu|cuda(:\d+)?')


@dataclasses.dataclass(frozen=True)
class PredictParameters:
    """What the command `e3relax predict` may be told; see `e3relax predict --help`.

    Attributes
    ----------
    device
        `auto` (a GPU when there is one), `cpu`, `cuda` or `cuda:<n>`.
    dtype
        `float32`, `float64`, or `auto`: float64, but float32 on GPUs where that is slow, with the symmetry of the input
        restored.
    max_edges
        Largest number of graph edges in one batch; memory grows with it.
    threads
        CPU threads; None leaves the choice to torch.
    engine
        `fast`, or `reference` for the plain layers, the same to rounding.
    second_opinion
        The older form of `potential`, with `start: network`: this potential states energies and forces before and after
        the prediction, in the report, from which the guard and `comparison` take them; None asks no one.
    second_opinion_steps
        Steps that it takes from the prediction, which stay where its energy falls.
    vacuum
        `none`: do not look for gaps. By default molecules are not predicted, and a layer or a wire with a vacuum that
        its periodic directions do not declare keeps its cell.
    potential
        The potential that relaxes crystals step by step, or what takes its place, a name of `PRE_RELAXERS`; None for
        the network alone.
    start
        Where it starts: `network`, from the network's prediction, or `input`, from the raw crystal, without a network.
    steps
        How many steps it takes at most.
    force_max_eV_per_A, stress_max_kB
        Below which largest force, and largest stress of a cell that is free, it takes no more.
    candidates
        From how many perturbed crystals of a lower symmetry it starts, too: the lowest end is what comes out, and all
        distinct ones stay in `retrieved`, in the file `predictions.candidates.npz`.
    seed
        Draws the perturbations.
    freedom
        What may move, as the chain's input `freedom` has it; a chain tells its own.
    fixed
        In a batch the sites that are held beside those of `freedom`, by the label of the structure.
    layers
        Whether the structure after every layer of the network comes as `TrajectoryData`, for a batch as a file.
    bonds
        The same of every bond's length and uncertainty, as `ArrayData`, of a model that states it.
    """

    device: str = 'auto'
    dtype: str = 'float32'
    max_edges: int = PredictionSettings.max_edges
    threads: int | None = None
    engine: str = PredictionSettings.engine
    second_opinion: str | None = PredictionSettings.second_opinion
    second_opinion_steps: int = PredictionSettings.second_opinion_steps
    vacuum: str | None = None
    potential: str | None = None
    start: str | None = None
    steps: int | None = None
    force_max_eV_per_A: float | None = None  # noqa: N815 (the unit)
    stress_max_kB: float | None = None  # noqa: N815
    candidates: int | None = None
    seed: int | None = None
    freedom: str | Mapping[str, Any] | None = None
    fixed: Mapping[str, Mapping[str, Any]] | None = None
    layers: bool = False
    bonds: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.device, str) and DEVICE.fullmatch(self.device)):
            raise ValueError(f'`device`: expected auto, cpu, cuda or cuda:<n>, found {self.device!r}')
        if self.dtype not in DTYPES:
            raise ValueError(f'`dtype`: expected {" or ".join(DTYPES)}, found {self.dtype!r}')
        if self.engine not in ENGINES:
            raise ValueError(f'`engine`: expected {" or ".join(ENGINES)}, found {self.engine!r}')
        if not _is_count(self.max_edges):
            raise ValueError(f'`max_edges`: expected a positive integer, found {self.max_edges!r}')
        if self.threads is not None and not (_is_count(self.threads) and self.threads <= MOST_THREADS):
            raise ValueError(f'`threads`: expected a positive integer up to {MOST_THREADS}, found {self.threads!r}')
        if self.second_opinion not in (None, *OPINIONS):
            raise ValueError(f'`second_opinion`: expected {" or ".join(OPINIONS)}, found {self.second_opinion!r}')
        if not (_is_count(self.second_opinion_steps, least=0) and self.second_opinion_steps <= MOST_STEPS):
            raise ValueError(
                f'`second_opinion_steps`: expected an integer from 0 to {MOST_STEPS}, '
                f'found {self.second_opinion_steps!r}'
            )
        if self.vacuum not in (None, NO_VACUUM):
            raise ValueError(f'`vacuum`: expected {NO_VACUUM}, or nothing, found {self.vacuum!r}')
        for name in ('layers', 'bonds'):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f'`{name}`: expected true or false, found {getattr(self, name)!r}')
        if self.second_opinion_steps and self.second_opinion is None:
            raise ValueError(
                f'`second_opinion_steps`: expected `second_opinion` beside it, {" or ".join(OPINIONS)}, found none'
            )
        self._check_potential()

    @property
    def pre_relaxer(self) -> PreRelaxer:
        """What makes VASP's start by these parameters."""
        return PreRelaxer.of_parameters(vars(self))

    @property
    def states_energies(self) -> bool:
        """Whether an interatomic potential takes part, which states energies: a scaling to a volume knows none."""
        return (self.potential or self.second_opinion) in POTENTIALS

    def _check_potential(self) -> None:
        """Raise ValueError for what the potential cannot be told."""
        if self.potential is None:
            given = [name for name in POTENTIAL_OPTIONS if getattr(self, name) is not None]
            if given:
                raise ValueError(f'`{given[0]}`: expected `potential` beside it, {" or ".join(POTENTIALS)}, found none')
            self._freedoms()
            return
        if not isinstance(self.potential, str) or self.potential not in PRE_RELAXERS:
            raise ValueError(f'`potential`: expected one of {", ".join(PRE_RELAXERS)}, found {self.potential!r}')
        if self.second_opinion is not None:
            raise ValueError('`second_opinion` is the older form of `potential`: expected one of the two, found both')
        settings = {name: getattr(self, name) for name in POTENTIAL_OPTIONS}
        chosen = PotentialSettings(
            self.potential, **{name: value for name, value in settings.items() if value is not None}
        )
        if not self.pre_relaxer.has_network and (self.layers or self.bonds):
            raise ValueError('`layers`, `bonds`: expected a network that has them; there is none with `start: input`')
        for freedom in self._freedoms():
            chosen.check_freedom(freedom)

    def _freedoms(self) -> list[Freedom]:
        """Return the freedom of all structures, if any, and what each holds; raises ValueError for what is none."""
        of_all = [] if self.freedom is None else [Freedom.from_value(self.freedom)]
        return of_all + [Freedom.from_value({'fixed': sites}) for sites in (self.fixed or {}).values()]

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Return the parameters with `values` over the defaults.

        Raises ValueError for an unknown key, with the nearest known one, and for a value out of range.
        """
        check_keys(values, [field.name for field in dataclasses.fields(cls)])
        return cls(**values)

    def command_line(self) -> list[str]:
        """Return the options of `e3relax predict` that say the same."""
        words = []
        for name, value in dataclasses.asdict(self).items():
            if name == 'fixed':
                continue  # a file of its own
            if name == 'freedom' and isinstance(value, dict):
                words += ['--freedom', json.dumps(value)]
            elif name in POTENTIAL_OPTIONS and value is not None:
                words += [f'--{POTENTIAL_OPTIONS[name]}', str(value)]
            elif value is True:
                words.append(f'--{name}')
            elif value is not None and value is not False:
                words += [f'--{name.replace("_", "-")}', str(value)]
        return words


def choose_pre_relaxer(
    parameters: Mapping[str, Any], pre_relaxer: PreRelaxer | None
) -> tuple[PreRelaxer, dict[str, Any]]:
    """Return who pre-relaxes, and the parameters of its run.

    A `pre_relaxer` that is given goes over what `parameters` say of one: for the network alone, and for a scaling to a
    predicted volume, those of a potential are left out. Raises ValueError for parameters that there are not.
    """
    chosen = dict(parameters)
    if pre_relaxer is not None:
        of_another = OF_POTENTIAL if pre_relaxer.potential in (None, DLS_VOLUME) else ('potential', 'start')
        chosen = {name: value for name, value in chosen.items() if name not in of_another} | pre_relaxer.parameters()
    return PredictParameters.from_mapping(chosen).pre_relaxer, chosen


def find_default(code: orm.AbstractCode, predict: Mapping[str, Any]) -> PreRelaxer | None:
    """Return the default pre-relaxer of a code, see `default_pre_relaxer`.

    None where it is the network, or where `predict`, inputs of a run of the code, name a pre-relaxer by a model or by
    parameters.
    """
    given = predict.get('parameters') or {}
    if predict.get('model') is not None or any(given.get(name) for name in NAMES_PRE_RELAXER):
        return None
    default = default_pre_relaxer(code)
    return None if default is None or default.potential is None else default


def _is_count(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
