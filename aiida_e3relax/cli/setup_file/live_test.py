"""The live test of a profile: connections, a small job of each code of the network, and what VASP needs."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from aiida import orm
from aiida.cmdline.commands.cmd_computer import computer_test
from aiida.common.exceptions import ValidationError
from aiida_vasp.data.potcar import PotcarData

from aiida_e3relax.calculations.pre_relaxer import default_pre_relaxer
from aiida_e3relax.cli.setup_file.checks import FAILED, NOT_TESTED, CheckError, Outcome, check
from aiida_e3relax.cli.setup_file.codes import find_code
from aiida_e3relax.cli.setup_file.computers import LOCAL, find_computer
from aiida_e3relax.cli.setup_file.network_test import predict_crystals, try_potential
from aiida_e3relax.cli.setup_file.nodes import FAMILY
from aiida_e3relax.cli.setup_file.scheduler_test import check_scheduler
from aiida_e3relax.cli.setup_file.settings import VASP, FamilySettings, SetupSettings
from aiida_e3relax.common.messages import describe_error, short
from aiida_e3relax.workflows.vasp.inputs.potentials import choose_potentials


def run_live_test(settings: SetupSettings, tell: Callable[[str], None]) -> Iterator[Outcome]:
    """Test what a file names, thing after thing; `tell` is called with what is tested now."""
    broken = set()
    for label in dict.fromkeys([*settings.computers, *(label.partition('@')[2] for label in settings.codes)]):
        tell(f'testing the connection to {label}')
        outcome = check('computer', label, partial(check_computer, label))
        if outcome.state == FAILED:
            broken.add(label)
        yield outcome
    for label, wanted in settings.codes.items():
        code = find_code(label)
        if code is None or code.computer.label in broken:
            yield Outcome('code', label, NOT_TESTED, 'its computer has failed')
            continue
        outcome = check('executable', label, partial(check_executable, code))
        yield outcome
        if wanted.plugin == VASP and (asked := check_scheduler(code, wanted.options)) is not None:
            yield asked
        if outcome.state == FAILED or wanted.plugin == VASP:
            continue
        tell(f'predicting with {label}: the job may have to wait for its turn')
        yield check('network', label, partial(predict_crystals, code, wanted.device, wanted.options))
        if (pre_relaxer := default_pre_relaxer(code)) is not None and pre_relaxer.potential is not None:
            tell(f'relaxing by {pre_relaxer.potential} with {label}: the job may have to wait for its turn')
            yield check('pre-relaxer', label, partial(try_potential, code, pre_relaxer, wanted.device, wanted.options))
    for label, family in settings.potentials.items():
        yield check(FAMILY, label, partial(check_family, label, family))


def check_computer(label: str) -> str:
    """Run `verdi computer test`; raises CheckError."""
    computer = find_computer(label)
    user: Any = orm.User.collection.get_default()
    if computer is None or not computer.is_configured:
        raise CheckError('it is not there, or not configured', 'run this command again without --no-test')
    if not computer.is_user_enabled(user):
        raise CheckError('it is disabled', f'enable it with `verdi computer enable {label} {user.email}`')
    with contextlib.redirect_stdout(io.StringIO()) as output:
        computer_test.callback(user=user, print_traceback=True, computer=computer)
    lines = [line.strip() for line in output.getvalue().splitlines() if line.strip()]
    if any('tests succeeded' in line for line in lines):
        jobs = next((line.partition(': ')[2] for line in lines if 'Getting number of jobs' in line), '')
        slow = any('configured to use a login shell, which is slower' in line for line in lines)
        return f'{jobs}; its login shell is slow, see `verdi computer test {label}`' if slow else jobs
    remedy = f'see `verdi computer test --print-traceback {label}`'
    if computer.transport_type != LOCAL:
        remedy += f'; `ssh {computer.hostname}` has to work without a password, and once by hand'
    raise CheckError(_describe_failure(lines), remedy)


def _describe_failure(lines: list[str]) -> str:
    """Return in a line what `verdi computer test` says of the first of its tests that failed."""
    first = next((place for place, line in enumerate(lines) if '[failed]' in line.lower()), None)
    if first is None:
        return 'it does not answer as expected'
    rest = lines[first + 1 :]
    end = next((place for place, line in enumerate(rest) if line.startswith(('*', 'Warning'))), len(rest))
    told = rest[end - 1] if end else ''  # the last line of the traceback
    return short(f'{lines[first].removeprefix("* ")} {told}'.strip(), 300)


def check_executable(code: orm.InstalledCode) -> str:
    """Look for the program of a code, or its image, on its computer; raises CheckError."""
    remedy = (
        f'mend it there, or `verdi code relabel {code.full_label} {code.label}-old` and write another into the file'
    )
    if isinstance(code, orm.ContainerizedCode):
        if not PurePosixPath(code.image_name).is_absolute():
            return f'{code.image_name}, which its engine fetches'
        with code.computer.get_transport() as transport:
            if not transport.path_exists(code.image_name):
                raise CheckError(f'no image is at {code.image_name}', remedy)
        return code.image_name
    try:
        code.validate_filepath_executable()
    except ValidationError as error:
        raise CheckError(str(error), remedy) from error
    return str(code.get_executable())


def check_family(label: str, wanted: FamilySettings) -> str:
    """Count the elements of a family of potentials, and look for those that are asked for; raises CheckError."""
    group = PotcarData.get_potcar_group(label)
    if group is None:
        raise CheckError('it is not there', 'run this command again')
    try:
        choose_potentials(wanted.elements, label)
    except ValueError as error:
        raise CheckError(
            describe_error(error),
            f'see `aiida-vasp potcar listsymbols {label}`; upload what is missing under another name',
        ) from error
    return f'{len({node.element for node in group.nodes})} elements'
