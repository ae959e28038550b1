"""Check the documentation against the code: `make docs-check`.

    python docs/check.py          # what is wrong, a line each; exit status 1 if there is anything
    python docs/check.py --write  # writes the tables that a function here makes

What is checked: links and their anchors; the paths, modules and commands that are named; and what is under comments:

- `<!-- table: NAME -->`: the table below is the one that `TABLES[NAME]` makes;
- `<!-- columns: NAME -->`: its first columns are those that `COLUMNS[NAME]` returns, in any order;
- `<!-- rows: NAME -->`: the rows that `ROWS[NAME]` makes are among its rows;
- `<!-- words: NAME -->`: those that `WORDS[NAME]` returns are in backquotes between here and the next heading;
- `<!-- equations: NAME -->`: its first column has every equation of the paper once, its last one a test for each.

Every other table of numbers has a script in its section, or the words `no script`.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault('AIIDA_PATH', str(ROOT / '.aiida'))  # importing AiiDA makes a folder there
PACKAGE = ROOT / 'aiida_e3relax'
DOCUMENTS = [
    *(ROOT / name for name in ('README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'benchmarks/README.md')),
    *sorted(page for page in (ROOT / 'docs').rglob('*.md') if 'examples' not in page.parts),
]
WIDTH = 120
BASES = (ROOT, PACKAGE, PACKAGE / 'gnn', ROOT / 'tests')
"""Where a path that is named may begin, beside the folder of the document."""

CODE = ('py', 'md', 'yaml', 'yml', 'cpp', 'inc', 'toml', 'cff', 'sh', 'j2')
WRITTEN = {
    *('benchmark.yaml', 'compare.md', 'table.md', 'run.yaml', 'tune.yaml', 'settings.yaml'),
    *('computer.yaml', 'e3relax.yaml', 'overrides.yaml', 'mended.yaml', 'setup.yaml'),
}
"""Files that a reader writes."""

COMMENT = re.compile(r'<!-- (table|columns|rows|words|equations): ([\w-]+) -->')
NUMBER = re.compile(r'\**[-+x~]?\d[\d.,e+-]*\**(\s*%|\s*\([^)]*\))?')


# ---------------------------------------------------------------- what the code says


def _constant(path: str, name: str) -> Any:
    """Return the value of a constant of a module, which is not imported."""
    for node in ast.parse((PACKAGE / path).read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and any(getattr(target, 'id', None) == name for target in node.targets):
            return ast.literal_eval(node.value)
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.Assign) and getattr(inner.targets[0], 'id', None) == name:
                    return ast.literal_eval(inner.value)
    raise LookupError(f'{path} has no constant {name}')


def versions() -> list[str]:
    """Return the table of docs/versions.md."""
    setup = json.loads((ROOT / 'setup.json').read_text(encoding='utf-8'))
    constants = [
        ('checkpoints', 'gnn/checkpoints/checkpoint.py', 'FORMAT_VERSION'),
        ('data cards, in training files', 'gnn/data/card.py', 'CARD_VERSION'),
        ('the report of a prediction, as written', 'gnn/prediction/report.py', 'SCHEMA'),
        ('the report of a prediction, as read by AiiDA', 'parsers/report_schema.py', 'SCHEMA'),
        ('`comparison` of a chain', 'workflows/comparison/ledger.py', 'SCHEMA'),
        ('the settings of a campaign', 'campaign/settings.py', 'SCHEMA'),
        ('the settings of a validation', 'validation/group.py', 'SCHEMA'),
        ("what AiiDA's cache may take of the network", 'calculations/predict.py', 'CACHE_VERSION'),
    ]
    return [
        '| version of | now | where |',
        '|---|---|---|',
        f'| the package | {setup["version"]} | `setup.json`, `version` |',
        *(f'| {what} | {_constant(path, name)} | `aiida_e3relax/{path}`, `{name}` |' for what, path, name in constants),
    ]


def accuracy() -> list[str]:
    """Return the measured errors that stand in the card of the default model, as benchmarks/accuracy.py prints them."""
    from benchmarks.accuracy import markdown

    card = json.loads((PACKAGE / 'gnn/checkpoints/default.card.json').read_text(encoding='utf-8'))
    return markdown(card['metrics']['rows']).split('\n\n')[0].splitlines()


@functools.cache
def _campaign() -> Any:
    """Return the table of the stored campaign with real PBE."""
    import pandas as pd

    return pd.read_csv(ROOT / 'docs/examples/real-pbe/campaign.csv')


def campaign_crystals() -> list[str]:
    """Return the crystals of the stored campaign, one row each."""
    table = [
        '| crystal | atoms | steps raw | with | start above the end, raw meV/atom | predicted | stated uncertainty A |',
        '|---|---|---|---|---|---|---|',
    ]
    for row in _campaign().sort_values('label').to_dict('records'):
        above = [row[f'{leg}_start_energy_error_meV_per_atom'] for leg in ('raw', 'predicted')]
        table.append(
            f'| {row["label"].replace("_", " ")} | {row["n_atoms"]} | {row["raw_ionic_steps"]:.0f} | '
            f'{row["predicted_ionic_steps"]:.0f} | {above[0]:.0f} | {above[1]:.1f} | {row["uncertainty_A"]:.2f} |'
        )
    return table


@functools.cache
def _summary() -> Any:
    """Return what the stored campaign tells, as its report computes it."""
    from aiida_e3relax.campaign.results.statistics import summarise

    frame = _campaign()
    return summarise(frame.assign(elements=frame['elements'].str.split()))


def campaign_saving() -> list[str]:
    """Return what the stored campaign saved, as a row of the README."""
    saved = _summary().savings['ionic_steps'].percent
    same = _campaign()['same_minimum']
    return [
        f'| {len(same)} hypothetical crystals of 2 to 6 atoms, in the cells of other compounds | PBE (GPAW) | '
        f'{saved.value:.0f} % ({saved.low:.0f} to {saved.high:.0f}) | {int(same.sum())} of {len(same)} |'
    ]


def campaign_summary() -> list[str]:
    """Return what the stored campaign saved, as a table of benchmarks/README.md."""
    rows = ['| | without | with | saved % (95 % interval) | fewer | the same | more |', '|---|---|---|---|---|---|---|']
    for cost in ('ionic_steps', 'electronic_steps'):
        of = _summary().savings[cost]
        percent = f'{of.percent.value:.0f} ({of.percent.low:.0f} to {of.percent.high:.0f})'
        counts = f'{of.less} | {of.same} | {of.more}'
        rows.append(f'| {cost.replace("_", " ")} | {of.without:.0f} | {of.with_network:.0f} | {percent} | {counts} |')
    return rows


@functools.cache
def _starts() -> Any:
    """Return the crystals of the stored comparison of pre-relaxers that all starts have, by label."""
    import pandas as pd

    found = pd.read_csv(ROOT / 'docs/examples/pre-relaxers/compare.csv', index_col='label')
    return found[found['in_all']]


def _name_starts() -> list[str]:
    """Return the starts of the stored comparison but for the raw crystals, in its order."""
    return [name.removesuffix(': outcome') for name in _starts() if name.endswith(': outcome')]


def starts_saving() -> list[str]:
    """Return what VASP took from each start in the stored comparison of pre-relaxers."""
    import pandas as pd

    from aiida_e3relax.campaign.results.arms import RAW, WORSE_BY, column
    from aiida_e3relax.campaign.results.statistics import estimate_saving

    found = _starts()
    raw = [f'{found[column(RAW, cost)].sum():.0f}' for cost in ('ionic_steps', 'electronic_steps')]
    heads = 'start', 'ionic steps', 'saved (95 % interval)', 'electronic steps', 'saved', 'same minimum'
    rows = [
        f'| {" | ".join((*heads, "more steps than raw", "by more than one"))} |',
        '|---|---|---|---|---|---|---|---|',
        f'| {RAW} | {raw[0]} | | {raw[1]} | | | | |',
    ]
    for start in _name_starts():
        costs = {
            cost: pd.DataFrame({'without': found[column(RAW, cost)], 'with': found[column(start, cost)]})
            for cost in ('ionic_steps', 'electronic_steps')
        }
        savings = [estimate_saving(cost, pairs) for cost, pairs in costs.items()]
        cells = []
        for saving in savings:
            percent = saving.percent
            cells += [f'{saving.with_network:.0f}', f'{percent.value:.0f} % ({percent.low:.0f} to {percent.high:.0f})']
        same = found[column(start, 'same_minimum')].dropna()
        steps = costs['ionic_steps']
        worse = (steps['with'] - steps['without'] > WORSE_BY).sum()
        cells += [f'{(same == True).sum()} of {len(same)}', f'{savings[0].more}', f'{worse}']  # noqa: E712
        rows.append(f'| {start} | {" | ".join(cells)} |')
    return rows


def starts_by_class() -> list[str]:
    """Return the ionic steps of each start in the stored comparison of pre-relaxers, by class of compounds."""
    from aiida_e3relax.campaign.results.arms import RAW, column

    starts = [RAW, *_name_starts()]
    rows = [f'| family | crystals | {" | ".join(starts)} |', '|---' * (2 + len(starts)) + '|']
    for name, part in _starts().groupby('class'):
        totals = (f'{part[column(start, "ionic_steps")].sum():.0f}' for start in starts)
        rows.append(f'| {name} | {len(part)} | {" | ".join(totals)} |')
    return rows


def guard_settings() -> set[tuple[str, ...]]:
    """Return the settings of the guard with their defaults."""
    from aiida_e3relax.workflows.guard import GuardSettings

    return _defaults(GuardSettings(), none='not looked at')


def training_settings() -> set[tuple[str, ...]]:
    """Return the settings of a training with their defaults."""
    from aiida_e3relax.gnn.training.settings import TrainingSettings

    return _defaults(TrainingSettings())


def _defaults(settings: Any, none: str = 'null') -> set[tuple[str, ...]]:
    """Return the names of the fields of a dataclass and their values, as YAML has them."""

    def text(value: Any) -> str:
        return none if value is None else value if isinstance(value, str) else json.dumps(value).replace('"', '')

    return {(f'`{name}`', f'`{text(value)}`') for name, value in dataclasses.asdict(settings).items()}


def models() -> set[tuple[str, ...]]:
    """Return the names of the registry of models."""
    from aiida_e3relax.gnn.models.registry import MODELS

    return {(f'`{name}`',) for name in MODELS}


def potentials() -> set[tuple[str, ...]]:
    """Return the names of the registry of potentials with their packages."""
    from aiida_e3relax.gnn.potentials.registry import POTENTIALS

    return {(f'`{known.name}`', f'`{known.package}`') for known in POTENTIALS.values()}


def ablations() -> set[tuple[str, ...]]:
    """Return the rows of `e3relax ablate` with what they change."""
    from aiida_e3relax.gnn.experiments.ablations import ABLATIONS

    def text(name: str, value: Any) -> str:
        return f'`{name}: {value if isinstance(value, str) else json.dumps(value)}`'

    return {(name, ', '.join(text(*change) for change in changes.items())) for name, changes in ABLATIONS.items()}


def protocols() -> set[tuple[str, ...]]:
    """Return the names of the protocols with the cutoffs (eV) that their file states."""
    import yaml

    content = yaml.safe_load((PACKAGE / 'workflows/protocols/vasp.yaml').read_text(encoding='utf-8'))['protocols']

    def cutoff(name: str) -> str:
        own = content[name].get('vasp', {}).get('vasp', {}).get('parameters', {}).get('incar', {})
        return str(own['encut']) if 'encut' in own else cutoff(content[name]['inherits'])

    named = {name for name, inputs in content.items() if 'description' in inputs}
    of_sets = {('`materials-project`', '520')}  # pymatgen has it
    return of_sets | {(f'`{name}`', cutoff(name)) for name in named if 'input_set' not in content[name]}


def benchmark_scripts() -> set[tuple[str, ...]]:
    """Return the scripts of benchmarks/ that are run by name."""
    scripts = (ROOT / 'benchmarks').glob('*.py')
    return {(f'`{path.name}`',) for path in scripts if '__main__' in path.read_text(encoding='utf-8')}


def exit_statuses() -> set[tuple[str, ...]]:
    """Return the exit statuses of `e3relax` with their codes."""
    from aiida_e3relax.common import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.RunError)]
    return {(str(kind.exit_status), f'`{kind.code}`') for kind in kinds}


def outcomes() -> set[tuple[str, ...]]:
    """Return what can become of a structure of a campaign, and whether it counts in the savings."""
    from aiida_e3relax.campaign.results.outcomes import COUNTED, OUTCOMES

    return {(f'`{outcome}`', 'yes' if outcome in COUNTED else 'no') for outcome in OUTCOMES}


def comparison_keys() -> set[str]:
    """Return the keys of `comparison` that campaigns read."""
    from aiida_e3relax.campaign.results.table import LEG_FACTS, LEG_NUMBERS, NUMBERS

    of_network = {'network_wall_time_s', 'network_core_time_s'}  # there without `network_`
    return {*LEG_FACTS, *LEG_NUMBERS, *NUMBERS} - of_network


def exit_codes() -> set[tuple[str, ...]]:
    """Return the numbers and labels of the exit codes of our processes, those of AiiDA and aiida-vasp left out."""
    from aiida_e3relax.calculations.predict import E3RelaxCalculation
    from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain

    codes = {**E3RelaxCalculation.exit_codes, **E3RelaxVaspWorkChain.exit_codes}
    return {(str(code.status), f'`{label}`') for label, code in codes.items() if code.status >= 300}


def commands() -> set[str]:
    """Return the commands of both command lines, with their groups."""
    import click

    from aiida_e3relax.cli import main as with_aiida
    from aiida_e3relax.gnn.cli import _parser

    def walk(group: click.Group, name: str) -> Iterator[str]:
        context = click.Context(group)
        for word in group.list_commands(context):
            yield f'{name} {word}'
            command = group.get_command(context, word)
            if isinstance(command, click.Group):
                yield from walk(command, f'{name} {word}')

    (words,) = (action.choices for action in _parser()._actions if isinstance(action.choices, dict))
    return {f'e3relax {word}' for word in words} | set(walk(with_aiida, 'aiida-e3relax'))


TABLES: dict[str, Callable[[], list[str]]] = {
    'versions': versions,
    'accuracy': accuracy,
    'campaign-crystals': campaign_crystals,
    'campaign-summary': campaign_summary,
    'starts-by-class': starts_by_class,
    'starts-saving': starts_saving,
}
COLUMNS: dict[str, Callable[[], set[tuple[str, ...]]]] = {
    'ablations': ablations,
    'benchmarks': benchmark_scripts,
    'exit-codes': exit_codes,
    'exit-statuses': exit_statuses,
    'guard-settings': guard_settings,
    'models': models,
    'outcomes': outcomes,
    'potentials': potentials,
    'protocols': protocols,
    'training-settings': training_settings,
}
ROWS: dict[str, Callable[[], list[str]]] = {'campaign-saving': campaign_saving}
WORDS: dict[str, Callable[[], set[str]]] = {'comparison': comparison_keys}
EQUATIONS = {'e3relax-h2': 60, 'e3relax': 22, 'deeprelax': 28}
"""Numbered equations of the papers."""


# ---------------------------------------------------------------- what the documents say


def _outside_code(text: str) -> str:
    """Return a document with its fenced code blanked out, line by line."""
    lines, inside = [], False
    for line in text.splitlines():
        fence = line.lstrip().startswith('```')
        lines.append('' if inside or fence else line)
        inside ^= fence
    return '\n'.join(lines)


def _anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.*)$', _outside_code(text), flags=re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).strip().replace(' ', '-') for heading in headings}


def check_links(document: Path) -> Iterator[str]:
    """Tell relative links to what is not there."""
    for target in re.findall(r'\]\(([^)\s]+)\)', _outside_code(document.read_text(encoding='utf-8'))):
        if re.match(r'[a-z]+:', target):
            continue
        name, _, anchor = target.partition('#')
        path = (document.parent / name).resolve() if name else document
        if not path.exists():
            yield f'link to {target}: there is no such file'
        elif anchor and path.suffix == '.md' and anchor not in _anchors(path.read_text(encoding='utf-8')):
            yield f'link to {target}: there is no such heading'


def check_paths(document: Path) -> Iterator[str]:
    """Tell files and modules that are named and are not there."""
    text = document.read_text(encoding='utf-8')
    endings = '|'.join(CODE)
    for path in sorted(set(re.findall(rf'(?<![\w./*<{{-])((?:[\w.-]+/)*[\w.-]+\.(?:{endings}))\b(?![\w/*])', text))):
        named = [base / path for base in (*BASES, document.parent)]
        known = '/' not in path and (path in WRITTEN or any(PACKAGE.rglob(path)) or any(ROOT.glob(f'*/{path}')))
        if not known and not any(other.exists() for other in named):
            yield f'{path}: there is no such file'
    for path, name in sorted(set(re.findall(r'([\w./-]+\.py)::(\w+)', text))):
        sources = [base / path for base in BASES if (base / path).is_file()]
        if sources and not any(re.search(rf'^(def|class) {name}\b', s.read_text('utf-8'), re.M) for s in sources):
            yield f'{path}::{name}: there is no such function or class'
    for name in sorted(set(re.findall(r'\baiida_e3relax(?:\.\w+)+', text))):
        if fault := _find_fault_of_name(name):
            yield f'{name}: {fault}'
    for name in sorted(set(re.findall(r'-m benchmarks\.(\w+)', text))):
        if not (ROOT / 'benchmarks' / f'{name}.py').is_file():
            yield f'benchmarks.{name}: there is no such script'


def _find_fault_of_name(name: str) -> str | None:
    """Return what is wrong with the dotted name of a module, or of something in a module."""
    path, parts = PACKAGE, name.split('.')[1:]
    while parts and (path / parts[0]).is_dir():
        path /= parts.pop(0)
    if parts and (path / f'{parts[0]}.py').is_file():
        path /= f'{parts.pop(0)}.py'
    source = path if path.is_file() else path / '__init__.py'
    if parts and not re.search(rf'\b{parts[0]}\b', source.read_text(encoding='utf-8')):
        return f'{source.relative_to(ROOT)} has no {parts[0]}'
    return None


def check_commands(document: Path, known: set[str]) -> Iterator[str]:
    """Tell commands that do not exist."""
    text = document.read_text(encoding='utf-8')
    for program, words in re.findall(r'(?:^ *|`|; )(aiida-e3relax|e3relax) ((?:[a-z][a-z-]+ ?)+)', text, re.MULTILINE):
        first, second = (*words.split(), '')[:2]
        group = any(name.startswith(f'{program} {first} ') for name in known)
        if f'{program} {first}' not in known or (group and second and f'{program} {first} {second}' not in known):
            yield f'{program} {words.strip()}: there is no such command'


def check_tables(document: Path, write: bool = False) -> Iterator[str]:
    """Tell tables under a comment that are not what the code says, or write them."""
    lines = document.read_text(encoding='utf-8').splitlines()
    changed = False
    for place, line in reversed(list(enumerate(lines))):
        if not (found := COMMENT.fullmatch(line.strip())):
            continue
        kind, name = found.groups()
        begin = place + 1
        end = next((i for i in range(begin, len(lines)) if not lines[i].startswith('|')), len(lines))
        table = lines[begin:end]
        if kind == 'table' and table != (made := TABLES[name]()):
            if write:
                lines[begin:end] = made
                changed = True
            else:
                yield f'table {name}: expected\n' + '\n'.join(made)
        elif kind == 'rows' and (missing := [row for row in ROWS[name]() if row not in table]):
            yield f'rows {name}: expected\n' + '\n'.join(missing)
        elif kind == 'words':
            section = next((i for i in range(begin, len(lines)) if lines[i].startswith('#')), len(lines))
            if missing := WORDS[name]() - set(re.findall(r'`([^`]+)`', '\n'.join(lines[begin:section]))):
                yield f'words {name}: missing {sorted(missing)}'
        elif kind == 'equations':
            yield from _find_faults_of_equations(name, table[2:])
        elif kind == 'columns':
            expected = COLUMNS[name]()
            width = len(next(iter(expected)))
            cells = {tuple(cell.strip() for cell in row.strip('|').split('|')[:width]) for row in table[2:]}
            if cells != expected:
                yield f'columns {name}: missing {sorted(expected - cells)}, too many {sorted(cells - expected)}'
    if changed:
        document.write_text('\n'.join(lines) + '\n', encoding='utf-8')


def _find_faults_of_equations(paper: str, rows: list[str]) -> Iterator[str]:
    """Tell equations of a paper that have no row or several, and rows without a test."""
    found: list[int] = []
    for row in rows:
        cells = [cell.strip() for cell in row.strip('|').split('|')]
        first, _, last = cells[0].partition('-')
        found += range(int(first), int(last or first) + 1)
        if not re.search(r'test_\w+\.py::test_\w+', cells[-1]):
            yield f'equations {paper}: {cells[0]} has no test'
    if sorted(found) != (expected := list(range(1, EQUATIONS[paper] + 1))):
        missing, too_many = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
        twice = sorted({number for number in found if found.count(number) > 1})
        yield f'equations {paper}: missing {missing}, too many {too_many}, more than once {twice}'


def check_sources_of_numbers(document: Path) -> Iterator[str]:
    """Tell tables of numbers in whose section no script is named."""
    section = re.split(r'^(?=#+ )', _outside_code(document.read_text(encoding='utf-8')), flags=re.MULTILINE)
    for text in section:
        rows = [line for line in text.splitlines() if line.startswith('|') and not line.startswith('|--')]
        cells = [cell.strip() for row in rows for cell in row.strip('|').split('|')]
        numbers = sum(bool(NUMBER.fullmatch(cell)) for cell in cells)
        script = re.search(r'benchmarks[/.]\w+|`\w+\.py`|`?make \w|<!-- (?!words)\w+:|[Nn]o script', text)
        if cells and numbers >= len(cells) / 4 and not script:
            yield f'{text.splitlines()[0]}: a table of numbers, and no script that prints it'


def check_width(document: Path) -> Iterator[str]:
    """Tell lines that are too long; a row of a table may be."""
    for number, line in enumerate(document.read_text(encoding='utf-8').splitlines(), start=1):
        if len(line) > WIDTH and not line.startswith('|'):
            yield f'line {number}: {len(line)} characters'


def check(document: Path, known: set[str], write: bool = False) -> list[str]:
    """Return what is wrong with a document."""
    return [
        *check_tables(document, write),
        *check_links(document),
        *check_paths(document),
        *check_commands(document, known),
        *check_sources_of_numbers(document),
        *check_width(document),
    ]


def main() -> None:
    """Check every document and print what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--write', action='store_true', help='write the tables that a function here makes')
    options = parser.parse_args()
    known = commands()
    faults = [
        f'{document.relative_to(ROOT)}: {fault}'
        for document in DOCUMENTS
        for fault in check(document, known, options.write)
    ]
    print('\n'.join(faults) or f'{len(DOCUMENTS)} documents agree with the code')
    sys.exit(bool(faults))


if __name__ == '__main__':
    sys.path.insert(0, str(ROOT))
    main()
