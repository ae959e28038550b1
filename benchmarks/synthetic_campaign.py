"""A campaign whose graph has the shape of a real one and whose figures are drawn at random: for queries and figures.

Nothing is computed: nodes and links are written as the chain, aiida-vasp and the network's job leave them, and each
comparison is made by the ledger itself from legs that follow plausible distributions. Files are left out.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import ase.build
import numpy as np
from aiida import orm
from aiida.common.links import LinkType
from aiida.manage import get_manager
from aiida.orm.entities import EntityTypes
from aiida.orm.implementation.utils import clean_value
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.settings import CampaignSettings, draw_sample
from aiida_e3relax.crystals.structures import Crystals, make_crystals
from aiida_e3relax.workflows.comparison.ledger import compare_legs
from aiida_e3relax.workflows.comparison.legs import Leg
from aiida_e3relax.workflows.comparison.reference import content
from aiida_e3relax.workflows.comparison.vasp_runs import MeasuredStep, VaspRun

FATES = {
    'compared': 0.85,
    'rejected': 0.05,
    'network failed': 0.02,
    'predicted failed': 0.03,
    'raw failed': 0.02,
    'both failed': 0.01,
    'excepted': 0.01,
    'running': 0.01,
}
"""What becomes of a structure, and how often; `waiting`, without a chain, is a fate, too."""
CATIONS = ('Na', 'K', 'Mg', 'Ca', 'Sr', 'Ba', 'Ti', 'Zr', 'Mn', 'Zn', 'Al', 'Ga', 'In', 'Sn', 'La', 'Y')
ANIONS = ('O', 'S', 'Se', 'F', 'Cl', 'Br', 'N', 'P', 'As', 'C')
CORES = 16


class Graph:
    """Nodes and links, gathered and then written into the profile in two statements."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._links: list[tuple[str, str, str, str]] = []
        self._user = orm.User.collection.get_default().pk

    def add(self, kind: type[orm.Node], attributes: Mapping[str, Any], **columns: Any) -> str:
        """Add a node and return its UUID."""
        row = {'uuid': str(uuid.uuid4()), 'node_type': kind.class_node_type, 'attributes': clean_value(attributes)}
        self._rows.append(
            {'label': '', 'description': '', 'extras': {}, 'repository_metadata': {}, 'user_id': self._user}
            | {'process_type': None, **row, **columns}
        )
        return row['uuid']

    def link(self, source: str, target: str, kind: LinkType, label: str) -> None:
        """Link two nodes by their UUIDs."""
        self._links.append((source, target, kind.value, label))

    def process(
        self,
        kind: type[orm.ProcessNode],
        name: str,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        caller: tuple[str, str] | None = None,
        exit_status: int | None = 0,
        state: str = 'finished',
        **columns: Any,
    ) -> str:
        """Add a process with its links, called by `caller` under that label, and return its UUID."""
        attributes = {'process_label': name, 'process_state': state}
        if state == 'finished':
            message = 'it went wrong' if exit_status else None
            attributes |= {'exit_status': exit_status, 'exit_message': message, 'sealed': True}
        calculates = issubclass(kind, orm.CalculationNode)
        node = self.add(kind, attributes, **columns)
        for label, source in inputs.items():
            self.link(source, node, LinkType.INPUT_CALC if calculates else LinkType.INPUT_WORK, label)
        for label, target in outputs.items():
            self.link(node, target, LinkType.CREATE if calculates else LinkType.RETURN, label)
        if caller:
            self.link(caller[0], node, LinkType.CALL_CALC if calculates else LinkType.CALL_WORK, caller[1])
        return node

    def write(self) -> None:
        """Store everything."""
        backend = get_manager().get_profile_storage()
        rows = sorted(self._rows, key=lambda row: row['process_type'] is None)  # a statement ends where None begins
        with backend.transaction():
            backend.bulk_insert(EntityTypes.NODE, rows, allow_defaults=True)
            ids = dict(orm.QueryBuilder().append(orm.Node, project=['uuid', 'id']).iterall(batch_size=5000))
            links = [
                {'input_id': ids[source], 'output_id': ids[target], 'type': kind, 'label': label}
                for source, target, kind, label in self._links
            ]
            backend.bulk_insert(EntityTypes.LINK, links)


