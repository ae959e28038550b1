"""What the site is made of: tables from the code, files of the repository as pages, and a way to every page."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[1] / 'docs'
PAGES = sorted(page for page in DOCS.rglob('*.md') if 'own-model' not in page.parts)


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f'docs_{name}', DOCS / 'extensions' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLES = _load('code_tables')
REPOSITORY = _load('repository_pages')
ASKED_FOR = [
    (kind, argument)
    for page in PAGES
    for kind, argument in re.findall(r'^```\{([\w-]+)\} ?(\S*)$', page.read_text(encoding='utf-8'), re.MULTILINE)
    if kind in TABLES.TABLES
]


@pytest.mark.parametrize(('kind', 'argument'), ASKED_FOR)
def test_tables_can_be_made(kind, argument):
    heading, _, *rows = TABLES.TABLES[kind](argument).splitlines()
    assert rows
    columns = heading.count('|')
    assert all(row.replace('\\|', '').count('|') == columns for row in rows)


def test_all_kinds_of_tables_are_used():
    assert {kind for kind, _ in ASKED_FOR} == set(TABLES.TABLES)


def test_fields_have_their_own_words():
    table = TABLES.settings('aiida_e3relax.workflows.guard:GuardSettings')
    assert '| `contact_ratio_min` | `float` | `0.6` | Smallest distance between two atoms' in table
    both = [row for row in table.splitlines() if row.startswith('| `strain_m')]
    assert len(both) == 2  # one paragraph, said of each
    assert both[0].split('|')[-2] == both[1].split('|')[-2]


def test_a_field_without_a_word_is_told(monkeypatch):
    @dataclasses.dataclass
    class Half:
        """A class.

        Attributes
        ----------
        said
            With a word.
        """

        said: int = 1
        silent: int = 2

    monkeypatch.setattr('aiida_e3relax.workflows.guard.GuardSettings', Half)
    with pytest.raises(LookupError, match='says nothing of silent'):
        TABLES.settings('aiida_e3relax.workflows.guard:GuardSettings')


def test_exit_codes_are_those_of_the_process():
    table = TABLES.exit_codes('aiida.workflows:e3relax.vasp')
    assert '| 410 | `ERROR_RELAXATION_FAILED` | No VASP relaxation finished' in table
    assert '`verdi process status <pk>`' in table


@pytest.mark.parametrize(
    ('file', 'page', 'link', 'expected'),
    [
        ('README.md', 'docs/project/readme.md', 'docs/start.md#the-demo', '../start.md#the-demo'),
        ('README.md', 'docs/project/readme.md', 'CHANGELOG.md', 'changes.md'),
        ('benchmarks/README.md', 'docs/project/benchmarks.md', 'speed.py', '../../benchmarks/speed.py'),
        (
            'docs/campaign.md',
            'docs/campaign.md',
            '../benchmarks/README.md#queriespy',
            'project/benchmarks.md#queriespy',
        ),
        ('docs/campaign.md', 'docs/campaign.md', 'chain.md#guard', 'chain.md#guard'),
        ('docs/campaign.md', 'docs/campaign.md', '#arms', '#arms'),
        ('docs/campaign.md', 'docs/campaign.md', 'https://example.org/a', 'https://example.org/a'),
    ],
)
def test_links_lead_to_pages_of_the_site(file, page, link, expected):
    assert REPOSITORY.relink(f'[text]({link})', file, page) == f'[text]({expected})'


def test_files_of_the_repository_have_their_pages():
    for page, file in REPOSITORY.PAGES.items():
        text = (DOCS / f'{page}.md').read_text(encoding='utf-8')
        assert f'](../../{file})' in text  # for those who read it in the repository


def test_every_page_is_in_the_contents():
    contents = (DOCS / 'index.md').read_text(encoding='utf-8')
    trees = re.findall(r'```\{toctree\}\n(.*?)```', contents, re.DOTALL)
    lines = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(':')]
    listed = {re.sub(r'.*<(.*)>', r'\1', line) for line in lines}  # with a title of its own, or without
    assert len(listed) == len(lines)
    pages = {page.relative_to(DOCS).with_suffix('').as_posix() for page in PAGES} - {'index'}
    assert listed == pages


def test_every_process_and_node_of_the_plugin_is_in_the_reference():
    groups = json.loads((DOCS.parent / 'setup.json').read_text(encoding='utf-8'))['entry_points']
    processes = (DOCS / 'reference' / 'processes.md').read_text(encoding='utf-8')
    for group in ('aiida.calculations', 'aiida.workflows'):
        for entry in groups[group]:
            name, _, path = entry.partition(' = ')
            module, _, attribute = path.partition(':')
            assert f'{{exit-codes}} {group}:{name}\n' in processes
            assert f':: {attribute}\n   :module: {module}\n' in processes
    python = (DOCS / 'reference' / 'python.md').read_text(encoding='utf-8')
    for entry in groups['aiida.data']:
        assert f'.. autoclass:: {entry.partition(" = ")[2].replace(":", ".")}\n' in python
