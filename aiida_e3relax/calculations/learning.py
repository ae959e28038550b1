"""Calculation functions of learning from relaxations: splits, crystals to judge by, and the judgement."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import calcfunction
from numpy.typing import NDArray
from scipy import stats

from aiida_e3relax.common.fields import choice, number, read_fields
from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash
from aiida_e3relax.crystals.duplicates import find_repeats
from aiida_e3relax.crystals.freedom.pairs import find_fixed_sites, find_moves, scaled
from aiida_e3relax.crystals.freedom.words import Moves
from aiida_e3relax.crystals.metrics import cell_shape_deviation, coordinate_mae, lattice_mae, volume_error
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.data.batch import StructureBatchData
from aiida_e3relax.data.pairs import RELAXATION, E3RelaxPairsData
from aiida_e3relax.gnn.data.replay import draw_replay
from aiida_e3relax.gnn.data.splits import chemical_systems, joined, prototypes
from aiida_e3relax.gnn.data.summary import summary

TEST, AS_GIVEN = 'test', 'as-given'
CARRIED = ('by', 'made', 'licence', 'citation', 'sources')
"""What the card of divided pairs says of those that are replayed, from their own cards."""
OF_EARLIER_SPLIT = ('options', 'rejected')
"""What the card of pairs says of how they were divided before, which that of divided pairs does not."""
FEWEST = 3
"""Crystals, or what stays together of them, of which an interval can be told."""
MEASURES = {
    'coordinates_A': coordinate_mae,
    'cell_shape_A2': cell_shape_deviation,
    'volume_A3': volume_error,
    'lattice_A': lattice_mae,
}
"""The papers' measures that need no bonds, by their names in the evaluation."""


@dataclasses.dataclass(frozen=True)
class SplitSettings:
    """How pairs are divided, and how many of others are learnt from beside them.

    Attributes
    ----------
    by
        What stays together: pairs of a chemical system, of a prototype, or of a relaxed crystal alone (`random`), which
        the others keep together, too; `as-given` keeps the splits that the pairs have.
    val, test
        The shares of the pairs that judge the steps, and the end.
    replay
        How many pairs of other data are learnt from for each new one, at most.
    judged
        Chemical systems, such as `Al-As-Ga`, of which none of the other data is learnt from beside those of the pairs
        that judge: those of structures that judge models and have not been relaxed yet.
    seed
        Of the draws.
    """

    by: str = choice('chemical-system', 'random', 'prototype', AS_GIVEN)
    val: float = number(0.1, 0.01, 0.8)
    test: float = number(0.2, 0.01, 0.8)
    replay: float = number(1.0, 0, 100)
    judged: list[str] = dataclasses.field(default_factory=list)
    seed: int = number(0, 0, 2**31)

    def __post_init__(self) -> None:
        if self.val + self.test > 0.9:
            raise ValueError(f'split: expected `val` and `test` of at most 0.9 together, found {self.val + self.test}')

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> SplitSettings:
        """Return the settings in a mapping; raises ValueError naming what is wrong."""
        return read_fields(cls, values, 'split')


@calcfunction
def divide_pairs(pairs: E3RelaxPairsData, split: orm.Dict, **replay: E3RelaxPairsData) -> E3RelaxPairsData:
    """Return the pairs divided as `SplitSettings` in `split` say, with some of `replay` beside those to learn from.

    What stays together goes where its name and the seed send it, so that it stays there when more pairs come. The name
    of prototypes that relax to the same crystal, or of relaxations that do, is that of the first: where a pair that
    comes joins two of them, or stands before the first, they may go elsewhere.

    Pairs of `replay` are drawn at random from its splits `train`, but none of a chemical system that is in `val` or
    `test`, or among those `judged`: what is measured is new.

    The data card goes with them, and the node says how many were replayed, see `E3RelaxPairsData.replayed`.
    """
    settings, found = SplitSettings.from_mapping(split.get_dict()), pairs.pairs
    divided = dataclasses.replace(found, split=_split_of(found, settings))
    if not replay:
        return E3RelaxPairsData.from_pairs(divided, _divided_card(pairs, settings, replay, divided))
    old = Pairs.concatenate(replay[key].pairs for key in sorted(replay))
    again = draw_replay(old, divided, settings.replay, settings.seed, settings.judged)
    together = Pairs.concatenate([divided, again.pairs])
    node = E3RelaxPairsData.from_pairs(together, _divided_card(pairs, settings, replay, together))
    counts = {'count': len(again.pairs), 'asked': again.asked, 'told': again.describe()}
    node.base.attributes.set(node.REPLAYED_KEY, counts)
    return node


