"""The calculation job that runs the network: crystals in, predicted relaxed crystals out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec

from aiida_e3relax.calculations.predict_parameters import PredictParameters
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.structures import can_be_stored, find_faults, structures_to_crystals
from aiida_e3relax.gnn.structures import write_npz


class E3RelaxCalculation(CalcJob):
    """Predict the relaxed geometry of one or many crystals in one pass, as one batch.

    One bad structure never takes the others down: it gets a failure word in the output `report` and no output
    structure. Submission is refused only when every structure has a fault, or one has numbers that are not finite or a
    cell without volume, which AiiDA cannot store.
    """

    CACHE_VERSION = 1
    """Raise it when the files written here, or what the network program makes of them, no longer mean the same."""

    STRUCTURES_FILE = 'structures.npz'
    CHECKPOINT_FILE = 'model.pt'
    CARD_FILE = 'model.card.json'
    PREDICTIONS_FILE = 'predictions.npz'
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
            valid_type=orm.StructureData,
            validator=validate_structures,
            help='The crystals to relax; the keys are the labels used in messages and outputs.',
        )
        spec.input('model', valid_type=E3RelaxModelData, help='The checkpoint of the network and its model card.')
        spec.input(
            'parameters',
            valid_type=orm.Dict,
            required=False,
            serializer=orm.to_aiida_type,
            validator=validate_parameters,
            help='`device` (auto, cpu, cuda, cuda:<n>), `dtype` (float32, float64), `max_edges` and `threads`.',
        )
        options: Any = spec.inputs.get_port('metadata.options')
        options['resources'].default = {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
        options['withmpi'].default = False
        options['parser_name'].default = 'e3relax.predict'
        options['input_filename'].default = cls.STRUCTURES_FILE
        options['output_filename'].default = cls.STDOUT_FILE

        spec.output_namespace(
            'structures',
            dynamic=True,
            valid_type=orm.StructureData,
            required=False,
            help='The predicted crystals under the keys of the input; failed ones are left out.',
        )
        spec.output(
            'report',
            valid_type=orm.Dict,
            help='Facts of the run: model, versions, device, dtype, batches, timings, status of each structure.',
        )
        spec.default_output_node = 'report'

        spec.exit_code(
            310,
            'ERROR_BAD_INPUT',
            invalidates_cache=True,
            message='The network program could not read its structures ({detail}): check that the code runs the same '
            'version of aiida-e3relax as this plugin.',
        )
        spec.exit_code(
            311,
            'ERROR_BAD_CHECKPOINT',
            invalidates_cache=True,
            message='The network program could not load the checkpoint ({detail}): pass a model made from an intact '
            'file with `E3RelaxModelData.get_or_create(<file>)`, or `E3RelaxModelData.default()`.',
        )
        spec.exit_code(
            320,
            'ERROR_NO_DEVICE',
            invalidates_cache=True,
            message='The device asked for is not there ({detail}): set `device` in `parameters` to `auto` or `cpu`, or '
            'ask the scheduler for a GPU with `metadata.options.custom_scheduler_commands`.',
        )
        spec.exit_code(
            321,
            'ERROR_OUT_OF_MEMORY',
            invalidates_cache=True,
            message='The network ran out of memory ({detail}): set a smaller `max_edges` in `parameters`, or `device` '
            'to `cpu` where not even one structure fits, or let `E3RelaxBaseWorkChain` do so.',
        )
        spec.exit_code(
            330,
            'ERROR_PROGRAM_CRASHED',
            invalidates_cache=True,
            message='The network program stopped without a report ({detail}): read its last lines with `verdi calcjob '
            'outputcat <pk> e3relax.err` and test the code with `verdi code test <code>`.',
        )
        spec.exit_code(
            331,
            'ERROR_PROGRAM_FAILED',
            invalidates_cache=True,
            message='The network program reported an unexpected error ({detail}): read its last lines with `verdi '
            'calcjob outputcat <pk> e3relax.err`.',
        )
        spec.exit_code(
            340,
            'ERROR_OUTPUT_INVALID',
            invalidates_cache=True,
            message='The output files are incomplete or contradict the input ({detail}): run it again, and check that '
            'the code runs `e3relax` of the same version as this plugin.',
        )
        spec.exit_code(
            350,
            'ERROR_ALL_STRUCTURES_FAILED',
            message='No structure could be predicted ({detail}): mend the input structures as the output `report` '
            'says for each of them.',
        )

    @classmethod
    def is_valid_cache(cls, node: orm.ProcessNode) -> bool:
        """Return whether a run may stand for another of the same inputs.

        Not where something else than the inputs made it fail: the exit codes tell, and in a run that is a success for
        some structures the report, since others may have found no room in the memory at that moment.
        """
        structures = node.outputs.report.get('structures', []) if 'report' in node.outputs else []
        return super().is_valid_cache(node) and all(entry['status'] != 'out_of_memory' for entry in structures)

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the structures, copy the checkpoint with its card, and return the command to run."""
        structures = dict(sorted(self.inputs.structures.items()))
        write_npz(Path(folder.get_abs_path(self.STRUCTURES_FILE)), structures_to_crystals(structures))
        model = self.inputs.model
        with folder.open(self.CARD_FILE, 'w', encoding='utf-8') as handle:
            json.dump(model.card, handle, indent=2)
        parameters = PredictParameters.from_mapping(
            self.inputs.parameters.get_dict() if 'parameters' in self.inputs else {}
        )

        codeinfo = CodeInfo()
        codeinfo.code_uuid = self.inputs.code.uuid
        codeinfo.cmdline_params = [
            'predict',
            self.STRUCTURES_FILE,
            *('--model', self.CHECKPOINT_FILE),
            *('--output', self.PREDICTIONS_FILE),
            *('--report', self.REPORT_FILE),
            *parameters.command_line(),
        ]
        codeinfo.stdout_name = self.options.output_filename
        codeinfo.stderr_name = self.STDERR_FILE

        calcinfo = CalcInfo()
        calcinfo.codes_info = [codeinfo]
        calcinfo.local_copy_list = [(model.uuid, model.filename, self.CHECKPOINT_FILE)]
        calcinfo.retrieve_list = [
            self.PREDICTIONS_FILE,
            self.REPORT_FILE,
            self.options.output_filename,
            self.STDERR_FILE,
        ]
        return calcinfo


def validate_structures(structures: Mapping[str, orm.StructureData], _: Any) -> str | None:
    """Return why the job cannot run, naming each structure at fault by its key, or None.

    Where at least one structure is sound, only those that AiiDA cannot store stop the job. AiiDA takes a double
    underscore in a key for the border of a namespace, so that the outputs would not have the keys of the inputs.
    """
    if not structures:
        return '`structures` is empty: give at least one StructureData, such as `structures={"crystal": node}`'
    if nested := [key for key in structures if '__' in key]:
        return f'`structures`: expected keys without a double underscore, found `{"`, `".join(nested)}`: rename them'
    faults = find_faults(structures)
    if len(faults) < len(structures):
        faults = {key: fault for key, fault in faults.items() if not can_be_stored(structures[key])}
    return '; '.join(f'structure `{key}`: {fault}' for key, fault in faults.items()) or None


def validate_parameters(parameters: orm.Dict | None, _: Any) -> str | None:
    """Return what is wrong with `parameters`, or None."""
    try:
        PredictParameters.from_mapping(parameters.get_dict() if parameters else {})
    except ValueError as error:
        return f'`parameters`: {error}'
    return None
