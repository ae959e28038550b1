"""The columns of the table on a report's page, and its rows.

A new column is added to `PAGE_COLUMNS`. Its values come from the column of that name in the table of the campaign, see
`campaign.results.table`, or are computed in `make_rows`.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pandas as pd

from aiida_e3relax.campaign.results.noise import ENERGY, NOISE, without_noise
from aiida_e3relax.campaign.results.outcomes import pair_costs

YES_OR_NO = {True: 'yes', False: 'no', None: None}


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the table on the page.

    Attributes
    ----------
    field
        Of the rows.
    title, meaning
        Its heading, and what it says.
    kind
        `label`, `text`, `word` (drawn as a chip) or `number`.
    width
        At least, in pixels.
    digits
        After the decimal point of a number.
    """

    field: str
    title: str
    meaning: str
    kind: str = 'number'
    width: int = 70
    digits: int = 0


PAGE_COLUMNS = (
    Column('label', 'structure', 'The label of the structure in the campaign.', 'label', 120),
    Column('formula', 'formula', 'Reduced formula.', 'text', 74),
    Column('elements', 'elements', 'Type an element to filter by it.', 'text', 88),
    Column('n_atoms', 'atoms', 'Number of atoms in the cell.', width=58),
    Column('state', 'chain', 'What became of its chain.', 'word', 84),
    Column('verdict', 'guard', 'What the guard said of the prediction.', 'word', 88),
    Column('generation', 'generation', 'Which generation of the model predicted it; 0 has not learnt here.', width=96),
    Column('judge', 'judges', 'Whether it judges the models, and is never learnt from.', 'text', 70),
    Column('raw_ionic_steps', 'steps without', 'Ionic steps from the raw crystal.'),
    Column('predicted_ionic_steps', 'steps with', 'Ionic steps from the prediction.'),
    Column(
        'ionic_steps_saved_percent',
        'saved %',
        'Ionic steps saved, in percent; negative where it cost some.',
    ),
    Column(
        'core_time_saved_s',
        'core time saved (s)',
        'Core time saved, less the time of the prediction.',
        digits=1,
    ),
    Column(
        'predicted_start_energy_error_meV_per_atom',
        'E_pred − E_relaxed (meV/atom)',
        'Energy of the prediction above the relaxed crystal.',
        width=102,
        digits=1,
    ),
    Column(
        'uncertainty_A',
        'uncertainty (Å)',
        'What error of bond lengths the network expects.',
        width=106,
        digits=3,
    ),
    Column(
        'distance_to_training',
        'distance to training',
        'How far the crystal is from those that the network was trained on; above 1 it is unlike them.',
        width=100,
        digits=2,
    ),
    Column(
        'energy_difference_final_meV_per_atom',
        'ΔE at the end (meV/atom)',
        'Energy at the end with the prediction minus without.',
        width=102,
        digits=2,
    ),
    Column('same_minimum', 'same minimum', 'Whether both relaxations end in the same crystal.', 'word', 92),
)


def make_rows(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the table in the form `columns` and `data`, None where a value is missing.

    What is saved is counted as in the headline, see `pair_costs`; differences below the noise are zero.
    Numbers keep six decimals, which the page does not show either; the files beside it have all digits.
    """
    costs = pair_costs(frame)
    saved = {cost: costs[cost, 'without'] - costs[cost, 'with'] for cost in ('ionic_steps', 'core_time_s')}
    noisy = {name: NOISE[name.removeprefix('predicted_')] for name in frame if name.removeprefix('predicted_') in NOISE}
    noisy['energy_difference_final_meV_per_atom'] = ENERGY
    frame = frame.assign(**{name: without_noise(frame[name], noise) for name, noise in noisy.items()})
    rows = frame.assign(
        ionic_steps_saved_percent=100 * saved['ionic_steps'] / costs['ionic_steps', 'without'],
        core_time_saved_s=saved['core_time_s'],
        elements=frame['elements'].map(lambda elements: ' '.join(elements or ())),
        reasons=frame['reasons'].map(lambda sentences: list(sentences or ())),
        remarks=frame['remarks'].map(lambda sentences: list(sentences or ())),
        same_minimum=frame['same_minimum'].map(YES_OR_NO),
        judge=frame['judge'].map(YES_OR_NO),
    ).reset_index()
    split: dict[str, Any] = json.loads(rows.to_json(orient='split', double_precision=6, index=False))
    return split