def _divided_card(
    pairs: E3RelaxPairsData, settings: SplitSettings, replay: Mapping[str, E3RelaxPairsData], divided: Pairs
) -> dict[str, Any]:
    """Return the data card of pairs, with how they were `divided`, and what is known of those that are replayed."""
    replayed = {
        key: {'content_hash': pairs_hash(node.pairs), **{name: card[name] for name in CARRIED if name in card}}
        for key, node in sorted(replay.items())
        for card in [node.card or {}]
    }
    card = {name: value for name, value in (pairs.card or {}).items() if name not in OF_EARLIER_SPLIT}
    recorded = [
        part['settings'] for part in (*(node.card or {} for node in replay.values()), card) if 'settings' in part
    ]
    return {
        **card,
        **({'settings': {key: found for part in recorded for key, found in part.items()}} if recorded else {}),
        'divided': {'content_hash': pairs_hash(pairs.pairs), **dataclasses.asdict(settings)},
        **({'replayed': replayed} if replay else {}),
        'summary': summary(divided),
        'content_hash': pairs_hash(divided),
    }


def _split_of(pairs: Pairs, settings: SplitSettings) -> NDArray[np.str_]:
    """Return the split ``(S,)`` of each pair."""
    if settings.by == AS_GIVEN:
        return pairs.split
    names = _units(pairs, settings.by).tolist()
    digests = {name: hashlib.sha256(f'{settings.seed} {name}'.encode()).hexdigest() for name in names}
    shares = {name: int(digest[:8], 16) / 16**8 for name, digest in digests.items()}
    test, val = settings.test, settings.test + settings.val
    return np.array([TEST if shares[n] < test else 'val' if shares[n] < val else 'train' for n in names])


def _units(pairs: Pairs, by: str) -> NDArray[np.str_]:
    """Return the name ``(S,)`` of what each pair stays together with, see `SplitSettings.by`."""
    if by == 'chemical-system':
        return np.array(chemical_systems(pairs))
    if by == 'prototype':
        names = np.array(prototypes(pairs))
    else:
        relaxations = pairs.about.get(RELAXATION, np.full(len(pairs), ''))  # empty of pairs that came from files
        labels = np.char.add(np.char.add(pairs.source, ' '), pairs.unrelaxed.labels)
        names = np.where(relaxations == '', labels, relaxations)
    groups = joined(np.unique(names, return_inverse=True)[1], find_repeats(pairs).relaxed)
    _, first, place = np.unique(groups, return_index=True, return_inverse=True)
    return names[first][place]


def _judged_units(test: Pairs, by: str) -> NDArray[Any]:
    """Return what each pair ``(S,)`` of the split `test` belongs to, of which a judgement takes each as one."""
    return np.arange(len(test)) if by == AS_GIVEN else _units(test, by)


