"""The console script `e3relax-vasp-standin`: run in a folder with VASP's inputs, or write potentials."""

import os
import sys
from pathlib import Path

import click

from aiida_e3relax.common.messages import printable
from aiida_e3relax.standin import ENGINE_VARIABLE, VERSION
from aiida_e3relax.standin.errors import StandInError
from aiida_e3relax.standin.faults import DESCRIPTIONS, due_fault

FAULT_VARIABLE = 'E3RELAX_STANDIN_FAULT'
FAULT_ONCE_VARIABLE = 'E3RELAX_STANDIN_FAULT_ONCE'
FAULTS_HELP = '\b\nFaults, which the outputs say are injected. The run\n' + '\n'.join(
    f'  {fault:20s}{description}' for fault, description in DESCRIPTIONS.items()
)


@click.group(invoke_without_command=True, epilog=FAULTS_HELP)
@click.option('--engine', envvar=ENGINE_VARIABLE, help=f'emt, ionic or gpaw; {ENGINE_VARIABLE} says the same.')
@click.option(
    '--fault',
    type=click.Choice([fault.value for fault in DESCRIPTIONS]),
    metavar='NAME',
    envvar=FAULT_VARIABLE,
    help=f'Fail in a way listed below, to test what restarts VASP; {FAULT_VARIABLE} says the same. Default: none.',
)
@click.option(
    '--fault-once',
    type=click.Path(dir_okay=False, path_type=Path),
    metavar='FILE',
    envvar=FAULT_ONCE_VARIABLE,
    help=f'Fail only in the first run, which makes FILE; {FAULT_ONCE_VARIABLE} says the same. Default: in every run.',
)
@click.pass_context
def main(context: click.Context, engine: str | None, fault: str | None, fault_once: Path | None) -> None:
    """Relax the crystal of POSCAR, INCAR, KPOINTS and POTCAR in this folder and write VASP's output files.

    This is not VASP. It is a stand-in for machines without a licence, with a calculator of your choice behind it.
    It runs on one core unless OMP_NUM_THREADS says otherwise: runs side by side would slow each other down manifold.
    """
    if context.invoked_subcommand is not None:
        return
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    from aiida_e3relax.standin.run import run

    print(f' vasp.{VERSION}{"-" + engine if engine else ""}', flush=True)
    try:
        if engine is None:
            raise StandInError(f'no engine was chosen; set {ENGINE_VARIABLE} or give --engine (emt, ionic or gpaw)')
        run(Path.cwd(), engine, due_fault(fault, fault_once))
    except (StandInError, OSError) as error:
        fault = str(error)
    except MemoryError:
        fault = 'out of memory; take a smaller crystal, fewer k-points, or another machine'
    else:
        return
    print(f' ERROR: {printable(fault)}', flush=True)
    sys.exit(1)


@main.command()
@click.argument('folder', type=click.Path(file_okay=False, path_type=Path))
@click.option('--elements', help='Symbols separated by commas; all elements from H to Pu if not given.')
def potentials(folder: Path, elements: str | None) -> None:
    """Write licence-free potential files to FOLDER/<name>/POTCAR.

    `aiida-vasp potcar uploadfamily --path FOLDER --name FAMILY -D TEXT` takes them up.
    """
    from aiida_e3relax.standin.potentials import write_potentials

    symbols = None if elements is None else [symbol.strip() for symbol in elements.split(',')]
    try:
        names = write_potentials(folder, symbols)
    except (StandInError, OSError) as error:
        raise click.ClickException(str(error)) from error
    print(f'{len(names)} potential files in {folder}')
