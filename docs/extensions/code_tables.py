"""Tables that Sphinx makes from the code, so that they cannot say anything else.

Each directive takes one argument and puts a table of Markdown into the page:

- `settings` `module:Class`: the fields of a dataclass, with what its docstring says of each;
- `exit-codes` `group:entry point`: what a process can end with, such as `aiida.workflows:e3relax.vasp`;
- `hyperparameters` `name`: those of a model of the registry;
- `report-columns`: of the table on a campaign's page; `table-columns`: of `campaign.csv`.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

Rows = list[tuple[str, ...]]


def markdown(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of Markdown."""

    def line(cells: Iterable[str]) -> str:
        return '| ' + ' | '.join(' '.join(cell.split()).replace('|', '\\|') for cell in cells) + ' |'

    headings = list(headings)
    return '\n'.join([line(headings), line('---' for _ in headings), *map(line, rows)])


def code(value: Any) -> str:
    """Return a value as code; nothing for nothing."""
    return f'`{value}`' if str(value) else ''


def attributes(documented: type) -> dict[str, str]:
    """Return what the section `Attributes` of a docstring in the style of numpydoc says, by name.

    A paragraph on several names, as in ``low, high``, is said of each.
    """
    text = inspect.getdoc(documented) or ''
    found = re.search(r'^Attributes\n-+\n(.*?)(?=^\w.*\n-+$|\Z)', text, re.MULTILINE | re.DOTALL)
    said: dict[str, str] = {}
    for entry in re.split(r'^(?=\S)', found.group(1) if found else '', flags=re.MULTILINE):
        names, _, meaning = entry.partition('\n')
        for name in names.split(','):
            said[name.strip()] = ' '.join(meaning.split())
    return said


def default(field: dataclasses.Field[Any]) -> str:
    """Return the default of a field as YAML has it; nothing where one must be given."""
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif field.default is not dataclasses.MISSING:
        value = field.default
    else:
        return ''
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return value if isinstance(value, str) else json.dumps(value, default=str)


def settings(name: str) -> str:
    """Return the fields of a dataclass, `module:Class`; raises LookupError where one has no word on it."""
    module, _, attribute = name.partition(':')
    described = getattr(importlib.import_module(module), attribute)
    said = attributes(described)
    fields = dataclasses.fields(described)
    if missing := [field.name for field in fields if not said.get(field.name)]:
        raise LookupError(f'{name}: the docstring says nothing of {", ".join(missing)} under Attributes')
    return markdown(
        ('name', 'type', 'default', 'meaning'),
        ((code(f.name), code(f.type), code(default(f)), said[f.name]) for f in fields),
    )


def exit_codes(name: str) -> str:
    """Return the exit codes of a process by its entry point, `group:name`."""
    from aiida.plugins.entry_point import load_entry_point

    group, _, entry = name.partition(':')
    codes = load_entry_point(group, entry).exit_codes
    return markdown(
        ('code', 'label', 'message', 'cached'),
        (
            (str(one.status), code(label), escape(one.message or ''), 'no' if one.invalidates_cache else 'yes')
            for label, one in sorted(codes.items(), key=lambda item: item[1].status)
        ),
    )


def hyperparameters(name: str) -> str:
    """Return the hyper-parameters of a model of the registry."""
    from aiida_e3relax.gnn.models.registry import MODELS

    fields = dataclasses.fields(MODELS[name].Hyperparameters)
    return markdown(('name', 'type', 'default'), ((code(f.name), code(f.type), code(default(f))) for f in fields))


def report_columns(_: str) -> str:
    """Return the columns of the table on a campaign's page."""
    from aiida_e3relax.campaign.report.columns import PAGE_COLUMNS

    return markdown(
        ('heading', 'column of `campaign.csv`', 'meaning'),
        ((column.title, code(column.field), column.meaning) for column in PAGE_COLUMNS),
    )


def table_columns(_: str) -> str:
    """Return the columns of `campaign.csv` and of `campaign_frame`."""
    from aiida_e3relax.campaign.results.table import COLUMNS, NUMBER_COLUMNS

    legs = {'raw_': 'the raw leg', 'predicted_': 'the predicted leg'}

    def of(name: str) -> str:
        return next((leg for prefix, leg in legs.items() if name.startswith(prefix)), 'the structure')

    return markdown(
        ('column', 'of', 'where missing'),
        ((code(name), of(name), 'NaN' if name in NUMBER_COLUMNS else 'None') for name in COLUMNS),
    )


def escape(text: str) -> str:
    """Return a message so that Markdown shows its angle brackets."""
    parts = re.split(r'(`[^`]*`)', text)
    return ''.join(part if part.startswith('`') else part.replace('<', '\\<') for part in parts)


TABLES: dict[str, Callable[[str], str]] = {
    'settings': settings,
    'exit-codes': exit_codes,
    'hyperparameters': hyperparameters,
    'report-columns': report_columns,
    'table-columns': table_columns,
}


def setup(app: Any) -> dict[str, Any]:
    """Add a directive for each of the tables."""
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    def directive(make: Callable[[str], str]) -> type[SphinxDirective]:
        class Table(SphinxDirective):
            optional_arguments = 1

            def run(self) -> list[nodes.Node]:
                return self.parse_text_to_nodes(make(*(self.arguments or [''])))

        return Table

    for name, make in TABLES.items():
        app.add_directive(name, directive(make))
    return {'parallel_read_safe': True}
