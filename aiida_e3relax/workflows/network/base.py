"""The work chain that runs the network and restarts it where that helps."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import BaseRestartWorkChain, ExitCode, ProcessHandlerReport, process_handler, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_e3relax.calculations.gpus import ASKED, LINES
from aiida_e3relax.calculations.predict import E3RelaxCalculation
from aiida_e3relax.calculations.predict_parameters import PredictParameters
from aiida_e3relax.workflows.network.fitting import FITTED, find_fitting

EXIT_CODES = E3RelaxCalculation.exit_codes
# About the edges of one crystal of 200 atoms: smaller batches hold a single crystal anyway.
SMALLEST_MAX_EDGES = 5_000


class E3RelaxBaseWorkChain(BaseRestartWorkChain):
    """Run `E3RelaxCalculation` until it succeeds, and restart it with other parameters where that can help.

    Out of memory halves the batch of the network, down to `SMALLEST_MAX_EDGES`, then goes to the CPU. A potential,
    which halves its batches itself, goes there at once, after a network with the smallest batch of that; and nowhere
    without a GPU, or where the scheduler says that the job took more than it asked for: that is the memory of the
    machine. A missing GPU goes to the CPU; all only if `allow_cpu`. A crash or invalid output is tried once more. What
    no restart can help ends the work chain at once with the exit code of the calculation.

    Where the parameters do not say how large a batch is, the first run begins with the one that fitted into the memory
    of the same device before, see `find_fitting`.

    A run that predicts at least one structure is a success and is not repeated, even where others did not fit into
    the memory of the GPU: the output `report` gives these the status `out_of_memory`, and they can be run again alone.
    The crystals come as `predict.structures` or as `predict.batch`, and go out alike.
    """

    _process_class = E3RelaxCalculation

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:  # type: ignore[override]
        """Define the inputs, outline and outputs."""
        super().define(spec)
        spec.expose_inputs(
            E3RelaxCalculation, namespace='predict', namespace_options={'help': 'The inputs of the first run.'}
        )
        spec.input(
            'max_iterations',
            valid_type=orm.Int,
            default=lambda: orm.Int(10),
            serializer=orm.to_aiida_type,
            help='How often to run at most; halving the default batch down to the smallest takes 7 runs.',
        )
        spec.input(
            'allow_cpu',
            valid_type=orm.Bool,
            default=lambda: orm.Bool(True),
            serializer=orm.to_aiida_type,
            help='Whether the CPU may take over when no GPU is there or its memory does not do.',
        )
        spec.input(
            'campaign',
            valid_type=orm.Dict,
            required=False,
            help='The settings of the campaign that this run is a part of; recorded, so that it is found from there.',
        )
        spec.outline(
            cls.setup,  # type: ignore[arg-type]
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),  # type: ignore[arg-type]
            cls.results,  # type: ignore[arg-type]
        )
        spec.expose_outputs(E3RelaxCalculation)

    def setup(self) -> None:
        """Take over the inputs of the calculation."""
        super().setup()
        self.ctx.inputs = AttributeDict(self.exposed_inputs(E3RelaxCalculation, 'predict'))
        self.ctx.parameters = self.ctx.inputs.parameters.get_dict() if 'parameters' in self.ctx.inputs else {}
        self.ctx.has_retried = False
        self.ctx.has_halved = False
        self._begin_with_what_fitted()

    def results(self) -> ExitCode | None:
        """Hand on the outputs, and note the batch that fitted after larger ones had not."""
        if self.ctx.get('has_halved'):  # older checkpoints do not know
            self.ctx.children[-1].base.extras.set(FITTED, self._parameters.max_edges)
        return super().results()

    @process_handler(exit_codes=[EXIT_CODES.ERROR_OUT_OF_MEMORY, EXIT_CODES.ERROR_SCHEDULER_OUT_OF_MEMORY])
    def handle_out_of_memory(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Halve the batch of the network; go to the CPU where that is of no use."""
        pre_relaxer = self._parameters.pre_relaxer
        if pre_relaxer.has_potential or not pre_relaxer.has_network:
            return self._spare_memory_with_potential(node)
        max_edges = self._parameters.max_edges
        smaller = max_edges // 2
        if _does_not_fit_alone(node):
            return self._restart_on_cpu(node, 'a structure by itself does not fit into the memory')
        if smaller < SMALLEST_MAX_EDGES:
            return self._restart_on_cpu(node, f'out of memory even with batches of at most {max_edges} edges')
        self.ctx.has_halved = True
        return self._restart(f'out of memory with batches of at most {max_edges} edges', max_edges=smaller)

    @process_handler(exit_codes=EXIT_CODES.ERROR_NO_DEVICE)
    def handle_no_device(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Go to the CPU if that is allowed."""
        return self._restart_on_cpu(node, f'the device `{self._parameters.device}` is not there')

    @process_handler(
        exit_codes=[
            EXIT_CODES.ERROR_PROGRAM_CRASHED,
            EXIT_CODES.ERROR_PROGRAM_FAILED,
            EXIT_CODES.ERROR_OUTPUT_INVALID,
            EXIT_CODES.ERROR_SCHEDULER_NODE_FAILURE,
        ]
    )
    def handle_crash(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Try once more with the same inputs."""
        if self.ctx.has_retried:
            return self._abort(node, 'the second try failed as well')
        self.ctx.has_retried = True
        return self._restart(f'the run failed with exit code {node.exit_status}')

    @process_handler(
        exit_codes=[
            EXIT_CODES.ERROR_BAD_INPUT,
            EXIT_CODES.ERROR_BAD_CHECKPOINT,
            EXIT_CODES.ERROR_MISSING_PACKAGE,
            EXIT_CODES.ERROR_ALL_STRUCTURES_FAILED,
            EXIT_CODES.ERROR_SCHEDULER_OUT_OF_WALLTIME,
            EXIT_CODES.ERROR_SCHEDULER_INVALID_ACCOUNT,
        ]
    )
    def handle_unrecoverable(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Stop: the same inputs would fail again."""
        return self._abort(node, 'a restart cannot mend this')

    @property
    def _parameters(self) -> PredictParameters:
        """The parameters of the last run."""
        return PredictParameters.from_mapping(self.ctx.parameters)

    def _spare_memory_with_potential(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Take the smallest batch of a network before a potential, if any, and then go to the CPU from a GPU.

        Nothing tells which of the two took the memory, so that one run finds out.
        """
        parameters = self._parameters
        can_shrink = parameters.pre_relaxer.has_network and parameters.max_edges > SMALLEST_MAX_EDGES
        if can_shrink and not _does_not_fit_alone(node):
            self.ctx.has_halved = True
            reason = 'out of memory with a network and a potential, of which the network can take less'
            return self._restart(reason, max_edges=SMALLEST_MAX_EDGES)
        if node.exit_status == EXIT_CODES.ERROR_SCHEDULER_OUT_OF_MEMORY.status or not _may_have_had_gpu(node):
            return self._abort(node, 'a potential takes no less memory of a machine in another run: ask for more')
        return self._restart_on_cpu(node, 'out of memory with a potential, which halves its batches itself')

    def _begin_with_what_fitted(self) -> None:
        """Set the bound on batches by earlier runs, where the parameters have none."""
        inputs, parameters = self.ctx.inputs, self._parameters
        if 'max_edges' in self.ctx.parameters or 'model' not in inputs or 'code' not in inputs:
            return
        found = find_fitting(inputs.code, inputs.model, parameters)
        if found is not None and (fitted := max(found.max_edges, SMALLEST_MAX_EDGES)) < parameters.max_edges:
            self._change(max_edges=fitted)
            self.report(
                f'begins with batches of at most {fitted} edges, which fitted on {found.device} in <{found.pk}>'
            )

    def _restart_on_cpu(self, node: orm.CalcJobNode, reason: str) -> ProcessHandlerReport:
        if self._parameters.device == 'cpu' or _device_used(node).startswith('cpu'):
            return self._abort(node, f'{reason}, and the CPU was in use already')
        if not self.inputs.allow_cpu.value:
            return self._abort(node, f'{reason}, and `allow_cpu` is False')
        self.ctx.has_halved = False
        return self._restart(reason, device='cpu')

    def _restart(self, reason: str, **changes: Any) -> ProcessHandlerReport:
        """Run again with `changes` to the parameters."""
        self._change(**changes)
        told = ', '.join(f'`{name}` {value}' for name, value in changes.items())
        self.report(f'{reason}: trying again with {told or "the same inputs"}')
        return ProcessHandlerReport(do_break=True)

    def _change(self, **changes: Any) -> None:
        """Set parameters of the next run."""
        if changes:
            self.ctx.parameters = {**self.ctx.parameters, **changes}
            self.ctx.inputs.parameters = self.ctx.parameters

    def _abort(self, node: orm.CalcJobNode, reason: str) -> ProcessHandlerReport:
        """End with the exit code of the calculation."""
        self.report(f'{reason}: giving up; {node.exit_message}')
        exit_code = ExitCode(node.exit_status, node.exit_message)  # type: ignore[arg-type]
        return ProcessHandlerReport(do_break=True, exit_code=exit_code)


def _device_used(node: orm.CalcJobNode) -> str:
    """Return the device of a run by its report, empty where none says so."""
    device = node.outputs.report.get('device', None) if 'report' in node.outputs else None
    return device['used'] if device else ''


def _may_have_had_gpu(node: orm.CalcJobNode) -> bool:
    """Return whether a run was on a GPU by its report, or asked for one where none says so."""
    if used := _device_used(node):
        return not used.startswith('cpu')
    parameters = node.inputs.parameters.get_dict() if 'parameters' in node.inputs else {}
    asks = ASKED.search(node.get_option(LINES) or '')
    return bool(asks) or parameters.get('device', 'auto').startswith('cuda')


def _does_not_fit_alone(node: orm.CalcJobNode) -> bool:
    """Return whether the report says that memory ran out for a structure by itself."""
    entries = node.outputs.report.get('structures', []) if 'report' in node.outputs else []
    return any(entry['status'] == 'out_of_memory' for entry in entries)
