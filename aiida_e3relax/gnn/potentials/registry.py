"""The potentials by name. A new one is a line in `POTENTIALS` and, of a new package, a module. Needs no torch."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aiida_e3relax.common.errors import InputError, MissingPackageError, RunError, WeightsError
from aiida_e3relax.common.messages import describe_error, short, suggestion
from aiida_e3relax.common.out_of_memory import is_out_of_memory
from aiida_e3relax.gnn.checkpoints.model_card import hash_file
from aiida_e3relax.gnn.potentials.base import ALONE, KnownPotential, Potential

if TYPE_CHECKING:
    import torch

    from aiida_e3relax.gnn.potentials.evaluation import Batches

_MPTRJ = 'MPtrj: relaxations of the Materials Project'
_CORRECTED = 'PBE and PBE+U of the Materials Project, energies with its corrections of 2020'
_UNCORRECTED = 'PBE and PBE+U of the Materials Project, energies as computed'
_SINGLE = ('float32',)
_MIT_OR_GPL = 'MIT by the wheel; an older index of models says GPL-3.0'

POTENTIALS: dict[str, KnownPotential] = {
    known.name: known
    for known in (
        KnownPotential(
            'chgnet',
            'chgnet',
            'chgnet',
            needs_weights=False,
            licence='BSD-3-Clause (modified)',
            training_data=_MPTRJ,
            functional=_CORRECTED,
            weights='0.3.0',
            dtypes=_SINGLE,
        ),
        KnownPotential(
            'sevennet-0',
            'sevennet',
            'sevenn',
            needs_weights=False,
            licence=_MIT_OR_GPL,
            training_data=_MPTRJ,
            functional=_UNCORRECTED,
            weights='7net-0 (11 July 2024)',
            dtypes=_SINGLE,
        ),
        KnownPotential(
            'sevennet-mf-0',
            'sevennet',
            'sevenn',
            needs_weights=False,
            licence='MIT',
            training_data=f'{_MPTRJ}; its r2SCAN calculations',
            functional=_UNCORRECTED,
            modal='PBE',
            weights='7net-mf-0',
            dtypes=_SINGLE,
        ),
        KnownPotential(
            'sevennet-l3i5',
            'sevennet',
            'sevenn',
            needs_weights=False,
            licence=_MIT_OR_GPL,
            training_data=_MPTRJ,
            functional=_UNCORRECTED,
            weights='7net-l3i5',
            dtypes=_SINGLE,
        ),
        KnownPotential('mace', 'mace', 'mace-torch', needs_weights=True),
        KnownPotential('matgl', 'matgl', 'matgl', needs_weights=True, dtypes=_SINGLE),
        KnownPotential('nequip', 'nequip', 'nequip', needs_weights=True),
        KnownPotential('mattersim', 'mattersim', 'mattersim', needs_weights=True, dtypes=_SINGLE),
        KnownPotential('orb', 'orb', 'orb-models', needs_weights=True),
        KnownPotential('fairchem', 'fairchem', 'fairchem-core', needs_weights=True),
    )
}
"""Universal interatomic potentials, learned from DFT on all elements.

