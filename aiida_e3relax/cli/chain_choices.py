"""What the options of `chain_options` say of how structures are relaxed: codes, potentials, model and overrides."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from aiida import orm
from aiida_vasp.data.potcar import PotcarGroup

from aiida_e3relax.calculations.pre_relaxer import NETWORK, PreRelaxer
from aiida_e3relax.calculations.predict_parameters import PredictParameters, choose_pre_relaxer, find_default
from aiida_e3relax.cli.nodes import find_named
from aiida_e3relax.common.mappings import merge
from aiida_e3relax.common.strict_yaml import load_yaml
from aiida_e3relax.crystals.freedom.freedom import Freedom, read_freedom_text
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.potential import E3RelaxPotentialData
from aiida_e3relax.gnn.potentials.registry import PRE_RELAXERS
from aiida_e3relax.workflows.guard import find_unstated_bound
from aiida_e3relax.workflows.vasp.arguments import NO_CODE, list_codes, load_code
from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain
from aiida_e3relax.workflows.vasp.choices import ChainChoices

ONE_PROCESS = {'vasp': {'vasp': {'calc': {'metadata': {'options': {'resources': {'num_mpiprocs_per_machine': 1}}}}}}}
NO_POTENTIALS = (
    'upload them with `aiida-vasp potcar uploadfamily`, or make those of the stand-in with `aiida-e3relax setup`'
)

POTENTIAL_BOUNDS = {
    'potential_steps': 'steps',
    'potential_force_max': 'force_max_eV_per_A',
    'potential_stress_max': 'stress_max_kB',
}
"""The options that say how far a potential goes, and the parameters of its run."""
OF_PREDICTION = (
    'pre_relaxer',
    'model',
    'potential_weights',
    *POTENTIAL_BOUNDS,
    'network_code',
    'num_gpus',
    'predicted_algo',
)
"""Options that say nothing where the raw structure alone is relaxed; arms of such a campaign have their own."""


def read_choices(options: dict[str, Any], is_judged: bool = True) -> ChainChoices:
    """Return what the options say of every structure alike, of which the guard judges the predictions if `is_judged`.

    Raises ClickException for what the profile lacks, ValueError for an unknown protocol and for overrides that put
    something else in the place of a mapping or bound what the pre-relaxer never states.
    """
    overrides = merge(ONE_PROCESS, read_overrides(options['overrides']) if options['overrides'] else {})
    overrides = merge(overrides, _common_settings(options))
    runs = not options['no_network']
    vasp_code = choose_code(options['vasp_code'], 'vasp.vasp', '--vasp-code')
    network_code = choose_code(options['network_code'], 'e3relax.predict', '--network-code') if runs else None
    inputs = E3RelaxVaspWorkChain.get_protocol_inputs(options['protocol'], overrides)
    predict = inputs['network']['predict']
    named = _name_pre_relaxer(options, predict, network_code)
    pre_relaxer, parameters = _choose_pre_relaxer(named, options, predict)
    fault = find_unstated_bound(inputs['guard'], PredictParameters.from_mapping(parameters)) if runs else None
    if fault and is_judged:
        raise ValueError(fault)
    return ChainChoices(
        vasp_code=vasp_code,
        network_code=network_code,
        potential_family=options['potential_family'] or _only_family(),
        freedom=_choose_freedom(options, overrides),
        model=choose_model(options['model']) if runs and pre_relaxer.has_network else None,
        protocol=options['protocol'],
        overrides=overrides,
        options=_job_options(options),
        network_options=network_options(options),
        pre_relaxer=None if named is None else str(named),
        potential_weights=choose_weights(options.get('potential_weights'), pre_relaxer.potential) if runs else None,
    )


def _name_pre_relaxer(
    options: dict[str, Any], predict: dict[str, Any], code: orm.AbstractCode | None
) -> PreRelaxer | None:
    """Return what makes VASP's start by the options or, where they and the overrides name nothing, by the code.

    None is for that of the overrides, else the network. Raises ClickException for what is none.
    """
    text = options.get('pre_relaxer')
    try:
        asked = None if text is None else PreRelaxer.parse(text)
    except ValueError as error:
        raise click.ClickException(f'--pre-relaxer: {error}') from error
    refuse_beside_no_network(options, OF_PREDICTION)
    if asked is None and code is not None and not options.get('model'):
        return find_default(code, predict)
    return asked


def refuse_beside_no_network(options: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise ClickException for an option among `names` that is given beside --no-network."""
    for name in names if options['no_network'] else ():
        value, option = options.get(name), f'--{name.replace("_", "-")}'
        if value is not None and value is not False:
            found = option if value is True else f'{option} {value}'
            raise click.ClickException(f'--no-network: expected no {option} beside it, found {found}')


