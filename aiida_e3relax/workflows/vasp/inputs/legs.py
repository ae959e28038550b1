"""The inputs that the chain adds to those of the user for the relaxation of a leg: what may move, and the species."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida_vasp.workchains.v2.relax import VaspRelaxWorkChain

from aiida_e3relax.common.mappings import merge
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.workflows.vasp.inputs.freedom import open_axes
from aiida_e3relax.workflows.vasp.inputs.incar import incar_tags
from aiida_e3relax.workflows.vasp.inputs.species import SPECIES_MAPPINGS, SpeciesInputs, tags_beside

MONITORS = {'stdout': {'entry_point': 'vasp.stdout'}}
"""Without `vasp.loop_time`, which aiida-vasp runs too: it asks a shell at each look, and never ends a job."""


def set_freedom(inputs: AttributeDict, freedom: Freedom, structure: orm.StructureData) -> None:
    """Say to aiida-vasp what may move: by ISIF, by other INCAR tags and by selective dynamics."""
    n_sites = len(structure.sites)
    settings = {**inputs.relax_settings.get_dict(), **freedom.relax_flags(n_sites)}
    inputs.relax_settings = VaspRelaxWorkChain.relax_option_class.aiida_serialize(settings)
    inputs.vasp.parameters = _with_tags(inputs.vasp.parameters, freedom.incar_tags(open_axes(freedom, structure)))
    dynamics = freedom.dynamics(n_sites)
    if dynamics is not None:
        inputs.vasp.dynamics = orm.Dict(dynamics)


def with_algo(settings: orm.Dict, algo: str) -> orm.Dict:
    """Return the input `relax_settings` of aiida-vasp with another word of `Algo`."""
    return VaspRelaxWorkChain.relax_option_class.aiida_serialize({**settings.get_dict(), 'algo': algo})


def set_species(vasp: AttributeDict, species: SpeciesInputs) -> None:
    """Put what belongs to the species in the place of the user's mappings."""
    for port in SPECIES_MAPPINGS:
        vasp.pop(port, None)
    vasp.potential_mapping = orm.Dict(species.potential_mapping)
    vasp.parameters = _with_tags(vasp.parameters, tags_beside(incar_tags(vasp.parameters), species))


def set_monitors(vasp: AttributeDict) -> None:
    """Watch the jobs by `MONITORS`, unless the user says how or that they are not to be watched."""
    settings = vasp.settings.get_dict() if 'settings' in vasp else {}
    if not vasp.get('monitors') and not settings.get('no_default_monitors'):
        vasp.monitors = {name: orm.Dict(monitor) for name, monitor in MONITORS.items()}


def _with_tags(parameters: orm.Dict, tags: Mapping[str, Any]) -> orm.Dict:
    """Return the input `parameters` of aiida-vasp with INCAR tags added."""
    return orm.Dict(merge(parameters.get_dict(), {'incar': dict(tags)})) if tags else parameters
