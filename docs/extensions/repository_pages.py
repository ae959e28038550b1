"""Files of the repository outside docs/ as pages of the site, and links to them.

A page `project/NAME.md` links to its file, for those who read it in the repository; on the site it is that file.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    'project/benchmarks': 'benchmarks/README.md',
    'project/changes': 'CHANGELOG.md',
    'project/contributing': 'CONTRIBUTING.md',
    'project/readme': 'README.md',
}
LINK = re.compile(r'(\]\()([^)\s#]+)')


def relink(text: str, file: str, page: str) -> str:
    """Return the Markdown of a file for a page of the site.

    Parameters
    ----------
    text, file
        The text, and its path in the repository, from which its links go.
    page
        The path of the page, in the repository as well.
    """
    pages = {repository: f'docs/{name}.md' for name, repository in PAGES.items()}

    def replace(found: re.Match[str]) -> str:
        target = found.group(2)
        if re.match(r'[a-z]+:', target):
            return found.group(0)
        there = posixpath.normpath(posixpath.join(posixpath.dirname(file), target))
        there = pages.get(there, there)
        return found.group(1) + posixpath.relpath(there, posixpath.dirname(page))

    return LINK.sub(replace, text)


def _read(app: Any, page: str, source: list[str]) -> None:
    file = PAGES.get(page)
    if file:
        app.env.note_dependency(str(ROOT / file))
        source[0] = (ROOT / file).read_text(encoding='utf-8')
    path = Path(app.env.doc2path(page)).relative_to(ROOT).as_posix()
    source[0] = relink(source[0], file or path, path)


def setup(app: Any) -> dict[str, Any]:
    """Take the files in when Sphinx reads the pages."""
    app.connect('source-read', _read)
    return {'parallel_read_safe': True}
