"""Checks of the chain's input ports, before anything runs. Each returns what is wrong, or None.

The rules on INCAR tags are in `inputs/incar_rules.py`, those on the bounds of the guard in `workflows/guard.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from aiida import orm

from aiida_e3relax.calculations.mpi import find_mpi_fault
from aiida_e3relax.calculations.predict_parameters import PredictParameters
from aiida_e3relax.crystals.cells import reduction
from aiida_e3relax.crystals.freedom.checks import find_freedom_fault, find_molecule
from aiida_e3relax.crystals.geometry import find_overlap
from aiida_e3relax.data.structures import find_faults, structures_to_crystals
from aiida_e3relax.workflows.allowed_values import FORCE_CUTOFFS, KPOINTS_SPACINGS, Algo, StaticRun
from aiida_e3relax.workflows.comparison.reference import earlier_chain, find_reference_fault
from aiida_e3relax.workflows.guard import GuardSettings, find_unstated_bound
from aiida_e3relax.workflows.network.report import find_row
from aiida_e3relax.workflows.vasp.inputs.freedom import Freedom, freedom_value, predict_all, read_freedom
from aiida_e3relax.workflows.vasp.inputs.incar import incar_tags
from aiida_e3relax.workflows.vasp.inputs.incar_rules import (
    FIXED_SITES_ELSEWHERE,
    RESTART_FOLDER,
    check_tag_names,
    find_namespace_fault,
    find_static_fault,
    find_static_mismatch,
    find_tag_fault,
    find_tag_mismatch,
)
from aiida_e3relax.workflows.vasp.inputs.species import species_mappings
from aiida_e3relax.workflows.vasp.inputs.stand_in import find_stand_in_fault

MOST_SKEWED = 10.0
"""Product of the lengths of the lattice vectors over that of the reduced cell: the k-points grow with it."""
FREEDOM_FLAGS = ('positions', 'shape', 'volume')
STATIC = 'static_calc_parameters'
"""The input of aiida-vasp with the tags of the static run over those of the relaxation."""
ON_NETWORK_FAILURE = ('raw', 'error')


def validate_structure(structure: orm.StructureData, _: Any) -> str | None:
    """Check that the network can predict from `structure` and VASP relax it."""
    fault = (
        find_faults({'structure': structure}).get('structure')
        or _find_cell_fault(structure)
        or _find_overlap(structure)
    )
    return f'`structure` cannot be relaxed: {fault}' if fault else None


def validate_freedom(freedom: orm.Str | orm.Dict, _: Any) -> str | None:
    """Check that `freedom` is a value of `Moves` or holds fields of `Freedom`."""
    try:
        read_freedom(freedom)
    except ValueError as error:
        return f'`freedom`: {error}'
    return None


def validate_chain(inputs: Mapping[str, Any], _: Any) -> str | None:
    """Check what no input shows alone: that they are made for each other and for this `structure`."""
    if inputs.get('network') and inputs.get('prediction'):
        return 'found `network` and `prediction`, expected one of them at most: leave one out'
    if 'structure' not in inputs or 'freedom' not in inputs:
        return None
    return find_network_fault(inputs) or validate_relaxation(inputs)


def find_network_fault(inputs: Mapping[str, Any]) -> str | None:
    """Return why the network's run cannot do what it is told with this `freedom`, or why the guard would reject it all.

    Its port checks the rest.
    """
    network = inputs.get('network') or {}
    given = network.get('predict', {}).get('parameters')
    try:
        parameters = PredictParameters.from_mapping(predict_all(given, freedom_value(inputs['freedom'])))
    except ValueError as error:
        return f'`network.predict.parameters`: {error}'
    guard = inputs.get('guard')
    return find_unstated_bound(guard.get_dict(), parameters) if network and isinstance(guard, orm.Dict) else None


def validate_relaxation(inputs: Mapping[str, Any]) -> str | None:
    """Check that VASP can honour `freedom` for this `structure`, and that its tags by species or site fit it."""
    structure, freedom = inputs['structure'], read_freedom(inputs['freedom'])
    kinds = [site.kind_name for site in structure.sites]
    crystal = structures_to_crystals({'structure': structure})
    if fault := find_freedom_fault(freedom, crystal, kinds):
        return f'`freedom`: {fault}'
    if _is_predicted(inputs) and (fault := find_molecule(freedom, crystal)):
        return f'`structure`: {fault}'
    if 'parameters' not in inputs.get('vasp', {}).get('vasp', {}):
        return None
    if fault := _find_vasp_mismatch(inputs['vasp'], structure, freedom):
        return fault
    fault = find_reference_fault(inputs)
    return f'`reference_leg`: {fault}' if fault else None


def _find_vasp_mismatch(relaxation: Mapping[str, Any], structure: orm.StructureData, freedom: Freedom) -> str | None:
    """Return which input of the relaxation or its static run does not fit the structure, or the stand-in."""
    vasp = relaxation['vasp']
    try:
        fault = find_tag_mismatch(incar_tags(vasp['parameters']), structure, freedom, species_mappings(vasp))
    except ValueError as error:
        fault = str(error)
    if fault:
        return f'`vasp.vasp`: {fault}'
    if fault := find_stand_in_fault(vasp, structure):
        return f'`vasp.vasp.code`: {fault}'
    fault = _find_static_mismatch(relaxation, structure)
    return f'`vasp.{STATIC}`: {fault}' if fault else None


def _find_static_mismatch(relaxation: Mapping[str, Any], structure: orm.StructureData) -> str | None:
    """Return which tag of the static run does not fit the structure, or the stand-in."""
    if STATIC not in relaxation:
        return None
    vasp = relaxation['vasp']
    tags, own = incar_tags(vasp['parameters']), incar_tags(relaxation[STATIC])
    try:
        if fault := find_static_mismatch(tags, own, structure, species_mappings(vasp)):
            return fault
    except ValueError as error:
        return str(error)
    return find_stand_in_fault({**vasp, 'parameters': {'incar': {**tags, **own}}}, structure)


def validate_prediction(prediction: Mapping[str, Any], _: Any) -> str | None:
    """Check that the run of the network knows the structure, or that it is said how that run failed."""
    given = [f'`{port}`' for port in ('report', 'failure') if port in prediction]
    if len(given) != 1:
        found = ' and '.join(given) or 'neither'
        return f'`prediction`: expected `report`, or `failure` where the run of the network left none, found {found}'
    if 'failure' in prediction:
        return None
    try:
        find_row(prediction['report'].get_dict(), prediction['label'].value)
    except KeyError as error:
        return f'`prediction.report`: expected the output `report` of a run of the network, found no {error} in it'
    except ValueError as error:
        return f'`prediction.label`: {error}; give the label under which it was predicted'
    return None


def validate_reference(reference: orm.Str, _: Any) -> str | None:
    """Check that `reference_leg` is a word of `Reference` or names an earlier chain."""
    try:
        earlier_chain(reference.value)
    except ValueError as error:
        return f'`reference_leg`: {error}'
    return None


def validate_on_network_failure(choice: orm.Str, _: Any) -> str | None:
    """Check that `choice` is one of `ON_NETWORK_FAILURE`."""
    if choice.value in ON_NETWORK_FAILURE:
        return None
    return f'`on_network_failure`: expected `{"` or `".join(ON_NETWORK_FAILURE)}`, found `{choice.value}`'


def validate_share(share: orm.Float, _: Any) -> str | None:
    """Check that `reference_share` is one."""
    if 0.0 <= share.value <= 1.0:
        return None
    return f'`reference_share`: expected a number from 0 to 1, found {share.value}'


def validate_static_run(choice: orm.Str, _: Any) -> str | None:
    """Check that `choice` is a word of `StaticRun`."""
    if choice.value in list(StaticRun):
        return None
    return f'`static_run`: expected `{"` or `".join(StaticRun)}`, found `{choice.value}`'


def validate_predicted_algo(choice: orm.Str, _: Any) -> str | None:
    """Check that `choice` is a word of `Algo`."""
    if choice.value in list(Algo):
        return None
    return f'`predicted_algo`: expected `{"` or `".join(Algo)}`, found `{choice.value}`'


def validate_guard(settings: orm.Dict, _: Any) -> str | None:
    """Check that `settings` are fields of `GuardSettings` with values in their ranges."""
    try:
        GuardSettings.from_mapping(settings.get_dict())
    except (ValueError, TypeError) as error:
        return f'`guard`: {error}'
    return None


def validate_vasp(inputs: Mapping[str, Any], _: Any) -> str | None:
    """Check that there are k-points, that code and options agree, and that nothing is set twice or beside `freedom`."""
    vasp, settings = inputs.get('vasp', {}), inputs.get('relax_settings')
    return (
        _find_kpoints_fault(vasp)
        or ('dynamics' in vasp and f'`vasp.vasp.dynamics`: {FIXED_SITES_ELSEWHERE}')
        or (settings is not None and _find_settings_fault(settings.get_dict()))
        or _find_options_fault(vasp)
        or ('parameters' in vasp and _find_parameters_fault(vasp['parameters'].get_dict(), vasp))
        or (STATIC in inputs and _find_static_fault(inputs))
        or None
    )


def _find_options_fault(vasp: Mapping[str, Any]) -> str | None:
    """Return why the code of VASP cannot be run as the options of its jobs ask."""
    options = vasp.get('calc', {}).get('metadata', {}).get('options', {})
    fault = find_mpi_fault(vasp, options)
    return f'`vasp.vasp.calc.metadata.options`: {fault}' if fault else None


def _find_kpoints_fault(vasp: Mapping[str, Any]) -> str | None:
    if not {'kpoints', 'kpoints_spacing'} & set(vasp):
        return '`vasp.vasp`: neither `kpoints` nor `kpoints_spacing` is given; give one'
    fault = 'kpoints_spacing' in vasp and _find_range_fault(vasp['kpoints_spacing'].value, KPOINTS_SPACINGS, '2 pi/A')
    return f'`vasp.vasp.kpoints_spacing`: {fault}' if fault else None


def _find_settings_fault(settings: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the `relax_settings` of aiida-vasp."""
    cutoff = settings.get('force_cutoff')
    if cutoff is not None and (fault := _find_range_fault(cutoff, FORCE_CUTOFFS, 'eV/A')):
        return f'`vasp.relax_settings.force_cutoff`: {fault}'
    if flag := next((flag for flag in FREEDOM_FLAGS if not settings.get(flag, True)), None):
        return f'`vasp.relax_settings`: `{flag}` is set by `freedom`; remove it, and give `freedom` instead'
    if (energy := settings.get('energy_cutoff')) is not None:
        return (
            '`vasp.relax_settings`: `energy_cutoff` is refused by aiida-vasp beside the force that it always sets; '
            f'remove it, and give `vasp.vasp.parameters: {{incar: {{ediffg: {energy}}}}}` instead'
        )
    if not settings.get('perform', True):
        return (
            '`vasp.relax_settings`: `perform: false` would hand the start on as the relaxed crystal; remove it, and '
            'compute energies of crystals as they are with `aiida-e3relax validate`'
        )
    if settings.get('hybrid_calc_bootstrap'):
        return (
            '`vasp.relax_settings`: `hybrid_calc_bootstrap` begins each leg with a run by another functional, whose '
            'energy and costs would be taken for those of the relaxation; remove it'
        )
    return None


