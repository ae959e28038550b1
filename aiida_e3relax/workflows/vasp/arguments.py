"""Checks of the arguments of `get_builder_from_protocol`: the right type, or an error that says how to make it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.common.exceptions import MultipleObjectsError, NotExistent

from aiida_e3relax.calculations.pre_relaxer import PreRelaxer
from aiida_e3relax.common.messages import short
from aiida_e3relax.crystals.files.errors import CrystalFileError
from aiida_e3relax.crystals.files.occupancies import refuse_partial
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.potential import E3RelaxPotentialData

NO_CODE = (
    'make one with `verdi code create core.code.installed --default-calc-job-plugin {plugin}`, or a stand-in of VASP '
    'and the code of the network with `aiida-e3relax setup`'
)
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    'potential_family': ((str,), 'the label of a family of potentials; `aiida-vasp potcar listfamilies` lists them'),
    'potential_mapping': ((Mapping,), "a mapping such as {'Ga': 'Ga_d'}"),
    'model': (
        (E3RelaxModelData,),
        'a model node: `E3RelaxModelData.default()`, or `E3RelaxModelData.get_or_create(path)[0]` of a checkpoint file',
    ),
    'protocol': ((str,), 'the name of a protocol'),
    'overrides': ((Mapping,), "a mapping nested as the inputs, such as {'vasp': {'relax_settings': {'steps': 60}}}"),
    'options': ((Mapping,), "a mapping such as {'resources': {'num_machines': 1}}"),
    'network_options': ((Mapping,), "a mapping such as {'resources': {'num_machines': 1}}"),
    'freedom': ((str, Mapping, Freedom), "a word such as 'positions', a mapping with `moves`, or a `Freedom`"),
    'reference_leg': ((str, orm.WorkChainNode), "'always', 'sample', 'never', or an earlier chain"),
    'prediction': ((Mapping,), 'a mapping with `label`, and `batch` and `report` of an earlier run of the network'),
    'pre_relaxer': ((str, PreRelaxer), "a pre-relaxer such as 'network', 'chgnet' or 'network+chgnet'"),
    'potential_weights': (
        (E3RelaxPotentialData,),
        "a node of weights: `E3RelaxPotentialData.get_or_create(path, 'mace')[0]`",
    ),
    'campaign': ((orm.Dict,), 'the node with the settings of a campaign'),
}
"""By argument what it may be, beside None, and what to say otherwise."""


def check_kinds(arguments: Mapping[str, Any]) -> None:
    """Raise TypeError for the first of `arguments` that is neither None nor of its kind in `KINDS`."""
    for name, value in arguments.items():
        kinds, expected = KINDS[name]
        if value is not None and not isinstance(value, kinds):
            raise TypeError(f'`{name}`: expected {expected}; found {_describe(value)}')


def check_structure(structure: Any) -> None:
    """Raise TypeError for anything but StructureData, with how to make one; ValueError for partial occupancies."""
    if isinstance(structure, orm.StructureData):
        return
    remedy = 'give one, as `orm.StructureData(ase=atoms)` or `orm.StructureData(pymatgen=structure)` make it'
    if _is_of(structure, 'ase', 'Atoms'):
        remedy = 'make one with `orm.StructureData(ase=atoms)`'
    elif _is_of(structure, 'pymatgen', 'Structure'):
        remedy = 'make one with `orm.StructureData(pymatgen=structure)`'
        if not structure.is_ordered:
            _refuse_disorder(structure)
    elif isinstance(structure, Path) or (isinstance(structure, str) and Path(structure).is_file()):
        remedy = (
            'read the file, as with `orm.StructureData(ase=ase.io.read(path))`, or hand it to `aiida-e3relax relax`'
        )
    elif isinstance(structure, int | str):
        remedy = 'load the node with `orm.load_node(...)`'
    raise TypeError(f'`structure`: expected StructureData, found {_describe(structure)}; {remedy}')


def load_code(code: Any, plugin: str, argument: str) -> orm.AbstractCode:
    """Return a code, by its label, PK or UUID too.

    Raises ValueError where there is none, with those that are there, or where it says to be for something else than
    `plugin`; TypeError for anything that names no code.
    """
    if isinstance(code, str | int) and not isinstance(code, bool):
        try:
            code = _find_code(code)
        except (NotExistent, ValueError) as error:
            names = ', '.join(code.full_label for code in list_codes(plugin))
            hint = f'codes for {plugin} are {names}' if names else NO_CODE.format(plugin=plugin)
            raise ValueError(f'{argument}: code `{short(code)}` is not in this profile; {hint}') from error
        except MultipleObjectsError as error:
            raise ValueError(f'{argument}: several codes are called `{short(code)}`; give the PK of one') from error
    if not isinstance(code, orm.AbstractCode):
        raise TypeError(f'{argument}: expected a code or its label, found {_describe(code)}; see `verdi code list`')
    if code.default_calc_job_plugin not in (plugin, None):
        raise ValueError(
            f'{argument}: code `{code.full_label}`: expected one for {plugin}, found one for '
            f'{code.default_calc_job_plugin}; see `verdi code list`'
        )
    return code


def _find_code(identifier: str | int) -> orm.AbstractCode:
    """Return the code with this label, else with this PK or UUID; raises as `orm.load_code` does.

    By itself that function takes a label such as `e3` or `2024` for the start of a UUID or for a PK.
    """
    if isinstance(identifier, str):
        with suppress(NotExistent):
            return orm.load_code(label=identifier)
    return orm.load_code(identifier)


def list_codes(plugin: str) -> list[orm.AbstractCode]:
    """Return the codes of the profile for `plugin`, by their label."""
    query = orm.QueryBuilder().append(orm.AbstractCode, filters={'attributes.input_plugin': plugin})
    return sorted(query.all(flat=True), key=lambda code: code.full_label)


def _refuse_disorder(structure: Any) -> None:
    sites = enumerate(structure)
    try:
        refuse_partial(
            {f'site {n}': {str(element): share for element, share in site.species.items()} for n, site in sites}
        )
    except CrystalFileError as error:
        raise ValueError(f'`structure`: {error}') from error


def _is_of(value: Any, package: str, name: str) -> bool:
    """Return whether the class of a value, or one above it, is this one, without importing its package."""
    return any(base.__name__ == name and base.__module__.split('.')[0] == package for base in type(value).__mro__)


def _describe(value: Any) -> str:
    return f'{type(value).__name__} {short(repr(value))}'
