"""The work chains of aiida-vasp with further restart handlers: for incomplete files and for fatal errors of VASP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import ExitCode, ProcessHandlerReport, ToContext, process_handler, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec
from aiida_vasp.parsers.vasp import ParserSettingsConfig
from aiida_vasp.workchains.v2.relax import VaspRelaxWorkChain
from aiida_vasp.workchains.v2.vasp import VaspWorkChain

from aiida_e3relax.common.mappings import merge
from aiida_e3relax.crystals.freedom.checks import find_drift
from aiida_e3relax.workflows.vasp.inputs.incar import held_axes, incar_tags
from aiida_e3relax.workflows.vasp.job_output import STDOUT, open_retrieved_text

PARSER_SETTINGS = {
    'check_completeness': False,
    'critical_notification_errors': [*ParserSettingsConfig().critical_notification_errors, 'zbrent'],
}
"""Without these a missing CONTCAR ends the parser with an exception, and a run that ended with ZBRENT is a success."""
RELAXATION_NODES = ['structure', 'trajectory']
ENERGY = 'energy_extrapolated'
FATAL = re.compile(r'ZBRENT: fatal error|ZPOTRF failed')
"""Errors from which VASP can go on at the last geometry; parsevasp does not know the second."""


class ResilientVaspWorkChain(VaspWorkChain):
    """`vasp.v2.vasp` that runs VASP again when its files are incomplete and goes on after ZBRENT and ZPOTRF.

    Each of the two is handled once; the second time it ends the work chain. aiida-vasp's own handlers do the rest.

    The outline is that of aiida-vasp in fewer steps, as each step costs a checkpoint in the database, and without
    `auto_parallel`, of which no value makes aiida-vasp 5.1 do anything.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define the outline."""
        super().define(spec)
        spec.outline(
            cls.setup,  # type: ignore[arg-type]
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),  # type: ignore[arg-type]
            cls.results,
        )

    def setup(self) -> ExitCode | None:
        """Take over the inputs, and note that nothing has been handled yet."""
        super().setup()
        self.ctx.has_repeated = False
        self.ctx.has_met_error = False
        return self.init_inputs()

    def init_inputs(self) -> ExitCode | None:
        """Put `PARSER_SETTINGS` under the settings of the user, and ask for the trajectory of a relaxation."""
        exit_code = super().init_inputs()
        given = self.inputs.settings.get_dict() if 'settings' in self.inputs else {}
        settings = _complete(given, moves=_moves(self.ctx.inputs.parameters))
        if settings != given:
            self.ctx.inputs.settings = orm.Dict(settings)
        return exit_code

    def update_magmom(self, node: orm.CalcJobNode | None = None) -> None:
        """Go on from the moments at which a run ended, by default the last, if its OUTCAR has them: LORBIT 10 or more.

        aiida-vasp looks for them in an output that its calculation does not have.
        """
        if self.is_noncollinear:
            return
        moments = read_moments(node or self.ctx.children[-1])
        if moments is not None:
            self.ctx.inputs.parameters['magmom'] = moments

    def run_process(self) -> ToContext:
        """Run VASP, from the files of the last run where there are any."""
        self.prepare_inputs()
        return super().run_process()

    @process_handler(priority=1060)
    def handle_incomplete_files(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Run once more from the same start, since nothing is there to go on from."""
        missing = find_missing_output(node)
        if missing is None:
            return None
        node.base.caching.is_valid_cache = False  # or the run with the same inputs would be taken from this one
        if self.ctx.has_repeated:
            self.report(f'{missing}, for the second time: giving up')
            return ProcessHandlerReport(do_break=True, exit_code=self.exit_codes.ERROR_MISSING_CRITICAL_OUTPUT)
        self.ctx.has_repeated = True
        self.report(f'{missing}: running VASP once more from the same start')
        return ProcessHandlerReport(do_break=True)

    @process_handler(priority=1050)
    def handle_fatal_message(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Go on from the last geometry, as VASP itself advises."""
        message = find_fatal_message(node.outputs.retrieved)
        if message is None:
            return None
        structure = usable_structure(node)
        if self.ctx.has_met_error or structure is None:
            exit_code = self.exit_codes.ERROR_OTHER_INTERVENTION_NEEDED.format(message=f'VASP wrote `{message}`')
            return ProcessHandlerReport(do_break=True, exit_code=exit_code)
        self.ctx.has_met_error = True
        self.ctx.inputs.structure = structure
        self.update_magmom(node)
        self.report(f'VASP wrote `{message}`: going on from the last geometry')
        return ProcessHandlerReport(do_break=True)


class ResilientVaspRelaxWorkChain(VaspRelaxWorkChain):
    """`vasp.v2.relax` whose runs are those of `ResilientVaspWorkChain`, and whose static run can be left out.

    It fails where VASP moved the lattice vector that it was told to hold.
    """

    _base_workchain = ResilientVaspWorkChain

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Define one more input, and one more way to fail."""
        super().define(spec)
        spec.exit_code(610, 'ERROR_VACUUM_MOVED', message='The relaxation is of no use: {detail}')
        spec.input(
            'static_run',
            valid_type=orm.Bool,
            required=False,
            serializer=orm.to_aiida_type,
            help='Whether a static run follows where the cell moved, as it does by default. Without it the outputs are '
            'those of the relaxation, whose energies are of the plane waves of the cell that it started from.',
        )

    def initialize(self) -> None:
        """Give the settings whole, so that no run needs a node of its own for the rest of them."""
        super().initialize()
        relaxation, static = self.ctx.relax_input_additions, self.ctx.static_input_additions
        relaxation.settings = _complete(relaxation.settings, moves=self.perform_relaxation())
        static.settings = _complete({}, moves=False)

    def analyze_convergence(self) -> ExitCode | None:
        """Hand on the moments too, if `keep_magnetization` says so; see `ResilientVaspWorkChain.update_magmom`."""
        exit_code = super().analyze_convergence()
        moments = read_moments(self.ctx.workchains[-1])
        if self.ctx.relax_settings.get('keep_magnetization') and moments is not None:
            self.ctx.current_magmom = moments
        return exit_code

    def store_relaxed(self) -> ExitCode | None:
        """Hand on the relaxed crystal, and end where it was not to be relaxed to."""
        exit_code = super().store_relaxed()
        workchain = self.ctx.workchains[-1]
        cells = (np.array(structure.cell) for structure in (self.inputs.structure, workchain.outputs.structure))
        drift = find_drift(held_axes(incar_tags(self.inputs.vasp.parameters.get_dict())), *cells)
        if exit_code is not None or drift is None:
            return exit_code
        self.out_many(self.exposed_outputs(workchain, self._base_workchain))
        return self.exit_codes.ERROR_VACUUM_MOVED.format(detail=drift)

    def should_run_static_calculation(self) -> bool:
        """Return whether a static run follows."""
        left_out = 'static_run' in self.inputs and not self.inputs.static_run.value
        return super().should_run_static_calculation() and not (left_out and self.perform_relaxation())


def usable_structure(node: orm.CalcJobNode) -> orm.StructureData | None:
    """Return the last geometry of a VASP run, None where there is none or where it may be made of pieces.

    Of a vasprun.xml that ends amid a geometry parsevasp takes the last rows there are, sites of two steps mixed. It
    then finds no trajectory.
    """
    return _whole_structure(created_nodes(node))


def created_nodes(node: orm.CalcJobNode) -> dict[str, Any]:
    """Return the outputs of a job by name, in one query; `node.outputs` takes one for each look."""
    return node.base.links.get_outgoing(link_type=LinkType.CREATE).nested()


def read_moments(process: orm.ProcessNode) -> list[float] | None:
    """Return the moments of the sites in Bohr magnetons, in their order, at the end of a run; None where it tells none.

    Those of a run with spin-orbit coupling or non-collinear moments have directions and are none, too.
    """
    misc = process.outputs.misc.get_dict() if 'misc' in process.outputs else {}
    told = misc.get('site_magnetization', {}).get('sphere', {})
    along_x, *others = (told.get(axis, {}).get('site_moment', {}) for axis in 'xyz')
    if not along_x or any(others):
        return None
    return [along_x[site]['tot'] for site in sorted(along_x, key=int)]


def find_missing_output(node: orm.CalcJobNode) -> str | None:
    """Return what a VASP run should have left and did not, or None.

    A run that says it is finished must have left forces and the energy of each of its ionic steps: with a truncated
    vasprun.xml aiida-vasp takes an early geometry, the first if need be, for the last.
    """
    outputs = created_nodes(node)
    if 'misc' not in outputs:
        return f'the files of <{node.pk}> could not be read'
    if _whole_structure(outputs) is None and _moves(node.inputs.parameters.get_dict()):
        return f'<{node.pk}> left no complete geometry'
    misc = outputs['misc'].get_dict()
    status = misc.get('run_status', {})
    if not status.get('finished'):
        return None
    if not {'forces', 'total_energies'} <= misc.keys() or _lacks_steps(outputs, status['last_iteration_index'][0]):
        return f'vasprun.xml of <{node.pk}> is incomplete'
    return None


def find_fatal_message(retrieved: orm.FolderData) -> str | None:
    """Return the line of VASP's standard output that reports a fatal error, or None."""
    if STDOUT not in retrieved.base.repository.list_object_names():
        return None
    with open_retrieved_text(retrieved, STDOUT) as lines:
        return next((line.strip() for line in lines if FATAL.search(line)), None)


def _complete(settings: Mapping[str, Any], moves: bool) -> dict[str, Any]:
    """Return `settings` over those that every run has, and over those of a relaxation if it `moves`.

    Whatever energies are asked for, that by which runs and legs are compared is among them.
    """
    own = PARSER_SETTINGS | ({'include_node': RELAXATION_NODES} if moves else {})
    completed = merge({'parser_settings': own}, settings)
    energies = completed['parser_settings'].get('energy_type')
    if energies is not None and ENERGY not in energies:
        completed['parser_settings']['energy_type'] = [*energies, ENERGY]
    return completed


def _whole_structure(outputs: Mapping[str, Any]) -> orm.StructureData | None:
    return outputs['structure'] if {'structure', 'trajectory'} <= outputs.keys() else None


def _moves(incar: Mapping[str, Any]) -> bool:
    return incar.get('nsw', 0) > 0


def _lacks_steps(outputs: Mapping[str, Any], n_steps: int) -> bool:
    """Return whether there is a trajectory without the energy of each ionic step."""
    if 'trajectory' not in outputs:
        return False
    trajectory = outputs['trajectory']
    if ENERGY not in trajectory.get_arraynames():
        return True
    return len(trajectory.get_array(ENERGY)) != n_steps
