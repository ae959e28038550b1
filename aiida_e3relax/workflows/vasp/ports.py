"""The ports of the chain."""

from __future__ import annotations

from aiida import orm
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_e3relax.crystals.freedom.freedom import Moves
from aiida_e3relax.data.batch import StructureBatchData
from aiida_e3relax.workflows.comparison.reference import Reference
from aiida_e3relax.workflows.network.base import E3RelaxBaseWorkChain
from aiida_e3relax.workflows.vasp.messages import LEG_NAMES
from aiida_e3relax.workflows.vasp.restarts import ResilientVaspRelaxWorkChain
from aiida_e3relax.workflows.vasp.validators import (
    validate_chain,
    validate_freedom,
    validate_guard,
    validate_on_network_failure,
    validate_predicted_algo,
    validate_prediction,
    validate_reference,
    validate_share,
    validate_static_run,
    validate_structure,
    validate_vasp,
)


def define_inputs(spec: WorkChainSpec) -> None:
    """Define what the chain takes, and the checks of it."""
    spec.input('structure', valid_type=orm.StructureData, validator=validate_structure, help='The raw crystal.')
    spec.expose_inputs(
        E3RelaxBaseWorkChain,
        namespace='network',
        exclude=('clean_workdir', 'campaign', 'predict.structures', 'predict.batch'),
        namespace_options={
            'required': False,
            'populate_defaults': False,
            'help': 'The run of the network, of a potential or of both; without it and `prediction` VASP relaxes the '
            'raw structure alone.',
        },
    )
    spec.input_namespace(
        'prediction',
        required=False,
        validator=validate_prediction,
        help='The prediction out of an earlier run of the network, in the place of `network`.',
    )
    spec.input(
        'prediction.batch',
        valid_type=StructureBatchData,
        required=False,
        help='The output `batch` of that run; none where it predicted nothing.',
    )
    spec.input(
        'prediction.label',
        valid_type=orm.Str,
        serializer=orm.to_aiida_type,
        help='The name of the structure in that run. If the network failed for it, VASP relaxes the raw structure.',
    )
    spec.input('prediction.report', valid_type=orm.Dict, required=False, help='The output `report` of that run.')
    spec.input(
        'prediction.failure',
        valid_type=orm.Str,
        required=False,
        serializer=orm.to_aiida_type,
        help='How that run ended, in the place of `report`, where it left none; VASP relaxes the raw structure.',
    )
    spec.expose_inputs(
        ResilientVaspRelaxWorkChain,
        namespace='vasp',
        exclude=('structure', 'static_run', 'vasp.clean_workdir'),
        namespace_options={
            'validator': validate_vasp,
            'help': 'The VASP relaxation, the same for both legs; what moves is set by `freedom`.',
        },
    )
    spec.input(
        'freedom',
        valid_type=(orm.Str, orm.Dict),
        default=lambda: orm.Str(Moves.CELL.value),
        serializer=orm.to_aiida_type,
        validator=validate_freedom,
        help='What may move, in the prediction and in VASP: `positions`, `shape`, `volume`, `in-plane`, or `cell` '
        'for everything; or a mapping with the key `moves` for that word and any of `fixed`, `keep_symmetry` and '
        '`vacuum`, see `aiida_e3relax.workflows.vasp.inputs.freedom.Freedom`.',
    )
    spec.input(
        'guard',
        valid_type=orm.Dict,
        default=orm.Dict,
        serializer=orm.to_aiida_type,
        validator=validate_guard,
        help='What a prediction must keep to; see `aiida_e3relax.workflows.guard.GuardSettings`.',
    )
    spec.input(
        'on_network_failure',
        valid_type=orm.Str,
        default=lambda: orm.Str('raw'),
        serializer=orm.to_aiida_type,
        validator=validate_on_network_failure,
        help='What to do when the network fails for good: `raw`, VASP relaxes the raw structure and a remark in '
        '`comparison` says why, or `error`, the chain ends.',
    )
    spec.input(
        'reference_leg',
        valid_type=orm.Str,
        default=lambda: orm.Str(Reference.NEVER.value),
        serializer=orm.to_aiida_type,
        validator=validate_reference,
        help='When VASP also relaxes the raw structure, to measure what the prediction saves: `always`, `sample` '
        'for a share of the structures, `never`; or the UUID of an earlier chain of this kind with the same '
        'structure and inputs of VASP, whose raw leg is taken.',
    )
    spec.input(
        'reference_share',
        valid_type=orm.Float,
        default=lambda: orm.Float(0.1),
        serializer=orm.to_aiida_type,
        validator=validate_share,
        help='The share of the structures, from 0 to 1, that `reference_leg: sample` relaxes from the raw one too.',
    )
    spec.input(
        'static_run',
        valid_type=orm.Str,
        required=False,
        serializer=orm.to_aiida_type,
        validator=validate_static_run,
        help='When a static run follows a relaxation from the prediction in which the cell moved: `always`, the '
        'default, or `with-reference`, only where the raw structure is relaxed, too (`reference_leg`). Without it the '
        'final energy is of the plane waves of the predicted cell.',
    )
    spec.input(
        'predicted_algo',
        valid_type=orm.Str,
        required=False,
        serializer=orm.to_aiida_type,
        validator=validate_predicted_algo,
        help='How VASP moves the ions from the prediction, in the place of `vasp.relax_settings.algo`, which the raw '
        'leg keeps: `rd` (RMM-DIIS, IBRION = 1) does without the trial steps of `cg`. Where both legs are compared a '
        'remark says so, as what is saved is then the work of both, the prediction and the algorithm.',
    )
    spec.input(
        'clean_workdir',
        valid_type=orm.Bool,
        default=lambda: orm.Bool(True),
        serializer=orm.to_aiida_type,
        help='Whether to clean the working directories of the jobs once they are done.',
    )
    spec.input(
        'campaign',
        valid_type=orm.Dict,
        required=False,
        help='The settings of the campaign that this chain is a part of; recorded, so that it is found from there.',
    )
    spec.inputs.validator = validate_chain


def define_outputs(spec: WorkChainSpec) -> None:
    """Define what the chain hands on."""
    spec.output('structure', valid_type=orm.StructureData, required=False, help='The relaxed crystal.')
    spec.output('comparison', valid_type=orm.Dict, help='What the prediction saved, and the figures of each leg.')
    spec.output('guard', valid_type=orm.Dict, required=False, help='The verdict, its reasons and numbers.')
    spec.output(
        'predicted_structure',
        valid_type=orm.StructureData,
        required=False,
        help='The crystal as the network or the potential predicts it.',
    )
    for leg in LEG_NAMES:
        spec.output(f'{leg}.structure', valid_type=orm.StructureData, required=False, help='Relaxed by this leg.')
        spec.output(
            f'{leg}.last_structure',
            valid_type=orm.StructureData,
            required=False,
            help='Where the relaxation of this leg was when it failed: a start for another one.',
        )
        spec.output(f'{leg}.misc', valid_type=orm.Dict, required=False, help='Final results of this leg.')
