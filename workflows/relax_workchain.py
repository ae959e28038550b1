"""Relax a crystal with VASP from where the network predicts it to relax, and see what that saved.

Run it with `verdi run workflows/relax_workchain.py [STRUCTURE_FILE]`, in a profile prepared by `aiida-e3relax setup`.
Its own help is `verdi run -- workflows/relax_workchain.py --help`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import yaml
from aiida import orm
from aiida.common.exceptions import InvalidOperation, NotExistent
from aiida.engine import ProcessBuilder, submit
from rich.console import Console

from aiida_e3relax.cli.comparison import show_chain
from aiida_e3relax.cli.crystal_file import fixed_components, read_crystals
from aiida_e3relax.cli.watch import run_watched
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.mappings import merge
from aiida_e3relax.workflows.demo import DEMO_CRYSTALS, SUITED, demo_crystal
from aiida_e3relax.workflows.freedom import Moves
from aiida_e3relax.workflows.vasp import E3RelaxVaspWorkChain

PROTOCOLS = E3RelaxVaspWorkChain.get_available_protocols()
ONE_PROCESS = {'vasp': {'vasp': {'calc': {'metadata': {'options': {'resources': {'num_mpiprocs_per_machine': 1}}}}}}}


def read_overrides(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, an empty one for an empty file; raises ClickException for anything else."""
    try:
        overrides = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise click.ClickException(f'{path}: is not YAML: {" ".join(str(error).split())}') from error
    if not isinstance(overrides, dict | None):
        raise click.ClickException(f'{path}: expected inputs such as `freedom: positions`, found {overrides!r}')
    return overrides or {}


def job_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the VASP jobs that were given on the command line."""
    resources = {'num_machines': options['machines'], 'num_mpiprocs_per_machine': options['mpi_processes']}
    given: dict[str, Any] = {'resources': {key: value for key, value in resources.items() if value is not None}}
    if any(value > 1 for value in given['resources'].values()):
        given['withmpi'] = True
    if options['max_hours'] is not None:
        given['max_wallclock_seconds'] = int(3600 * options['max_hours'])
    if options['queue']:
        given['queue_name'] = options['queue']
    return given


def choose_freedom(
    options: dict[str, Any], overrides: dict[str, Any], fixed: dict[str, list[int]]
) -> dict[str, Any] | None:
    """Return what may move by the options and the file's fixed sites, over the overrides; None to leave it to these."""
    given: dict[str, Any] = {'moves': options['freedom']} if options['freedom'] else {}
    if options['keep_symmetry']:
        given['keep_symmetry'] = True
    if fixed:
        given['fixed'] = fixed
    base = overrides.get('freedom', {})
    return {**({'moves': base} if isinstance(base, str) else base), **given} if given else None


def make_builder(structure: orm.StructureData, options: dict[str, Any], fixed: dict[str, list[int]]) -> ProcessBuilder:
    """Return the inputs of the chain from the command line's options and the sites that the file fixes.

    Raises ValueError or NotExistent for what the profile lacks or the chain refuses.
    """
    model = options['model']
    overrides = read_overrides(options['overrides']) if options['overrides'] else {}
    return E3RelaxVaspWorkChain.get_builder_from_protocol(
        structure,
        options['vasp_code'],
        options['network_code'],
        potential_family=options['potential_family'],
        model=E3RelaxModelData.get_or_create(model)[0] if model else None,
        protocol=options['protocol'],
        overrides=merge(ONE_PROCESS, overrides),
        options=job_options(options),
        freedom=choose_freedom(options, overrides, fixed),
        reference_leg='never' if options['no_reference'] else None,
    )


@click.command(epilog='Protocols: ' + ' '.join(f'{name}: {text}' for name, text in PROTOCOLS.items()))
@click.argument('structure_file', required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    '--demo',
    type=click.Choice(list(DEMO_CRYSTALS)),
    help='The crystal to take when no STRUCTURE_FILE is given.  [default: one that suits the VASP code]',
)
@click.option('--network-code', default='e3relax@localhost', show_default=True, help='The code that runs `e3relax`.')
@click.option('--vasp-code', default='vasp-standin-gpaw@localhost', show_default=True, help='The code that runs VASP.')
@click.option(
    '--potential-family', default='standin-PBE', show_default=True, help='The family of potentials, see aiida-vasp.'
)
@click.option('--model', type=click.Path(exists=True, dir_okay=False), help='A checkpoint instead of the shipped one.')
@click.option('--protocol', type=click.Choice(list(PROTOCOLS)), default='fast', show_default=True)
@click.option(
    '--freedom', type=click.Choice([choice.value for choice in Moves]), help='What may move.  [default: cell]'
)
@click.option('--keep-symmetry', is_flag=True, help="Symmetrise the prediction to the structure's space group.")
@click.option(
    '--overrides',
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='A YAML file with inputs over the protocol, such as `vasp: {vasp: {parameters: {incar: {encut: 600}}}}`; the '
    'options given here go over it.',
)
@click.option('--no-reference', is_flag=True, help='Do not relax the raw structure too: cheaper, no comparison.')
@click.option('--machines', type=click.IntRange(min=1), help='Nodes of each VASP run.  [default: 1]')
@click.option('--mpi-processes', type=click.IntRange(min=1), help='On each of them.  [default: 1]')
@click.option('--max-hours', type=float, help='Wall time of each VASP run.  [default: 24]')
@click.option('--queue', help="The scheduler's queue or partition of the VASP runs.")
@click.option('--submit', 'to_daemon', is_flag=True, help='Hand it to the daemon and return at once.')
def main(structure_file: Path | None, demo: str | None, to_daemon: bool, **options: Any) -> None:
    """Relax a crystal with VASP from a network's prediction, and from as it is, and compare.

    STRUCTURE_FILE is anything that ASE reads, such as POSCAR or a CIF file; sites that it fixes, as by selective
    dynamics, stay fixed. The codes and potentials that the defaults name are made by `aiida-e3relax setup --engine
    gpaw`: a stand-in takes VASP's place. For real science give your own with --vasp-code and --potential-family.
    """
    console = Console()
    demo = demo or SUITED.get(options['vasp_code'].partition('@')[0], 'semiconductor')
    atoms = read_crystals(structure_file)[-1] if structure_file else demo_crystal(demo)
    structure = orm.StructureData(ase=atoms)
    structure.label = structure_file.name if structure_file else f'demo {demo}'
    try:
        builder = make_builder(structure, options, fixed_components(atoms))
    except (ValueError, NotExistent) as error:
        raise click.ClickException(
            f'{error}\nThe codes and potentials of the stand-in are made by `aiida-e3relax setup --engine gpaw`.'
        ) from error
    if to_daemon:
        try:
            chain = submit(builder)
        except InvalidOperation as error:
            raise click.ClickException(f'{error}; start one with `verdi daemon start`') from error
        console.print(f'Submitted E3RelaxVaspWorkChain<{chain.pk}>; follow it with `verdi process status {chain.pk}`')
        return
    chain = run_watched(builder, console)
    console.print(show_chain(chain))
    if not chain.is_finished_ok:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