def _find_parameters_fault(parameters: Mapping[str, Any], given: Collection[str]) -> str | None:
    try:
        fault = find_namespace_fault(parameters) or find_tag_fault(parameters, given)
    except ValueError as error:
        fault = str(error)
    return f'`vasp.vasp.parameters`: {fault}' if fault else None


def _find_static_fault(inputs: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the tags of the static run, which go over all others, be they of a mapping."""
    own, settings = inputs[STATIC].get_dict(), inputs.get('relax_settings')
    reuses = settings is not None and settings.get_dict().get('reuse', False)
    given = {*inputs['vasp'], *([RESTART_FOLDER] if reuses else [])}
    try:
        check_tag_names(own)
        fault = find_static_fault(own, given)
    except ValueError as error:
        fault = str(error)
    return f'`vasp.{STATIC}`: {fault}' if fault else None


def _is_predicted(inputs: Mapping[str, Any]) -> bool:
    """Return whether a network predicts the structure, or has."""
    return 'code' in inputs.get('network', {}).get('predict', {}) or 'label' in inputs.get('prediction', {})


def _find_range_fault(value: Any, limits: tuple[float, float], unit: str) -> str | None:
    least, most = limits
    if isinstance(value, int | float) and least <= value <= most:
        return None
    return f'expected a number from {least:g} to {most:g} {unit}, found {value!r}'


def _find_cell_fault(structure: orm.StructureData) -> str | None:
    cell = np.array(structure.cell)
    if np.linalg.det(cell) < 0:
        return 'its lattice vectors are left-handed, which VASP does not take; exchange two lattice vectors'
    given, reduced = (np.linalg.norm(c, axis=1) for c in (cell, (reduction(cell[None]) @ cell)[0]))
    if given.prod() > MOST_SKEWED * reduced.prod():
        lengths = [' x '.join(f'{length:.3g}' for length in sorted(lengths)) for lengths in (given, reduced)]
        return (
            f'its lattice vectors, {lengths[0]} A long, are skewed: the same lattice has a cell of {lengths[1]} A; '
            'reduce it, as `ase.build.niggli_reduce` does, or VASP takes many times the k-points'
        )
    return None


def _find_overlap(structure: orm.StructureData) -> str | None:
    try:
        return find_overlap(structures_to_crystals({'structure': structure}))
    except ValueError as error:
        return str(error)
