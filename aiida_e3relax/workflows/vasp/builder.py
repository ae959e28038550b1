"""`get_builder_from_protocol` of the chain: all inputs out of a protocol and a few arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common.exceptions import InputValidationError
from aiida.engine.processes.builder import ProcessBuilder
from aiida_vasp.workchains.v2.relax import VaspRelaxWorkChain

from aiida_e3relax.calculations.gpus import find_gpu_fault
from aiida_e3relax.calculations.mpi import find_mpi_fault, mpi_of
from aiida_e3relax.calculations.pre_relaxer import PreRelaxer
from aiida_e3relax.calculations.predict import find_weights_fault
from aiida_e3relax.calculations.predict_parameters import choose_pre_relaxer, find_default
from aiida_e3relax.common.mappings import check_keys, merge
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.potential import E3RelaxPotentialData
from aiida_e3relax.workflows.protocols.files import CHAIN_PROTOCOLS
from aiida_e3relax.workflows.protocols.protocol import ProtocolMixin, fill_builder
from aiida_e3relax.workflows.vasp.arguments import check_kinds, check_structure, load_code
from aiida_e3relax.workflows.vasp.inputs.freedom import Freedom, Moves
from aiida_e3relax.workflows.vasp.inputs.incar import incar_tags, is_noncollinear, read_logical
from aiida_e3relax.workflows.vasp.inputs.incar_rules import HUBBARD_TAGS, check_tag_names, find_namespace_fault
from aiida_e3relax.workflows.vasp.inputs.input_sets import lay_over_input_set
from aiida_e3relax.workflows.vasp.inputs.kpoints import make_mesh
from aiida_e3relax.workflows.vasp.inputs.mapping_rules import check_mappings
from aiida_e3relax.workflows.vasp.inputs.potentials import choose_for_structure
from aiida_e3relax.workflows.vasp.inputs.species import SPECIES_MAPPINGS
from aiida_e3relax.workflows.vasp.validators import (
    find_network_fault,
    validate_prediction,
    validate_relaxation,
    validate_vasp,
)


class VaspProtocolMixin(ProtocolMixin):
    """Gives `E3RelaxVaspWorkChain` its `get_builder_from_protocol`."""

    PROTOCOLS = CHAIN_PROTOCOLS

    @classmethod
    def get_builder_from_protocol(
        cls,
        structure: orm.StructureData,
        vasp_code: orm.AbstractCode | str,
        network_code: orm.AbstractCode | str | None = None,
        *,
        potential_family: str,
        potential_mapping: Mapping[str, str] | None = None,
        model: E3RelaxModelData | None = None,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        network_options: Mapping[str, Any] | None = None,
        freedom: Freedom | Mapping[str, Any] | Moves | str | None = None,
        reference_leg: str | orm.WorkChainNode | None = None,
        prediction: Mapping[str, Any] | None = None,
        pre_relaxer: PreRelaxer | str | None = None,
        potential_weights: E3RelaxPotentialData | None = None,
        campaign: orm.Dict | None = None,
    ) -> ProcessBuilder:
        """Return a builder with all inputs set.

        Parameters
        ----------
        structure
            The raw crystal.
        vasp_code, network_code
            Codes or their labels; without `network_code` and `prediction` VASP relaxes the raw structure.
        potential_family, potential_mapping
            The family of potentials, and the potentials of single elements or kinds if not the usual ones.
        model
            The checkpoint; default is that of `overrides`, else the one that comes with the package.
        protocol
            A name from `get_available_protocols`; default is `get_default_protocol`.
        overrides
            Inputs over those of the protocol, nested as the ports; the other arguments, where given, go over these.
            With the INCAR tag MAGMOM the protocol's `magmom_mapping` is left out, and with LDAU = .FALSE. or the tags
            LDAUL, LDAUU and LDAUJ its `ldau_mapping`.
        options, network_options
            Options of the VASP jobs and of the network's, such as `resources`, `withmpi`, `max_wallclock_seconds`,
            `queue_name` and `custom_scheduler_commands`, for the network `num_gpus`, too. Whether VASP runs by MPI is
            as its code says, where it does.
        freedom
            What may move: a `Freedom`, its fields, or a value of `Moves`; default is that of `overrides`, else
            everything.
        reference_leg
            When to relax the raw structure too: a word of `Reference`, or an earlier chain whose raw leg is taken;
            default is that of `overrides`, else never.
        prediction
            In the place of `network_code`: `batch` and `report`, outputs of an earlier run of the network, and `label`,
            the name of the structure in that run; without `batch` where it predicted nothing. Where it left no report,
            `failure`, how it ended, takes its place.
        pre_relaxer
            What `network_code` runs: `network`, the name of a potential such as `chgnet`, or `network+chgnet`, see
            `PreRelaxer`; default is that of the parameters in `overrides`, else the network where a model is given,
            else that of the code (`set_default_pre_relaxer`), else the network. Where it is given, what these
            parameters say of another one is left out.
        potential_weights
            The weights of the potential, where its package does not bring them; default is that of `overrides`.
        campaign
            The settings of the campaign that the chain is a part of.

        Raises
        ------
        ValueError
            For an unknown protocol, code, family or potential, for inputs that do not exist or that a validator
            refuses, for a code or family in `overrides`, and for a network and a prediction of one.
        TypeError
            For arguments of another kind, with how to make one of the right kind.
        """
        check_structure(structure)
        check_kinds(
            {
                'potential_family': potential_family,
                'potential_mapping': potential_mapping,
                'model': model,
                'protocol': protocol,
                'overrides': overrides,
                'options': options,
                'network_options': network_options,
                'freedom': freedom,
                'reference_leg': reference_leg,
                'prediction': prediction,
                'pre_relaxer': pre_relaxer,
                'potential_weights': potential_weights,
                'campaign': campaign,
            }
        )
        if network_code is not None and prediction is not None:
            raise ValueError('found `network_code` and `prediction`, expected one of them at most: leave one out')
        inputs = cls.get_protocol_inputs(protocol, overrides)
        if input_set := inputs.pop('input_set', None):
            inputs = lay_over_input_set(inputs, structure, input_set)
        network = inputs.pop('network')
        vasp = inputs['vasp']['vasp']
        for port, argument in (('code', 'vasp_code'), ('potential_family', 'potential_family')):
            if port in vasp:
                raise ValueError(f'overrides: `vasp.vasp.{port}` is set by the argument `{argument}`; remove it')
        relaxation = (overrides or {}).get('vasp', {})
        own = relaxation.get('vasp', {})
        _check_relaxation(inputs['vasp'], relaxation)
        _leave_out_mappings(vasp, own)
        _choose_kpoints(vasp, own)
        _check_mappings(structure, vasp, own, potential_mapping or {})
        preferred = merge(vasp.pop('potential_mapping', {}), potential_mapping or {})
        code = load_code(vasp_code, 'vasp.vasp', '`vasp_code`')
        own_options = own.get('calc', {}).get('metadata', {}).get('options', {})
        with_mpi = {} if 'withmpi' in own_options else mpi_of(code)
        chosen: dict[str, Any] = {
            'vasp': {
                'vasp': {
                    'code': code,
                    'potential_family': potential_family,
                    'potential_mapping': choose_for_structure(structure, potential_family, preferred),
                    'calc': {'metadata': {'options': with_mpi | dict(options or {})}},
                }
            },
        }
        if reference_leg is not None:
            chosen['reference_leg'] = reference_leg if isinstance(reference_leg, str) else reference_leg.uuid
        if freedom is not None:
            chosen['freedom'] = _plain_freedom(freedom)
        if network_code is not None:
            runs_network = load_code(network_code, 'e3relax.predict', '`network_code`')
            chosen['network'] = pre_relaxation_inputs(network, pre_relaxer, model, potential_weights, runs_network)
            chosen['network']['predict']['code'] = runs_network
            chosen['network'] = with_options(chosen['network'], runs_network, network_options)
        given = {'prediction': prediction, 'campaign': campaign}
        chosen |= {port: value for port, value in given.items() if value is not None}
        if 'kpoints' in vasp:
            what_moves = Freedom.from_value(chosen.get('freedom', inputs['freedom']))
            vasp['kpoints'] = make_mesh(structure, vasp['kpoints'], what_moves)
        builder = cls.get_builder()  # type: ignore[attr-defined]
        fill_builder(builder, {'structure': structure})
        try:
            fill_builder(builder, merge(inputs, chosen))
        except InputValidationError as error:
            check_tag_names(vasp['parameters'])
            raise ValueError(f'`vasp.vasp.parameters`: {error}') from error
        if fault := (
            validate_vasp(builder.vasp, None)
            or (prediction and validate_prediction(builder.prediction, None))
            or (network_code is not None and (find_network_fault(builder) or _find_job_fault(builder.network.predict)))
            or validate_relaxation(builder)
        ):
            raise ValueError(fault)
        return builder


def pre_relaxation_inputs(
    network: Mapping[str, Any],
    pre_relaxer: PreRelaxer | str | None,
    model: E3RelaxModelData | None,
    weights: E3RelaxPotentialData | None,
    code: orm.AbstractCode | None = None,
) -> dict[str, Any]:
    """Return the inputs `network` of a protocol and overrides for a pre-relaxer, as `get_builder_from_protocol` has it.

    Its checkpoint and weights are those that are given, else those in `network`, and for a network the default ones.
    With `code` its default counts, where nothing names a pre-relaxer. Raises ValueError for an unknown pre-relaxer, for
    parameters or weights that do not fit it, and for a `model` beside a potential alone.
    """
    predict = dict(network['predict'])
    given = predict.get('parameters', {})
    try:
        asked = None if pre_relaxer is None else PreRelaxer.parse(str(pre_relaxer))
    except ValueError as error:
        raise ValueError(f'`pre_relaxer`: {error}') from error
    given = given.get_dict() if isinstance(given, orm.Dict) else given
    if asked is None and model is None and code is not None:
        asked = find_default(code, {**predict, 'parameters': given})
    try:
        chosen, predict['parameters'] = choose_pre_relaxer(given, asked)
    except ValueError as error:
        raise ValueError(f'`network.predict.parameters`: {error}') from error
    own_model, own_weights = predict.pop('model', None), predict.pop('potential_weights', None)
    if chosen.has_network:
        predict['model'] = model or own_model or E3RelaxModelData.default()
    elif model is not None:
        raise ValueError(f'`model`: expected none beside the pre-relaxer {chosen}, which has no network; leave it out')
    if weights is None and isinstance(own_weights, E3RelaxPotentialData):
        weights = own_weights if asked is None or own_weights.potential == chosen.potential else None
    if fault := find_weights_fault(chosen.potential, weights):
        raise ValueError(fault)
    if weights is not None:
        predict['potential_weights'] = weights
    return {**network, 'predict': predict}


def _plain_freedom(freedom: Freedom | Mapping[str, Any] | str) -> dict[str, Any] | str:
    """Return a freedom as the input port takes it."""
    if isinstance(freedom, str):
        return str(freedom)
    if not isinstance(freedom, Freedom):
        return dict(freedom)
    return {
        'moves': str(freedom.moves),
        'fixed': {letters: list(sites) for letters, sites in freedom.fixed.items()},
        'keep_symmetry': freedom.keep_symmetry,
        'vacuum': freedom.vacuum,
    }


def with_options(
    network: Mapping[str, Any], code: orm.AbstractCode | None, options: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the inputs of the network with MPI as its `code` says, unless they say it, and `options` over all."""
    least, most = ({'predict': {'metadata': {'options': dict(given)}}} for given in (mpi_of(code), options or {}))
    return merge(merge(least, network), most)


