"""Predict relaxed crystals with the network in one AiiDA calculation job.

Run it with `verdi run calculations/predict.py [STRUCTURE ...]`, in a profile prepared by `aiida-e3relax setup`.
Its own help is `verdi run -- calculations/predict.py --help`.
"""

from __future__ import annotations

from pathlib import Path

import ase.build
import click
from aiida import orm
from aiida.common.exceptions import InvalidOperation, NotExistent
from aiida.engine import run_get_node, submit
from rich.console import Console
from rich.table import Table

from aiida_e3relax.cli.crystal_file import label_crystals
from aiida_e3relax.data.model import E3RelaxModelData

COLUMNS = ('label', 'formula', 'status', 'volume before / A^3', 'volume after / A^3', 'largest move / A')
NUMBERS = ('volume_initial_A3', 'volume_predicted_A3', 'max_displacement_A')


@click.command()
@click.argument(
    'files', metavar='[STRUCTURE]...', nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option('--code', default='e3relax@localhost', show_default=True, help='The code that runs the network.')
@click.option('--model', 'checkpoint', type=click.Path(exists=True, dir_okay=False), help='A checkpoint of your own.')
@click.option('--device', default='auto', show_default=True, help='auto, cpu, cuda or cuda:<n>.')
@click.option('--num-gpus', type=click.IntRange(min=1), help='GPUs to ask SLURM or LSF for.')
@click.option('--submit', 'to_daemon', is_flag=True, help='Hand the job to the daemon and return at once.')
def main(
    files: tuple[Path, ...], code: str, checkpoint: str | None, device: str, num_gpus: int | None, to_daemon: bool
) -> None:
    """Predict the relaxed form of the crystals in STRUCTURE..., such as CIF, POSCAR and extxyz.

    Without files the crystal is InP put into the measured cell of GaAs.
    """
    crystals = label_crystals(files) if files else {'InP_in_GaAs': ase.build.bulk('InP', 'zincblende', a=5.653)}
    try:
        builder = orm.load_code(code).get_builder()
        builder.model = E3RelaxModelData.get_or_create(checkpoint)[0] if checkpoint else E3RelaxModelData.default()
        builder.parameters = {'device': device}
        if num_gpus is not None:
            builder.metadata.options.num_gpus = num_gpus
        builder.structures = {label: orm.StructureData(ase=atoms) for label, atoms in crystals.items()}
        if to_daemon:
            node = submit(builder)
            click.echo(f'Submitted {node.process_label}<{node.pk}>; follow it with: verdi process show {node.pk}')
            return
        _, node = run_get_node(builder)
    except NotExistent as error:
        raise click.ClickException(f'code `{code}` is not in this profile; run `aiida-e3relax setup` first') from error
    except (InvalidOperation, ValueError) as error:
        raise click.ClickException(str(error)) from error
    print_outcome(node)
    if not node.is_finished_ok:
        raise click.ClickException(f'exit code {node.exit_status}: {node.exit_message}')


def print_outcome(node: orm.CalcJobNode) -> None:
    """Print what became of each structure, and where to look next."""
    console = Console()
    report = node.outputs.report.get_dict() if 'report' in node.outputs else {}
    if entries := report.get('structures'):
        table = Table(*COLUMNS, title=f'{node.inputs.model.name} on {report["device"]["used"]}')
        for entry in entries:
            formula = node.inputs.structures[entry['label']].get_formula('hill_compact')
            numbers = [f'{entry[key]:.3f}' if key in entry else '-' for key in NUMBERS]
            table.add_row(entry['label'], formula, entry['status'], *numbers)
        console.print(table)
    for label, structure in sorted(node.outputs.structures.items() if 'structures' in node.outputs else ()):
        console.print(f'predicted structure `{label}`: StructureData<{structure.pk}>', markup=False)
    console.print(f'Everything about this run: verdi process show {node.pk}')


if __name__ == '__main__':
    main()