def _choose_pre_relaxer(
    named: PreRelaxer | None, options: dict[str, Any], predict: dict[str, Any]
) -> tuple[PreRelaxer, dict[str, Any]]:
    """Return what makes VASP's start, which is `named`, of the overrides or the network, and the parameters of its run.

    Raises ClickException for a model beside a potential alone, and for how far a potential goes where there is none,
    ValueError for overrides that do not fit.
    """
    refuse_bounds_without_potential(options, named or PreRelaxer.of_parameters(predict['parameters']))
    try:
        chosen, parameters = choose_pre_relaxer(predict['parameters'], named)
    except ValueError as error:
        raise ValueError(f'--overrides: `network.predict.parameters`: {error}') from error
    if not chosen.has_network and options.get('model'):
        raise click.ClickException(
            f'--model {options["model"]}: the pre-relaxer {chosen} has no network; leave it out, or give '
            f'--pre-relaxer {NETWORK}+{chosen}'
        )
    return chosen, parameters


def potential_bounds(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return how far a potential goes by the options, as overrides; nothing where they do not say it."""
    given = {key: options[name] for name, key in POTENTIAL_BOUNDS.items() if options.get(name) is not None}
    return {'network': {'predict': {'parameters': given}}} if given else {}


def refuse_bounds_without_potential(options: Mapping[str, Any], pre_relaxer: PreRelaxer) -> None:
    """Raise ClickException for how far a potential goes where there is none that relaxes."""
    given = [
        f'--{name.replace("_", "-")} {options[name]}' for name in POTENTIAL_BOUNDS if options.get(name) is not None
    ]
    if given and not pre_relaxer.has_potential:
        raise click.ClickException(
            f'{given[0]}: expected a pre-relaxer with an interatomic potential, found {pre_relaxer}; leave it out, or '
            'give one such as --pre-relaxer sevennet-mf-0'
        )


def choose_weights(text: str | None, potential: str | None) -> E3RelaxPotentialData | None:
    """Return the weights that a person names for a potential, a file or a node; None where none are named or needed.

    Raises ClickException where there are none, where some are needed, and where there is no potential to load them.
    """
    if potential is None:
        if text:
            raise click.ClickException('--potential-weights: expected a potential beside it, as --pre-relaxer mace')
        return None
    if text is None:
        if PRE_RELAXERS[potential].needs_weights:
            raise click.ClickException(
                f'--potential-weights: {potential} brings no weights; give the file that its package loads'
            )
        return None
    if Path(text).is_file():
        return E3RelaxPotentialData.get_or_create(text, potential)[0]
    complaint = 'expected a file of weights that is there, or the label, PK or UUID of a node of them'
    return find_named(text, [E3RelaxPotentialData], complaint)


def read_overrides(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, an empty one for an empty file; raises ClickException for anything else."""
    try:
        overrides = load_yaml(path.read_text(encoding='utf-8'))
    except (ValueError, OSError) as error:
        raise click.ClickException(f'{path}: {error}') from error
    if not isinstance(overrides, dict | None):
        found = reprlib.repr(overrides)
        raise click.ClickException(f'{path}: expected inputs such as `freedom: positions`, found {found}')
    return overrides or {}


def choose_code(label: str | None, plugin: str, option: str) -> orm.AbstractCode:
    """Return the code of that label, or the only one for `plugin`; raises ClickException when there is no such one."""
    if label is not None:
        try:
            return load_code(label, plugin, option)
        except ValueError as error:
            raise click.ClickException(str(error)) from error
    known = list_codes(plugin)
    if len(known) == 1:
        return known[0]
    names = ', '.join(code.full_label for code in known)
    if known:
        raise click.ClickException(f'{option}: there are several codes for {plugin}; choose one of {names}')
    raise click.ClickException(f'{option}: no code for {plugin} is in this profile; {NO_CODE.format(plugin=plugin)}')


def _only_family() -> str:
    labels = sorted(group.label for group in PotcarGroup.collection.all())
    if len(labels) == 1:
        return labels[0]
    if labels:
        raise click.ClickException(f'--potential-family: there are several; choose one of {", ".join(labels)}')
    raise click.ClickException(f'--potential-family: no family of potentials is in this profile; {NO_POTENTIALS}')


def choose_model(text: str | None) -> E3RelaxModelData:
    """Return the model that a person names, the shipped one for None or `default`.

    Raises ClickException where there is none, ValueError for a file that is no checkpoint.
    """
    if text in (None, 'default'):
        return E3RelaxModelData.default()
    if Path(text).is_file():
        return E3RelaxModelData.get_or_create(text)[0]
    complaint = 'expected `default`, a checkpoint file that is there, or the label, PK or UUID of a model'
    return find_named(text, [E3RelaxModelData], complaint)


def _common_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that every engine has, as overrides."""
    given = potential_bounds(options)
    if options['force_cutoff'] is not None:
        given = merge(given, {'vasp': {'relax_settings': {'force_cutoff': options['force_cutoff']}}})
    if options['max_steps'] is not None:
        given = merge(given, {'vasp': {'relax_settings': {'steps': options['max_steps']}}})
    if options['kpoints_spacing'] is not None:
        given = merge(given, {'vasp': {'vasp': {'kpoints_spacing': options['kpoints_spacing']}}})
    if options['guard'] is not None:
        given = merge(given, {'guard': {'mode': options['guard']}})
    for name in ('static_run', 'predicted_algo'):
        if options[name] is not None:
            given = merge(given, {name: options[name]})
    return given


def _job_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the VASP jobs that were given on the command line."""
    resources = {'num_machines': options['machines'], 'num_mpiprocs_per_machine': options['mpi_processes']}
    given: dict[str, Any] = {'resources': {key: value for key, value in resources.items() if value is not None}}
    if any(value > 1 for value in given['resources'].values()):
        given['withmpi'] = True
    if options['max_hours'] is not None:
        given['max_wallclock_seconds'] = math.ceil(3600 * options['max_hours'])
    if options['queue']:
        given['queue_name'] = options['queue']
    return given


def network_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the network's jobs that were given on the command line."""
    return {'num_gpus': options['num_gpus']} if options.get('num_gpus') is not None else {}


def _choose_freedom(options: dict[str, Any], overrides: dict[str, Any]) -> str | dict[str, Any]:
    """Return what may move by the options, over the overrides and the protocol."""
    given: dict[str, Any] = {}
    if options['freedom'] is not None:
        try:
            given = read_freedom_text(options['freedom'], options['vacuum'])
        except ValueError as error:
            raise ValueError(f'--freedom: {error}') from error
    elif options['vacuum']:
        given['vacuum'] = options['vacuum']
    if options['keep_symmetry']:
        given['keep_symmetry'] = True
    base = E3RelaxVaspWorkChain.get_protocol_inputs(options['protocol'], overrides)['freedom']
    if not given:
        return base
    try:
        Freedom.from_value(base)
    except ValueError as error:
        raise ValueError(f'--overrides: `freedom`: {error}') from error
    return {**({'moves': base} if isinstance(base, str) else base), **given}