def _find_job_fault(predict: Mapping[str, Any]) -> str | None:
    """Return why a job of the network cannot run its code as its options ask, on GPUs or by MPI, or None."""
    return find_gpu_fault(predict) or find_mpi_fault(predict, predict['metadata']['options'])


def _check_relaxation(relaxation: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise ValueError for what of the inputs `relaxation` aiida-vasp would drop before a validator sees it.

    These are settings that it does not know, names beside `incar`, and the force among the overrides `own` that ends a
    relaxation where they have EDIFFG, too.
    """
    settings, parameters = relaxation['relax_settings'], relaxation['vasp']['parameters']
    try:
        check_keys(settings.keys(), list(VaspRelaxWorkChain.relax_option_class.model_fields))
    except ValueError as error:
        raise ValueError(f'`vasp.relax_settings`: {error}') from error
    if fault := find_namespace_fault(parameters):
        raise ValueError(f'`vasp.vasp.parameters`: {fault}')
    force = own.get('relax_settings', {}).get('force_cutoff')
    ediffg = incar_tags(own.get('vasp', {}).get('parameters', {})).get('ediffg')
    if force is not None and ediffg is not None:
        raise ValueError(
            f'overrides: `vasp.relax_settings.force_cutoff`, {force}, and the INCAR tag EDIFFG, {ediffg}, would both '
            'end the relaxation, and aiida-vasp takes EDIFFG; remove one of them'
        )


def _leave_out_mappings(vasp: dict[str, Any], own: Mapping[str, Any]) -> None:
    """Leave out of the inputs `vasp` what INCAR tags say instead, unless the overrides `own` have it, too."""
    tags = incar_tags(vasp['parameters'])
    has_corrections = any(tag in tags for tag in HUBBARD_TAGS) or ('ldau' in tags and not read_logical(tags, 'ldau'))
    for mapping, is_said in (('magmom_mapping', 'magmom' in tags), ('ldau_mapping', has_corrections)):
        if is_said and mapping not in own:
            vasp.pop(mapping, None)


def _check_mappings(
    structure: orm.StructureData, vasp: Mapping[str, Any], own: Mapping[str, Any], potentials: Mapping[str, str]
) -> None:
    """Raise ValueError for what VASP would not get of the mappings in the overrides `own` and of `potentials`.

    In the inputs `vasp` they lie over those of the protocol, in which an element has a key that nobody gave.
    """
    given = {name: own.get(name) for name in SPECIES_MAPPINGS}
    mappings = {name: one.get_dict() if isinstance(one, orm.Dict) else one or {} for name, one in given.items()}
    mappings['potential_mapping'] = merge(mappings['potential_mapping'], potentials)
    check_mappings(structure, {**mappings, 'noncollinear': is_noncollinear(incar_tags(vasp['parameters']))})


def _choose_kpoints(vasp: dict[str, Any], own: Mapping[str, Any]) -> None:
    """Leave either a mesh or a spacing in the inputs `vasp`: the one in the overrides `own`, else a mesh.

    Raises ValueError for overrides with both.
    """
    if {'kpoints', 'kpoints_spacing'} <= own.keys():
        raise ValueError(
            f'overrides: `vasp.vasp` has both `kpoints`, {own["kpoints"]}, and `kpoints_spacing`, '
            f'{own["kpoints_spacing"]}; expected one of the two, remove the other'
        )
    if 'kpoints_spacing' in own:
        vasp.pop('kpoints', None)
    if 'kpoints' in vasp:
        vasp.pop('kpoints_spacing', None)
