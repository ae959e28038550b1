"""``e3relax potentials``."""

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.potentials.registry import POTENTIALS


class HalfForces(EMT):
    def calculate(self, *arguments, **options):
        super().calculate(*arguments, **options)
        self.results['forces'] = self.results['forces'] / 2


def test_all_are_listed_with_where_they_come_from(capsys):
    assert main(['potentials']) == 0
    printed = capsys.readouterr().out
    lines = {line.split()[0]: line for line in printed.splitlines() if line and not line.startswith(' ')}
    for name, known in POTENTIALS.items():
        assert known.package in lines[name]
        assert (known.weights or 'a file of yours') in lines[name]
        assert str(known.licence or '') in printed
    assert 'functional: PBE and PBE+U of the Materials Project, energies as computed' in printed


def test_what_is_not_installed_is_listed_as_that(monkeypatch, capsys):
    monkeypatch.setattr('aiida_e3relax.gnn.cli.potentials.installed_version', lambda known: None)
    assert main(['potentials']) == 0
    assert capsys.readouterr().out.count('not installed') == len(POTENTIALS)


@pytest.mark.parametrize(('calculator', 'status'), [(EMT, 0), (HalfForces, 1)])
def test_a_check_prints_the_numbers_and_tells_by_its_status(install, weights, tmp_path, capsys, calculator, status):
    install('mace', {'mace.calculators': {'MACECalculator': calculator}})
    write(tmp_path / 'copper.vasp', bulk('Cu') * (1, 1, 2))
    arguments = ['--weights', str(weights()), '--structure', str(tmp_path / 'copper.vasp'), '--device', 'cpu']
    assert main(['potentials', 'check', 'mace', *arguments]) == status
    printed = capsys.readouterr().out
    for words in (
        'content hash  sha256:',
        'energy, forces and stress of Cu2',
        'PASS  stress against the energy',
        'on cpu',
    ):
        assert words in printed
    assert ('FAIL  forces against the energy' in printed) is bool(status)
    assert ('it states 0.5 times the slope' in printed) is bool(status)
    assert f'{13 - status} of 13 checks passed' in printed


@pytest.mark.parametrize(
    ('arguments', 'status', 'words'),
    [
        (['mace'], 3, 'expected a file of its weights'),
        (['chgnet', '--dtype', 'float64'], 3, 'chgnet computes in float32, not in float64'),
    ],
)
def test_choices_that_cannot_be_checked_are_told(capsys, arguments, status, words):
    assert main(['potentials', 'check', *arguments]) == status
    assert words in capsys.readouterr().err


def test_molecules_are_no_crystals(install, weights, tmp_path, capsys):
    install('mace', {'mace.calculators': {'MACECalculator': EMT}})
    molecule = bulk('Cu')
    molecule.pbc = [True, True, False]
    write(tmp_path / 'layer.extxyz', molecule)
    arguments = ['--weights', str(weights()), '--structure', str(tmp_path / 'layer.extxyz')]
    assert main(['potentials', 'check', 'mace', *arguments]) == 3
    assert 'expected a crystal, periodic in three directions' in capsys.readouterr().err
