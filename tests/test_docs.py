"""The documentation agrees with the code: what `make docs-check` looks at, a document at a time."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

COSTS = ('ionic_steps', 'electronic_steps')
SCRIPT = Path(__file__).parents[1] / 'docs' / 'check.py'


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location('docs_check', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHECK = _load()


EQUATIONS = '<!-- equations: e3relax -->\n| eq. | test |\n|---|---|\n'


@pytest.fixture(scope='module')
def commands() -> set[str]:
    return CHECK.commands()


@pytest.mark.parametrize('document', CHECK.DOCUMENTS, ids=lambda path: path.relative_to(SCRIPT.parents[1]).as_posix())
def test_document_agrees_with_the_code(document, commands):
    assert CHECK.check(document, commands) == []


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        ('[here](nowhere.png)', 'no such file'),
        ('[here](#nowhere)', 'no such heading'),
        ('`gnn/models/nothing.py`', 'no such file'),
        ('`aiida_e3relax.gnn.nothing`', 'has no nothing'),
        ('`aiida_e3relax.campaign.report.files.nothing`', 'has no nothing'),
        ('`python -m benchmarks.nothing`', 'no such script'),
        ('    e3relax guess POSCAR', 'no such command'),
        ('`aiida-e3relax campaign forget NAME`', 'no such command'),
        ('| a | b |\n|---|---|\n| 1.0 | 2.0 |', 'no script'),
        ('word ' * 30, 'characters'),
        ('<!-- columns: models -->\n| name |\n|---|\n| `guess` |', 'too many'),
        ('<!-- table: versions -->\n| version of | now | where |', 'expected'),
        ('<!-- words: comparison -->\n`cores`', 'missing'),
        ('<!-- rows: campaign-saving -->\n| crystals |', 'expected'),
        ('`gnn/models/base.py::Nothing`', 'no such function or class'),
        (f'{EQUATIONS}| 1-21 | `test_docs.py::test_fault_is_told` |', 'missing [22]'),
        (f'{EQUATIONS}| 1-22 | none |', '1-22 has no test'),
    ],
)
def test_fault_is_told(text, told, tmp_path, commands):
    document = tmp_path / 'page.md'
    document.write_text(f'# A page\n{text}\n')
    faults = CHECK.check(document, commands)
    assert len(faults) == 1
    assert told in faults[0]


def test_tables_can_be_written(tmp_path):
    document = tmp_path / 'page.md'
    document.write_text('# A page\n<!-- table: versions -->\n| old |\n\nText.\n')
    assert list(CHECK.check_tables(document, write=True)) == []
    assert document.read_text() == '# A page\n<!-- table: versions -->\n' + '\n'.join(CHECK.versions()) + '\n\nText.\n'


def test_tables_of_starts_are_of_whatever_comparison_is_stored(monkeypatch):
    steps = {'raw': [10, 20, 30], 'chgnet': [5, 20, 33], 'mace (rd)': [4, 6, 8]}
    table = pd.DataFrame({f'{start}: {cost}': values for start, values in steps.items() for cost in COSTS})
    for start, same in (('chgnet', [True, False, None]), ('mace (rd)', [True] * 3)):
        table[f'{start}: outcome'], table[f'{start}: same_minimum'] = 'compared', same
    table['class'] = ['oxides', 'halides', 'oxides']
    monkeypatch.setattr(CHECK, '_starts', lambda: pd.concat([table] * 2))
    raw, chgnet, mace = CHECK.starts_saving()[2:]
    assert raw == '| raw | 120 | | 120 | | | | |'
    assert re.fullmatch(r'\| chgnet \| 116 \| 3 % \(.*\) \| 116 \| 3 % \(.*\) \| 2 of 4 \| 2 \| 2 \|', chgnet)
    assert mace.endswith('| 6 of 6 | 0 | 0 |')
    assert CHECK.starts_by_class()[2:] == ['| halides | 2 | 40 | 40 | 12 |', '| oxides | 4 | 80 | 76 | 24 |']
