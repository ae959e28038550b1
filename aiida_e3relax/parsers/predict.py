"""The parser of `E3RelaxCalculation`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode
from numpy.typing import NDArray

from aiida_e3relax.calculations.pre_relaxer import PreRelaxer
from aiida_e3relax.calculations.predict import E3RelaxCalculation, crystals_of_inputs
from aiida_e3relax.common.messages import name_some, short
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.data.structures import SYMBOLS, moved_structure
from aiida_e3relax.parsers.prediction_files import (
    PredictionFilesError,
    RunReport,
    read_all_bonds,
    read_predictions,
    read_report,
    read_trajectories,
)
from aiida_e3relax.parsers.program import ProgramParser, exit_name
from aiida_e3relax.parsers.report_schema import Row

OUT_OF_MEMORY = 'out_of_memory'
EXIT_OF_ERROR = {
    'bad_input': 'ERROR_BAD_INPUT',
    'bad_checkpoint': 'ERROR_BAD_CHECKPOINT',
    'no_device': 'ERROR_NO_DEVICE',
    'missing_package': 'ERROR_MISSING_PACKAGE',
    OUT_OF_MEMORY: 'ERROR_OUT_OF_MEMORY',
}
INTERRUPTED = 'interrupted'

MOST_NAMED, LONGEST_REASON = 10, 200
"""How many structures a message names, and the characters of why each has no prediction."""


class E3RelaxParser(ProgramParser):
    """Turn the retrieved files of `e3relax predict` into structures and a report."""

    stderr_file = E3RelaxCalculation.STDERR_FILE

    def parse(self, **_: Any) -> ExitCode | None:
        """Attach the outputs and return the exit code."""
        with self.retrieved.base.repository.as_path() as folder:
            try:
                return self._parse_folder(folder)
            except PredictionFilesError as error:
                return self._unless_scheduler('ERROR_OUTPUT_INVALID', str(error))
            except Exception as error:  # whatever the files hold, the job ends with an exit code
                self.logger.exception('the output files could not be parsed')
                return self._unless_scheduler('ERROR_OUTPUT_INVALID', f'{type(error).__name__}: {error}')

    def _parse_folder(self, folder: Path) -> ExitCode | None:
        report_file = folder / E3RelaxCalculation.REPORT_FILE
        if not report_file.is_file():
            return self._explain_crash(folder)
        given = crystals_of_inputs(self.node.inputs)
        report = read_report(report_file, len(given))
        self.out('report', orm.Dict(self._with_facts(report.content)))
        if report.error is None:
            self._check_pre_relaxer(report)
            return self._attach_structures(folder / E3RelaxCalculation.PREDICTIONS_FILE, report, given)
        if report.error.code == INTERRUPTED:
            return self._unless_scheduler('ERROR_PROGRAM_FAILED', report.error.message)
        name = exit_name(report.error.code, report.error.message, EXIT_OF_ERROR)
        return self._exit(name, report.error.message)

    def _with_facts(self, content: dict[str, Any]) -> dict[str, Any]:
        """Return a report with what the node of a potential's weights says of them; their file does not."""
        if not content.get('potential') or 'potential_weights' not in self.node.inputs:
            return content
        return content | {'potential': content['potential'] | self.node.inputs.potential_weights.facts}

    def _check_pre_relaxer(self, report: RunReport) -> None:
        """Raise PredictionFilesError where another pre-relaxer made the predictions than the parameters ask for."""
        asked, found = PreRelaxer.of_parameters(self._parameters), PreRelaxer.of_report(report.content)
        if found != asked:
            raise PredictionFilesError(
                f'report.json: expected predictions by {asked}, which `parameters` ask for, found those by {found}'
            )

    @property
    def _parameters(self) -> dict[str, Any]:
        return self.node.inputs.parameters.get_dict() if 'parameters' in self.node.inputs else {}

    def _attach_structures(self, predictions_file: Path, report: RunReport, given: Crystals) -> ExitCode:
        predictions = read_predictions(predictions_file, report, given)
        predicted = set(predictions.labels.tolist())
        details = self._read_details(predictions_file.parent, predictions, given)
        failed = [structure for structure in report.structures if structure.label not in predicted]
        for structure in failed:
            self.logger.warning(f'structure `{structure.label}`: {structure.status}: {structure.message}')
        if predicted:
            self._output(predictions)
            for name, node in details.items():
                self.out(name, node)
            return ExitCode(0)
        short_of_memory = any(structure.status == OUT_OF_MEMORY for structure in failed)
        name = 'ERROR_OUT_OF_MEMORY' if short_of_memory else 'ERROR_ALL_STRUCTURES_FAILED'
        return self._exit(name, name_some([_why_failed(structure) for structure in failed], MOST_NAMED, ';'))

    def _read_details(self, folder: Path, predictions: Crystals, given: Crystals) -> dict[str, orm.ArrayData]:
        """Return the trajectories and bonds of single structures that were asked for, by the names of their outputs."""
        parameters = self._parameters
        details: dict[str, orm.ArrayData] = {}
        if not len(predictions) or 'batch' in self.node.inputs:
            return details  # thousands of nodes: the files of a batch stay in `retrieved`
        if parameters.get('layers'):
            trajectories = read_trajectories(folder / E3RelaxCalculation.LAYERS_FILE, predictions, given)
            for index, label in enumerate(predictions.labels.tolist()):
                if label not in trajectories:
                    self.logger.warning(f'structure `{label}` has no trajectory: see its `message` in `report`')
                    continue
                details[f'trajectories.{label}'] = _trajectory(*trajectories[label], predictions.select([index]))
        if parameters.get('bonds'):
            bonds = read_all_bonds(folder / E3RelaxCalculation.BONDS_FILE, predictions)
            details |= {f'bonds.{label}': orm.ArrayData(arrays) for label, arrays in bonds.items()}
        return details

    def _output(self, predictions: Crystals) -> None:
        """Attach the predicted crystals as they were given, in one node or in one each."""
        inputs = self.node.inputs
        if 'batch' in inputs:
            self.out('batch', inputs.batch.moved(predictions))
            return
        for index, label in enumerate(predictions.labels.tolist()):
            crystal = predictions.select([index])
            moved = moved_structure(inputs.structures[label], crystal.positions, crystal.cell[0])
            self.out(f'structures.{label}', moved)


def _why_failed(structure: Row) -> str:
    """Return in a line why a structure has no prediction."""
    told = f'`{structure.label}`: {structure.status}'
    return f'{told}, {short(structure.message, LONGEST_REASON)}' if structure.message else told


def _trajectory(positions: NDArray[np.float64], cells: NDArray[np.float64], crystal: Crystals) -> orm.TrajectoryData:
    trajectory = orm.TrajectoryData()
    trajectory.set_trajectory(
        symbols=[str(SYMBOLS[number]) for number in crystal.numbers.tolist()],
        positions=positions,
        cells=cells,
        pbc=crystal.pbc[0].tolist(),
    )
    return trajectory
