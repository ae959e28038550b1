"""Protocols: sets of inputs by name, in YAML files beside the work chains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from aiida import orm
from aiida.engine.processes.builder import ProcessBuilderNamespace

from aiida_e3relax.common.mappings import check_keys, merge
from aiida_e3relax.workflows.protocols.files import available_protocols, default_protocol, read_protocols

OF_BUILDER = 'invalid attribute value '
"""What AiiDA's builder puts before the sentence of a validator."""


class ProtocolMixin:
    """Gives a work chain the protocols in the file `PROTOCOLS` of the folder `protocols`.

    The file has `default_protocol` and `protocols`: by name a `description`, the protocol that it `inherits`, and the
    inputs in which it differs from that one, nested as the input ports of the work chain. Those without a description
    are there to be inherited only.
    """

    PROTOCOLS: ClassVar[str]

    @classmethod
    def get_available_protocols(cls) -> dict[str, str]:
        """Return the protocols by name, each with its description."""
        return available_protocols(cls.PROTOCOLS)

    @classmethod
    def get_default_protocol(cls) -> str:
        """Return the name of the protocol that is taken when none is given."""
        return default_protocol(cls.PROTOCOLS)

    @classmethod
    def get_protocol_inputs(
        cls, protocol: str | None = None, overrides: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the inputs of a protocol as nested dictionaries, with `overrides` over them.

        Raises ValueError for an unknown name, with the nearest known one, and for overrides that put something else in
        the place of a mapping.
        """
        content = read_protocols(cls.PROTOCOLS)
        name = protocol or content['default_protocol']
        try:
            check_keys([name], list(cls.get_available_protocols()))
        except ValueError as error:
            raise ValueError(f'protocol: {error}') from error
        inputs = _inherit(content['protocols'], name)
        _check_mappings(inputs, overrides or {})
        return merge(inputs, overrides or {})


def _inherit(protocols: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the inputs of a protocol over those that it inherits."""
    own = {key: value for key, value in protocols[name].items() if key not in ('description', 'inherits')}
    parent = protocols[name].get('inherits')
    return merge(_inherit(protocols, parent), own) if parent else own


def _check_mappings(inputs: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Raise ValueError for the first override that is neither a mapping nor a node where `inputs` has a mapping."""
    for key, value in overrides.items():
        base = inputs.get(key)
        if isinstance(base, Mapping):
            if isinstance(value, Mapping):
                _check_mappings(base, value)
            elif not isinstance(value, orm.Data):
                raise ValueError(
                    f'overrides: `{key}`: expected a mapping with keys such as {next(iter(base))}, found {value!r}'
                )


def fill_builder(builder: ProcessBuilderNamespace, inputs: Mapping[str, Any]) -> None:
    """Set `inputs`, nested as the ports, in a builder.

    The builder's own `_merge` writes into the nodes of ports that have a default, which no validator then sees.

    Raises
    ------
    ValueError
        For a port that does not exist, with the nearest one that does, and for a value that its validator refuses.
    """
    check_keys(inputs, list(builder._valid_fields))
    for name, value in inputs.items():
        port = getattr(builder, name)
        if isinstance(port, ProcessBuilderNamespace):
            fill_builder(port, value)
            continue
        try:
            setattr(builder, name, value)
        except ValueError as error:
            raise ValueError(str(error).removeprefix(OF_BUILDER)) from error