def draw_fates(n: int, generator: np.random.Generator) -> list[str]:
    """Return the fates of n structures."""
    return generator.choice(list(FATES), size=n, p=list(FATES.values())).tolist()


def fill_campaign(
    name: str,
    fates: Sequence[str],
    model: orm.Data,
    seed: int = 0,
    share: float = 1.0,
    stand_in: str | None = None,
    pre_relaxer: str = 'network',
    raw_legs_of: str | None = None,
    prefix: str = 'crystal',
) -> None:
    """Store a campaign of one structure for each of `fates`, with `model` as its checkpoint.

    `share` of the structures are in the sample that also gets a raw leg; `stand_in` names the engine, None is VASP.
    With `raw_legs_of`, the UUID of the settings of another campaign, it is an arm of that; the same seed gives the same
    crystals. Labels begin with `prefix`.
    """
    generator = np.random.default_rng(seed)
    graph = Graph()
    labels = [f'{prefix}-{number:04d}' for number in range(len(fates))]
    relaxed = [_draw_crystal(generator) for _ in labels]
    raw = [_disturb(atoms, generator.lognormal(-2.9, 0.6), generator) for atoms in relaxed]
    structures = dict(zip(labels, (_add_structure(graph, atoms) for atoms in raw), strict=True))
    record = make_settings(name, structures, model, share, seed, pre_relaxer, raw_legs_of)
    settings = record.to_node().store().uuid
    network = _add_network(graph, settings, structures, fates, model, generator)
    for label, fate, start, end in zip(labels, fates, raw, relaxed, strict=True):
        if fate != 'waiting':
            chain = _Chain(graph, network, label, structures[label], generator, stand_in)
            chain.add(settings, fate, start, end, record.has_raw_leg(label))
    graph.write()
    members = [*structures.values(), settings]
    CampaignGroup(label=name).store().add_nodes(
        orm.QueryBuilder().append(orm.Data, filters={'uuid': {'in': members}}).all(flat=True)
    )


def make_settings(
    name: str,
    structures: Mapping[str, str],
    model: orm.Data,
    share: float = 1.0,
    seed: int = 0,
    pre_relaxer: str = 'network',
    raw_legs_of: str | None = None,
) -> CampaignSettings:
    """Return the settings of a campaign of structures, given by their UUIDs by label."""
    return CampaignSettings(
        name=name,
        created='2026-11-21T00:00:00+00:00',
        structures=dict(structures),
        fixed={},
        left_out={},
        batches=[],
        batch_size=len(structures),
        reference_share=share,
        reference_sample=draw_sample(list(structures), share, seed),
        seed=seed,
        chain={'model': model.uuid, 'pre_relaxer': pre_relaxer},
        guard={},
        versions={},
        raw_legs_of=raw_legs_of,
    )


