"""One run of the stand-in in a folder."""

from pathlib import Path

from aiida_e3relax.standin.engines import create_engine
from aiida_e3relax.standin.freedom import Freedom
from aiida_e3relax.standin.inputs import Inputs
from aiida_e3relax.standin.outputs import Outputs
from aiida_e3relax.standin.relaxation import relax


def run(folder: Path, engine: str) -> None:
    """Read VASP's inputs in the folder, compute with the engine, and write VASP's outputs there.

    Raises
    ------
    InputError
        If the inputs are wrong or ask for what the stand-in or the engine does not do.
    """
    inputs = Inputs.read(folder)
    freedom = Freedom(inputs.poscar, inputs.settings)
    calculator = create_engine(engine, inputs)
    with Outputs(inputs, calculator) as outputs:
        outputs.finish(relax(inputs, freedom, calculator, outputs))
