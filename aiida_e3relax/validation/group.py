"""The settings of a validation, which are stored when it is made, and the AiiDA group that holds it."""

from __future__ import annotations

import dataclasses
from typing import Any

from aiida import orm

from aiida_e3relax.campaign.group import find_settings

SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class ValidationSettings:
    """The content of a validation's settings node.

    Attributes
    ----------
    name
        The label of the group.
    created
        When, as ISO 8601 in UTC.
    request
        What was asked for: `pairs` (name of the data file), `content_hash` of its pairs, `split`, `draw`, `seed`,
        `unmatched`, and `static`, the record of `ChainChoices`.
    looked_at, matched
        As in `Draw`.
    crystals
        By label: `name` in the data file, and the UUIDs of `unrelaxed`, `relaxed` and `kpoints`.
    order
        The labels in the order of the data file, which PostgreSQL does not keep in `crystals`.
    batch
        The UUID of the batch of all unrelaxed crystals, which each model is given.
    versions
        Of the packages that made it.
    fixed
        The sites that are held in a prediction, as `fixed` in `freedom`, by label.
    has_fixed_cells
        Whether predictions keep the cell, in all crystals alike.
    same_starts
        Labels of crystals that start as the same crystal, for each that several do.
    """

    name: str
    created: str
    request: dict[str, Any]
    looked_at: int | None
    matched: int | None
    crystals: dict[str, dict[str, str]]
    order: list[str]
    batch: str
    versions: dict[str, str]
    fixed: dict[str, dict[str, list[int]]] = dataclasses.field(default_factory=dict)
    has_fixed_cells: bool = False
    same_starts: list[list[str]] = dataclasses.field(default_factory=list)

    @classmethod
    def from_node(cls, node: orm.Dict) -> ValidationSettings:
        """Return the settings in a node; raises ValueError where another version has written other settings."""
        content = node.get_dict()
        schema = content.pop('schema', None)
        if schema != SCHEMA:
            raise ValueError(
                f'settings of a validation in {node}: expected schema {SCHEMA}, found {schema}; use the version of '
                'aiida-e3relax that created it'
            )
        return cls(**content)

    def to_node(self) -> orm.Dict:
        """Return an unstored node with the settings."""
        return orm.Dict({'schema': SCHEMA, **dataclasses.asdict(self)}, label=f'settings of {self.name}')


class ValidationGroup(orm.Group):
    """The crystals of a validation and its settings, under its name as label."""

    @property
    def settings_node(self) -> orm.Dict:
        """The node with the settings, an input of every process of the validation."""
        return find_settings(self, f'validation `{self.label}`')

    @property
    def settings(self) -> ValidationSettings:
        """The content of `settings_node`."""
        return ValidationSettings.from_node(self.settings_node)


def find_validation(name: str) -> ValidationGroup | None:
    """Return the validation of that name, None where there is none."""
    found = orm.QueryBuilder().append(ValidationGroup, filters={'label': name}).all(flat=True)
    return found[0] if found else None
