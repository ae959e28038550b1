"""The chain: a raw crystal, the network, the guard, VASP, and the comparison with VASP alone."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ToContext, WorkChain, if_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_e3relax.calculations.batches import take_structure
from aiida_e3relax.calculations.pre_relaxer import PreRelaxer
from aiida_e3relax.calculations.predict_parameters import PredictParameters
from aiida_e3relax.common.mappings import merge
from aiida_e3relax.workflows.allowed_values import StaticRun
from aiida_e3relax.workflows.comparison.ledger import compare
from aiida_e3relax.workflows.comparison.legs import (
    collect_leg,
    count_from_cache,
    find_algo,
    find_other_environment,
    last_structure,
)
from aiida_e3relax.workflows.comparison.reference import (
    earlier_chain,
    find_other_inputs,
    find_raw_leg,
    is_of_handlers,
    reason_against,
)
from aiida_e3relax.workflows.guard import describe_verdict, guard_prediction
from aiida_e3relax.workflows.network.base import E3RelaxBaseWorkChain
from aiida_e3relax.workflows.network.report import find_row
from aiida_e3relax.workflows.vasp.builder import VaspProtocolMixin
from aiida_e3relax.workflows.vasp.exit_codes import define_exit_codes
from aiida_e3relax.workflows.vasp.inputs.freedom import freedom_value, predict_all, read_freedom
from aiida_e3relax.workflows.vasp.inputs.kpoints import make_kpoints
from aiida_e3relax.workflows.vasp.inputs.legs import set_freedom, set_monitors, set_species, with_algo
from aiida_e3relax.workflows.vasp.inputs.species import (
    is_named_by_elements,
    loses_sites,
    name_species,
    restore_sites,
    species_mappings,
    translate_species,
)
from aiida_e3relax.workflows.vasp.messages import LEG_NAMES, describe_comparison, describe_failure
from aiida_e3relax.workflows.vasp.ports import define_inputs, define_outputs
from aiida_e3relax.workflows.vasp.restarts import ResilientVaspRelaxWorkChain

CRYSTAL = 'crystal'
"""The key of the structure in the network's inputs and outputs."""


