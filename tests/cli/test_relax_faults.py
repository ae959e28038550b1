"""The first mistakes on the command line, each answered by what to do. No profile of its own: these run nothing."""

import ase.build
import ase.io
import pytest
from aiida import orm
from click.testing import CliRunner

from aiida_e3relax.cli.relax import relax
from aiida_e3relax.cli.resources import STANDIN_FAMILY
from aiida_e3relax.cli.show import show


@pytest.fixture
def refusal(make_code, potential_family, tmp_path):
    """A function that runs `aiida-e3relax relax` with further words and returns the message that refuses them."""
    vasp = make_code('e3relax-vasp-standin', f'vasp-{tmp_path.name}', 'vasp.vasp')
    network = make_code('e3relax', f'e3relax-{tmp_path.name}', 'e3relax.predict')
    ase.io.write(tmp_path / 'POSCAR', ase.build.bulk('CuAu', 'rocksalt', a=5.6))

    def run(*words: str) -> str:
        codes = ['--vasp-code', vasp.full_label]
        if '--no-network' not in words:
            codes += ['--network-code', network.full_label]
        names = {'poscar': tmp_path / 'POSCAR', 'network': network.full_label}
        done = CliRunner().invoke(
            relax, [*codes, '--potential-family', STANDIN_FAMILY, *(word.format(**names) for word in words)]
        )
        assert done.exit_code in (1, 2), done.exception
        return done.output

    return run


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ([], 'give STRUCTURE, a file or a node, or --demo semiconductor to try'),
        (['--vasp-code', 'vasp-standin-emt@localhost'], 'give STRUCTURE, a file or a node, or --demo metal to try'),
        (['{poscar}', '--no-network', '--guard', 'off'], 'expected no --guard beside it, found --guard off'),
        (['{poscar}', '--no-network', '--static-run', 'always'], 'expected no --static-run beside it'),
        (['{poscar}', '--no-network', '--keep-symmetry'], 'expected no --keep-symmetry beside it'),
        (['nowhere.cif'], 'nowhere.cif: expected a file that is there'),
        (['README.md'], 'README.md: cannot be read as crystals'),
        (['{poscar}', '--demo', 'metal'], 'give either STRUCTURE or --demo'),
        (['{poscar}', '--vasp-code', 'none@here'], 'code `none@here` is not in this profile; codes for vasp.vasp are'),
        (['{poscar}', '--vasp-code', '{network}'], 'expected one for vasp.vasp, found one for e3relax.predict'),
        (['{poscar}', '--potential-family', 'PBE'], 'potential family `PBE`: there is none of this name'),
        (['{poscar}', '--protocol', 'balancd'], 'did you mean `balanced`?'),
        (['{poscar}', '--reference-leg', 'sometimes'], 'expected always, sample, never or the PK or UUID'),
        (['{poscar}', '--model', 'best.pt'], 'best.pt: expected `default`, a checkpoint file that is there'),
        (['{poscar}', '--kpoints-spacing', 'nan'], 'nan is not in the range'),
        (['{poscar}', '--kpoints-spacing', '0'], '0.0 is not in the range'),
        (['{poscar}', '--force-cutoff', '-1'], '-1.0 is not in the range'),
        (['{poscar}', '--max-hours', 'inf'], 'inf is not in the range'),
        (['{poscar}', '--max-hours', '0'], '0.0 is not in the range'),
        (['{poscar}', '--freedom', 'in-plane'], 'needs to know the vacuum'),
        (['{poscar}', '--freedom', ''], 'expected positions, cell, shape, volume or in-plane'),
    ],
)
def test_words(refusal, words, message):
    assert message in refusal(*words)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('vasp: {', 'overrides.yaml: it is not YAML in line 1: expected'),
        ('- encut: 300', "overrides.yaml: expected inputs such as `freedom: positions`, found [{'encut': 300}]"),
        ('vasp: {vasp: {parameters: {incar: {encut: 300, encut: 400}}}}', "'encut' stands there twice"),
        ('vasp: {relax_settings: {force_cutoff: .nan}}', 'force_cutoff`: expected a number from 1e-06 to 10 eV/A'),
        ('vasp: {vasp: {kpoints_spacing: -1.0}}', 'kpoints_spacing`: expected a number from 0.001 to 10 2 pi/A'),
        ('vasp:', 'overrides: `vasp`: expected a mapping'),
        ('vasp: {vasp: {parameters: {incar: {pstress: 50}}}}', 'INCAR tag PSTRESS'),
        ('vasp: {vasp: {parameters: {incar: {encutt: 300}}}}', 'INCAR: unknown key `encutt`; did you mean `encut`?'),
        ('vasp: {vasp: {potential_mapping: {Cu: Au}}}', 'expected Au for Cu, found Cu, Cu_pv'),
        ('input_set: MPRelaxset', '`input_set`: unknown key `MPRelaxset`; did you mean `MPRelaxSet`?'),
    ],
)
def test_overrides(refusal, tmp_path, text, message):
    (tmp_path / 'overrides.yaml').write_text(text, encoding='utf-8')
    assert message in refusal('{poscar}', '--overrides', str(tmp_path / 'overrides.yaml'))


def test_another_node_in_the_place_of_a_structure_or_a_chain(refusal):
    node = orm.Int(1).store()
    assert f'{node.pk}: expected a StructureData, found Int<{node.pk}>' in refusal(str(node.pk))
    of_node = f'expected an E3RelaxVaspWorkChain, found Int<{node.pk}>'
    for word, message in ((str(node.pk), of_node), ('999999', 'no node has this PK')):
        done = CliRunner().invoke(show, [word])
        assert (done.exit_code, message in done.output) == (1, True)
