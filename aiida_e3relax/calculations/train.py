"""The calculation job that trains a network, or tunes one that is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from aiida.engine.processes.ports import PortNamespace

from aiida_e3relax.calculations.gpus import GpuJob, validate_gpu_job
from aiida_e3relax.calculations.train_parameters import TrainParameters
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.pairs import E3RelaxPairsData


class E3RelaxTrainCalculation(GpuJob):
    """Train a network on pairs of unrelaxed and relaxed crystals; with a `model`, tune that one on them.

    With `parent_folder`, the working directory of an earlier run of the same inputs, it goes on from the last state
    that this one saved.
    """

    CONFIG_FILE = 'run.json'
    PAIRS_FOLDER = 'pairs'
    CHECKPOINT_FILE = 'start.pt'
    CARD_FILE = 'start.card.json'
    RUN_FOLDER = 'run'
    BEST_FILE = 'best.pt'
    BEST_CARD_FILE = 'best.card.json'
    LOG_FILE = 'log.csv'
    FIGURE_FILE = 'curves.png'
    REPORT_FILE = 'report.json'
    STDOUT_FILE = 'e3relax.out'
    STDERR_FILE = 'e3relax.err'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the inputs, outputs and exit codes."""
        super().define(spec)
        spec.input_namespace(
            'pairs',
            dynamic=True,
            valid_type=E3RelaxPairsData,
            validator=validate_pairs,
            help='What it learns from: the pairs of the split `train`; those of `val` judge the steps.',
        )
        spec.input(
            'model',
            valid_type=E3RelaxModelData,
            required=False,
            help='The model to tune; without one a new one is trained.',
        )
        spec.input(
            'parameters',
            valid_type=orm.Dict,
            required=False,
            serializer=orm.to_aiida_type,
            help='`settings` (`preset` and those of a training run), `name` of the model, `device`, `threads`, '
            '`new_elements`; see `aiida_e3relax.calculations.train_parameters.TrainParameters`.',
        )
        spec.input(
            'parent_folder',
            valid_type=orm.RemoteData,
            required=False,
            help='The working directory of an earlier run of the same inputs, which is continued.',
        )
        options: Any = spec.inputs.get_port('metadata.options')
        options['resources'].default = {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
        options['withmpi'].default = False
        options['parser_name'].default = 'e3relax.train'
        options['input_filename'].default = cls.CONFIG_FILE
        options['output_filename'].default = cls.STDOUT_FILE
        spec.inputs.validator = validate_inputs  # type: ignore[assignment]

        spec.output(
            'model',
            valid_type=E3RelaxModelData,
            required=False,
            help='The checkpoint of the best validation; of a run that was ended, the best so far.',
        )
        spec.output(
            'curves',
            valid_type=orm.ArrayData,
            required=False,
            help='What the run logged at every validation, a column of its log an array: `step`, `learning_rate`, and '
            'the errors of training and validation.',
        )
        spec.output(
            'report',
            valid_type=orm.Dict,
            required=False,
            help='How the run ended: the step, whether that is the end, device, versions, wall time.',
        )
        spec.default_output_node = 'report'
        _define_exit_codes(spec)

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the file that describes the run, copy the pairs and the model, and return the command to run."""
        parameters = TrainParameters.from_mapping(_parameters(self.inputs), 'model' in self.inputs)
        pairs = {key: f'{self.PAIRS_FOLDER}/{key}.npz' for key in sorted(self.inputs.pairs)}
        config = {'data': list(pairs.values()), 'output': f'{self.RUN_FOLDER}/{parameters.name}', **parameters.settings}
        with folder.open(self.CONFIG_FILE, 'w', encoding='utf-8') as handle:
            json.dump(config, handle, indent=2)
        copies = [(node.uuid, node.filename, pairs[key]) for key, node in self.inputs.pairs.items()]
        words = ['train']
        if 'model' in self.inputs:
            model = self.inputs.model
            with folder.open(self.CARD_FILE, 'w', encoding='utf-8') as handle:
                json.dump(model.card, handle, indent=2)
            copies.append((model.uuid, model.filename, self.CHECKPOINT_FILE))
            words = ['finetune', self.CHECKPOINT_FILE, *(['--new-elements'] if parameters.new_elements else [])]

        codeinfo = CodeInfo()
        codeinfo.code_uuid = self.inputs.code.uuid
        codeinfo.cmdline_params = [
            *words,
            self.CONFIG_FILE,
            *('--report', self.REPORT_FILE),
            *('--device', parameters.device),
            *(['--threads', str(parameters.threads)] if parameters.threads else []),
        ]
        codeinfo.stdout_name = self.options.output_filename
        codeinfo.stderr_name = self.STDERR_FILE

        run = f'{self.RUN_FOLDER}/{parameters.name}'
        calcinfo = CalcInfo()
        calcinfo.codes_info = [codeinfo]
        calcinfo.local_copy_list = copies
        if 'parent_folder' in self.inputs:
            parent = self.inputs.parent_folder
            path = f'{parent.get_remote_path()}/{self.RUN_FOLDER}'
            calcinfo.remote_copy_list = [(parent.computer.uuid, path, self.RUN_FOLDER)]
        calcinfo.retrieve_list = [
            *(f'{run}/{name}' for name in (self.LOG_FILE, self.FIGURE_FILE)),
            self.REPORT_FILE,
            self.options.output_filename,
            self.STDERR_FILE,
        ]
        calcinfo.retrieve_temporary_list = [f'{run}/{name}' for name in (self.BEST_FILE, self.BEST_CARD_FILE)]
        return calcinfo


def _parameters(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return inputs['parameters'].get_dict() if 'parameters' in inputs else {}


def validate_pairs(pairs: Mapping[str, E3RelaxPairsData], _: Any) -> str | None:
    """Return why nothing can be learnt from these, or None."""
    if not pairs:
        return '`pairs`: found none, expected at least one E3RelaxPairsData, such as `pairs={"mine": node}`'
    if nested := [key for key in pairs if '__' in key]:
        return f'`pairs`: expected keys without a double underscore, found `{"`, `".join(nested)}`: rename them'
    splits = {name for node in pairs.values() for name in node.splits}
    for kind in ('train', 'val'):
        if not any(name == kind or name.startswith(f'{kind}_') for name in splits):
            return (
                f'`pairs`: none of the split {kind}, found {", ".join(sorted(splits))}; make splits with `e3relax data '
                'FILE --output NEW --split chemical-system`, or `--split random` where there are few chemical systems'
            )
    return None


def validate_inputs(inputs: Mapping[str, Any], namespace: PortNamespace) -> str | None:
    """Return what is wrong with the inputs as a whole, or None; ports that a work chain has left out are its own."""
    if 'parameters' in namespace and 'code' in inputs:
        try:
            TrainParameters.from_mapping(_parameters(inputs), 'model' in inputs)
        except ValueError as error:
            return f'`parameters`: {error}'
    return validate_gpu_job(inputs, namespace)


def _define_exit_codes(spec: CalcJobProcessSpec) -> None:
    """Define the exit codes; numbers that `E3RelaxCalculation` has, too, mean the same. `detail` is the program's."""
    for status, name, message in (
        (
            310,
            'ERROR_BAD_INPUT',
            'The program could not use its pairs or settings ({detail}): do as it says, or check that the code runs '
            'the same version of aiida-e3relax as this plugin.',
        ),
        (
            311,
            'ERROR_BAD_CHECKPOINT',
            'The program could not load the model to tune ({detail}): pass one made from an intact file with '
            '`E3RelaxModelData.get_or_create(<file>)`, or `E3RelaxModelData.default()`.',
        ),
        (
            320,
            'ERROR_NO_DEVICE',
            'The device asked for is not there ({detail}): set `device` in `parameters` to `auto` or `cpu`, or ask the '
            'scheduler for a GPU with `metadata.options.num_gpus` (SLURM, LSF) or `custom_scheduler_commands`.',
        ),
        (
            321,
            'ERROR_OUT_OF_MEMORY',
            'The run had too little memory ({detail}): set a smaller `batch_size` in `settings`, or take a smaller '
            'model.',
        ),
        (
            322,
            'ERROR_MISSING_PACKAGE',
            'A package is missing where the code runs ({detail}): install it, or train another model.',
        ),
        (
            330,
            'ERROR_PROGRAM_CRASHED',
            'The program stopped without a report ({detail}): read its last lines with `verdi calcjob outputcat <pk> '
            'e3relax.err`; with `parent_folder`, the output `remote_folder`, another run goes on where it was.',
        ),
        (
            331,
            'ERROR_PROGRAM_FAILED',
            'The program reported an unexpected error ({detail}): read its last lines with `verdi calcjob outputcat '
            '<pk> e3relax.err`.',
        ),
        (
            332,
            'ERROR_INTERRUPTED',
            'The run was ended from outside ({detail}): with `parent_folder`, the output `remote_folder`, another run '
            'goes on where it was; `E3RelaxTrainBaseWorkChain` does so.',
        ),
        (
            340,
            'ERROR_OUTPUT_INVALID',
            'The output files are incomplete or contradict each other ({detail}): run it again, and check that the '
            'code runs `e3relax` of the same version as this plugin.',
        ),
        (
            360,
            'ERROR_TRAINING_FAILED',
            'The training cannot go on ({detail}): do as it says; a loss that is not finite asks for a smaller '
            '`learning_rate` in `settings`, or for a look at the pairs that are named.',
        ),
    ):
        spec.exit_code(status, name, invalidates_cache=True, message=message)
