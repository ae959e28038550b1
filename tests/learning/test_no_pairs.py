"""Which work chains in the graph are no pairs, and how that is told."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.common.links import LinkType
from click.testing import CliRunner

from aiida_e3relax.cli.data import data
from aiida_e3relax.learning.gather import gather
from aiida_e3relax.learning.relaxations import KINDS, RelaxationKind, find_relaxations
from tests.learning.test_gather import FINISHED, RANDOM, TAGS, query_of, relax

__all__ = ['relax']  # the fixture


def test_relaxations_that_did_not_converge_are_left_out_and_counted(relax):
    gathered = gather(find_relaxations(query_of(relax(), relax(converged=False))), 'mine', RANDOM)
    assert len(gathered.data.pairs) == 1
    assert [rejection.kind for rejection in gathered.data.rejections] == ['not converged']


NO_RELAXATIONS = {
    'molecular dynamics': ({'tags': {'ibrion': 0}, 'converged': None}, 'no relaxation: IBRION = 0, molecular dynamics'),
    'no IBRION': ({'tags': {'ibrion': None}, 'converged': None}, 'no relaxation: IBRION = 0, molecular dynamics'),
    'static': ({'tags': {'ibrion': -1, 'nsw': 0}, 'converged': None}, 'no relaxation: IBRION = -1, no ions move'),
    'phonons': ({'tags': {'ibrion': '6'}, 'converged': True}, 'no relaxation: IBRION = 6, finite differences'),
    'no steps': ({'tags': {'nsw': 0}, 'converged': None}, 'no relaxation: NSW = 0, no ions move'),
    'to the end': ({'tags': {'ediffg': '0.0D0'}}, 'no relaxation: EDIFFG = 0, the run ends at NSW wherever it is'),
    'one step': ({'tags': {'nsw': 1}, 'converged': None}, 'not known to have converged: NSW = 1'),
    'ions': ({'converged': False}, 'not converged: '),
    'electrons': ({'electrons': False}, 'electrons did not converge in the last step: '),
    'force field': ({'tags': {'ml_lmlff': True}}, 'no relaxation by DFT: ML_LMLFF'),
}


@pytest.mark.parametrize('name', NO_RELAXATIONS)
def test_what_is_no_relaxation_that_converged_is_no_pair(relax, name):
    """Nor are its settings compared with those of pairs."""
    options, reason = NO_RELAXATIONS[name]
    tags = {**TAGS, 'encut': 700, **options.get('tags', {})}
    chain = relax('VaspWorkChain', 'structure', **{**options, 'tags': tags})
    found = find_relaxations(query_of(chain, relax()), {**KINDS, 'VaspWorkChain': RelaxationKind()})
    gathered = gather(found, 'mine', RANDOM)
    assert len(gathered.data.pairs) == 1
    (rejection,) = gathered.data.rejections
    assert rejection.reason.startswith(reason)
    assert [settings['ENCUT'] for settings in gathered.settings.values()] == [400]


def test_the_input_given_back_is_no_pair(relax):
    """As aiida-vasp's work chain does with `perform=False`, where the input is the end of another relaxation."""
    first, bypassed = relax(), orm.WorkChainNode()
    end = first.outputs.relax__structure
    bypassed.base.links.add_incoming(end, LinkType.INPUT_WORK, 'structure')
    bypassed.base.attributes.set_many({'process_label': 'VaspRelaxWorkChain', **FINISHED})
    end.base.links.add_incoming(bypassed.store(), LinkType.RETURN, 'relax__structure')
    gathered = gather(find_relaxations(query_of(first, bypassed)), 'mine', RANDOM)
    assert [each.reason for each in gathered.data.rejections] == [
        'no relaxation: it ends in the very crystal that it started from'
    ]
    assert len(gathered.data.pairs) == 1


def test_a_relaxation_in_stages_is_one_pair(relax):
    chain = relax('VaspMultiStageRelaxWorkChain', tags={'encut': 520})
    stage = relax(caller=chain, called_as='CALL', tags={'encut': 300})
    (found,) = find_relaxations(query_of(chain, stage))
    assert (found.process, found.start) == (chain.uuid, chain.inputs.structure.uuid)
    assert (found.end, found.settings['ENCUT']) == (chain.outputs.relax__structure.uuid, 520)


def test_work_chains_that_are_not_known_are_counted_in_a_group(relax, tmp_path):
    group = orm.Group(label=f'own of {tmp_path.name}').store()
    known, own = relax(), [relax('MyWorkChain') for _ in range(2)]
    base = relax('VaspWorkChain', 'structure', caller=known)
    group.add_nodes([known, base, *own])
    done = CliRunner().invoke(data, ['--from', f'group:{group.label}', '--split', 'random'])
    assert done.exit_code == 0, done.output
    told = '2 work chains left out: MyWorkChain is not known to relax; if it does, name it in `--kinds`'
    assert told in done.output
    assert 'VaspWorkChain' not in done.output.replace('MyWorkChain', ''), 'a part of one that is taken'
    group.remove_nodes([known, base])
    done = CliRunner().invoke(data, ['--from', f'group:{group.label}'])
    assert done.exit_code == 1
    assert told in done.output
    assert '--kinds' in done.output.partition('found no relaxation')[2]


def test_a_division_without_a_split_is_told(relax, tmp_path):
    group = orm.Group(label=f'one system of {tmp_path.name}').store()
    group.add_nodes([relax() for _ in range(6)])
    done = CliRunner().invoke(data, ['--from', f'group:{group.label}'])
    assert done.exit_code == 0, done.output
    assert '6 pairs: 6 train.' in done.output
    assert 'Warning: no pair is of the split val or test: ' in done.output
    assert '`--split random` divides' in done.output