def find_lack_of_units(divided: E3RelaxPairsData, split: orm.Dict) -> str | None:
    """Return why no model is taken by the split `test` of what `divide_pairs` made, and what to do; None if one may."""
    by, test = SplitSettings.from_mapping(split.get_dict()).by, divided.pairs.of_split(TEST)
    units = len(np.unique(_judged_units(test, by)))
    if units >= FEWEST:
        return None
    found, advice = f'{units} pairs', 'give more pairs of that split'
    if by != AS_GIVEN:
        found = f'{units} groups of pairs that stay together (`by: {by}`)'
        advice = 'give more pairs, or a larger share `test`'
    if by in ('chemical-system', 'prototype'):
        advice += ', or `split: {by: random}`, which keeps relaxations to one crystal together and nothing else'
    return (
        f'the split `{TEST}` has {found}, expected at least {FEWEST}: by fewer no model is better beyond chance. The '
        f'output `model` will be the one given, and the tuned one in `tuned` alone; to have it judged, {advice}'
    )


@calcfunction
def take_test_crystals(pairs: E3RelaxPairsData, moves: orm.Str | None = None) -> StructureBatchData:
    """Return the unrelaxed crystals of the split `test`, labelled by their numbers in it: all, or those that `moves`.

    `moves` is a word of `find_test_moves`.
    """
    crystals, labels = pairs.pairs.of_split(TEST).unrelaxed, _labels(pairs.splits[TEST])
    chosen = _places(pairs, None if moves is None else moves.value)
    return StructureBatchData(dataclasses.replace(crystals.select(chosen), labels=labels[chosen]))


def find_test_moves(pairs: E3RelaxPairsData) -> NDArray[np.str_]:
    """Return what moved ``(S,)`` in the crystals of the split `test`, a word of `Moves`; empty where nobody says it.

    What VASP holds of a cell in a way for which there is no such word, as with ISIF = 8, no prediction can hold: it
    counts as `cell`. A cell that is fixed says that `positions` moved.
    """
    test = pairs.pairs.of_split(TEST)
    found, told = find_moves(test), test.about.get('moves', np.full(len(test), ''))
    is_unknown = (told == '') & (found == Moves.CELL)
    return np.where(is_unknown, '', np.where(np.isin(found, list(Moves)), found, Moves.CELL.value))


def held_test_sites(pairs: E3RelaxPairsData, moves: str | None = None) -> dict[str, dict[str, list[int]]]:
    """Return the sites that are fixed in the crystals of `take_test_crystals`, by label, as a prediction takes them."""
    chosen = _places(pairs, moves)
    return find_fixed_sites(pairs.pairs.of_split(TEST).select(chosen), _labels(pairs.splits[TEST])[chosen].tolist())


def _places(pairs: E3RelaxPairsData, moves: str | None) -> NDArray[np.int64]:
    """Return the places in the split `test` of what `moves`, a word of `find_test_moves`; None stands for all."""
    found = find_test_moves(pairs)
    return np.flatnonzero(np.ones(len(found), dtype=bool) if moves is None else found == moves)


@calcfunction
def join_predictions(**batches: StructureBatchData) -> StructureBatchData:
    """Return the crystals of batches in one."""
    return StructureBatchData(Crystals.concatenate(batches[name].crystals for name in sorted(batches)))


