"""The network's run with restarts."""

from __future__ import annotations

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import (
    BaseRestartWorkChain,
    ProcessSpec,
    while_,
)

from aiida_e3relax.calculations.predict import E3RelaxCalculation

CALCULATION_EXIT_CODES = E3RelaxCalculation.exit_codes


class E3RelaxBaseWorkChain(BaseRestartWorkChain):
    """Run `E3RelaxCalculation` until it succeeds, mending what a restart can mend.

    Out of memory halves the batch, a missing GPU falls back on the CPU if `allow_cpu`, a crash is tried once more.
    """

    _process_class = E3RelaxCalculation

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Define the inputs, outline and outputs."""
        super().define(spec)
        spec.expose_inputs(E3RelaxCalculation, namespace='predict')
        spec.input(
            'allow_cpu',
            valid_type=orm.Bool,
            default=lambda: orm.Bool(True),
            serializer=orm.to_aiida_type,
            help='Whether the CPU may take over when no GPU is there or its memory does not do.',
        )
        spec.outline(
            cls.setup,
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),
            cls.results,
        )
        spec.expose_outputs(E3RelaxCalculation)

    def setup(self) -> None:
        """Take over the inputs of the calculation."""
        super().setup()
        self.ctx.inputs = AttributeDict(self.exposed_inputs(E3RelaxCalculation, 'predict'))
