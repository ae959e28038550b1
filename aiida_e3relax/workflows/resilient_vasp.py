"""aiida-vasp's work chains, with handlers for what these leave open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessHandlerReport, process_handler
from aiida_vasp.parsers.vasp import ParserSettingsConfig
from aiida_vasp.workchains.v2.relax import VaspRelaxWorkChain
from aiida_vasp.workchains.v2.vasp import VaspWorkChain

from aiida_e3relax.mappings import merge

PARSER_SETTINGS = {
    'check_completeness': False,
    'critical_notification_errors': [*ParserSettingsConfig().critical_notification_errors, 'zbrent'],
}
"""Without these a missing CONTCAR ends the parser with an exception, and a run that ended with ZBRENT is a success."""
RELAXATION_NODES = ['structure', 'trajectory']
STDOUT = 'vasp_output'
ENERGY = 'energy_extrapolated'
FATAL = re.compile(r'ZBRENT: fatal error|ZPOTRF failed')
"""Errors from which VASP can go on at the last geometry; parsevasp does not know the second."""


class ResilientVaspWorkChain(VaspWorkChain):
    """`vasp.v2.vasp` that runs VASP again when its files are incomplete and goes on after ZBRENT and ZPOTRF.

    Each of the two is mended once; the second time it ends the work chain. aiida-vasp's own handlers mend the rest.
    """

    def setup(self) -> None:
        """Start with nothing mended."""
        super().setup()
        self.ctx.has_repeated = False
        self.ctx.has_met_error = False

    def init_inputs(self) -> ExitCode | None:
        """Put `PARSER_SETTINGS` under the settings of the user, and ask for the trajectory of a relaxation."""
        exit_code = super().init_inputs()
        settings = self.inputs.settings.get_dict() if 'settings' in self.inputs else {}
        own = PARSER_SETTINGS | ({'include_node': RELAXATION_NODES} if _moves(self.ctx.inputs.parameters) else {})
        self.ctx.inputs.settings = orm.Dict(merge({'parser_settings': own}, settings))
        return exit_code

    @process_handler(priority=1060)
    def handle_incomplete_files(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Run once more from the same start, since nothing is there to go on from."""
        gap = find_gap(node)
        if gap is None:
            return None
        node.base.caching.is_valid_cache = False  # or the run with the same inputs would be taken from this one
        if self.ctx.has_repeated:
            self.report(f'{gap}, for the second time: giving up')
            return ProcessHandlerReport(do_break=True, exit_code=self.exit_codes.ERROR_MISSING_CRITICAL_OUTPUT)
        self.ctx.has_repeated = True
        self.report(f'{gap}: running VASP once more from the same start')
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
    """`vasp.v2.relax` whose runs are those of `ResilientVaspWorkChain`."""

    _base_workchain = ResilientVaspWorkChain


def usable_structure(node: orm.CalcJobNode) -> orm.StructureData | None:
    """Return the last geometry of a VASP run, None where there is none or where it may be made of pieces.

    Of a vasprun.xml that ends amid a geometry parsevasp takes the last rows there are, sites of two steps mixed. It
    then finds no trajectory.
    """
    return node.outputs.structure if {'structure', 'trajectory'} <= set(node.outputs) else None


def find_gap(node: orm.CalcJobNode) -> str | None:
    """Return what a VASP run should have left and did not, or None.

    A run that says it is finished must have left forces and the energy of each of its ionic steps: with a truncated
    vasprun.xml aiida-vasp takes an early geometry, the first if need be, for the last.
    """
    if 'misc' not in node.outputs:
        return f'the files of <{node.pk}> could not be read'
    if _moves(node.inputs.parameters.get_dict()) and usable_structure(node) is None:
        return f'<{node.pk}> left no complete geometry'
    misc = node.outputs.misc.get_dict()
    status = misc.get('run_status', {})
    if not status.get('finished'):
        return None
    if not {'forces', 'total_energies'} <= misc.keys() or _lacks_steps(node.outputs, status['last_iteration_index'][0]):
        return f'vasprun.xml of <{node.pk}> is incomplete'
    return None


def find_fatal_message(retrieved: orm.FolderData) -> str | None:
    """Return the line of VASP's standard output that tells of a fatal error, or None."""
    if STDOUT not in retrieved.base.repository.list_object_names():
        return None
    with retrieved.base.repository.open(STDOUT, 'r') as lines:
        return next((line.strip() for line in lines if FATAL.search(line)), None)


def _moves(incar: Mapping[str, Any]) -> bool:
    return incar.get('nsw', 0) > 0


def _lacks_steps(outputs: Any, n_steps: int) -> bool:
    """Return whether there is a trajectory without the energy of each ionic step."""
    if 'trajectory' not in outputs:
        return False
    trajectory = outputs.trajectory
    if ENERGY not in trajectory.get_arraynames():
        return True
    return len(trajectory.get_array(ENERGY)) != n_steps