class E3RelaxVaspWorkChain(VaspProtocolMixin, WorkChain):
    """Relax a crystal with VASP from where the network predicts it to relax, and measure what that saves.

    The network predicts, in the chain or in an earlier run for many crystals, the guard decides whether VASP may start
    from the prediction, VASP relaxes from there and, side by side with the same settings, from the raw structure, and
    the ledger compares the two. When the network fails or the guard rejects its prediction, VASP relaxes the raw
    structure alone and the chain goes on.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:  # type: ignore[override]
        """Define the inputs, outline, outputs and exit codes."""
        super().define(spec)
        define_inputs(spec)
        spec.outline(
            cls.choose_kpoints,  # type: ignore[arg-type]
            if_(cls.has_network)(cls.predict, cls.inspect_network).elif_(cls.has_prediction)(cls.take_prediction),  # type: ignore[arg-type]
            if_(cls.is_predicted)(cls.guard_prediction),  # type: ignore[arg-type]
            cls.relax,  # type: ignore[arg-type]
            if_(cls.needs_raw_leg)(cls.relax_raw),  # type: ignore[arg-type]
            cls.results,  # type: ignore[arg-type]
            cls.compare,  # type: ignore[arg-type]
            cls.conclude,  # type: ignore[arg-type]
        )
        define_outputs(spec)
        define_exit_codes(spec)

    def choose_kpoints(self) -> None:
        """Take one mesh for both legs: the one given, or the one for the raw cell."""
        self.ctx.remarks = []
        self.ctx.starts = {}
        self.ctx.network_facts = {}
        vasp = self.inputs.vasp.vasp
        if 'kpoints' in vasp:
            self.ctx.kpoints = vasp.kpoints
        else:
            self.ctx.kpoints = make_kpoints(
                self.inputs.structure, vasp.kpoints_spacing, self.inputs.freedom, **_linked('kpoints')
            )

    def has_network(self) -> bool:
        """Return whether there is a network to ask."""
        return bool(self.inputs.get('network'))

    def predict(self) -> ToContext:
        """Ask the network, or a potential, for the relaxed crystal."""
        inputs = self.exposed_inputs(E3RelaxBaseWorkChain, 'network')
        inputs.predict.structures = {CRYSTAL: self.inputs.structure}
        inputs.predict.parameters = predict_all(inputs.predict.get('parameters'), freedom_value(self.inputs.freedom))
        inputs.clean_workdir = self.inputs.clean_workdir
        inputs.metadata.call_link_label = 'network'
        running = self.submit(E3RelaxBaseWorkChain, **inputs)
        self.report(f'{self._title()} predicts the relaxed {self.inputs.structure.get_formula()}: <{running.pk}>')
        return ToContext(network=running)

    def inspect_network(self) -> ExitCode | None:
        """Take the prediction from the network's run."""
        network = self.ctx.network
        if not network.is_finished_ok:
            return self._go_without(f'{self._title()} {describe_failure(network)}')
        self.ctx.prediction = network.outputs.structures[CRYSTAL]
        self.ctx.network_facts = {'network_report': network.outputs.report}
        return None

    def has_prediction(self) -> bool:
        """Return whether the network has been asked before."""
        if self.inputs.get('prediction'):
            return True
        self._remark('No network was given')
        return False

    def take_prediction(self) -> ExitCode | None:
        """Take the prediction from the batch of an earlier run."""
        given = self.inputs.prediction
        label = given.label.value
        if 'failure' in given:
            return self._go_without(f'The run of the pre-relaxer for the batch {given.failure.value}')
        if 'batch' not in given or label not in given.batch:
            report = given.report.get_dict()
            row, title = find_row(report, label), PreRelaxer.of_report(report).title
            if row.get('n_atoms'):  # what was spent on it counts all the same
                self.ctx.network_facts = {'network_report': given.report, 'label': given.label}
            return self._go_without(f'{title} failed for `{label}`: {row["status"]}: {row["message"]}')
        self.ctx.prediction = take_structure(given.batch, given.label, **_linked('take_prediction'))
        self.ctx.network_facts = {'network_report': given.report, 'label': given.label}
        title = PreRelaxer.of_report(given.report.get_dict()).title
        self.report(f'{title} has predicted the relaxed {self.inputs.structure.get_formula()} as `{label}`')
        return None

    def is_predicted(self) -> bool:
        """Return whether there is a prediction to judge."""
        return 'prediction' in self.ctx

    def guard_prediction(self) -> None:
        """Decide whether VASP may start from the prediction."""
        self.out('predicted_structure', self.ctx.prediction)
        outcome: dict = guard_prediction(
            self.inputs.structure,
            self.ctx.prediction,
            self.inputs.freedom,
            self.inputs.guard,
            **self.ctx.network_facts,
            **_linked('guard'),
        )
        verdict = outcome['verdict']
        self.out('guard', verdict)
        self.ctx.verdict = verdict
        if verdict['accepted']:
            self.ctx.starts['predicted'] = outcome['structure']
            self.report(describe_verdict(verdict.get_dict()))
        else:
            self._remark('; '.join(['The guard rejected the prediction', *verdict['reasons']]))

    def relax(self) -> ToContext:
        """Start VASP from the prediction and from the raw structure, side by side, as far as both are wanted."""
        structure, reference = self.inputs.structure, self.inputs.reference_leg.value
        legs = list(self.ctx.starts)
        chain = earlier_chain(reference)
        reason = None if chain else reason_against(reference, structure, self.inputs.reference_share.value)
        if 'static_run' in self.inputs and self.inputs.static_run.value == StaticRun.WITH_REFERENCE and reason:
            self.ctx.without_static_run = ['predicted']  # a node that is not stored would bar all checkpoints
        if chain:
            self.ctx.starts['raw'] = structure
            self.ctx.relax_raw = find_raw_leg(chain)
            self._remark(f'The raw leg is that of {chain.process_label}<{chain.pk}>')
            if find_other_inputs(chain, self.inputs, is_of_handlers):
                self._remark('That one had other `handler_overrides`: VASP may have been restarted otherwise there')
        elif legs and reason:
            told = self.inputs.reference_leg.description  # of an arm of a campaign: why there is none to be had
            self._remark(f'{reason}: {told}' if told else reason)
        else:
            self.ctx.starts['raw'] = structure
            legs.append('raw')
        return self._submit_legs(*legs)

    def needs_raw_leg(self) -> bool:
        """Return whether the raw structure has to be relaxed after all, since the only leg failed."""
        return 'raw' not in self.ctx.starts and not self.ctx.relax_predicted.is_finished_ok

    def relax_raw(self) -> ToContext:
        """Start VASP from the raw structure."""
        self.ctx.starts['raw'] = self.inputs.structure
        return self._submit_legs('raw')

    def results(self) -> None:
        """Hand on where the legs ended; the relaxed crystal is that of the predicted leg if it finished."""
        ends: dict[str, orm.StructureData] = {}
        relaxed: list[str] = []
        for leg in (leg for leg in LEG_NAMES if leg in self.ctx.starts):
            process = self.ctx[f'relax_{leg}']
            if 'misc' in process.outputs:
                self.out(f'{leg}.misc', process.outputs.misc)
            if not process.is_finished_ok:
                self._remark(self._describe_failure(leg))
                if last := last_structure(process):
                    ends[leg] = last
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
        try:
            comparison = self._compare_legs()
        except Exception as error:  # whatever it is, finished VASP runs are worth more than their comparison
            self._remark(f'The comparison failed with {error!r}')
            return
        self.out('comparison', comparison)
        for remark in comparison['remarks'][len(self.ctx.remarks) :]:
            self.report(remark)
        self.report(describe_comparison(comparison.get_dict()))

    def _compare_legs(self) -> orm.Dict:
        """Return the comparison of the legs that ran, and remark on what makes them unlike."""
        nodes: dict[str, Any] = dict(self.ctx.network_facts)
        legs = {leg: self.ctx[f'relax_{leg}'] for leg in self.ctx.starts}
        algos = {leg: find_algo(process) for leg, process in legs.items()}
        if len(set(algos.values()) - {None}) > 1:
            words = ', '.join(f'`{algo}` from {LEG_NAMES[leg]}' for leg, algo in algos.items() if algo)
            self._remark(f'The ions were moved by {words}: what is saved is the work of both, start and algorithm')
        if different := find_other_environment(legs.values()):
            self._remark(
                f'The jobs of the two relaxations had different `{"`, `".join(different)}`: steps and energies may '
                'differ by that'
            )
        nodes |= {leg: collect_leg(process) for leg, process in legs.items()}
        if 'predicted' in self.ctx.starts:
            nodes['prediction'] = self.ctx.starts['predicted']
        if 'verdict' in self.ctx:
            nodes['verdict'] = self.ctx.verdict
        circumstances = orm.Dict(
            {
                'freedom': freedom_value(self.inputs.freedom),
                'algos': algos,
                'remarks': self.ctx.remarks,
                'raw_leg_is_earlier': earlier_chain(self.inputs.reference_leg.value) is not None,
                'runs_from_cache': {leg: count_from_cache(process) for leg, process in legs.items()},
            }
        )
        return compare(self.inputs.structure, circumstances, **nodes, **_linked('compare'))

    def conclude(self) -> ExitCode | None:
        """Return the exit code of a chain without a relaxed crystal or without a comparison."""
        if 'structure' not in self.outputs:
            failures = [self._describe_failure(leg) for leg in LEG_NAMES if leg in self.ctx.starts]
            return self.exit_codes.ERROR_RELAXATION_FAILED.format(detail='; '.join(failures))
        if 'comparison' not in self.outputs:
            return self.exit_codes.ERROR_COMPARISON_FAILED.format(detail=self.ctx.remarks[-1])
        return None

    def _describe_failure(self, leg: str) -> str:
        """Return how a relaxation ended that is not finished well."""
        return f'The relaxation from {LEG_NAMES[leg]} {describe_failure(self.ctx[f"relax_{leg}"])}'

    def _title(self) -> str:
        """Return the subject of sentences on the pre-relaxer."""
        predict = self.inputs.network.predict
        parameters = predict.parameters.get_dict() if 'parameters' in predict else {}
        return PredictParameters.from_mapping(parameters).pre_relaxer.title

    def _go_without(self, failure: str) -> ExitCode | None:
        """Go on from the raw structure alone because of the network's `failure`, or end, as the input says."""
        self._remark(failure)
        if self.inputs.on_network_failure.value == 'error':
            return self.exit_codes.ERROR_NETWORK_FAILED.format(detail=failure)
        return None

    def _submit_legs(self, *legs: str) -> ToContext:
        """Start the relaxations, with the same nodes as inputs but for the structure."""
        inputs = self.exposed_inputs(ResilientVaspRelaxWorkChain, 'vasp')
        set_freedom(inputs, read_freedom(self.inputs.freedom), self.inputs.structure)
        set_species(inputs.vasp, translate_species(self.inputs.structure, **species_mappings(inputs.vasp)))
        set_monitors(inputs.vasp)
        inputs.vasp.pop('kpoints_spacing', None)
        inputs.vasp.kpoints = self.ctx.kpoints
        inputs.vasp.clean_workdir = self.inputs.clean_workdir
        started = {}
        for leg in legs:
            own: dict[str, Any] = {
                'structure': self._name_species(leg),
                'metadata': {'call_link_label': f'relax_{leg}'},
            }
            if leg in self.ctx.get('without_static_run', ()):
                own['static_run'] = orm.Bool(False)
            if leg == 'predicted' and 'predicted_algo' in self.inputs:
                own['relax_settings'] = with_algo(inputs.relax_settings, self.inputs.predicted_algo.value)
            running = started[f'relax_{leg}'] = self.submit(ResilientVaspRelaxWorkChain, **merge(inputs, own))
            self.report(f'VASP relaxes from {LEG_NAMES[leg]}: <{running.pk}>')
        return ToContext(**started)

    def _name_species(self, leg: str) -> orm.StructureData:
        """Return the start of a leg with its kinds as VASP is to be given them."""
        start = self.ctx.starts[leg]
        return start if is_named_by_elements(start) else name_species(start, **_linked(f'name_species_{leg}'))

    def _remark(self, sentence: str) -> None:
        """Put what did not go straight into the report and, later, into the comparison."""
        self.report(sentence)
        self.ctx.remarks.append(sentence)


def _linked(label: str) -> dict[str, Any]:
    """Return the argument that names the link from the work chain to a calculation function it calls."""
    return {'metadata': {'call_link_label': label}}
