"""What docstrings, helps of options and helps of ports have in single backquotes is code, with a link where it can be.

Docutils would set it in italics. Sphinx's own way, a default role, does not reach the helps of ports, which AiiDA reads
outside of Sphinx.
"""

from __future__ import annotations

import functools
from typing import Any

from docutils import nodes
from docutils.core import publish_doctree
from sphinx import addnodes


def _as_code(app: Any, document: nodes.document) -> None:
    for node in list(document.findall(nodes.title_reference)):
        text = node.astext()
        link = addnodes.pending_xref(
            '', nodes.literal(text, text), refdomain='py', reftype='obj', reftarget=text, refdoc=app.env.docname
        )
        node.replace_self(link)


def _escape(app: Any, context: Any, lines: list[str]) -> None:
    """Take stars in the help of `aiida-e3relax`, as in patterns of files, for what they are."""
    lines[:] = [line.replace('*', '\\*') for line in lines]


def setup(app: Any) -> dict[str, Any]:
    """Look for them in every page that was read."""
    from aiida.sphinxext import process

    # Some helps of aiida-vasp are no reStructuredText; what is wrong with them is not for the reader of our build.
    process.publish_doctree = functools.partial(publish_doctree, settings_overrides={'report_level': 5})
    app.connect('sphinx-click-process-options', _escape)
    app.connect('doctree-read', _as_code)
    return {'parallel_read_safe': True}
