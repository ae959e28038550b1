"""Docstrings and helps as this package writes them, in the eyes of Sphinx.

- What has single backquotes is code, with a link where it names something of the reference. Docutils would set it in
  italics; Sphinx's own way, a default role, does not reach the helps of ports, which AiiDA reads outside of Sphinx.
- `Returns` of a docstring may be sentences, where numpydoc begins with a type.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from docutils import nodes
from docutils.core import publish_doctree
from sphinx import addnodes

CLASS = re.compile(r'[A-Z]\w+')


def _as_code(app: Any, document: nodes.document) -> None:
    for item in document.findall(nodes.list_item):  # AiiDA's, of ports, have words outside of a paragraph
        words = [child for child in item.children if isinstance(child, nodes.Inline | nodes.Text)]
        if words:
            blocks = [child for child in item.children if child not in words]
            item.clear()
            item += [nodes.paragraph('', '', *words), *blocks]
    for node in list(document.findall(nodes.title_reference)):
        text = node.astext()
        shown = nodes.literal(text, text)
        short = CLASS.fullmatch(text)
        if short or text.startswith('aiida_e3relax.'):
            link = addnodes.pending_xref(
                '', shown, refdomain='py', reftype='obj', reftarget=text, refdoc=app.env.docname
            )
            if short:
                link['refspecific'] = True  # found without its module
            node.replace_self(link)
        else:
            node.replace_self(shown)


def _escape(app: Any, context: Any, lines: list[str]) -> None:
    """Take stars in the help of `aiida-e3relax`, as in patterns of files, for what they are."""
    lines[:] = [line.replace('*', '\\*') for line in lines]


def _returns(app: Any, what: str, name: str, documented: Any, options: Any, lines: list[str]) -> None:
    """Put the annotated type before the sentences of a section that has no type; properties have no such sections."""
    if what in ('property', 'attribute') and lines and ':' in lines[0]:
        lines.insert(0, '')  # else napoleon takes what is before the colon for its type
    if 'Returns' not in lines:
        return
    begin = lines.index('Returns') + 2
    end = next((i - 1 for i in range(begin, len(lines)) if re.fullmatch('-+', lines[i])), len(lines))
    section = [line for line in lines[begin:end] if line]
    if not any(line.startswith(' ') for line in section):
        annotated = getattr(documented, '__annotations__', {}).get('return', 'object')
        lines[begin:end] = [str(annotated), *(f'    {line}' for line in section), '']


def _is_not_stored(port: Any) -> bool:
    return getattr(port, 'non_db', False) or getattr(port, 'is_metadata', False)


def setup(app: Any) -> dict[str, Any]:
    """Look at every docstring before napoleon does, and at every page that was read."""
    from aiida.sphinxext import process

    # Some helps of aiida-vasp are no reStructuredText; what is wrong with them is not for the reader of our build.
    process.publish_doctree = functools.partial(publish_doctree, settings_overrides={'report_level': 5})
    # `:hide-nondb-inputs:` leaves out `metadata` as well, which is the same for every process of AiiDA.
    process._is_non_db = _is_not_stored
    app.connect('sphinx-click-process-options', _escape)
    app.connect('autodoc-process-docstring', _returns, priority=400)
    app.connect('doctree-read', _as_code)
    return {'parallel_read_safe': True}
