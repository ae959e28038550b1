"""One run of the stand-in in a folder."""

from pathlib import Path

from aiida_e3relax.standin.degrees_of_freedom import DegreesOfFreedom
from aiida_e3relax.standin.engines import create_engine
from aiida_e3relax.standin.faults import Fault
from aiida_e3relax.standin.injection import FaultyEngine, FaultyReporter, limit_steps, spoil_files
from aiida_e3relax.standin.inputs import Inputs
from aiida_e3relax.standin.outputs import Outputs
from aiida_e3relax.standin.relaxation import run_ionic_steps


def run(folder: Path, engine: str, fault: Fault | None = None) -> None:
    """Read VASP's inputs in the folder, compute with the engine, and write VASP's outputs there.

    Raises
    ------
    StandInError
        If the inputs are wrong or ask for what the stand-in or the engine does not do.
    """
    inputs = limit_steps(Inputs.read(folder), fault)
    freedom = DegreesOfFreedom(inputs.poscar, inputs.settings)
    calculator = create_engine(engine, inputs)
    if fault is None:
        with Outputs(inputs, calculator) as outputs:
            outputs.finish(run_ionic_steps(inputs, freedom, calculator, outputs))
        return
    faulty = FaultyEngine(calculator, fault, inputs.settings.nelm)
    with Outputs(inputs, faulty) as outputs:
        outputs.finish(run_ionic_steps(inputs, freedom, faulty, FaultyReporter(outputs, fault, folder)))
    spoil_files(folder, fault)
