"""What a first run needs in a profile: each found, or created."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from aiida import orm
from aiida.common.exceptions import MultipleObjectsError, NotExistent
from aiida.manage import get_manager
from aiida.manage.configuration import get_config
from aiida_vasp.data.potcar import PotcarData, PotcarGroup

from aiida_e3relax.calculations.pre_relaxer import PreRelaxer, default_pre_relaxer, set_default_pre_relaxer
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.standin.engine_names import GPAW_REMEDY

COMPUTER = 'localhost'
NETWORK_CODE = 'e3relax'
STANDIN_CODE = 'vasp-standin-{engine}'
STANDIN_FAMILY = 'standin-PBE'
STANDIN_EXECUTABLE = 'e3relax-vasp-standin'
SUITED_POTENTIAL = 'sevennet-mf-0'
"""What pre-relaxes by default where the extra `mlip` is installed; docs/potentials.md says why."""


@dataclasses.dataclass(frozen=True)
class Resource:
    """One thing in the profile: its kind, its name, and whether it was created just now."""

    kind: str
    name: str
    created: bool


def provide_all(engines: Iterable[str], pre_relaxer: PreRelaxer | None = None) -> Iterator[Resource]:
    """Find or create everything, with the stand-in on each of `engines`, in the order of dependence.

    `pre_relaxer` is the default of the network's code, None for that which is set, or suits what is installed.
    """
    yield provide_computer()
    yield provide_network_code()
    yield from provide_pre_relaxer(pre_relaxer)
    for engine in engines:
        yield provide_standin_code(engine)
    yield provide_potentials()
    yield provide_model()


def provide_computer() -> Resource:
    """Find or create this machine as a computer whose jobs are polled every second."""
    computer, created = _find_or_make_computer()
    if not computer.is_configured:
        computer.configure(safe_interval=0)
    return Resource('computer', computer.label, created)


def provide_network_code() -> Resource:
    """Find or create the code that runs the network."""
    return _provide_code(NETWORK_CODE, _installed_script('e3relax'), 'e3relax.predict')


def provide_pre_relaxer(asked: PreRelaxer | None = None) -> Iterator[Resource]:
    """Find or set the default pre-relaxer of the network's code: that which is `asked` for, or `SUITED_POTENTIAL`.

    Nothing is set where neither is there: that is the network. Raises ValueError as `set_default_pre_relaxer`.
    """
    code = orm.load_code(f'{NETWORK_CODE}@{COMPUTER}')
    found = default_pre_relaxer(code)
    if asked is None and found is None and importlib.util.find_spec('sevenn') is not None:
        asked = PreRelaxer(False, SUITED_POTENTIAL)
    wanted = asked or found
    if wanted is not None:
        set_default_pre_relaxer(code, wanted)
        yield Resource('pre-relaxer', str(wanted), created=found != wanted)


def provide_standin_code(engine: str) -> Resource:
    """Find or create the code that stands in for VASP, with energies from `engine`.

    Raises ValueError when the engine is `gpaw` and GPAW is not in this Python environment, where the code runs.
    """
    if engine == 'gpaw' and importlib.util.find_spec('gpaw') is None:
        raise ValueError(f'engine gpaw: expected the package gpaw in {sys.prefix}, not found; {GPAW_REMEDY}')
    return _provide_code(
        STANDIN_CODE.format(engine=engine),
        _installed_script(STANDIN_EXECUTABLE),
        'vasp.vasp',
        prepend_text=f'export E3RELAX_STANDIN_ENGINE={engine}; export OMP_NUM_THREADS=1',
    )


def provide_potentials(elements: Sequence[str] = ()) -> Resource:
    """Find or upload the stand-in's potentials, of all elements or of some, as a family of aiida-vasp."""
    exists = bool(orm.QueryBuilder().append(PotcarGroup, filters={'label': STANDIN_FAMILY}).count())
    if not exists:
        with tempfile.TemporaryDirectory() as folder:
            chosen = ['--elements', ','.join(elements)] if elements else []
            _run_script([str(_installed_script(STANDIN_EXECUTABLE)), 'potentials', folder, *chosen])
            PotcarData.upload_potcar_family(
                folder,
                STANDIN_FAMILY,
                'Potentials of the VASP stand-in: free of licence and of physics, they name elements and nothing more.',
                stop_if_existing=False,
            )
    return Resource('potential family', STANDIN_FAMILY, not exists)


def provide_model() -> Resource:
    """Find or store the model that comes with the package."""
    model, created = E3RelaxModelData.get_or_create(DEFAULT_CHECKPOINT)
    return Resource('model', f'{model.name} <{model.pk}>', created)


def _find_or_make_computer() -> tuple[orm.Computer, bool]:
    try:
        return orm.load_computer(COMPUTER), False
    except NotExistent:
        computer = orm.Computer(
            label=COMPUTER,
            hostname='localhost',
            description='This machine, jobs run at once',
            transport_type='core.local',
            scheduler_type='core.direct',
            workdir=str(Path(get_config().dirpath) / 'scratch' / get_manager().get_profile_storage().profile.name),
        ).store()
        computer.set_minimum_job_poll_interval(1)
        computer.set_default_mpiprocs_per_machine(1)
        return computer, True


def _provide_code(label: str, executable: Path, plugin: str, prepend_text: str = '') -> Resource:
    """Find or create a code on `COMPUTER`.

    Raises ValueError when a code of that name runs something else, or there are several.
    """
    full_label = f'{label}@{COMPUTER}'
    try:
        code = orm.load_code(full_label)
    except NotExistent:
        orm.InstalledCode(
            label=label,
            computer=orm.load_computer(COMPUTER),
            filepath_executable=str(executable),
            default_calc_job_plugin=plugin,
            prepend_text=prepend_text,
            with_mpi=False,
        ).store()
        return Resource('code', full_label, created=True)
    except MultipleObjectsError as error:
        raise ValueError(f'several codes are called `{full_label}`; `verdi code relabel` all but one') from error
    if code.get_executable() != executable or code.prepend_text != prepend_text:
        raise ValueError(
            f'code `{full_label}`: expected it to run {executable}, found {code.get_executable()} in the profile; '
            f'move it out of the way with `verdi code relabel {full_label} {label}-old`'
        )
    return Resource('code', full_label, created=False)


def _installed_script(name: str) -> Path:
    """Return the absolute path of a console script of this Python environment.

    Raises ValueError when it is not there.
    """
    path = Path(sys.executable).with_name(name)
    if not path.is_file():
        raise ValueError(f"`{name}`: expected at {path}, not found; run `pip install '.[gnn]'` in the checkout")
    return path


def _run_script(command: list[str]) -> None:
    """Run a program of this package; raises ValueError with its last line when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last_line = (done.stderr.strip().splitlines() or ['no message'])[-1]
        raise ValueError(f'`{" ".join(command)}` failed with exit status {done.returncode}: {last_line}')
