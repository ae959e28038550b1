"""The reference of a comparison, the raw leg: relaxed now, not at all, or taken from an earlier chain."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aiida import orm
from aiida.common.exceptions import MultipleObjectsError, NotExistent
from aiida.common.hashing import make_hash
from aiida.common.links import LinkType

from aiida_e3relax.workflows.vasp.inputs.freedom import read_freedom

CHAIN = 'E3RelaxVaspWorkChain'
RAW_LEG = 'relax_raw'
"""The label of the link from the chain to its raw leg."""
HANDLERS = 'handler_overrides'
BOOKKEEPING = ('max_iterations', 'verbose', 'keep_last_workdir', HANDLERS)
"""Inputs of aiida-vasp that say how to try again and what to keep, and not what to compute."""


class Reference(enum.StrEnum):
    """When the raw structure is relaxed, too. Instead of a word the UUID of an earlier chain can be given."""

    ALWAYS = 'always'
    SAMPLE = 'sample'
    """For a share of the structures, chosen by their content."""
    NEVER = 'never'
    """Only where the prediction cannot be used."""


def reason_against(reference: str, structure: orm.StructureData, share: float) -> str | None:
    """Return why a structure gets no raw leg beside the predicted one; None where it gets one.

    Its content decides whether a structure is among the `share` of `Reference.SAMPLE`, so that it is again next time.
    """
    if reference == Reference.NEVER:
        return 'No reference leg was asked for'
    if reference == Reference.SAMPLE and int(content(structure)[:8], 16) >= share * 16**8:
        return f'The structure is not in the sample of {100 * share:g} % that gets a reference leg'
    return None


def earlier_chain(reference: str) -> orm.WorkChainNode | None:
    """Return the chain that the input `reference_leg` names, None where it is a word of `Reference`.

    Raises ValueError when it is neither.
    """
    if reference in list(Reference):
        return None
    try:
        chain: Any = orm.load_node(uuid=reference)
    except (NotExistent, MultipleObjectsError, ValueError) as error:
        words = ', '.join(Reference)
        raise ValueError(f'expected {words} or the UUID of an earlier {CHAIN}, found {reference!r}') from error
    if isinstance(chain, orm.WorkChainNode) and chain.process_label == CHAIN:
        return chain
    raise ValueError(f'expected an earlier {CHAIN}, found {chain}')


def find_raw_leg(chain: orm.WorkChainNode) -> orm.WorkChainNode:
    """Return the finished raw leg that an earlier chain called; raises ValueError where there is none."""
    legs: list[Any] = chain.base.links.get_outgoing(None, LinkType.CALL_WORK, RAW_LEG).all_nodes()
    if legs and legs[0].is_finished_ok:
        return legs[0]
    if legs:
        raise ValueError(f'the raw leg of {CHAIN}<{chain.pk}> has not finished well; name another chain, or `always`')
    raise ValueError(
        f'{CHAIN}<{chain.pk}> relaxed no raw structure itself (its `reference_leg` was '
        f'{chain.inputs.reference_leg.value}); name a chain that did, or `always`'
    )


def find_reference_fault(inputs: Mapping[str, Any]) -> str | None:
    """Return why the raw leg of the chain that `reference_leg` names cannot stand for the one of these inputs.

    It must be of the same structure and the same inputs of VASP, the code among them, by their content.
    """
    if 'reference_leg' not in inputs:
        return None
    try:
        chain = earlier_chain(inputs['reference_leg'].value)
        if chain is None:
            return None
        find_raw_leg(chain)
    except ValueError as error:
        return str(error)
    if read_freedom(chain.inputs.freedom) != read_freedom(inputs['freedom']):
        return f'{CHAIN}<{chain.pk}> had another `freedom`; take that one, or `always`'
    if different := find_other_inputs(chain, inputs, _is_computed_with):
        return f'{CHAIN}<{chain.pk}> had another `{"`, `".join(different)}`; take the same, or `always`'
    return None


def find_other_inputs(
    chain: orm.WorkChainNode, inputs: Mapping[str, Any], is_asked: Callable[[str], bool]
) -> list[str]:
    """Return the ports, of those that are asked for, whose content is another in `inputs` than an earlier chain had."""
    links = chain.base.links.get_incoming(link_type=LinkType.INPUT_WORK).all()
    then: list[tuple[str, Any]] = [(link.link_label.replace('__', '.'), link.node) for link in links]
    contents_then, contents_now = (
        {(name, content(node)) for name, node in nodes if is_asked(name)} for nodes in (then, _flatten(inputs))
    )
    return sorted({name for name, _ in contents_then ^ contents_now})


def is_of_handlers(port: str) -> bool:
    """Return whether a port says what aiida-vasp does where a VASP run goes wrong."""
    return port.rpartition('.')[2] == HANDLERS


def _is_computed_with(port: str) -> bool:
    return port == 'structure' or (port.startswith('vasp.') and port.rpartition('.')[2] not in BOOKKEEPING)


def _flatten(inputs: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, orm.Data]]:
    """Yield the nodes among inputs with their ports, namespaces joined by dots."""
    for name, value in inputs.items():
        if isinstance(value, orm.Data):
            yield prefix + name, value
        elif isinstance(value, Mapping):
            yield from _flatten(value, f'{prefix}{name}.')


def content(node: orm.Data) -> str:
    """Return a hexadecimal digest of what a node holds, the same before and after it is stored."""
    return make_hash(node.base.caching.get_objects_to_hash())