Each has the adapter `module`, with a function ``make_calculator(known, weights, device, dtype)`` that returns a
calculator of ASE from a file of weights, and, where they come with the package, ``find_weights(known)`` that returns
the file. One whose files have one precision each has ``read_dtype(weights)``, and computes in that. One that computes
several crystals at once has ``make_batches(known, weights, device, dtype, calculator)``, which returns `Batches`. One
that PyTorch's compiler speeds up has ``compile_products(calculator)``.
"""

DLS_VOLUME = 'dls-volume'
PRE_RELAXERS = POTENTIALS | {
    DLS_VOLUME: KnownPotential(
        DLS_VOLUME,
        '',
        'pymatgen',
        needs_weights=False,
        licence='MIT',
        training_data='bond lengths of known crystals (Chu et al., Comput. Mater. Sci. 146, 184 (2018))',
        kind='volume predictor',
    )
}
"""What relaxes crystals before VASP beside networks: the potentials, and a scaling that has no energy."""

CUDA_ERROR = 'CUDA error'
"""What errors of a GPU say, for which no file is to blame."""

REMEDY = 'install it where the network runs, with `pip install {}`'


def load_potential(
    name: str,
    device: torch.device,
    dtype: str = 'float32',
    weights: Path | str | None = None,
    in_batches: bool | None = None,
    is_compiled: bool = False,
) -> Potential:
    """Return a potential of `POTENTIALS` on `device`; its package is imported when it is asked for.

    Parameters
    ----------
    name
        The potential.
    device
        Where it computes.
    dtype
        `float32` or `float64`; `KnownPotential.dtypes` tells which of the two there are. Weights that are compiled for
        one of them compute in that, which `Potential.dtype` tells.
    weights
        The file of its weights, of potentials that do not bring them. The packages run code that such a file holds:
        take it from whom you trust.
    in_batches
        Whether several crystals are computed at once. By default they are on a GPU, where that can be done, and not on
        a CPU. `Potential.evaluation` tells.
    is_compiled
        Whether what takes most of its time is compiled by `torch.compile`, which takes minutes when first done on a
        machine, and pays for thousands of steps. The numbers are the same to rounding.

    Raises
    ------
    InputError
        For an unknown name, a precision in which it does not compute, no weights or superfluous ones, and one that is
        not known to gain from being compiled.
    WeightsError
        For a file that is not there, or holds no weights of this potential.
    MissingPackageError
        Where its package is not installed, or what computes several crystals at once or compiles and was asked for.
    """
    known = find_potential(name)
    check_choices(known, dtype, weights)
    import torch

    from aiida_e3relax.gnn.potentials.handedness import evaluate_right_handed, make_right_handed
    from aiida_e3relax.gnn.potentials.torch_settings import Apart

    version = installed_version(known) or 'of unknown version'
    apart = Apart(getattr(torch, dtype))
    with apart:
        adapter = _import_adapter(known)
        path = None if weights is None else Path(weights)
        try:
            path = path or adapter.find_weights(known)
            content_hash = hash_file(path)
            calculator = adapter.make_calculator(known, path, device, dtype)
            if is_compiled:
                _compile(adapter, known, calculator)
            dtype = _dtype_of_file(adapter, path) or dtype
            batches, evaluation = _load_batches(adapter, known, path, device, dtype, calculator, in_batches)
        except RunError:
            raise
        except Exception as error:  # whatever the packages raise for a file that is not theirs
            if is_out_of_memory(error) or CUDA_ERROR in str(error):
                raise
            raise WeightsError(
                f'{path or known.weights}: expected weights of {name} that {known.package} {version} reads, found '
                f'{describe_error(error)}'
            ) from error
    apart.keep(calculator)
    make_right_handed(calculator)
    if batches is not None:
        batches = dataclasses.replace(batches, evaluate=apart.within(evaluate_right_handed(batches.evaluate)))
    return Potential(
        calculator,
        known.name,
        version,
        known.weights or path.name,
        content_hash,
        known.licence,
        known.training_data,
        known.functional,
        dtype,
        batches,
        evaluation,
    )


def find_potential(name: str, among: Mapping[str, KnownPotential] = POTENTIALS) -> KnownPotential:
    """Return the potential of that name; raises InputError."""
    if name not in among:
        raise InputError(f'unknown potential {short(repr(name))}{suggestion(str(name), list(among))}')
    return among[name]


def check_choices(known: KnownPotential, dtype: str = 'float32', weights: Path | str | None = None) -> None:
    """Raise InputError for a precision or a file of weights with which `known` cannot be loaded; imports nothing.

    Of a file that is not there it is a WeightsError.
    """
    if dtype not in known.dtypes:
        raise InputError(f'{known.name} computes in {" or ".join(known.dtypes)}, not in {short(dtype)}')
    if weights is None:
        if known.needs_weights:
            raise InputError(
                f'{known.name}: expected a file of its weights (--potential-weights, `potential_weights`), found none: '
                f'the package {known.package} brings none'
            )
        return
    if not known.needs_weights:
        raise InputError(
            f'{short(weights, 200)}: {known.name} is the name of the weights {known.weights} in the package '
            f'{known.package}, so it takes no file'
            if known.weights
            else f'{short(weights, 200)}: {known.name} has no weights, so it takes no file'
        )
    if not Path(weights).is_file():
        raise WeightsError(f'{short(weights, 200)}: no such file; expected the weights of {known.name}')


def installed_version(known: KnownPotential) -> str | None:
    """Return the version of the package of a potential, None where it is not installed; imports nothing of it."""
    try:
        return metadata.version(known.package)
    except metadata.PackageNotFoundError:
        return None


def _dtype_of_file(adapter: ModuleType, path: Path) -> str | None:
    """Return the one precision that a file of weights has, of adapters that tell; None where any will do."""
    return adapter.read_dtype(path) if hasattr(adapter, 'read_dtype') else None


def _load_batches(
    adapter: ModuleType,
    known: KnownPotential,
    path: Path,
    device: torch.device,
    dtype: str,
    calculator: Any,
    asked: bool | None,
) -> tuple[Batches | None, str]:
    """Return what computes several crystals at once, None where nothing does, and in words which and why.

    Raises MissingPackageError where it was `asked` for and cannot be.
    """
    if asked is False:
        return None, f'{ALONE}, as was asked for'
    if asked is None and device.type == 'cpu':
        return None, f'{ALONE}, as on a CPU unless batches are asked for'
    reason = f'no batches of {known.package} are known here'
    if hasattr(adapter, 'make_batches'):
        try:
            batches = adapter.make_batches(known, path, device, dtype, calculator)
            return batches, f'in batches, by {batches.by}'
        except Exception as error:  # packages that are not installed, or do not fit together
            if is_out_of_memory(error):
                raise
            reason = describe_error(error)
    if asked:
        raise MissingPackageError(
            f'{known.name}: expected to compute crystals in batches, found that it cannot: {reason}'
        )
    return None, f'{ALONE}: {reason}'


def _compile(adapter: ModuleType, known: KnownPotential, calculator: Any) -> None:
    """Compile what takes most of the time of a potential, and try it on one crystal: the compiler works when asked.

    Raises
    ------
    InputError
        For a potential that is not known to gain from it.
    MissingPackageError
        Where compiling fails, such as without a C++ compiler.
    """
    if not hasattr(adapter, 'compile_products'):
        raise InputError(f'{known.name}: nothing of it is known to be faster when compiled: leave that out')
    from ase.build import bulk

    from aiida_e3relax.gnn.potentials.evaluation import evaluate_alone

    adapter.compile_products(calculator)
    try:
        evaluate_alone(calculator, bulk('Cu', cubic=True))
    except Exception as error:  # of torch.compile, the C++ compiler and the loader
        raise MissingPackageError(
            f'{known.name}: expected to compile its tensor products by torch.compile, which needs a C++ compiler and '
            f'the headers of Python, found {describe_error(error)}; install these, or leave compiling out'
        ) from error


def _import_adapter(known: KnownPotential) -> ModuleType:
    """Return the adapter of a potential; raises MissingPackageError."""
    try:
        return importlib.import_module(f'aiida_e3relax.gnn.potentials.{known.module}')
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f'the potential {known.name} needs the package {error.name}, which is not installed; '
            f'{REMEDY.format(known.package)}'
        ) from error
    except Exception as error:  # libraries that do not fit together, names that another version has not
        raise MissingPackageError(
            f'the potential {known.name} needs the package {known.package}, and its version '
            f'{installed_version(known)} does not work here ({describe_error(error)}); '
            f'{REMEDY.format(f"--upgrade {known.package}")}'
        ) from error
