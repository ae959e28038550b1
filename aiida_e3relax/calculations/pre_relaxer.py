"""What makes VASP's start out of a raw crystal: the network, a potential, or one after the other."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, Self

from aiida_e3relax.gnn.potentials.registry import POTENTIALS

NETWORK = 'network'


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
        if str(named) == text and (named.potential is None or named.potential in POTENTIALS):
            return named
        known = [NETWORK, *POTENTIALS, *(f'{NETWORK}+{name}' for name in POTENTIALS)]
        near = difflib.get_close_matches(text.lower(), known, n=1)
        hint = f'; did you mean `{near[0]}`?' if near else ''
        raise ValueError(
            f'expected {NETWORK}, the name of a potential ({", ".join(POTENTIALS)}), or both as in '
            f'{NETWORK}+{next(iter(POTENTIALS))}, found {text!r}{hint}'
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

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of a run that ask for it."""
        if self.potential is None:
            return {}
        return {'potential': self.potential, 'start': NETWORK if self.has_network else 'input'}

    @property
    def title(self) -> str:
        """The subject of a sentence on it."""
        if self.potential is None:
            return 'The network'
        return f'The network with {self.potential}' if self.has_network else f'The potential {self.potential}'

    def __str__(self) -> str:
        return '+'.join([NETWORK] * self.has_network + [self.potential] * bool(self.potential))  # type: ignore[list-item]
