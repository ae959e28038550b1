"""Equations as MathML, which browsers draw themselves: pages load no script for them and are read offline, too."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _display(self: Any, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, 'div', CLASS='math notranslate nohighlight'))
    if node['number']:
        self.body.append(f'<span class="eqno">({node["number"]})')
        self.add_permalink_ref(node, 'Link to this equation')
        self.body.append('</span>')
    self.body.append(tex2mathml(node.astext(), as_block=True) + '</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, Any]:
    """Make it the way in which HTML has equations; LaTeX that it does not know ends the build."""
    app.add_html_math_renderer('mathml', (_inline, None), (_display, None))
    app.config.html_math_renderer = 'mathml'
    return {'parallel_read_safe': True}
