"""Structures with a vacuum that no file declares, before the chain."""

import ase.build
import pytest
from aiida import orm
from ase import Atoms

from aiida_e3relax.calculations.batches import gather_structures
from aiida_e3relax.campaign.creation import find_refusals
from aiida_e3relax.workflows.vasp.choices import ChainChoices
from tests.workflows.crystals import copper_gold


def as_read(atoms: Atoms) -> orm.StructureData:
    """As a POSCAR or CIF gives it: periodic in three directions."""
    atoms.pbc = True
    return orm.StructureData(ase=atoms)


def slab() -> orm.StructureData:
    return as_read(ase.build.fcc111('Cu', (1, 1, 3), vacuum=6))


def wire() -> orm.StructureData:
    return as_read(Atoms('Au', cell=[12, 12, 2.6]))


def molecule() -> orm.StructureData:
    return as_read(Atoms('Cu2', positions=[[0, 0, 0], [0, 0, 2.2]], cell=[10, 10, 10]))


REFUSED = [
    (slab, 'cell', r'close a vacuum: the structure is a layer with 12\.0 A of vacuum along c; take `--freedom in-plane '
     r"--vacuum c` \(freedom=\{'moves': 'in-plane', 'vacuum': 'c'\}\)"),
    (slab, 'volume', '`--freedom positions`'),
    (slab, {'moves': 'shape', 'vacuum': 'c'}, 'would let VASP close the vacuum along c'),
    (wire, 'cell', '`--freedom positions`'),
    (wire, {'moves': 'in-plane', 'vacuum': 'a'}, 'a wire'),
    (molecule, 'cell', '--no-network --freedom positions'),
    (molecule, 'positions', 'a molecule .* networks and potentials are asked about crystals alone; take `--no-network'),
]  # fmt: skip


@pytest.mark.parametrize(('make', 'freedom', 'message'), REFUSED)
def test_a_freedom_that_would_close_a_vacuum_is_refused_with_the_words_to_type(make_builder, make, freedom, message):
    with pytest.raises(ValueError, match=message):
        make_builder(structure=make(), freedom=freedom)


def test_what_keeps_the_vacuum_is_taken(make_builder):
    for freedom in ('positions', 'in-plane', {'moves': 'in-plane', 'vacuum': 'c'}):
        make_builder(structure=slab(), freedom=freedom)
    make_builder(structure=wire(), freedom='positions')
    make_builder(structure=molecule(), freedom='positions', network_code=None)


def test_whoever_knows_better_says_so(make_builder):
    freedom = {'moves': 'cell', 'vacuum': 'none'}
    for make in (slab, wire, molecule):
        assert make_builder(structure=make(), freedom=freedom).freedom.get_dict() == freedom


def test_one_k_point_lies_across_the_vacuum_that_is_found(make_builder):
    mesh = {'vasp': {'vasp': {'kpoints': [4, 4, 4]}}}
    for make, freedom, expected in ((slab, 'positions', [4, 4, 1]), (wire, 'positions', [1, 1, 4])):
        builder = make_builder(structure=make(), freedom=freedom, overrides=mesh)
        assert builder.vasp.vasp.kpoints.get_kpoints_mesh()[0] == expected


def test_a_campaign_leaves_out_what_the_chain_refuses(e3relax_code, standin_code, potential_family, model):
    choices = ChainChoices(standin_code, e3relax_code, potential_family, 'cell', model=model, protocol='fast')
    structures = {'slab': slab(), 'crystal': orm.StructureData(ase=copper_gold()), 'molecule': molecule()}
    refused = find_refusals(structures, choices, {})
    assert list(refused) == ['slab', 'molecule']
    assert '`--freedom in-plane --vacuum c`' in refused['slab']
    network = choices.network_builder(gather_structures(**structures), orm.Dict({}))
    assert network.predict.parameters['freedom'] == 'cell'
