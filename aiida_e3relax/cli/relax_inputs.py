"""The inputs of the chain from the words of a command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
import yaml
from aiida import orm
from aiida.common.exceptions import NotExistent
from aiida.engine import ProcessBuilder
from aiida_vasp.data.potcar import PotcarGroup

from aiida_e3relax.cli.crystal_file import fixed_components, read_crystals
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.mappings import merge
from aiida_e3relax.workflows.demo import demo_crystal
from aiida_e3relax.workflows.reference import Reference
from aiida_e3relax.workflows.vasp import E3RelaxVaspWorkChain

ONE_PROCESS = {'vasp': {'vasp': {'calc': {'metadata': {'options': {'resources': {'num_mpiprocs_per_machine': 1}}}}}}}
NO_CODE = (
    'make one with `verdi code create core.code.installed --default-calc-job-plugin {plugin}`, or a stand-in of VASP '
    'and the code of the network with `aiida-e3relax setup`'
)
NO_POTENTIALS = (
    'upload them with `aiida-vasp potcar uploadfamily`, or make those of the stand-in with `aiida-e3relax setup`'
)


@dataclasses.dataclass(frozen=True)
class Start:
    """The raw crystal.

    Attributes
    ----------
    structure
        Its node.
    fixed
        The sites that its file holds, as `fixed` in `freedom`.
    """

    structure: orm.StructureData
    fixed: dict[str, list[int]] = dataclasses.field(default_factory=dict)


def read_start(text: str) -> Start:
    """Return the crystal that a person names: a file that ASE reads, or the PK or UUID of a node.

    Raises ClickException when it is neither.
    """
    path = Path(text)
    if path.is_file():
        atoms = read_crystals(path)[-1]
        structure = orm.StructureData(ase=atoms)
        structure.label = path.name
        return Start(structure, fixed_components(atoms))
    node = _find_node(text, 'a file that is there (POSCAR, CIF, ...), or the PK or UUID of a StructureData')
    if not isinstance(node, orm.StructureData):
        raise click.ClickException(f'{text}: expected a StructureData, found {_describe(node)}')
    return Start(node)


def demo_start(kind: str) -> Start:
    """Return a crystal of `DEMO_CRYSTALS`."""
    structure = orm.StructureData(ase=demo_crystal(kind))
    structure.label = f'demo {kind}'
    return Start(structure)


def read_overrides(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, an empty one for an empty file; raises ClickException for anything else."""
    try:
        overrides = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise click.ClickException(f'{path}: is not YAML: {" ".join(str(error).split())}') from error
    if not isinstance(overrides, dict | None):
        raise click.ClickException(f'{path}: expected inputs such as `freedom: positions`, found {overrides!r}')
    return overrides or {}


def make_builder(start: Start, options: dict[str, Any]) -> ProcessBuilder:
    """Return the inputs of the chain from the crystal and the command line's options.

    Raises ClickException for what the profile lacks, ValueError for what the chain refuses.
    """
    overrides = read_overrides(options['overrides']) if options['overrides'] else {}
    return E3RelaxVaspWorkChain.get_builder_from_protocol(
        start.structure,
        choose_code(options['vasp_code'], 'vasp.vasp', '--vasp-code'),
        None if options['no_network'] else choose_code(options['network_code'], 'e3relax.predict', '--network-code'),
        potential_family=options['potential_family'] or _only_family(),
        model=_find_model(options['model']) if options['model'] else None,
        protocol=options['protocol'],
        overrides=merge(merge(ONE_PROCESS, overrides), _common_settings(options)),
        options=_job_options(options),
        freedom=_choose_freedom(options, overrides, start.fixed),
        reference_leg=_find_reference(options['reference_leg']) if options['reference_leg'] else None,
    )


def choose_code(label: str | None, plugin: str, option: str) -> orm.AbstractCode:
    """Return the code of that label, or the only one for `plugin`; raises ClickException when there is no such one."""
    known = orm.QueryBuilder().append(orm.AbstractCode, filters={'attributes.input_plugin': plugin}).all(flat=True)
    names = ', '.join(sorted(code.full_label for code in known))
    if label is not None:
        try:
            return orm.load_code(label)
        except (NotExistent, ValueError) as error:
            hint = f'codes for {plugin} are {names}' if names else NO_CODE.format(plugin=plugin)
            raise click.ClickException(f'{option}: code `{label}` is not in this profile; {hint}') from error
    if len(known) == 1:
        return known[0]
    if known:
        raise click.ClickException(f'{option}: there are several codes for {plugin}; choose one of {names}')
    raise click.ClickException(f'{option}: no code for {plugin} is in this profile; {NO_CODE.format(plugin=plugin)}')


def _only_family() -> str:
    labels = sorted(group.label for group in PotcarGroup.collection.all())
    if len(labels) == 1:
        return labels[0]
    if labels:
        raise click.ClickException(f'--potential-family: there are several; choose one of {", ".join(labels)}')
    raise click.ClickException(f'--potential-family: no family of potentials is in this profile; {NO_POTENTIALS}')


def _find_model(text: str) -> E3RelaxModelData:
    if Path(text).is_file():
        return E3RelaxModelData.get_or_create(text)[0]
    node = _find_node(text, 'a checkpoint file that is there, or the PK or UUID of a model')
    if not isinstance(node, E3RelaxModelData):
        raise click.ClickException(f'{text}: expected an E3RelaxModelData, found {_describe(node)}')
    return node


def _find_reference(text: str) -> Any:
    """Return a word of `Reference`, or the node that another word names."""
    if text in list(Reference):
        return text
    return _find_node(text, f'{", ".join(Reference)} or the PK or UUID of an earlier chain')


def _find_node(text: str, expected: str) -> orm.Node:
    try:
        return orm.load_node(text)
    except (NotExistent, ValueError) as error:
        raise click.ClickException(f'{text}: expected {expected}') from error


def _describe(node: orm.Node) -> str:
    return f'{type(node).__name__}<{node.pk}>'


def _common_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that every engine has, as overrides."""
    given: dict[str, Any] = {}
    if options['force_cutoff'] is not None:
        given = merge(given, {'vasp': {'relax_settings': {'force_cutoff': options['force_cutoff']}}})
    if options['max_steps'] is not None:
        given = merge(given, {'vasp': {'relax_settings': {'steps': options['max_steps']}}})
    if options['kpoints_spacing'] is not None:
        given = merge(given, {'vasp': {'vasp': {'kpoints_spacing': options['kpoints_spacing']}}})
    return given


def _job_options(options: dict[str, Any]) -> dict[str, Any]:
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


def _choose_freedom(
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
