"""The crystal of the chain, and its inputs, from the words of a command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
from aiida import orm
from aiida.engine import ProcessBuilder

from aiida_e3relax.calculations.pre_relaxer import PreRelaxer
from aiida_e3relax.cli.chain_choices import OF_PREDICTION, read_choices, refuse_beside_no_network
from aiida_e3relax.cli.crystal_file import fixed_components, read_crystal
from aiida_e3relax.cli.nodes import describe_node, find_node
from aiida_e3relax.cli.structure_argument import STRUCTURE
from aiida_e3relax.crystals.files import labels_of
from aiida_e3relax.workflows.comparison.reference import CHAIN, Reference
from aiida_e3relax.workflows.demo import SUITED, demo_crystal

OF_EACH_PREDICTION = ('guard', 'keep_symmetry', 'static_run')
"""Options that say nothing either where a single chain relaxes the raw structure; a campaign hands them to its arms."""


@dataclasses.dataclass(frozen=True)
class Start:
    """The raw crystal.

    Attributes
    ----------
    structure
        Its node.
    fixed
        The sites that its file holds, as `fixed` in `freedom`.
    is_demo
        Whether it comes with the package, to show what a prediction saves.
    """

    structure: orm.StructureData
    fixed: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    is_demo: bool = False


def choose_start(structure: str | None, demo: str | None, vasp_code: str | None) -> Start:
    """Return the crystal to relax, of STRUCTURE or --demo; raises UsageError where neither is given."""
    if structure:
        return read_start(structure)
    if demo:
        return demo_start(demo)
    suited = SUITED.get((vasp_code or '').partition('@')[0], 'semiconductor')
    raise click.UsageError(f'give STRUCTURE, a file or a node, or --demo {suited} to try with a crystal of ours')


def read_start(text: str) -> Start:
    """Return the crystal that a person names: a file with a crystal, or the PK or UUID of a node.

    Raises ClickException when it is neither.
    """
    path = Path(text)
    if path.is_file():
        atoms = read_crystal(path)
        structure = orm.StructureData(ase=atoms)
        structure.label = labels_of([path])[0]
        return Start(structure, fixed_components(atoms))
    node = find_node(text, f'expected {STRUCTURE}')
    if not isinstance(node, orm.StructureData):
        raise click.ClickException(f'{text}: expected a StructureData, found {describe_node(node)}')
    return Start(node)


def demo_start(kind: str) -> Start:
    """Return a crystal of `DEMO_CRYSTALS`."""
    structure = orm.StructureData(ase=demo_crystal(kind))
    structure.label = f'demo {kind}'
    return Start(structure, is_demo=True)


def make_builder(start: Start, options: dict[str, Any]) -> ProcessBuilder:
    """Return the inputs of the chain from the crystal and the command line's options.

    Raises ClickException for what the profile lacks, and for options of a prediction where there is none; ValueError
    for what the chain refuses.
    """
    refuse_beside_no_network(options, (*OF_PREDICTION, *OF_EACH_PREDICTION))
    choices = read_choices(options)
    reference = _find_reference(options['reference_leg']) if options['reference_leg'] else None
    if start.is_demo and reference is None and 'reference_leg' not in choices.overrides:
        reference = Reference.ALWAYS.value
    return choices.chain_builder(start.structure, start.fixed, reference_leg=reference)


def describe_relaxations(builder: Any) -> str:
    """Return how many relaxations VASP will run of a chain with these inputs, and how to have fewer or more."""
    if not builder.network.predict.code:
        return 'VASP runs one relaxation, from the raw crystal.'
    parameters = builder.network.predict.parameters
    prediction = f'the prediction ({PreRelaxer.of_parameters(parameters.get_dict() if parameters else {})})'
    reference = _given(builder.reference_leg).value
    if reference == Reference.ALWAYS:
        return (
            f'VASP runs two relaxations: from {prediction}, and from the raw crystal to compare with. '
            '`--reference-leg never` runs the first alone, and the second only where that fails or is rejected.'
        )
    told = f'VASP runs one relaxation, from {prediction}; one from the raw crystal '
    if reference == Reference.NEVER:
        return f'{told}only where that fails or is rejected. `--reference-leg always` compares them.'
    if reference == Reference.SAMPLE:
        return (
            f'{told}beside it where the crystal is in the sample of {100 * _given(builder.reference_share).value:g} %.'
        )
    return f'{told}has been run by {CHAIN}<{orm.load_node(uuid=reference).pk}>.'


def _given(port: Any) -> Any:
    """Return the node of a port of a builder, which has the function that makes the default where none is set."""
    return port() if callable(port) else port


def _find_reference(text: str) -> Any:
    """Return a word of `Reference`, or the node that another word names."""
    if text in list(Reference):
        return text
    return find_node(text, f'expected {", ".join(Reference)} or the PK or UUID of an earlier chain')
