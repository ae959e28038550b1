"""The calculation job that runs network and potential: crystals in, starts for VASP out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from aiida.engine.processes.ports import PortNamespace

from aiida_e3relax.calculations.exit_codes import define_exit_codes
from aiida_e3relax.calculations.gpus import GpuJob, validate_gpu_job
from aiida_e3relax.calculations.predict_parameters import PredictParameters
from aiida_e3relax.common.messages import name_some, short
from aiida_e3relax.crystals.structures import Crystals, write_npz
from aiida_e3relax.crystals.validation import input_faults
from aiida_e3relax.data.batch import StructureBatchData
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.potential import E3RelaxPotentialData
from aiida_e3relax.data.structures import ELEMENTS, can_be_stored, find_faults, structures_to_crystals
from aiida_e3relax.gnn.potentials.registry import POTENTIALS, PRE_RELAXERS

MOST_NAMED = 10
"""How many faulty structures of a batch a message names."""


class E3RelaxCalculation(GpuJob):
    """Predict the relaxed geometry of one or many crystals, as one batch.

    The network does in one pass. With `potential` in `parameters` an interatomic potential relaxes the prediction step
    by step, or, with `start: input` and without a `model`, the crystals as they came.

    They come and go as nodes in the namespace `structures`, or all in one node, `batch`, which spares AiiDA most of the
    work. One bad structure never takes the others down: it gets a failure word in the output `report` and no output
    structure. Submission is refused only when every structure has a fault, or a node in `structures` has numbers that
    are not finite or a cell without volume, which AiiDA cannot store.
    """

    CACHE_VERSION = 4
    """Raise it when the files written here, or what the network program makes of them, no longer mean the same."""

    STRUCTURES_FILE = 'structures.npz'
    CHECKPOINT_FILE = 'model.pt'
    WEIGHTS_FOLDER = 'weights'
    FIXED_FILE = 'fixed.json'
    CARD_FILE = 'model.card.json'
    PREDICTIONS_FILE = 'predictions.npz'
    LAYERS_FILE = 'predictions.layers.npz'
    BONDS_FILE = 'predictions.bonds.npz'
    CANDIDATES_FILE = 'predictions.candidates.npz'
    REPORT_FILE = 'report.json'
    STDOUT_FILE = 'e3relax.out'
    STDERR_FILE = 'e3relax.err'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the inputs, outputs and exit codes."""
        super().define(spec)
        spec.input_namespace(
            'structures',
            dynamic=True,
            required=False,
            valid_type=orm.StructureData,
            validator=validate_structures,
            help='The crystals to relax; the keys are the labels used in messages and outputs.',
        )
        spec.input(
            'batch',
            valid_type=StructureBatchData,
            required=False,
            validator=validate_batch,
            help='The crystals to relax in one node, in the place of `structures`; for more than some tens.',
        )
        spec.input(
            'model',
            valid_type=E3RelaxModelData,
            required=False,
            help='The checkpoint of the network and its model card; none where a potential starts from the input.',
        )
        spec.input(
            'potential_weights',
            valid_type=E3RelaxPotentialData,
            required=False,
            help='The weights of the `potential` in `parameters`, where its package does not bring them.',
        )
        spec.input(
            'parameters',
            valid_type=orm.Dict,
            required=False,
            serializer=orm.to_aiida_type,
            validator=validate_parameters,
            help='`device` (auto, cpu, cuda, cuda:<n>), `dtype` (auto, float32, float64), `max_edges`, `threads`, '
            '`potential`; see `aiida_e3relax.calculations.predict_parameters.PredictParameters`.',
        )
        options: Any = spec.inputs.get_port('metadata.options')
        options['resources'].default = {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
        options['withmpi'].default = False
        options['parser_name'].default = 'e3relax.predict'
        options['input_filename'].default = cls.STRUCTURES_FILE
        options['output_filename'].default = cls.STDOUT_FILE
        spec.inputs.validator = validate_inputs  # type: ignore[assignment]

        spec.output_namespace(
            'structures',
            dynamic=True,
            valid_type=orm.StructureData,
            required=False,
            help='The predicted crystals under the keys of the input; failed ones are left out.',
        )
        spec.output(
            'batch',
            valid_type=StructureBatchData,
            required=False,
            help='The predicted crystals of the input `batch` under their labels; failed ones are left out.',
        )
        spec.output_namespace(
            'trajectories',
            dynamic=True,
            valid_type=orm.TrajectoryData,
            required=False,
            help='With `layers` in `parameters`: each of `structures`, as it was given (step 0) and after every layer. '
            'For a `batch` they stay in `retrieved`, in the file `predictions.layers.npz`.',
        )
        spec.output_namespace(
            'bonds',
            dynamic=True,
            valid_type=orm.ArrayData,
            required=False,
            help='With `bonds` in `parameters`: the bonds of each of `structures`, as arrays `centre`, `neighbour` '
            '(sites from 0), `offset` (cell of the neighbour), `predicted_length_A`, `uncertainty_A`, '
            '`final_length_A` and `initial_length_A`. For a `batch` they stay in `predictions.bonds.npz`.',
        )
        spec.output(
            'report',
            valid_type=orm.Dict,
            help='Facts of the run: model, versions, device, dtype, batches, timings, status of each structure.',
        )
        spec.default_output_node = 'report'
        define_exit_codes(spec)

    @classmethod
    def is_valid_cache(cls, node: orm.ProcessNode) -> bool:
        """Return whether a run may stand for another of the same inputs.

        Not where something else than the inputs made it fail: the exit codes say so, and in a run that is a success for
        some structures the report, since others may have found no room in the memory at that moment, and a potential
        may have failed for them for any reason.
        """
        structures = node.outputs.report.get('structures', []) if 'report' in node.outputs else []
        return super().is_valid_cache(node) and not any(map(_may_pass, structures))

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the structures, copy the checkpoint with its card, and return the command to run."""
        write_npz(Path(folder.get_abs_path(self.STRUCTURES_FILE)), crystals_of_inputs(self.inputs))
        parameters = PredictParameters.from_mapping(
            self.inputs.parameters.get_dict() if 'parameters' in self.inputs else {}
        )
        words, copies = parameters.command_line(), []
        if 'model' in self.inputs:
            model = self.inputs.model
            with folder.open(self.CARD_FILE, 'w', encoding='utf-8') as handle:
                json.dump(model.card, handle, indent=2)
            copies.append((model.uuid, model.filename, self.CHECKPOINT_FILE))
            words += ['--model', self.CHECKPOINT_FILE]
        if 'potential_weights' in self.inputs:
            weights = self.inputs.potential_weights
            target = f'{self.WEIGHTS_FOLDER}/{weights.filename}'  # packages look at the suffix
            copies.append((weights.uuid, weights.filename, target))
            words += ['--potential-weights', target]
        if parameters.fixed:
            with folder.open(self.FIXED_FILE, 'w', encoding='utf-8') as handle:
                json.dump(parameters.fixed, handle)
            words += ['--fixed-sites', self.FIXED_FILE]

        codeinfo = CodeInfo()
        codeinfo.code_uuid = self.inputs.code.uuid
        codeinfo.cmdline_params = [
            'predict',
            self.STRUCTURES_FILE,
            *('--output', self.PREDICTIONS_FILE),
            *('--report', self.REPORT_FILE),
            *words,
        ]
        codeinfo.stdout_name = self.options.output_filename
        codeinfo.stderr_name = self.STDERR_FILE

        calcinfo = CalcInfo()
        calcinfo.codes_info = [codeinfo]
        calcinfo.local_copy_list = copies
        calcinfo.retrieve_list = [
            self.PREDICTIONS_FILE,
            *([self.LAYERS_FILE] if parameters.layers else []),
            *([self.BONDS_FILE] if parameters.bonds else []),
            *([self.CANDIDATES_FILE] if parameters.candidates else []),
            self.REPORT_FILE,
            self.options.output_filename,
            self.STDERR_FILE,
        ]
        return calcinfo


def _may_pass(row: Mapping[str, Any]) -> bool:
    """Return whether another run may do better with a structure, by its row of the report."""
    failed = 'error' in (row.get('potential') or row.get('second_opinion') or {})
    return failed or row['status'] in ('out_of_memory', 'potential_failed')


def crystals_of_inputs(inputs: Any) -> Crystals:
    """Return the crystals in the order in which the program gets them, from the inputs of a process or of its node."""
    if 'batch' in inputs:
        return inputs['batch'].crystals
    return structures_to_crystals(dict(sorted(inputs['structures'].items())))


def validate_inputs(inputs: Mapping[str, Any], namespace: PortNamespace) -> str | None:
    """Return what is wrong with the inputs as a whole, or None; ports that a work chain has left out are its own."""
    if 'structures' in namespace and 'batch' in namespace:
        has_structures, has_batch = bool(inputs.get('structures')), 'batch' in inputs
        if has_structures and has_batch:
            return 'found `structures` and `batch`, expected one of them: leave one out, or run twice'
        if not has_structures and not has_batch:
            return (
                'found neither `structures` nor `batch`, expected one of them: give at least one StructureData, such '
                'as `structures={"crystal": node}`, or a StructureBatchData as `batch`'
            )
    if {'parameters', 'model'} <= set(namespace) and (fault := find_model_fault(inputs)):
        return fault
    if {'parameters', 'structures', 'batch'} <= set(namespace) and (fault := find_fixed_fault(inputs)):
        return fault
    return validate_gpu_job(inputs, namespace)


def find_model_fault(inputs: Mapping[str, Any]) -> str | None:
    """Return why model and weights are not those that the parameters ask for, or None."""
    if 'code' not in inputs:
        return None  # a namespace that a chain leaves empty
    try:
        parameters = PredictParameters.from_mapping(inputs['parameters'].get_dict() if 'parameters' in inputs else {})
    except ValueError:
        return None  # that port says so itself
    if parameters.pre_relaxer.has_network and 'model' not in inputs:
        return 'found no `model`, expected one: `E3RelaxModelData.default()`, or the node of another checkpoint'
    if not parameters.pre_relaxer.has_network and 'model' in inputs:
        return '`model`: expected none beside `start: input`, which starts from the raw crystal; leave it out'
    return find_weights_fault(parameters.potential, inputs.get('potential_weights'))


def find_fixed_fault(inputs: Mapping[str, Any]) -> str | None:
    """Return which label in `fixed` of the parameters no structure has, or None."""
    given = inputs['parameters'].get_dict() if 'parameters' in inputs else {}
    fixed = given.get('fixed')
    if not isinstance(fixed, Mapping):
        return None  # that port says so itself
    labels = set(inputs['batch'].labels if 'batch' in inputs else inputs.get('structures', {}))
    if unknown := sorted(set(fixed) - labels):
        there = short(', '.join(sorted(labels)), 300)
        return (
            f'`fixed` in `parameters`: no structure has the label {short(", ".join(unknown))}; expected one of {there}'
        )
    return None


def find_weights_fault(potential: str | None, weights: E3RelaxPotentialData | None) -> str | None:
    """Return why `weights` are not those that the parameter `potential` asks for, or None."""
    if weights is not None and weights.potential != potential:
        return f'`potential_weights`: weights of {weights.potential}, expected those of `potential`, {potential}'
    if weights is not None and not POTENTIALS[weights.potential].needs_weights:
        return f'`potential_weights`: the package of {potential} brings its weights, and takes no others; leave it out'
    if weights is None and potential and PRE_RELAXERS[potential].needs_weights:
        return (
            f'`potential_weights`: {potential} brings no weights: make a node of yours with '
            f"`E3RelaxPotentialData.get_or_create(file, '{potential}')[0]`"
        )
    return None


def validate_structures(structures: Mapping[str, orm.StructureData], _: Any) -> str | None:
    """Return why the job cannot run, naming each structure at fault by its key, or None.

    Where at least one structure is sound, only those that AiiDA cannot store stop the job. AiiDA takes a double
    underscore in a key for the border of a namespace, so that the outputs would not have the keys of the inputs.
    """
    if nested := [key for key in structures if '__' in key]:
        return f'`structures`: expected keys without a double underscore, found `{"`, `".join(nested)}`: rename them'
    faults = find_faults(structures)
    if len(faults) < len(structures):
        faults = {key: fault for key, fault in faults.items() if not can_be_stored(structures[key])}
    return '; '.join(f'structure `{key}`: {fault}' for key, fault in faults.items()) or None


def validate_batch(batch: StructureBatchData | None, _: Any) -> str | None:
    """Return why no structure of a batch can be predicted, or None."""
    if batch is None:
        return None
    crystals = batch.crystals
    faults = input_faults(crystals, ELEMENTS)
    if len(faults) < len(crystals):
        return None
    named = [f'structure `{crystals.labels[index]}`: {fault}' for index, (_, fault) in faults.items()]
    return f'`batch`: no structure can be predicted: {name_some(named, MOST_NAMED, separator=";")}'


def validate_parameters(parameters: orm.Dict | None, _: Any) -> str | None:
    """Return what is wrong with `parameters`, or None."""
    try:
        PredictParameters.from_mapping(parameters.get_dict() if parameters else {})
    except ValueError as error:
        return f'`parameters`: {error}'
    return None
