"""What the tables of arms hold that a person should know before comparing them, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from aiida_e3relax.campaign.results.arm_costs import WAITING, find_begun, find_other_raw_legs
from aiida_e3relax.campaign.results.statistics import find_other_algos
from aiida_e3relax.common.messages import count_of, name_some
from aiida_e3relax.workflows.comparison.legs import CHANGE

Tables = Mapping[str, pd.DataFrame]
"""The tables of arms by their names, see `table.campaign_frame`."""


def iterate_notes(frames: Tables) -> Iterator[str]:
    """Yield what makes the tables of arms hard to compare, each one a sentence or two."""
    yield from _note_raw_legs(frames)
    for name, frame in frames.items():
        yield from _note_algorithm(name, frame)
        yield from _note_potential(name, frame)
    yield from _note_versions(frames)
    yield from _note_own_times(frames)
    yield from _note_restarts(frames)
    for name, frame in frames.items():
        if n_left := int(frame['state'].isin(WAITING).sum()):
            yield f'{name}: {n_left} of {len(frame)} structures are waiting or running, and in no figure yet.'


def _note_raw_legs(frames: Tables) -> Iterator[str]:
    """Tell of crystals whose raw legs are not the same in all arms."""
    if labels := find_other_raw_legs(frames.values()):
        yield (
            'The relaxations from the raw crystals differ between arms in ionic steps, core time or final energy on '
            f'{count_of(len(labels), "crystal")} ({name_some(labels)}): each arm is held against its own, and what '
            f'stands for the raw crystals by themselves is of {min(find_begun(frames))}.'
        )


def _note_algorithm(name: str, frame: pd.DataFrame) -> Iterator[str]:
    if algos := find_other_algos(frame):
        yield (
            f'{name}: VASP moved the ions by `{algos["predicted"]}` from the predictions, by `{algos["raw"]}` from '
            'the raw crystals: what is saved is the work of both, start and algorithm.'
        )
    for leg, start in (('raw', 'the raw crystal'), ('predicted', 'the prediction')):
        algos = frame[f'{leg}_algo'].dropna()
        if labels := _labels(frame, algos.index[algos.str.contains(CHANGE, regex=False)]):
            yield (
                f'{name}: on {count_of(len(labels), "crystal")} ({name_some(labels)}) a restart of the relaxation from '
                f'{start} changed how VASP moves the ions.'
            )


def _note_potential(name: str, frame: pd.DataFrame) -> Iterator[str]:
    """Tell of starts that the potential of an arm did not make, or not as it should have."""
    failed = frame['potential_error'].notna() & frame['model'].notna()
    for is_so, told in (
        (failed, 'the potential failed, and the prediction of the network alone counts for the arm'),
        (frame['potential_converged'] == False, 'the potential did not converge'),  # noqa: E712
        (frame['potential_left_basin'] == True, 'the potential left the basin where it started'),  # noqa: E712
    ):
        if labels := _labels(frame, is_so):
            yield f'{name}: on {len(labels)} of {len(frame)} crystals ({name_some(labels)}) {told}.'


def _note_versions(frames: Tables) -> Iterator[str]:
    """Tell of different versions of VASP in the legs of an arm, and in the predicted legs of several."""
    for name, frame in frames.items():
        versions = frame[['raw_code_version', 'predicted_code_version']].dropna()
        mixed = versions[versions['raw_code_version'] != versions['predicted_code_version']]
        if len(mixed):
            before, after = (_join(mixed[column]) for column in mixed)
            yield (
                f'{name}: on {count_of(len(mixed), "crystal")} ({name_some(_labels(frame, mixed.index))}) the '
                f'relaxation from the raw crystal is by VASP {before}, that from the prediction by {after}: steps and '
                'energies may differ by that.'
            )
    of_arms = {name: _join(frame['predicted_code_version'].dropna()) for name, frame in frames.items()}
    told = {name: versions for name, versions in of_arms.items() if versions}
    if len(set(told.values())) > 1:
        each = ', '.join(f'{versions} from {name}' for name, versions in told.items())
        yield f'The arms are by other versions of VASP: {each}: steps and energies may differ by that.'


def _note_own_times(frames: Tables) -> Iterator[str]:
    """Tell of starts made on a CPU of whose threads nobody says how many there were, where of others somebody does."""
    threaded, old = {}, {}
    for name, frame in frames.items():
        on_cpu = frame['network_wall_time_s'].notna() & frame['device'].fillna('').str.startswith('cpu')
        threaded[name] = _labels(frame, on_cpu & frame['network_core_time_s'].notna())
        old[name] = _labels(frame, on_cpu & frame['network_core_time_s'].isna())
    told = [f'{name} on {len(labels)} ({name_some(labels)})' for name, labels in old.items() if labels]
    if told and any(threaded.values()):
        yield (
            'What making the starts took on a CPU counts for one core where an earlier version has measured it, in '
            f'{", ".join(told)}, and for each thread elsewhere: the core times of the two do not compare.'
        )


def _note_restarts(frames: Tables) -> Iterator[str]:
    """Tell of relaxations in several VASP runs."""
    raw = sorted({label for frame in frames.values() for label in _labels(frame, _is_restarted(frame, 'raw'))})
    starts = {'the raw crystals': raw}
    starts |= {name: _labels(frame, _is_restarted(frame, 'predicted')) for name, frame in frames.items()}
    told = [f'from {start} {len(labels)} ({name_some(labels)})' for start, labels in starts.items() if labels]
    if told:
        yield (
            f'Relaxations in several VASP runs: {", ".join(told)}. Each restart computes its first point again and '
            'begins its optimiser anew, so that these have more ionic steps than one run would have.'
        )


def _is_restarted(frame: pd.DataFrame, leg: str) -> pd.Series:
    return (frame[f'{leg}_finished'] == True) & (frame[f'{leg}_vasp_runs'] > 1)  # noqa: E712


def _labels(frame: pd.DataFrame, chosen: pd.Series | pd.Index) -> list[str]:
    return sorted(map(str, frame.loc[chosen].index))


def _join(versions: pd.Series) -> str:
    return ' and '.join(sorted(set(versions)))