class _Chain:
    """One chain of the campaign."""

    def __init__(
        self,
        graph: Graph,
        network: Mapping[str, Any],
        label: str,
        structure: str,
        generator: np.random.Generator,
        stand_in: str | None,
    ) -> None:
        self._graph, self._network, self._label, self._structure = graph, network, label, structure
        self._generator = generator
        self._version = f'6.4.3-standin-{stand_in}' if stand_in else '6.4.3'

    def add(self, settings: str, fate: str, start: Atoms, end: Atoms, in_sample: bool) -> None:
        """Add the chain with all that it called."""
        state = fate if fate in ('excepted', 'running') else 'finished'
        predicted_fails, raw_fails = (fate in (f'{leg} failed', 'both failed') for leg in ('predicted', 'raw'))
        graph = self._graph
        inputs = {'structure': self._structure, 'campaign': settings}
        inputs['prediction__batch'], inputs['prediction__report'] = self._network['batch'], self._network['report']
        inputs['freedom'] = graph.add(orm.Str, {'value': 'cell'})
        inputs['reference_leg'] = graph.add(orm.Str, {'value': 'always' if in_sample else 'never'})
        chain = graph.process(
            orm.WorkChainNode,
            'E3RelaxVaspWorkChain',
            inputs,
            {},
            exit_status=410 if fate == 'both failed' else 0,
            state=state,
            label=self._label,
            process_type='aiida.workflows:e3relax.vasp',
        )
        legs: dict[str, Leg] = {}
        nodes: dict[str, str] = {'structure': self._structure}
        guess = _disturb(end, 0.3 * self._generator.lognormal(-2.9, 0.8), self._generator)
        if fate not in ('rejected', 'network failed'):
            legs['predicted'] = self._draw_leg(guess, end, predicted_fails)
        if in_sample or predicted_fails or 'predicted' not in legs:
            legs['raw'] = self._draw_leg(start, end, raw_fails)
        verdict = None if fate == 'network failed' else self._add_guard(chain, guess, fate, nodes)
        for leg in legs if state == 'finished' else ():
            self._add_leg(chain, leg, nodes, legs[leg])
        if state == 'finished':
            comparison = {
                'formula': end.get_chemical_formula('metal'),
                'n_atoms': len(end),
                'freedom': 'cell',
                'remarks': [] if fate == 'compared' else [f'The fate of this chain: {fate}'],
                'guard': verdict,
                'network': None if fate == 'network failed' else self._tell_network(guess, end),
                **compare_legs(legs.get('raw'), legs.get('predicted')),
            }
            output = graph.add(orm.Dict, comparison)
            graph.process(orm.CalcFunctionNode, 'compare', nodes, {'comparison': output}, (chain, 'compare'))
            graph.link(chain, output, LinkType.RETURN, 'comparison')

    def _tell_network(self, guess: Atoms, end: Atoms) -> dict[str, Any]:
        error = float(np.abs(guess.positions - end.positions).mean())
        return {
            'content_hash': self._network['hash'],
            'device': 'cuda:0',
            'wall_time_s': 0.015,
            'uncertainty_A': error * float(self._generator.lognormal(0, 0.5)),
        }

    def _draw_leg(self, start: Atoms, end: Atoms, fails: bool) -> Leg:
        """Return a leg that takes the longer the farther its start is from its end."""
        error = np.abs(start.cell.array - end.cell.array).mean() + np.abs(start.positions - end.positions).mean()
        steps = 1 + int(self._generator.poisson(4 + 60 * error))
        electronic, wall_time = 9 * steps, 20.0 * steps * len(end)
        run = VaspRun(self._version, CORES, steps, electronic, wall_time)
        above = float(5 * error**2 * self._generator.lognormal(0, 0.3))
        other = float(self._generator.normal(0, 0.0004)) + (0.03 if self._generator.random() < 0.03 else 0)
        step = {'max_force': 0.01, 'pressure': 0.3}
        first = MeasuredStep(
            crystal=_to_crystals(start), energy=-5.0 + above, max_force=8 * error, pressure=300 * error
        )
        last = MeasuredStep(crystal=_to_crystals(end), energy=-5.0 + other, **step)
        return Leg(runs=(run,), static_wall_time=20.0, first=first, last=None if fails else last)

    def _add_guard(self, chain: str, guess: Atoms, fate: str, nodes: dict[str, str]) -> dict[str, Any]:
        graph = self._graph
        predicted = _add_structure(graph, guess)
        graph.process(
            orm.CalcFunctionNode,
            'take_structure',
            {'batch': self._network['batch']},
            {'result': predicted},
            (chain, 'take_structure'),
        )
        rejected = fate == 'rejected'
        verdict = {
            'verdict': 'rejected' if rejected else 'accepted',
            'reasons': ['the volume changes by a factor of 7.1 (bounds 0.4 to 6)'] if rejected else [],
        }
        outputs = {'verdict': graph.add(orm.Dict, verdict)}
        if not rejected:
            outputs['structure'] = nodes['prediction'] = _add_structure(graph, guess)
        graph.process(
            orm.CalcFunctionNode,
            'guard_prediction',
            {'structure': self._structure, 'prediction': predicted},
            outputs,
            (chain, 'guard'),
        )
        nodes['verdict'] = outputs['verdict']
        return verdict

    def _add_leg(self, chain: str, leg: str, nodes: dict[str, str], facts: Leg) -> None:
        """Add a `vasp.v2.relax` with its relaxation and its static run."""
        graph, start = self._graph, nodes['prediction'] if leg == 'predicted' else self._structure
        exit_status = 0 if facts.last else 401
        relax = graph.process(
            orm.WorkChainNode,
            'ResilientVaspRelaxWorkChain',
            {'structure': start},
            {},
            (chain, f'relax_{leg}'),
            exit_status,
        )
        for link in ('relax_01', 'singlepoint') if facts.last else ('relax_01',):
            base = graph.process(
                orm.WorkChainNode, 'VaspWorkChain', {'structure': start}, {}, (relax, link), exit_status
            )
            outputs = {'misc': graph.add(orm.Dict, {'run_status': {}, 'total_energies': {'energy_extrapolated': -5.0}})}
            outputs['retrieved'] = graph.add(orm.FolderData, {})
            outputs['remote_folder'] = graph.add(orm.RemoteData, {'remote_path': '/'})
            if facts.last and link == 'relax_01':
                outputs['structure'] = graph.add(orm.StructureData, {'cell': np.eye(3).tolist(), 'kinds': []})
            graph.process(
                orm.CalcJobNode,
                'VaspCalculation',
                {'structure': start},
                outputs,
                (base, 'iteration_01'),
                exit_status and 700,
                process_type='aiida.calculations:vasp.vasp',
            )
            nodes |= {f'{leg}__{name}_{link}': node for name, node in outputs.items()}
            start = outputs.get('structure', start)
        graph.link(chain, nodes[f'{leg}__misc_relax_01'], LinkType.RETURN, f'{leg}__misc')


