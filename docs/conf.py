"""Sphinx's settings for the site: `make docs`. What is generated from the code is made in `extensions/`."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import warnings
from importlib.metadata import version as installed_version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / 'extensions'))

# AiiDA and the kernel of notebooks write where these say, and not into the home folder; it lives as long as the build.
os.environ['AIIDA_PATH'] = tempfile.mkdtemp(prefix='e3relax-docs-')
for variable in ('IPYTHONDIR', 'JUPYTER_RUNTIME_DIR'):
    os.environ[variable] = os.environ['AIIDA_PATH']
atexit.register(shutil.rmtree, os.environ['AIIDA_PATH'], ignore_errors=True)

from aiida import load_profile  # noqa: E402
from aiida.common.warnings import AiidaDeprecationWarning  # noqa: E402
from aiida.storage.sqlite_temp import SqliteTempBackend  # noqa: E402

# The ports of processes need a profile.
load_profile(SqliteTempBackend.create_profile('docs', filepath=os.environ['AIIDA_PATH']), allow_switch=True)
warnings.filterwarnings('ignore', category=AiidaDeprecationWarning)  # autodoc looks at all that classes have

project = 'aiida-e3relax'
author = 'The aiida-e3relax developers'
project_copyright = author
version = release = installed_version('aiida-e3relax')

extensions = [
    'myst_nb',  # Markdown, and notebooks that are executed
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_click',
    'sphinxarg.ext',
    'sphinx_copybutton',
    'sphinxcontrib.mermaid',
    'aiida.sphinxext',
    'code_tables',
    'docstrings',
    'mathml',
    'repository_pages',
]
exclude_patterns = ['examples/own-model/**', 'extensions/**']

html_theme = 'furo'
html_title = f'aiida-e3relax {version}'
html_static_path = ['static']
html_css_files = ['site.css']
html_theme_options = {'navigation_with_keys': True}

# GitHub shows the same files: its anchors of headings, and its fences of diagrams.
myst_heading_anchors = 6
myst_fence_as_directive = ['mermaid']
myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence', 'deflist']
smartquotes = False  # they make one dash of `--option`
highlight_language = 'bash'  # of blocks that say nothing: nearly all are commands

nb_execution_mode = 'force'
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
napoleon_google_docstring = False
copybutton_exclude = '.linenos, .gp, .go'
