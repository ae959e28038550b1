"""The chain: a raw crystal, the network, the guard, VASP, and the comparison with VASP alone."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ToContext, WorkChain, if_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_e3relax.data.structures import structures_to_crystals
from aiida_e3relax.workflows.base import E3RelaxBaseWorkChain
from aiida_e3relax.workflows.freedom import Freedom, Moves, freedom_value
from aiida_e3relax.workflows.freedom_checks import find_drift
from aiida_e3relax.workflows.guard import guard_prediction
from aiida_e3relax.workflows.inputs import (
    validate_chain,
    validate_freedom,
    validate_guard,
    validate_on_network_failure,
    validate_reference,
    validate_share,
    validate_structure,
    validate_vasp,
)
from aiida_e3relax.workflows.kpoints import make_kpoints
from aiida_e3relax.workflows.ledger import compare
from aiida_e3relax.workflows.leg_inputs import set_freedom, set_species
from aiida_e3relax.workflows.legs import collect_leg, last_structure
from aiida_e3relax.workflows.reference import Reference, earlier_chain, find_raw_leg, reason_against
from aiida_e3relax.workflows.resilient_vasp import ResilientVaspRelaxWorkChain
from aiida_e3relax.workflows.species import (
    is_named_by_elements,
    loses_sites,
    name_species,
    restore_sites,
    species_mappings,
    translate_species,
)
from aiida_e3relax.workflows.story import LEG_NAMES, tell_comparison, tell_failure
from aiida_e3relax.workflows.vasp_protocol import VaspProtocolMixin

CRYSTAL = 'crystal'
"""The key of the structure in the network's inputs and outputs."""


