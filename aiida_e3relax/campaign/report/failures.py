"""The ways in which structures of a campaign failed, and what to do about each."""

from __future__ import annotations

import dataclasses
from collections import defaultdict

from aiida_e3relax.campaign.results.outcomes import OUTCOMES
from aiida_e3relax.campaign.results.statistics import FailedStructure, Summary

BY_EXIT_CODE = {
    400: 'The network failed and the settings say that this ends the chain. Do what its last job says (verdi process '
    'status -c UUID), or set on_network_failure to raw: VASP then relaxes the raw crystal.',
    410: 'No VASP relaxation finished. Find its last job (verdi process status -c UUID), read what VASP wrote (verdi '
    'calcjob outputcat PK vasp_output), and correct the inputs of VASP in the overrides.',
    420: 'The relaxed crystal is there, but the legs could not be compared. See where it stopped (verdi process report '
    'UUID); the figures of each leg are in raw.misc and predicted.misc.',
}
BY_OUTCOME = {
    'predicted failed': 'The result is that of the raw crystal; what was spent on the prediction counts as lost. See '
    'why VASP failed there (verdi process report -m 1 UUID); if that is frequent, narrow the bounds of the guard.',
    'raw failed': 'The result is that of the prediction; there is nothing to compare it with. See why VASP failed from '
    'the raw crystal with verdi process report -m 1 UUID.',
    'excepted': 'An exception in AiiDA or in a plugin: read it with verdi process report UUID, and report it with the '
    'versions of both.',
    'killed': 'Somebody killed the chain, with verdi process kill.',
}
OTHERWISE = 'Read the messages of the chain with verdi process report -m 1 UUID.'


@dataclasses.dataclass(frozen=True)
class FailureKind:
    """A way in which structures failed.

    Attributes
    ----------
    what, exit_status
        The outcome in words, and the exit code of the chains.
    count
        Of structures.
    remedy
        What to do about it.
    example, message
        The label of one of them, and what its chain said.
    """

    what: str
    exit_status: int | None
    count: int
    remedy: str
    example: str
    message: str | None


def explain_failures(summary: Summary) -> list[FailureKind]:
    """Return the ways in which structures failed, the most frequent first."""
    ways: dict[tuple[str, int | None], list[FailedStructure]] = defaultdict(list)
    for failure in summary.failures:
        ways[failure.outcome, failure.exit_status].append(failure)
    kinds = [
        FailureKind(
            what=OUTCOMES[outcome],
            exit_status=exit_status,
            count=len(failures),
            remedy=BY_EXIT_CODE.get(exit_status or 0) or BY_OUTCOME.get(outcome, OTHERWISE),
            example=failures[0].label,
            message=failures[0].message,
        )
        for (outcome, exit_status), failures in ways.items()
    ]
    return sorted(kinds, key=lambda failure: -failure.count)
