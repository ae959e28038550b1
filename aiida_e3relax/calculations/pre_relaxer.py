"""What makes VASP's start out of a raw crystal: the network, a potential, or one after the other."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from aiida_e3relax.gnn.potentials.registry import DLS_VOLUME, PRE_RELAXERS

if TYPE_CHECKING:
    from aiida import orm

NETWORK = 'network'
EXTRA = 'e3relax_pre_relaxer'
"""The extra of a code with the pre-relaxer that it runs where nothing else names one."""


@dataclasses.dataclass(frozen=True)
class PreRelaxer:
    """A pre-relaxer, written as `network`, as the name of a potential, or as `network+POTENTIAL`.

    Attributes
    ----------
    has_network
        Whether the network predicts the relaxed crystal.
    potential
        The potential that relaxes the network's prediction or, without a network, the raw crystal; None for none.
    """

    has_network: bool
    potential: str | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the pre-relaxer that `text` names; raises ValueError for what names none."""
        named = cls.from_record(text)
        if str(named) == text and (named.potential is None or named.potential in PRE_RELAXERS):
            return named
        known = [NETWORK, *PRE_RELAXERS, *(f'{NETWORK}+{name}' for name in PRE_RELAXERS)]
        near = difflib.get_close_matches(text.lower(), known, n=1)
        hint = f'; did you mean `{near[0]}`?' if near else ''
        raise ValueError(
            f'expected {NETWORK}, the name of a potential ({", ".join(PRE_RELAXERS)}), or both as in '
            f'{NETWORK}+{next(iter(PRE_RELAXERS))}, found {text!r}{hint}'
        )

    @classmethod
    def from_record(cls, text: str) -> Self:
        """Return the pre-relaxer of a record, whose potential this version need not know."""
        first, _, second = text.partition('+')
        return cls(True, second or None) if first == NETWORK else cls(False, text)

    @classmethod
    def of_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the pre-relaxer that the parameters of a run ask for.

        A `second_opinion` that takes steps is the older form of a potential after the network.
        """
        potential = parameters.get('potential')
        if potential is not None:
            return cls(parameters.get('start') != 'input', potential)
        return cls(True, parameters.get('second_opinion') if parameters.get('second_opinion_steps') else None)

    @classmethod
    def of_report(cls, report: Mapping[str, Any]) -> Self:
        """Return the pre-relaxer that made the predictions of a run, by its report."""
        potential, opinion = report.get('potential'), report.get('second_opinion') or {}
        name = potential['potential'] if potential else opinion['potential'] if opinion.get('steps') else None
        return cls(name is None or report['model'] is not None, name)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of a run that ask for it."""
        if self.potential is None:
            return {}
        return {'potential': self.potential, 'start': NETWORK if self.has_network else 'input'}

    @property
    def has_potential(self) -> bool:
        """Whether an interatomic potential computes, and not a scaling."""
        return self.potential not in (None, DLS_VOLUME)

    @property
    def title(self) -> str:
        """The subject of a sentence on it."""
        if self.potential is None:
            return 'The network'
        kind = PRE_RELAXERS[self.potential].kind if self.potential in PRE_RELAXERS else 'potential'
        return f'The network with {self.potential}' if self.has_network else f'The {kind} {self.potential}'

    def __str__(self) -> str:
        return '+'.join([NETWORK] * self.has_network + [self.potential] * bool(self.potential))  # type: ignore[list-item]


def default_pre_relaxer(code: orm.AbstractCode) -> PreRelaxer | None:
    """Return what a code runs where nothing else names a pre-relaxer; None where nothing is set, for the network.

    Raises ValueError where what is set names none.
    """
    text = code.base.extras.get(EXTRA, None)
    if text is None:
        return None
    try:
        return PreRelaxer.parse(text)
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f'the pre-relaxer of the code `{code.full_label}`: {error}; set another with '
            f'`aiida-e3relax pre-relaxer {code.full_label} WHO`'
        ) from error


def set_default_pre_relaxer(code: orm.AbstractCode, pre_relaxer: PreRelaxer) -> None:
    """Let a code run a pre-relaxer where nothing else names one; raises ValueError as `check_default`."""
    check_default(pre_relaxer)
    code.base.extras.set(EXTRA, str(pre_relaxer))


def check_default(pre_relaxer: PreRelaxer) -> None:
    """Raise ValueError for a pre-relaxer whose potential needs weights: they are named with each run."""
    if pre_relaxer.potential is not None and PRE_RELAXERS[pre_relaxer.potential].needs_weights:
        raise ValueError(
            f'{pre_relaxer}: expected a potential whose package brings its weights; those of {pre_relaxer.potential} '
            'are named with each run'
        )
