"""The parser of `E3RelaxTrainCalculation`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode

from aiida_e3relax.calculations.train import E3RelaxTrainCalculation
from aiida_e3relax.calculations.train_parameters import TUNING_CHAIN
from aiida_e3relax.common.strict_json import parse_json
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.parsers.program import ProgramParser, exit_name

EXIT_OF_ERROR = {
    'bad_input': 'ERROR_BAD_INPUT',
    'bad_checkpoint': 'ERROR_BAD_CHECKPOINT',
    'no_device': 'ERROR_NO_DEVICE',
    'missing_package': 'ERROR_MISSING_PACKAGE',
    'out_of_memory': 'ERROR_OUT_OF_MEMORY',
    'training_failed': 'ERROR_TRAINING_FAILED',
}
INTERRUPTED = 'interrupted'
MOST_BYTES = 2**24
"""Of a report and of a log, several times what a run writes."""


class OutputFilesError(ValueError):
    """A file that is not what `e3relax train` writes; the message names the file and what was expected."""


class E3RelaxTrainParser(ProgramParser):
    """Turn the retrieved files of `e3relax train` into a model, its curves and a report."""

    stderr_file = E3RelaxTrainCalculation.STDERR_FILE

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Attach the outputs and return the exit code."""
        with self.retrieved.base.repository.as_path() as folder:
            try:
                return self._parse_folder(folder, Path(kwargs['retrieved_temporary_folder']))
            except OutputFilesError as error:
                return self._unless_scheduler('ERROR_OUTPUT_INVALID', str(error))
            except Exception as error:  # whatever the files hold, the job ends with an exit code
                self.logger.exception('the output files could not be parsed')
                return self._unless_scheduler('ERROR_OUTPUT_INVALID', f'{type(error).__name__}: {error}')

    def _parse_folder(self, folder: Path, temporary: Path) -> ExitCode | None:
        log = folder / E3RelaxTrainCalculation.LOG_FILE
        if log.is_file() and (curves := read_log(log)):
            self.out('curves', orm.ArrayData(curves))
        report_file = folder / E3RelaxTrainCalculation.REPORT_FILE
        if not report_file.is_file():
            self._attach_what_there_is(temporary)
            return self._explain_crash(folder)
        report = read_report(report_file)
        self.out('report', orm.Dict(report))
        if error := report['error']:
            self._attach_what_there_is(temporary)
            if error['code'] == INTERRUPTED:
                return self._unless_scheduler('ERROR_INTERRUPTED', error['message'])
            return self._exit(exit_name(error['code'], error['message'], EXIT_OF_ERROR), error['message'])
        self.out('model', self._read_model(temporary))
        return None

    def _attach_what_there_is(self, folder: Path) -> None:
        """Attach the best checkpoint so far of a run that did not come to its end, if it left a sound one."""
        try:
            self.out('model', self._read_model(folder))
        except OutputFilesError as error:
            self.logger.info(f'no model: {error}')

    def _read_model(self, folder: Path) -> E3RelaxModelData:
        """Return the best checkpoint, whose card says which nodes it was made of."""
        checkpoint, card_file = (
            folder / E3RelaxTrainCalculation.BEST_FILE,
            folder / E3RelaxTrainCalculation.BEST_CARD_FILE,
        )
        if not (checkpoint.is_file() and card_file.is_file()):
            raise OutputFilesError(f'{checkpoint.name}: expected the checkpoint of the best validation and its card')
        inputs = self.node.inputs
        made_of: dict[str, Any] = {
            'process': self.node.uuid,
            'pairs': {key: _named(node) for key, node in sorted(inputs.pairs.items())},
        }
        if 'model' in inputs:
            made_of['model'] = _named(inputs.model)
        if campaign := find_campaign(self.node):
            made_of['campaign'] = campaign
        try:
            return E3RelaxModelData(checkpoint, {**parse_json(_read(card_file)), 'made_of': made_of})
        except (ValueError, TypeError) as error:
            raise OutputFilesError(f'{checkpoint.name}: {error}') from error


def find_campaign(job: Any) -> dict[str, str | None] | None:
    """Return name and UUID of the settings of the campaign of the round that a job runs for; None without one.

    An input `campaign` of other work chains around the job may be anything.
    """
    caller = job.caller
    while caller is not None and caller.process_label != TUNING_CHAIN:
        caller = caller.caller
    settings = caller.inputs.campaign if caller is not None and 'campaign' in caller.inputs else None
    return {'uuid': settings.uuid, 'name': settings.get('name', None)} if isinstance(settings, orm.Dict) else None


def _named(node: Any) -> dict[str, str]:
    return {'uuid': node.uuid, 'content_hash': node.content_hash}


def read_report(path: Path) -> dict[str, Any]:
    """Return the report of a run; raises OutputFilesError for what is none."""
    try:
        report = parse_json(_read(path))
    except ValueError as error:
        raise OutputFilesError(f'{path.name}: {error}') from error
    if not isinstance(report, dict) or report.get('schema') != 1:
        raise OutputFilesError(f'{path.name}: expected the report of a run, of schema 1')
    told = report.get('error')
    if told is None:
        if report.get('is_complete') is not True:
            raise OutputFilesError(f'{path.name}: expected a run that is complete, or its `error`, found neither')
        return report
    if not isinstance(told, dict) or not all(isinstance(told.get(name), str) for name in ('code', 'message')):
        raise OutputFilesError(f'{path.name}: expected `error` with its code and message, found {told!r}')
    return report


def read_log(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of a run's log; raises OutputFilesError for what is none."""
    try:
        rows = list(csv.DictReader(_read(path).splitlines()))
        return {name: np.array([float(row[name]) for row in rows]) for name in (rows[0] if rows else ())}
    except (ValueError, TypeError, KeyError) as error:
        raise OutputFilesError(f'{path.name}: expected a table of numbers with a line of names ({error})') from error


def _read(path: Path) -> str:
    with path.open('rb') as handle:
        content = handle.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OutputFilesError(f'{path.name}: expected at most {MOST_BYTES:,} bytes, found more')
    return content.decode('utf-8')