def _add_network(
    graph: Graph,
    settings: str,
    structures: Mapping[str, str],
    fates: Sequence[str],
    model: orm.Data,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """Add the run of the network over the batch of all structures."""
    batch, predicted = (graph.add(orm.ArrayData, {}) for _ in range(2))
    graph.process(orm.CalcFunctionNode, 'gather_structures', structures, {'result': batch})
    rows = [
        {'label': label, 'status': 'failed' if fate == 'network failed' else 'ok', 'uncertainty_A': generator.random()}
        for label, fate in zip(structures, fates, strict=True)
    ]
    report = graph.add(orm.Dict, {'structures': rows, 'device': {'used': 'cuda:0'}, 'timings_s': {'total': 15.0}})
    inputs = {'batch': batch, 'model': model.uuid}
    base = graph.process(
        orm.WorkChainNode,
        'E3RelaxBaseWorkChain',
        {'campaign': settings, **{f'predict__{key}': node for key, node in inputs.items()}},
        {'batch': predicted, 'report': report},
    )
    graph.process(
        orm.CalcJobNode,
        'E3RelaxCalculation',
        inputs,
        {'batch': predicted, 'report': report},
        (base, 'iteration_01'),
        process_type='aiida.calculations:e3relax.predict',
    )
    return {'batch': predicted, 'report': report, 'hash': model.base.attributes.get('content_hash')}


def _add_structure(graph: Graph, atoms: Atoms) -> str:
    node = orm.StructureData(ase=atoms)
    extras = {'_aiida_hash': content(node)}
    return graph.add(orm.StructureData, node.base.attributes.all, extras=extras)


def _draw_crystal(generator: np.random.Generator) -> Atoms:
    """Return a crystal of two or three elements with bonds as long as their covalent radii say."""
    anion = str(generator.choice(ANIONS))
    first, second = generator.choice(CATIONS, 2, replace=False).tolist()
    bond = sum(covalent_radii[atomic_numbers[symbol]] for symbol in (first, anion))
    match int(generator.integers(4)):
        case 0:
            return ase.build.bulk(first + anion, 'rocksalt', a=2 * bond)
        case 1:
            return ase.build.bulk(first + anion, 'zincblende', a=4 * bond / np.sqrt(3))
        case 2:
            return ase.build.bulk(first + anion, 'rocksalt', a=2 * bond, cubic=True)
        case _:
            sites = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
            return Atoms([first, second, *3 * [anion]], scaled_positions=sites, cell=3 * [2 * bond], pbc=True)


def _disturb(atoms: Atoms, size: float, generator: np.random.Generator) -> Atoms:
    """Return the crystal with random strain and displacements of that size."""
    disturbed = atoms.copy()
    strain = generator.normal(0, size, (3, 3))
    disturbed.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    disturbed.positions += generator.normal(0, size, atoms.positions.shape)
    return disturbed


def _to_crystals(atoms: Atoms) -> Crystals:
    return make_crystals([atoms.numbers], [atoms.positions], [atoms.cell.array], pbc=[atoms.pbc])