@calcfunction
def compare_models(
    pairs: E3RelaxPairsData,
    tuned: StructureBatchData,
    base: StructureBatchData | None = None,
    split: orm.Dict | None = None,
) -> orm.Dict:
    """Return the errors of two models on the split `test`, and whether the tuned one is better.

    `tuned` and `base` are their predictions of `take_test_crystals`; where a model failed, the unrelaxed crystal counts
    as its prediction, and so it does everywhere without `base`, which could predict none. Beside them stand the
    unrelaxed crystal itself, `dummy`, and that scaled to the volume that the tuned model predicts, `scaled_dummy`. Each
    has the mean and median of `MEASURES`.

    The models are judged by the error of each crystal, in A: the mean over its Cartesian coordinates, which holds what
    the cell's error does to them, plus the mean over its lattice vectors. It is akin to what training minimises, which
    by default measures coordinates in the relaxed cell, so that the cell's error counts once.

    `difference` has the mean of its change, and the 95 % interval of that. Crystals of what stayed together in the
    `split` that `divide_pairs` made are no independent evidence: the change is averaged over each such unit, `units` of
    them, and mean and interval are those over units. Without `split`, and of one as-given, each crystal is one. `tuned`
    is better where the whole interval is below 0, so that it is not taken by chance, and it fails for no more crystals.
    What VASP held stays in all predictions.
    """
    test = pairs.pairs.of_split(TEST)
    target = test.centred(aligned(test).relaxed)
    predicted = {name: _predictions(batch, test) for name, batch in (('tuned', tuned), ('base', base))}
    candidates = predicted | {
        'dummy': test.unrelaxed,
        'scaled_dummy': scaled(test, predicted['tuned'].volumes),
    }
    errors = {
        name: {measure: of(test.centred(crystals), target) for measure, of in MEASURES.items()}
        for name, crystals in candidates.items()
    }
    change = np.subtract(*(errors[name]['coordinates_A'] + errors[name]['lattice_A'] for name in ('tuned', 'base')))
    failed = {
        name: len(test) - (0 if batch is None else len(batch.labels))
        for name, batch in (('tuned', tuned), ('base', base))
    }
    by = AS_GIVEN if split is None else SplitSettings.from_mapping(split.get_dict()).by
    change = _mean_by_unit(change, _judged_units(test, by))
    interval = _interval_of_mean(change)
    content = {
        'crystals': len(test),
        'units': len(change),
        'failed': failed,
        'errors': {
            name: {
                measure: {'mean': float(values.mean()), 'median': float(np.median(values))}
                for measure, values in of_one.items()
            }
            for name, of_one in errors.items()
        },
        'difference': {'mean_A': float(change.mean()), 'interval_A': interval},
        'is_better': interval is not None and interval[1] < 0 and failed['tuned'] <= failed['base'],
    }
    return orm.Dict(content)


def _mean_by_unit(values: NDArray[np.float64], units: NDArray[Any]) -> NDArray[np.float64]:
    """Return the means ``(U,)`` of values ``(S,)`` over each of the `units` ``(S,)`` that they belong to."""
    _, place, counts = np.unique(units, return_inverse=True, return_counts=True)
    return np.bincount(place, weights=values) / counts


def _interval_of_mean(values: NDArray[np.float64]) -> list[float] | None:
    """Return the 95 % interval of the mean of values ``(S,)``, by Student's t; None of too few.

    Of three to a dozen values a bootstrap would claim to know more than they tell.
    """
    if len(values) < FEWEST:
        return None
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return [float(values.mean() - half), float(values.mean() + half)]


def _labels(count: int) -> NDArray[np.str_]:
    return np.array([f'crystal_{number}' for number in range(count)])


def _predictions(batch: StructureBatchData | None, test: Pairs) -> Crystals:
    """Return the predictions of all test crystals in their order; a crystal without one stays where it was."""
    if batch is None:
        return test.unrelaxed
    positions, cell = test.unrelaxed.positions.copy(), test.unrelaxed.cell.copy()
    offsets, places = test.unrelaxed.offsets, {label: place for place, label in enumerate(_labels(len(test)).tolist())}
    crystals = batch.crystals
    for index, label in enumerate(crystals.labels.tolist()):
        place = places[label]
        atoms = slice(*crystals.offsets[index : index + 2])
        positions[offsets[place] : offsets[place + 1]] = crystals.positions[atoms]
        cell[place] = crystals.cell[index]
    return _held(test, test.unrelaxed.replace(positions, cell))


def _held(test: Pairs, predicted: Crystals) -> Crystals:
    """Return predictions with the cells and the fractional coordinates that a relaxation does not change put back."""
    fractional, cell = predicted.fractional(), predicted.cell
    if test.fixed_cell is not None:
        cell = np.where(test.fixed_cell[:, None, None], test.unrelaxed.cell, cell)
    if test.fixed is not None:
        fractional = np.where(test.fixed, test.unrelaxed.fractional(), fractional)
    return predicted.replace(np.einsum('ac,acx->ax', fractional, cell[predicted.structure_index]), cell)
