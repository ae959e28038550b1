"""The work chain that trains a network and goes on where the training was ended."""

from __future__ import annotations

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import BaseRestartWorkChain, ExitCode, ProcessHandlerReport, process_handler, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_e3relax.calculations.train import E3RelaxTrainCalculation

EXIT_CODES = E3RelaxTrainCalculation.exit_codes
MOST_WITHOUT_PROGRESS = 2
"""Runs in a row that end at no later step than those before."""


class E3RelaxTrainBaseWorkChain(BaseRestartWorkChain):
    """Run `E3RelaxTrainCalculation` until the training is complete.

    A run that its walltime, a kill, a crash, a lost node or memory that ran out has ended is continued from its last
    saved state, as often as `max_iterations` says while it makes progress. What another run would not mend ends the
    work chain at once with the exit code of the calculation.
    """

    _process_class = E3RelaxTrainCalculation

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:  # type: ignore[override]
        """Define the inputs, outline and outputs."""
        super().define(spec)
        spec.expose_inputs(
            E3RelaxTrainCalculation,
            namespace='train',
            namespace_options={'help': 'The inputs of the first run; with `parent_folder` it goes on from there.'},
        )
        spec.input(
            'max_iterations',
            valid_type=orm.Int,
            default=lambda: orm.Int(50),
            serializer=orm.to_aiida_type,
            help='How often to run at most: a training of a week on a queue of hours takes many.',
        )
        spec.outline(
            cls.setup,  # type: ignore[arg-type]
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),  # type: ignore[arg-type]
            cls.results,  # type: ignore[arg-type]
        )
        spec.expose_outputs(E3RelaxTrainCalculation)

    def setup(self) -> None:
        """Take over the inputs of the calculation."""
        super().setup()
        self.ctx.inputs = AttributeDict(self.exposed_inputs(E3RelaxTrainCalculation, 'train'))
        self.ctx.last_step = 0
        self.ctx.n_without_progress = 0

    @process_handler(
        exit_codes=[
            EXIT_CODES.ERROR_SCHEDULER_OUT_OF_WALLTIME,
            EXIT_CODES.ERROR_SCHEDULER_NODE_FAILURE,
            EXIT_CODES.ERROR_SCHEDULER_OUT_OF_MEMORY,
            EXIT_CODES.ERROR_INTERRUPTED,
            EXIT_CODES.ERROR_OUT_OF_MEMORY,
            EXIT_CODES.ERROR_PROGRAM_CRASHED,
            EXIT_CODES.ERROR_PROGRAM_FAILED,
            EXIT_CODES.ERROR_OUTPUT_INVALID,
        ]
    )
    def handle_ended(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Go on from the last saved state, or anew where there is none."""
        step = _last_step(node)
        self.ctx.n_without_progress = 0 if step > self.ctx.last_step else self.ctx.n_without_progress + 1
        self.ctx.last_step = max(step, self.ctx.last_step)
        if self.ctx.n_without_progress >= MOST_WITHOUT_PROGRESS:
            return self._abort(node, f'{self.ctx.n_without_progress} runs in a row came no further than step {step}')
        if self.ctx.iteration >= self.inputs.max_iterations.value:
            return self._abort(
                node, f'it came to step {step} in {self.ctx.iteration} runs; a larger `max_iterations` allows more'
            )
        # A run that was ended before it copied the state of the one before has none of its own: that one's stays.
        if step or 'parent_folder' not in self.ctx.inputs:
            self.ctx.inputs.parent_folder = node.outputs.remote_folder
        self.report(f'the run ended with exit code {node.exit_status}: going on from its last state, if it left one')
        return ProcessHandlerReport(do_break=True)

    @process_handler(
        exit_codes=[
            EXIT_CODES.ERROR_BAD_INPUT,
            EXIT_CODES.ERROR_BAD_CHECKPOINT,
            EXIT_CODES.ERROR_NO_DEVICE,
            EXIT_CODES.ERROR_MISSING_PACKAGE,
            EXIT_CODES.ERROR_TRAINING_FAILED,
            EXIT_CODES.ERROR_SCHEDULER_INVALID_ACCOUNT,
        ]
    )
    def handle_unrecoverable(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Stop: the same inputs would fail again."""
        return self._abort(node, 'a restart cannot mend this')

    def _abort(self, node: orm.CalcJobNode, reason: str) -> ProcessHandlerReport:
        """End with the exit code of the calculation, and what it left."""
        self.report(f'{reason}: giving up; {node.exit_message}')
        self._attach_outputs(node)
        exit_code = ExitCode(node.exit_status, node.exit_message)  # type: ignore[arg-type]
        return ProcessHandlerReport(do_break=True, exit_code=exit_code)


def _last_step(node: orm.CalcJobNode) -> int:
    """Return the last step of which a run tells: of its last validation, or of the state that it saved at its end."""
    logged = int(node.outputs.curves.get_array('step')[-1]) if 'curves' in node.outputs else 0
    return max(logged, (node.outputs.report.get('step') or 0) if 'report' in node.outputs else 0)
