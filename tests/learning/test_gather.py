"""Relaxations in the graph as pairs: which are found, what they were computed with, and what is never mixed."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable
from typing import Any

import ase.build
import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida_vasp.data.potcar import PotcarData
from click.testing import CliRunner

from aiida_e3relax.cli.data import data
from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import read_data_card, read_pairs
from aiida_e3relax.data.pairs import E3RelaxPairsData
from aiida_e3relax.gnn.data.build import BuildOptions
from aiida_e3relax.learning.gather import gather, gather_divided, settings_key
from aiida_e3relax.learning.origin import check_origin
from aiida_e3relax.learning.relaxations import KINDS, RelaxationKind, choose_attempts, find_relaxations

TAGS = {'ibrion': 2, 'nsw': 50, 'isif': 3, 'gga': 'PE', 'encut': 400, 'ediff': 1e-5}
FINISHED = {'process_state': 'finished', 'exit_status': 0}
RANDOM = BuildOptions(split='random')
TITLES = {'Au': 'PAW_PBE Au standin', 'Cu': 'PAW_PBE Cu standin'}


@pytest.fixture
def relax(standin_code, potential_family, tmp_path) -> Callable[..., orm.WorkChainNode]:
    """A function that stores a relaxation as aiida-vasp leaves it: work chain, restarts, job, crystals."""
    numbers = itertools.count()

    def store(
        label: str = 'VaspRelaxWorkChain',
        end: str = 'relax__structure',
        tags: dict[str, Any] | None = None,
        converged: bool | None = True,
        caller: orm.WorkChainNode | None = None,
        called_as: str = 'relax_raw',
        state: dict[str, Any] | None = None,
        held: list[int] | None = None,
        symbols: str = 'CuAu',
        code: orm.Code = standin_code,
        mesh: list[int] | None = None,
        lattice: float | None = None,
        electrons: bool = True,
    ) -> orm.WorkChainNode:
        lattice = lattice or 5.5 + 0.05 * next(numbers)
        atoms = ase.build.bulk(symbols, 'rocksalt', a=lattice)
        relaxed = atoms.copy()
        relaxed.set_cell(atoms.cell * 1.02, scale_atoms=True)
        start, after = orm.StructureData(ase=atoms).store(), orm.StructureData(ase=relaxed)
        chain = orm.WorkChainNode(label=f'{tmp_path.name}-{lattice:.2f}')
        chain.base.links.add_incoming(start, LinkType.INPUT_WORK, 'structure')
        if caller is not None:
            chain.base.links.add_incoming(caller, LinkType.CALL_WORK, called_as)
        chain.base.attributes.set_many({'process_label': label, **(FINISHED if state is None else state)})
        chain.store()
        base = orm.WorkChainNode()
        base.base.links.add_incoming(chain, LinkType.CALL_WORK, 'relax_01')
        base.store()
        job = orm.CalcJobNode(computer=code.computer, process_type='aiida.calculations:vasp.vasp')
        parameters = orm.Dict({**TAGS, **(tags or {})}).store()
        inputs: dict[str, orm.Data] = {'structure': start, 'parameters': parameters, 'code': code}
        if held is not None:
            dynamics = orm.Dict({'positions_dof': [[site not in held] * 3 for site in range(len(atoms))]})
            inputs['dynamics'] = dynamics.store()
        if mesh is not None:
            inputs['kpoints'] = orm.KpointsData()
            inputs['kpoints'].set_kpoints_mesh(mesh)
            inputs['kpoints'].store()
        for symbol in set(atoms.get_chemical_symbols()):
            query = orm.QueryBuilder().append(PotcarData, filters={'attributes.full_name': symbol})
            inputs[f'potential__{symbol}'] = query.first(flat=True)
        for link, node in inputs.items():
            job.base.links.add_incoming(node, LinkType.INPUT_CALC, link)
        job.base.links.add_incoming(base, LinkType.CALL_CALC, 'iteration_01')
        job.store()
        misc = orm.Dict({'run_status': {'ionic_converged': converged, 'electronic_converged': electrons}})
        misc.base.links.add_incoming(job, LinkType.CREATE, 'misc')
        misc.store()
        after.base.links.add_incoming(job, LinkType.CREATE, 'structure')
        after.store().base.links.add_incoming(chain, LinkType.RETURN, end)
        return chain

    return store


def query_of(*chains: orm.WorkChainNode) -> orm.QueryBuilder:
    return orm.QueryBuilder().append(orm.WorkChainNode, filters={'id': {'in': [c.pk for c in chains]}}, project='id')


def card_of(node: E3RelaxPairsData) -> dict[str, Any]:
    with node.as_path() as path:
        return read_data_card(path)


def test_a_relaxation_is_read_with_what_it_was_computed_with(relax):
    chain = relax()
    (found,) = find_relaxations(query_of(chain))
    assert (found.process, found.label) == (chain.uuid, chain.label)
    assert found.settings == {'engine': 'stand-in emt', 'GGA': 'PE', 'ENCUT': 400}
    assert found.of_elements == TITLES
    assert (found.isif, found.fault, found.positions_dof) == (3, None, None)
    assert found.start == chain.inputs.structure.uuid


def test_legs_and_what_failed_are_no_relaxations_of_their_own(relax):
    chain = relax('E3RelaxVaspWorkChain', 'structure')
    leg = relax(caller=chain)
    of_failed = relax(caller=relax('E3RelaxVaspWorkChain', 'structure', state={'process_state': 'excepted'}))
    failed = relax(state={'process_state': 'finished', 'exit_status': 410})
    running = relax(state={'process_state': 'waiting'})
    sealed = relax(state={'process_state': 'waiting', 'exit_status': 0})  # over whose end a second worker wrote
    sealed.seal()
    found = find_relaxations(query_of(chain, leg, of_failed, failed, running, sealed))
    assert [relaxation.process for relaxation in found] == [chain.uuid, sealed.uuid]
    assert find_relaxations(query_of(leg)) == []  # it may have started from a prediction


def test_a_chain_that_failed_ends_where_a_leg_did_that_finished_well(relax):
    """Whether it failed behind its legs, with their ends among its outputs, or was killed before."""
    compared = relax('E3RelaxVaspWorkChain', 'structure', state={'process_state': 'finished', 'exit_status': 402})
    killed = relax('E3RelaxVaspWorkChain', 'another', state={'process_state': 'killed'})
    predicted, raw, failed = (
        relax(caller=killed, called_as=label, state=state)
        for label, state in (
            ('relax_predicted', None),
            ('relax_raw', None),
            ('relax_again', {'process_state': 'finished', 'exit_status': 410}),
        )
    )
    written = relax('E3RelaxVaspWorkChain', 'another', state={'process_state': 'running'})  # over its end
    alone = relax(caller=written, called_as='relax_predicted')
    written.seal()
    waiting = relax('E3RelaxVaspWorkChain', 'another', state={'process_state': 'waiting'})
    relax(caller=waiting, called_as='relax_raw')
    nothing = relax('E3RelaxVaspWorkChain', 'another', state={'process_state': 'excepted'})
    called = relax(caller=relax('E3RelaxVaspWorkChain', 'structure'))
    left_out: dict[int, str] = {}
    named = (compared, killed, predicted, raw, failed, written, waiting, nothing, called)
    found = {one.process: one for one in find_relaxations(query_of(*named), left_out=left_out)}
    assert list(found) == [compared.uuid, killed.uuid, written.uuid]
    assert found[killed.uuid].start == killed.inputs.structure.uuid
    assert found[killed.uuid].end == raw.outputs.relax__structure.uuid
    assert found[written.uuid].end == alone.outputs.relax__structure.uuid
    assert left_out == {
        waiting.pk: 'not ended',
        nothing.pk: 'failed: E3RelaxVaspWorkChain with excepted',
        called.pk: 'called by another work chain',
    }


def test_settings_and_convergence_are_those_of_the_job_that_made_the_end(relax):
    chain = relax('E3RelaxVaspWorkChain', 'structure')
    other = relax(caller=chain, converged=False, tags={'encut': 700})  # the raw leg, of a later job
    (found,) = find_relaxations(query_of(chain))
    assert (found.fault, found.settings['ENCUT']) == (None, 400)
    assert found.end != other.outputs.relax__structure.uuid


def test_a_chain_ends_where_its_raw_leg_did(relax):
    chain = relax('E3RelaxVaspWorkChain', 'structure')
    raw = relax(caller=chain, converged=False, tags={'encut': 700})
    raw.outputs.relax__structure.base.links.add_incoming(chain, LinkType.RETURN, 'raw__structure')
    (found,) = find_relaxations(query_of(chain))
    assert found.start == chain.inputs.structure.uuid
    assert found.end == raw.outputs.relax__structure.uuid
    assert found.fault
    assert found.fault.startswith('not converged: ')
    assert found.settings['ENCUT'] == 700


def test_a_crystal_that_got_its_names_back_still_comes_from_its_job(relax):
    chain = relax('E3RelaxVaspWorkChain', 'relaxed')
    links = chain.base.links.get_outgoing(link_type=LinkType.RETURN).all()
    function = orm.CalcFunctionNode()
    function.base.links.add_incoming(links[0].node, LinkType.INPUT_CALC, 'predicted')
    other = relax(tags={'encut': 700})
    function.base.links.add_incoming(other.outputs.relax__structure, LinkType.INPUT_CALC, 'raw')
    function.store()
    named = orm.StructureData(ase=links[0].node.get_ase())
    named.base.links.add_incoming(function, LinkType.CREATE, 'predicted')
    named.store().base.links.add_incoming(chain, LinkType.RETURN, 'structure')
    (found,) = find_relaxations(query_of(chain))
    assert (found.end, found.settings['ENCUT']) == (named.uuid, 400)


def test_other_work_chains_are_found_by_their_links(relax):
    chain = relax('PwRelaxWorkChain', 'output_structure')
    assert find_relaxations(query_of(chain)) == []
    kinds = {**KINDS, 'PwRelaxWorkChain': RelaxationKind(end='output_structure')}
    assert [found.process for found in find_relaxations(query_of(chain), kinds)] == [chain.uuid]


def test_pairs_are_the_crystals_and_name_their_relaxations(relax):
    chains = [relax() for _ in range(4)]
    found = find_relaxations(query_of(*chains))
    gathered = gather(found, 'mine', RANDOM)
    pairs = gathered.node.pairs
    assert sorted(pairs.about['relaxation']) == sorted(chain.uuid for chain in chains)
    np.testing.assert_allclose(pairs.relaxed.volumes / pairs.unrelaxed.volumes, 1.02**3)
    assert set(pairs.source) == {'mine'}


def test_pairs_are_checked_against_the_relaxations_that_they_name(relax):
    chains = [relax() for _ in range(4)]
    pairs = gather(find_relaxations(query_of(*chains)), 'mine', RANDOM).node.pairs
    node = E3RelaxPairsData.from_pairs(pairs).store()
    assert check_origin(node) == {}
    told = CliRunner().invoke(data, ['--check', str(node.pk)])
    assert (told.exit_code, told.stdout) == (0, '4 pairs are what their relaxations are.\n')
    named = pairs.about['relaxation'].copy()
    named[:3] = ['', named[3], orm.WorkChainNode().store().uuid]
    other = E3RelaxPairsData.from_pairs(dataclasses.replace(pairs, about={'relaxation': named})).store()
    (own,) = [found for found in find_relaxations(query_of(*chains)) if found.process == named[3]]
    assert check_origin(other) == {
        named[1]: f'started from another crystal: StructureData {own.start}; '
        f'ended in another crystal: StructureData {own.end}',
        named[2]: 'not in this profile, or it did not finish well',
    }
    told = CliRunner().invoke(data, ['--check', other.uuid])
    assert told.exit_code == 1
    assert '1 of 4 pairs name no relaxation' in told.output
    assert '2 of 3 pairs differ from their relaxations' in told.output


def test_a_pair_that_was_changed_a_little_is_found(relax):
    """Sites by hundredths of an angstrom, a lattice vector, what was held, and the settings; images do not count."""
    chains = [relax(held=[1]) for _ in range(6)]
    card = {'settings': {}}
    pairs = gather(find_relaxations(query_of(*chains)), 'mine', RANDOM).node.pairs
    atoms = pairs.unrelaxed.offsets
    moved, cell = pairs.unrelaxed.positions.copy(), pairs.relaxed.cell.copy()
    moved[atoms[0]] += [0.01, 0.0, 0.0]
    cell[1, 0, 0] += 0.01
    moved[atoms[2]] += pairs.unrelaxed.cell[2, 1]  # an image
    fixed, about = pairs.fixed.copy(), {name: texts.astype('U40') for name, texts in pairs.about.items()}
    fixed[atoms[3] : atoms[4]] = False
    about['settings'][4] = '01234567'
    about['moves'][5] = 'shape'
    changed = dataclasses.replace(
        pairs,
        unrelaxed=pairs.unrelaxed.replace(moved, pairs.unrelaxed.cell),
        relaxed=pairs.relaxed.replace(pairs.relaxed.positions, cell),
        filed=None,
        fixed=fixed,
        about=about,
    )
    found = check_origin(E3RelaxPairsData.from_pairs(changed, card).store())
    told = [found.get(process, '').partition(':')[0] for process in pairs.about['relaxation'].tolist()]
    assert told == [
        'started from another crystal',
        'ended in another crystal',
        '',
        'held other sites, or another cell',
        'has settings 01234567 that the node does not record',
        'moved `cell`, not `shape`',
    ]


def test_tags_that_earlier_versions_did_not_record_are_not_compared(relax):
    """Neither by that they are there nor by how they were written; others are."""
    chains = [relax(tags={'nupdown': 2, 'prec': 'Accurate'}) for _ in range(4)]
    pairs = gather(find_relaxations(query_of(*chains)), 'mine', RANDOM).node.pairs
    plain = {'engine': 'stand-in emt', 'GGA': 'PE', 'ENCUT': 400, 'PREC': 'ACCURATE'}
    others = [plain, {**plain, 'NUPDOWN': 1}, {**plain, 'LASPH': True}]
    about = {**pairs.about, 'settings': np.array(['of-0', 'of-1', 'of-2', 'missing'])}
    card = {'settings': {f'of-{place}': settings for place, settings in enumerate(others)}}
    node = E3RelaxPairsData.from_pairs(dataclasses.replace(pairs, about=about), card).store()
    found = check_origin(node)
    told = [found.get(process, '').rpartition(': ')[0] for process in pairs.about['relaxation'].tolist()]
    assert told == [
        '',
        'was computed with other settings',
        'was computed with other settings',
        'has settings missing that the node does not record',
    ]


def test_of_attempts_the_newest_that_is_well_counts_then_a_raw_end_then_another(relax):
    failed = {'process_state': 'finished', 'exit_status': 402}

    def attempt(leg: str | None) -> orm.WorkChainNode:
        chain = relax('E3RelaxVaspWorkChain', 'structure' if leg is None else 'another', state=leg and failed)
        if leg:
            relax(caller=chain, called_as=leg)
        chain.label = ''
        return chain

    tries = [attempt(leg) for leg in (None, 'relax_raw', 'relax_predicted', None, 'relax_raw', 'relax_predicted')]
    for chosen, some in ((3, tries), (4, tries[1:3] + tries[4:]), (5, tries[2:3] + tries[5:])):
        found = find_relaxations(query_of(*some))
        assert {label: each.process for label, each in choose_attempts(found, {''}).items()} == {'': tries[chosen].uuid}
        assert choose_attempts(found, {'other'}) == {}
    ends = [(each.is_well, each.has_best_end) for each in find_relaxations(query_of(*tries))]
    assert ends == [(True, False), (False, True), (False, False)] * 2
    assert find_relaxations(query_of(relax()))[0].has_best_end


def test_a_raw_leg_of_a_chain_that_failed_is_a_better_end_than_its_prediction(relax):
    chain = relax('E3RelaxVaspWorkChain', 'structure', state={'process_state': 'killed'})
    raw = relax(caller=chain)
    assert find_relaxations(query_of(chain))[0].end == raw.outputs.relax__structure.uuid


def test_what_vasp_held_is_held_in_the_pairs(relax):
    chain = relax(held=[0], tags={'isif': 2})
    with pytest.raises(InputError, match='no usable pair'):  # the cell of the fixture moves although ISIF says no
        gather(find_relaxations(query_of(chain)), 'held', RANDOM)
    free = relax(held=[1])
    pairs = gather(find_relaxations(query_of(free)), 'held', RANDOM).node.pairs
    assert pairs.fixed.tolist() == [[False] * 3, [True] * 3]
    layer = relax(tags={'lattice_constraints': '.TRUE. .TRUE. .FALSE.'})
    gathered = gather(find_relaxations(query_of(free, layer, relax(tags={'isif': 4}))), 'held', RANDOM)
    assert sorted(gathered.node.pairs.about['moves']) == ['cell', 'in-plane', 'shape']
    assert card_of(gathered.node)['moves'] == {'cell': 1, 'in-plane': 1, 'shape': 1}


def test_what_ends_in_the_crystal_of_a_judge_is_not_learnt_from(relax):
    chains = [relax(lattice=lattice) for lattice in (5.5, 5.5, 6.0, 6.5)] + [relax(converged=False)]
    splits = dict(zip([chain.uuid for chain in chains], ('test', 'train', 'train', 'val', 'train'), strict=True))
    node = gather_divided(find_relaxations(query_of(*chains)), 'mine', splits)
    assert node.splits == {'test': 1, 'train': 1, 'val': 1}
    assert node.left_out == {'not converged': 1, 'leaks: its relaxed crystal is in test, too': 1}
    assert node.store().pairs.about['relaxation'].tolist() == [chains[place].uuid for place in (0, 2, 3)]


def test_settings_are_never_mixed_in_silence(relax):
    chains = [relax(), relax(), relax(tags={'encut': 520})]
    found = find_relaxations(query_of(*chains))
    with pytest.raises(InputError, match=r'2 with ENCUT 400.*1 with ENCUT 520.*--settings KEY, or all with --mix-set'):
        gather(found, 'mine', RANDOM)
    assert len(gather(found, 'mine', RANDOM, mix_settings=True).data.pairs) == 3
    key = settings_key(found[2])
    assert gather(found, 'mine', RANDOM, settings=key).node.pairs.about['relaxation'].tolist() == [found[2].process]
    with pytest.raises(InputError, match='no relaxation has these; found'):
        gather(found, 'mine', RANDOM, settings='12345678')


def test_errors_name_the_keys_of_all_kinds(relax):
    unknown = relax('E3RelaxVaspWorkChain', 'other')
    orm.StructureData(ase=unknown.inputs.structure.get_ase()).store().base.links.add_incoming(
        unknown, LinkType.RETURN, 'structure'
    )
    found = find_relaxations(query_of(*(relax() for _ in range(3)), unknown))
    keys = {relaxation.process: settings_key(relaxation) for relaxation in found}
    none, known = keys.pop(unknown.uuid), next(iter(keys.values()))
    told = rf'There are 3 with settings {known}; 1 with what is not known \(settings {none}\)\. Take one kind with'
    with pytest.raises(InputError, match=told):
        gather(found, 'mine', RANDOM)
    assert len(gather(found, 'mine', RANDOM, settings=known).data.pairs) == 3


def test_u_may_go_by_the_material_in_one_recipe_only(relax):
    """ENCUT and potentials may not; LDAUTYPE is set where U is."""
    plus_u = {'ldau': True, 'ldaul': [2, -1], 'ldauu': [4.0, 0.0], 'ldauj': [0.0, 0.0], 'ldautype': 4}
    found = find_relaxations(query_of(relax(), relax(tags=plus_u)))
    gathered = gather(found, 'mine', RANDOM, is_one_recipe=True)
    assert card_of(gathered.node)['of_elements']['Cu'] == [TITLES['Cu'], f'{TITLES["Cu"]} with L, U, J = 2, 4, 0']
    with pytest.raises(InputError, match='LDAUTYPE not set'):
        gather(found, 'mine', RANDOM)
    finer = find_relaxations(query_of(relax(tags={**plus_u, 'encut': 520})))
    with pytest.raises(InputError, match='1 with ENCUT 520, LDAUTYPE 4'):
        gather([*found, *finer], 'mine', RANDOM, is_one_recipe=True)
    other = dataclasses.replace(found[0], of_elements={**TITLES, 'Cu': 'PAW_PBE Cu_pv'})
    with pytest.raises(InputError, match=r'Cu: PAW_PBE Cu standin \(2\), PAW_PBE Cu_pv \(1\). There are '):
        gather([*found, other], 'mine', RANDOM, is_one_recipe=True)


def test_a_round_learns_from_the_settings_that_most_have(relax):
    plus_u = {'ldau': True, 'ldauu': [4.0, 0.0]}
    tags = [None, plus_u, None, {'encut': 520}, {'encut': 520}]
    chains = [relax(tags=each, lattice=5 + 0.3 * place) for place, each in enumerate(tags)]
    splits = dict(zip([chain.uuid for chain in chains], ('test', 'train', 'val', 'train', 'test'), strict=True))
    node = gather_divided(find_relaxations(query_of(*chains)), 'mine', splits)
    assert node.splits == {'test': 1, 'train': 1, 'val': 1}
    assert node.left_out == {'with ENCUT 520, where most have ENCUT 400': 2}


def test_settings_that_say_the_same_are_the_same(relax):
    tags = {'encut': '520', 'lhfcalc': '.FALSE.'}, {'encut': 520.0}, {'encut': 520, 'gga': ' pe'}
    found = find_relaxations(query_of(*(relax(tags=each) for each in tags)))
    assert len({settings_key(relaxation) for relaxation in found}) == 1
    assert found[0].settings == {'engine': 'stand-in emt', 'GGA': 'PE', 'ENCUT': 520}


def test_a_logical_is_left_out_where_it_is_what_vasp_takes_by_itself(relax):
    tags = {'addgrid': False}, {'addgrid': True}
    told = [relaxation.others for relaxation in find_relaxations(query_of(*(relax(tags=each) for each in tags)))]
    assert [others.get('ADDGRID', 'not set') for others in told] == ['not set', True]


def test_tags_that_vasp_ignores_beside_its_k_points_are_no_settings(relax):
    chains = [relax(mesh=[4, 4, 4]), relax(tags={'kspacing': 0.2, 'kgamma': False}, mesh=[4, 4, 4])]
    first, second = (relaxation.others for relaxation in find_relaxations(query_of(*chains)))
    assert first.keys() == second.keys()


@pytest.mark.parametrize('tags', [{'vdw_s6': 0.75}, {'param1': 0.1833}, {'lsol': True}, {'idipol': 3}, {'nupdown': 0}])
def test_tags_of_dispersion_solvent_fields_and_moments_make_another_surface(relax, tags):
    with pytest.raises(InputError, match=f'with {next(iter(tags)).upper()} '):
        gather(find_relaxations(query_of(relax(), relax(tags=tags))), 'mine', RANDOM)


def test_other_settings_are_recorded_and_told_where_they_differ(relax, tmp_path):
    chains = [relax(mesh=[4, 4, 4]), relax(mesh=[5, 5, 5]), relax(tags={'ispin': 2, 'ediff': '1.0D-5'}, mesh=[1, 1, 1])]
    gathered = gather(find_relaxations(query_of(*chains)), 'mine', RANDOM)
    card = card_of(gathered.node)['other_settings']
    assert card['EDIFF'] == {'1e-05': 3}
    assert gathered.others == {'ISPIN': {'not set': 2, '2': 1}}  # both meshes may come from one spacing
    assert sorted(card['k-points'].values()) == [1, 1, 1]
    assert 'not set' in card['k-points']  # one point tells of no spacing
    group = orm.Group(label=f'others of {tmp_path.name}').store()
    group.add_nodes([*chains, relax(mesh=[9, 9, 9])])
    done = CliRunner().invoke(data, ['--from', f'group:{group.label}', '--split', 'random'])
    assert done.exit_code == 0, done.output
    assert 'Warning: ISPIN is not the same in all, and is not compared: not set (3), 2 (1)' in done.output
    assert 'Warning: k-points is not the same in all' in done.output
    assert 'VASP moved: cell (4)' in done.output


def test_what_is_not_known_is_not_taken_for_alike(relax):
    chain = relax('PwRelaxWorkChain', 'by_another_code')
    orm.StructureData(ase=chain.inputs.structure.get_ase()).store().base.links.add_incoming(
        chain, LinkType.RETURN, 'output_structure'
    )
    found = find_relaxations(query_of(chain), {'PwRelaxWorkChain': RelaxationKind(end='output_structure')})
    with pytest.raises(InputError, match=f'1 of 1 relaxations end in a crystal that no job of VASP made.*{chain.uuid}'):
        gather(found, 'mine', RANDOM)
    assert len(gather(found, 'mine', RANDOM, mix_settings=True).data.pairs) == 1


def test_one_element_with_two_corrections_is_told(relax):
    plus_u = {'ldau': True, 'ldaul': [2, -1], 'ldauu': [4.0, 0.0], 'ldauj': [0.0, 0.0]}
    as_text = {'ldau': '.TRUE.', 'ldauu': '4 0'}
    off = {'ldau': '.FALSE.', 'ldauu': 4.0}
    found = find_relaxations(query_of(*(relax(tags=tags) for tags in (off, plus_u, as_text))))
    corrected = f'{TITLES["Cu"]} with L, U, J = 2, 4, 0'
    assert [one.of_elements['Cu'] for one in found] == [TITLES['Cu'], corrected, corrected]
    with pytest.raises(InputError, match=r'Cu: .* with L, U, J = 2, 4, 0 \(2\), .* \(1\)'):
        gather(found, 'mine', RANDOM)


def test_the_command_says_how_to_leave_out_repeats(relax, tmp_path):
    group = orm.Group(label=f'repeats of {tmp_path.name}').store()
    group.add_nodes([relax(lattice=5.5) for _ in range(2)])
    done = CliRunner().invoke(data, ['--from', f'group:{group.label}', '--split', 'random'])
    assert done.exit_code == 0, done.output
    assert '2 relaxations that finished well, 2 pairs' in done.output
    assert re.search(r'^Repeats of a pair of the same split: 1; --drop-duplicates leaves', done.output, re.MULTILINE)
    assert ' 0/0 ' not in done.output


def test_the_command_writes_a_node_and_a_file(relax, tmp_path):
    group = orm.Group(label=f'relaxations of {tmp_path.name}').store()
    failed = {'process_state': 'finished', 'exit_status': 410}
    group.add_nodes([*(relax() for _ in range(3)), relax(state=failed)])
    path = tmp_path / 'pairs.npz'
    words = ['--from', f'group:{group.label}', '--split', 'random', '--output', str(path)]
    done = CliRunner().invoke(data, words)
    assert done.exit_code == 0, done.output
    assert '3 relaxations that finished well, 3 pairs' in done.output
    assert '1 work chain left out: failed: VaspRelaxWorkChain with exit code 410' in done.output
    assert 'engine stand-in emt, GGA PE, ENCUT 400' in done.output
    assert len(read_pairs(path)) == 3
    card = read_data_card(path)
    assert card['of_elements'] == {symbol: [title] for symbol, title in TITLES.items()}
    assert list(card['settings'].values()) == [{'engine': 'stand-in emt', 'GGA': 'PE', 'ENCUT': 400}]
    done = CliRunner().invoke(data, ['--from', 'query:elements=Ag,Pd;atoms=2'])
    assert (done.exit_code, 'found no relaxation that finished well' in done.output) == (1, True)


@pytest.mark.usefixtures('aiida_profile')
@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['campaign:any', '--check', '1'], 'expected --from SOURCE..., to gather pairs, or --check NODE'),
        (['campaign:nothing'], 'campaign `nothing`: not in this profile'),
        (['group:nothing'], 'no group has this label'),
        (['POSCAR'], 'files of finished relaxations are read by `e3relax data`'),
        (['query:sites=3'], 'expected conditions such as elements=Cu,Au'),
        (['group:any', '--output', 'pairs.txt'], 'expected a name that ends in .npz'),
        (['group:any', '--output', 'nowhere/pairs.npz'], 'the folder nowhere does not exist'),
    ],
)
def test_mistakes_are_told(words, told):
    done = CliRunner().invoke(data, ['--from', *words])
    assert done.exit_code in (1, 2)
    assert told in done.output.replace('\n', ' ')