class E3RelaxVaspWorkChain(VaspProtocolMixin, WorkChain):
    """Relax a crystal with VASP from where the network predicts it to relax, and measure what that saves.

    The network predicts, the guard decides whether VASP may start from the prediction, VASP relaxes from there and,
    side by side with the same settings, from the raw structure, and the ledger compares the two. When the network
    fails or the guard rejects its prediction, VASP relaxes the raw structure alone and the chain goes on.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:  # type: ignore[override]
        """Define the inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input('structure', valid_type=orm.StructureData, validator=validate_structure, help='The raw crystal.')
        spec.expose_inputs(
            E3RelaxBaseWorkChain,
            namespace='network',
            exclude=('clean_workdir', 'predict.structures'),
            namespace_options={
                'required': False,
                'populate_defaults': False,
                'help': 'The run of the network; without it VASP relaxes the raw structure alone.',
            },
        )
        spec.expose_inputs(
            ResilientVaspRelaxWorkChain,
            namespace='vasp',
            exclude=('structure', 'vasp.clean_workdir'),
            namespace_options={
                'validator': validate_vasp,
                'help': 'The VASP relaxation, the same for both legs; what moves is set by `freedom`.',
            },
        )
        spec.input(
            'freedom',
            valid_type=(orm.Str, orm.Dict),
            default=lambda: orm.Str(Moves.CELL.value),
            serializer=orm.to_aiida_type,
            validator=validate_freedom,
            help='What may move, in the prediction and in VASP: `positions`, `shape`, `volume`, `in-plane`, or `cell` '
            'for everything; or a mapping with the key `moves` for that word and any of `fixed`, `keep_symmetry` and '
            '`vacuum`, see `aiida_e3relax.workflows.freedom.Freedom`.',
        )
        spec.input(
            'guard',
            valid_type=orm.Dict,
            default=orm.Dict,
            serializer=orm.to_aiida_type,
            validator=validate_guard,
            help='What a prediction must keep to; see `aiida_e3relax.workflows.guard.GuardSettings`.',
        )
        spec.input(
            'on_network_failure',
            valid_type=orm.Str,
            default=lambda: orm.Str('raw'),
            serializer=orm.to_aiida_type,
            validator=validate_on_network_failure,
            help='What to do when the network fails for good: `raw`, VASP relaxes the raw structure and a remark in '
            '`comparison` says why, or `error`, the chain ends.',
        )
        spec.input(
            'reference_leg',
            valid_type=orm.Str,
            default=lambda: orm.Str(Reference.ALWAYS.value),
            serializer=orm.to_aiida_type,
            validator=validate_reference,
            help='When VASP also relaxes the raw structure, to measure what the prediction saves: `always`, `sample` '
            'for a share of the structures, `never`; or the UUID of an earlier chain of this kind with the same '
            'structure and inputs of VASP, whose raw leg is taken.',
        )
        spec.input(
            'reference_share',
            valid_type=orm.Float,
            default=lambda: orm.Float(0.1),
            serializer=orm.to_aiida_type,
            validator=validate_share,
            help='The share of the structures, from 0 to 1, that `reference_leg: sample` relaxes from the raw one too.',
        )
        spec.input(
            'clean_workdir',
            valid_type=orm.Bool,
            default=lambda: orm.Bool(True),
            serializer=orm.to_aiida_type,
            help='Whether to clean the working directories of the jobs once they are done.',
        )
        spec.inputs.validator = validate_chain
        spec.outline(
            cls.choose_kpoints,  # type: ignore[arg-type]
            if_(cls.has_network)(cls.predict, cls.guard_prediction),  # type: ignore[arg-type]
            cls.relax,  # type: ignore[arg-type]
            if_(cls.needs_raw_leg)(cls.relax_raw),  # type: ignore[arg-type]
            cls.results,  # type: ignore[arg-type]
            cls.compare,  # type: ignore[arg-type]
            cls.conclude,  # type: ignore[arg-type]
        )
        spec.output('structure', valid_type=orm.StructureData, required=False, help='The relaxed crystal.')
        spec.output('comparison', valid_type=orm.Dict, help='What the prediction saved, and the figures of each leg.')
        spec.output('guard', valid_type=orm.Dict, required=False, help='The verdict, its reasons and numbers.')
        spec.output(
            'predicted_structure',
            valid_type=orm.StructureData,
            required=False,
            help='The crystal as the network predicts it.',
        )
        for leg in LEG_NAMES:
            spec.output(f'{leg}.structure', valid_type=orm.StructureData, required=False, help='Relaxed by this leg.')
            spec.output(
                f'{leg}.last_structure',
                valid_type=orm.StructureData,
                required=False,
                help='Where the relaxation of this leg was when it failed: a start for another one.',
            )
            spec.output(f'{leg}.misc', valid_type=orm.Dict, required=False, help='Final results of this leg.')
        spec.exit_code(
            400,
            'ERROR_NETWORK_FAILED',
            message='The network failed and `on_network_failure` is `error` ({detail}): find its last job with `verdi '
            'process status <pk>` and do what its exit message says, or set `on_network_failure` to `raw`.',
        )
        spec.exit_code(
            410,
            'ERROR_RELAXATION_FAILED',
            message='No VASP relaxation finished ({detail}): find its last job with `verdi process status <pk>`, read '
            'what VASP wrote with `verdi calcjob outputcat <pk of the job> vasp_output`, mend the inputs in `vasp` and '
            'run again.',
        )
        spec.exit_code(
            420,
            'ERROR_COMPARISON_FAILED',
            message='The relaxed crystal is there, in `structure`, but the legs could not be compared ({detail}): find '
            'where it failed with `verdi process report <pk>`, and take the figures of each leg from `raw.misc` and '
            '`predicted.misc`.',
        )

    def choose_kpoints(self) -> None:
        """Take one mesh for both legs: the one given, or the one for the raw cell."""
        self.ctx.remarks = []
        self.ctx.starts = {}
        vasp = self.inputs.vasp.vasp
        if 'kpoints' in vasp:
            self.ctx.kpoints = vasp.kpoints
        else:
            self.ctx.kpoints = make_kpoints(
                self.inputs.structure, vasp.kpoints_spacing, self.inputs.freedom, **_linked('kpoints')
            )

    def has_network(self) -> bool:
        """Return whether there is a network to ask."""
        if self.inputs.get('network'):
            return True
        self._remark('No network was given')
        return False

    def predict(self) -> ToContext:
        """Ask the network for the relaxed crystal."""
        inputs = self.exposed_inputs(E3RelaxBaseWorkChain, 'network')
        inputs.predict.structures = {CRYSTAL: self.inputs.structure}
        inputs.clean_workdir = self.inputs.clean_workdir
        inputs.metadata.call_link_label = 'network'
        running = self.submit(E3RelaxBaseWorkChain, **inputs)
        self.report(f'The network predicts the relaxed {self.inputs.structure.get_formula()}: <{running.pk}>')
        return ToContext(network=running)

    def guard_prediction(self) -> ExitCode | None:
        """Decide whether VASP may start from the prediction."""
        network = self.ctx.network
        if not network.is_finished_ok:
            failure = f'The network {tell_failure(network)}'
            self._remark(failure)
            if self.inputs.on_network_failure.value == 'error':
                return self.exit_codes.ERROR_NETWORK_FAILED.format(detail=failure)
            return None
        prediction = network.outputs.structures[CRYSTAL]
        self.out('predicted_structure', prediction)
        outcome: dict = guard_prediction(
            self.inputs.structure,
            prediction,
            self.inputs.freedom,
            self.inputs.guard,
            network.outputs.report,
            **_linked('guard'),
        )
        verdict = outcome['verdict']
        self.out('guard', verdict)
        self.ctx.verdict = verdict
        if verdict['accepted']:
            self.ctx.starts['predicted'] = outcome['structure']
            self.report('; '.join([f'The prediction is {verdict["verdict"]} by the guard', *verdict['reasons']]))
        else:
            self._remark('; '.join(['The guard rejected the prediction', *verdict['reasons']]))
        return None

    def relax(self) -> ToContext:
        """Start VASP from the prediction and from the raw structure, side by side, as far as both are wanted."""
        structure, reference = self.inputs.structure, self.inputs.reference_leg.value
        legs = list(self.ctx.starts)
        if chain := earlier_chain(reference):
            self.ctx.starts['raw'] = structure
            self.ctx.relax_raw = find_raw_leg(chain)
            self._remark(f'The raw leg is that of {chain.process_label}<{chain.pk}>')
        elif legs and (reason := reason_against(reference, structure, self.inputs.reference_share.value)):
            self._remark(reason)
        else:
            self.ctx.starts['raw'] = structure
            legs.append('raw')
        return ToContext(**{f'relax_{leg}': self._submit_leg(leg) for leg in legs})

    def needs_raw_leg(self) -> bool:
        """Return whether the raw structure has to be relaxed after all, since the only leg failed."""
        return 'raw' not in self.ctx.starts and not self.ctx.relax_predicted.is_finished_ok

    def relax_raw(self) -> ToContext:
        """Start VASP from the raw structure."""
        self.ctx.starts['raw'] = self.inputs.structure
        return ToContext(relax_raw=self._submit_leg('raw'))

    def results(self) -> None:
        """Hand on where the legs ended; the relaxed crystal is that of the predicted leg if it finished."""
        ends: dict[str, orm.StructureData] = {}
        relaxed: list[str] = []
        for leg in (leg for leg in LEG_NAMES if leg in self.ctx.starts):
            process = self.ctx[f'relax_{leg}']
            if 'misc' in process.outputs:
                self.out(f'{leg}.misc', process.outputs.misc)
            if not process.is_finished_ok:
                self._remark(f'The relaxation from {LEG_NAMES[leg]} {tell_failure(process)}')
                if last := last_structure(process):
                    ends[leg] = last
            elif drift := self._find_drift(process.outputs.relax.structure):
                self._remark(f'The relaxation from {LEG_NAMES[leg]} (<{process.pk}>) is of no use: {drift}')
            else:
                ends[leg] = process.outputs.relax.structure
                relaxed.append(leg)
        if ends and loses_sites(self.inputs.structure):
            ends = restore_sites(self.inputs.structure, **ends, **_linked('restore_sites'))
        for leg, structure in ends.items():
            self.out(f'{leg}.structure' if leg in relaxed else f'{leg}.last_structure', structure)
        if relaxed:
            self.out('structure', ends[relaxed[0]])

    def compare(self) -> None:
        """Write the ledger."""
        nodes: dict[str, Any] = {}
        for leg in self.ctx.starts:
            nodes[leg] = collect_leg(self.ctx[f'relax_{leg}'])
        if 'predicted' in self.ctx.starts:
            nodes['prediction'] = self.ctx.starts['predicted']
        if 'verdict' in self.ctx:
            nodes['verdict'] = self.ctx.verdict
        if 'network' in self.ctx and self.ctx.network.is_finished_ok:
            nodes['network_report'] = self.ctx.network.outputs.report
        circumstances = orm.Dict({'freedom': freedom_value(self.inputs.freedom), 'remarks': self.ctx.remarks})
        try:
            comparison = compare(self.inputs.structure, circumstances, **nodes, **_linked('compare'))
        except Exception as error:  # whatever it is, finished VASP runs are worth more than their comparison
            self._remark(f'The comparison failed with {error!r}')
            return
        self.out('comparison', comparison)
        self.report(tell_comparison(comparison.get_dict()))

    def conclude(self) -> ExitCode | None:
        """Return the exit code of a chain without a relaxed crystal or without a comparison."""
        detail = '; '.join(self.ctx.remarks)
        if 'structure' not in self.outputs:
            return self.exit_codes.ERROR_RELAXATION_FAILED.format(detail=detail)
        if 'comparison' not in self.outputs:
            return self.exit_codes.ERROR_COMPARISON_FAILED.format(detail=detail)
        return None

    def _submit_leg(self, leg: str) -> orm.ProcessNode:
        """Start the relaxation of one leg and return its process."""
        inputs = self.exposed_inputs(ResilientVaspRelaxWorkChain, 'vasp')
        inputs.structure = self._name_species(leg)
        set_freedom(inputs, Freedom.from_node(self.inputs.freedom), self.inputs.structure)
        set_species(inputs.vasp, translate_species(self.inputs.structure, **species_mappings(inputs.vasp)))
        inputs.vasp.pop('kpoints_spacing', None)
        inputs.vasp.kpoints = self.ctx.kpoints
        inputs.vasp.clean_workdir = self.inputs.clean_workdir
        inputs.metadata.call_link_label = f'relax_{leg}'
        running = self.submit(ResilientVaspRelaxWorkChain, **inputs)
        self.report(f'VASP relaxes from {LEG_NAMES[leg]}: <{running.pk}>')
        return running

    def _name_species(self, leg: str) -> orm.StructureData:
        """Return the start of a leg with its kinds as VASP is to be given them."""
        start = self.ctx.starts[leg]
        return start if is_named_by_elements(start) else name_species(start, **_linked(f'name_species_{leg}'))

    def _find_drift(self, relaxed: orm.StructureData) -> str | None:
        """Return what VASP moved although it may not."""
        crystals = structures_to_crystals({'raw': self.inputs.structure, 'relaxed': relaxed})
        return find_drift(Freedom.from_node(self.inputs.freedom), crystals.select([0]), crystals.select([1]))

    def _remark(self, sentence: str) -> None:
        """Put what did not go straight into the report and, later, into the comparison."""
        self.report(sentence)
        self.ctx.remarks.append(sentence)


def _linked(label: str) -> dict[str, Any]:
    """Return the argument that names the link from the work chain to a calculation function it calls."""
    return {'metadata': {'call_link_label': label}}
