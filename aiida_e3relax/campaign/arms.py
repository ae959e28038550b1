"""The arms of a campaign: the same structures from other starts, which take their raw legs from the base campaign."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from aiida import orm

from aiida_e3relax.calculations.pre_relaxer import PreRelaxer
from aiida_e3relax.campaign.group import CampaignGroup, load_campaign
from aiida_e3relax.campaign.settings import CampaignSettings
from aiida_e3relax.common.messages import count_of
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.potential import E3RelaxPotentialData
from aiida_e3relax.workflows.vasp.choices import ChainChoices

RAW_ALONE = 'raw'
"""What stands for the pre-relaxer of a campaign without one."""
JOINT = ','
"""Between the names of campaigns that are compared as if they were one."""

COUNT_REMARK = (
    'fewer where a prediction is rejected; a raw leg that failed runs again in an arm whose prediction is of no use'
)
"""What to add where relaxations of arms are counted."""


@dataclasses.dataclass(frozen=True)
class Relaxations:
    """How many relaxations by VASP campaigns ask for, where no prediction is rejected and nothing fails.

    Attributes
    ----------
    raw, predicted
        From raw crystals, once for a base campaign and all its arms, and from predictions.
    """

    raw: int
    predicted: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.raw + self.predicted

    def __str__(self) -> str:
        parts = [f'{self.raw:,} from raw crystals'] * bool(self.raw)
        parts += [f'{self.predicted:,} from predictions'] * bool(self.predicted)
        return f'{count_of(self.total, "relaxation")} by VASP ({", ".join(parts)})'


def arm_choices(
    choices: ChainChoices,
    pre_relaxer: str,
    network_code: orm.AbstractCode | None = None,
    model: E3RelaxModelData | None = None,
    potential_weights: E3RelaxPotentialData | None = None,
    predicted_algo: str | None = None,
) -> ChainChoices:
    """Return the choices of an arm: those of its base campaign but for the pre-relaxer, and so the same for VASP.

    Parameters
    ----------
    choices
        Of the base campaign.
    pre_relaxer
        As `PreRelaxer` reads it.
    network_code, model, potential_weights
        What the base campaign lacks or has otherwise. The defaults are those of the base campaign, as far as the
        pre-relaxer needs them, and for a model the one that comes with the package.
    predicted_algo
        How VASP moves the ions from the predictions, a word of `Algo`; default is that of the base campaign.

    Raises
    ------
    ValueError
        For a pre-relaxer that there is not, and where no code runs it.
    """
    parsed = PreRelaxer.parse(pre_relaxer)
    code = network_code or choices.network_code
    if code is None:
        raise ValueError(f'arm `{parsed}`: expected a code that runs `e3relax`, found none in the base campaign')
    weights = potential_weights or choices.potential_weights
    return dataclasses.replace(
        choices,
        network_code=code,
        model=(model or choices.model or E3RelaxModelData.default()) if parsed.has_network else None,
        pre_relaxer=str(parsed),
        potential_weights=weights if weights and weights.potential == parsed.potential else None,
        overrides={**choices.overrides, **({'predicted_algo': predicted_algo} if predicted_algo else {})},
    )


def arm_name(base: str, pre_relaxer: str) -> str:
    """Return the name of the campaign that is an arm of the campaign `base`."""
    return f'{base}-{pre_relaxer}'


def find_pre_relaxer(settings: CampaignSettings) -> str:
    """Return the pre-relaxer of a campaign as text, `RAW_ALONE` for none."""
    if settings.relaxes_raw_alone:
        return RAW_ALONE
    if text := settings.chain.get('pre_relaxer'):
        return text
    network = (settings.chain.get('overrides') or {}).get('network') or {}
    parameters = (network.get('predict') or {}).get('parameters') or {}
    return str(PreRelaxer.of_parameters(parameters))


def find_arms(base: CampaignGroup) -> list[CampaignGroup]:
    """Return the arms of a campaign, oldest first; none of one that is an arm itself."""
    query = orm.QueryBuilder()
    query.append(orm.Dict, filters={'attributes.raw_legs_of': base.settings_node.uuid}, tag='settings')
    query.append(CampaignGroup, with_node='settings', project='*', tag='arm')
    return query.order_by({'arm': {'id': 'asc'}}).distinct().all(flat=True)


def find_base(settings: CampaignSettings) -> CampaignGroup | None:
    """Return the campaign that relaxes the raw crystals for an arm; None where it has been deleted."""
    query = orm.QueryBuilder()
    query.append(orm.Dict, filters={'uuid': settings.raw_legs_of}, tag='settings')
    query.append(CampaignGroup, with_node='settings', project='*')
    return query.first(flat=True)


def load_base(name: str) -> CampaignGroup:
    """Return the campaign of that name, of which an arm is to be made.

    Raises ValueError where there is none, and for one that is an arm itself.
    """
    group = load_campaign(name)
    settings = group.settings
    if settings.raw_legs_of is None:
        return group
    base = find_base(settings)
    advice = f'name the campaign that does: `{base.label}`' if base else 'and the one that did has been deleted'
    raise ValueError(f'campaign `{name}`: it is an arm and relaxes no raw crystals itself; {advice}')


def count_relaxations(campaigns: Iterable[CampaignSettings]) -> Relaxations:
    """Return how many relaxations by VASP campaigns ask for."""
    raw = predicted = 0
    for settings in campaigns:
        labels = settings.structures
        if not settings.relaxes_raw_alone:
            predicted += len(labels)
        if settings.raw_legs_of is None:
            raw += sum(settings.has_raw_leg(label) for label in labels)
    return Relaxations(raw, predicted)


def find_other_settings(base: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return by which entries of `CampaignSettings.chain` VASP relaxes otherwise in one campaign than in the other.

    What the pre-relaxer is given counts for nothing, and so does where jobs run and on how many cores; how the ions
    move from predictions alone is told by itself.
    """
    own = {'network_code', 'model', 'network_options', 'pre_relaxer', 'potential_weights', 'options'}
    one, two = (
        chain | {'overrides': {**(chain.get('overrides') or {}), 'network': None, 'predicted_algo': None}}
        for chain in (dict(base), dict(other))
    )
    return sorted(key for key in base.keys() & other.keys() if key not in own and one[key] != two[key])
