"""``e3relax potentials``."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.messages import printable
from aiida_e3relax.gnn.cli.options import add_device
from aiida_e3relax.gnn.potentials.base import DTYPES
from aiida_e3relax.gnn.potentials.registry import POTENTIALS, installed_version

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_e3relax.gnn.potentials.check import Finding

FAILED = 1
"""Exit status where a potential fails a check."""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        'potentials',
        help='list interatomic potentials, or check one',
        description='List the universal interatomic potentials that can relax crystals before VASP, with what is '
        'installed here. docs/potentials.md describes them.',
    )
    parser.set_defaults(run=_list)
    check = parser.add_subparsers(metavar='COMMAND').add_parser(
        'check',
        help='check that a potential works here, and that its forces and stress are what they must be',
        description='Compute a small strained and rattled crystal: forces and stress against the energy, their units '
        f'and signs, rotations, supercells, precision. Exit status {FAILED} where the potential fails.',
    )
    check.add_argument('name', choices=POTENTIALS, metavar='NAME', help=', '.join(POTENTIALS))
    check.add_argument(
        '--weights', '--potential-weights', type=Path, metavar='FILE', help='its weights, where its package brings none'
    )
    check.add_argument('--structure', type=Path, metavar='FILE', help='a crystal to compute; default: MgO')
    check.add_argument('--dtype', choices=DTYPES, default=DTYPES[0], help='default: %(default)s')
    add_device(check)
    check.set_defaults(run=_check)


def _list(options: argparse.Namespace) -> int:
    known = list(POTENTIALS.values())
    rows = [('potential', 'package', 'version', 'weights')]
    rows += [
        (each.name, each.package, installed_version(each) or 'not installed', each.weights or 'a file of yours')
        for each in known
    ]
    first, *lines = _columns(rows)
    print(first)
    for each, line in zip(known, lines, strict=True):
        print(line)
        for name, fact in (
            ('licence', each.licence),
            ('trained on', each.training_data),
            ('functional', each.functional),
        ):
            if fact is not None:
                print(f'    {name}: {fact}')
    print('\ne3relax potentials check NAME tells whether one works here.')
    return 0


def _check(options: argparse.Namespace) -> int:
    from aiida_e3relax.gnn.device import prepare_device
    from aiida_e3relax.gnn.potentials.check import check_potential

    device = prepare_device(options.device, options.threads)
    atoms = options.structure and _read_crystal(options.structure)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the packages, about their own ways
        potential, findings = check_potential(options.name, device, options.dtype, options.weights, atoms)
    for name, fact in potential.facts().items():
        if fact is not None:
            print(f'{name.replace("_", " "):<14}{printable(fact)}')
    print('', *_describe(findings), sep='\n')
    failed = sum(not finding.passed for finding in findings)
    print(f'\n{len(findings) - failed} of {len(findings)} checks passed on {device}')
    return FAILED if failed else 0


def _read_crystal(path: Path) -> Atoms:
    """Return the first crystal of a file; raises InputError."""
    from aiida_e3relax.crystals.files.reader import read_crystals

    atoms = read_crystals(path)[0]
    if not atoms.pbc.all():
        raise InputError(f'{path}: expected a crystal, periodic in three directions')
    return atoms


def _describe(findings: list[Finding]) -> Iterator[str]:
    """Yield the lines of a table."""
    rows = [('', 'check', 'expected', 'found')]
    for finding in findings:
        rows.append(('PASS' if finding.passed else 'FAIL', finding.check, finding.bound, printable(finding.found)))
    return _columns(rows)


def _columns(rows: list[tuple[str, str, str, str]]) -> Iterator[str]:
    """Yield a line for each of `rows`, with the texts of a column below each other."""
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        yield '  '.join([*(text.ljust(width) for text, width in zip(row[:3], widths, strict=True)), row[3]])
