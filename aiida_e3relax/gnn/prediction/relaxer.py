"""Relaxed structures in Python: structures of ASE or pymatgen in, the same kind out, with uncertainties."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch

from aiida_e3relax.common.messages import short, suggestion
from aiida_e3relax.common.progress import NoProgress, ProgressLine
from aiida_e3relax.crystals.files.errors import explain
from aiida_e3relax.crystals.files.stream import PIECE
from aiida_e3relax.crystals.freedom.freedom import NO_VACUUM, Freedom, Moves
from aiida_e3relax.crystals.structures import make_crystals
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint, load_checkpoint
from aiida_e3relax.gnn.device import AUTO, DTYPES, choose_dtype, resolve_device, set_threads
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.prediction.objects import EXPECTED, HeldStructure, describe_wrong, hold
from aiida_e3relax.gnn.prediction.predictor import Predictor, check_details_of, load_pre_relaxer
from aiida_e3relax.gnn.prediction.relaxation import Relaxation, RelaxationError, S
from aiida_e3relax.gnn.prediction.report import note_on_steps, note_on_training
from aiida_e3relax.gnn.prediction.settings import ENGINES, STARTS, Details, PotentialSettings, PredictionSettings

if TYPE_CHECKING:
    from ase import Atoms

MOST_LOADED = 4
"""Models kept for the next call, the one that was not used for the longest time goes first."""


class Relaxer:
    """A model, or a potential, that is loaded once and relaxes structures from then on.

    Threads may share one: they take turns. What is predicted is what `e3relax predict` predicts for the same crystals.

    Parameters
    ----------
    model
        ``default`` for the model that comes with the package, the path of a checkpoint, or a loaded `Checkpoint`. The
        same file is read once for each device and precision in a process, however many ask for it, until it changes.
        None where a potential starts from the structures as they are.
    device
        ``auto`` (the first GPU that works, else the CPU), ``cpu``, ``cuda`` or ``cuda:n``.
    dtype
        ``float32``, ``float64``, or ``auto`` for float64 but on GPUs where that is slow.
    threads
        CPU threads of PyTorch, in the whole process; None leaves them.
    engine
        ``fast``, or ``reference`` for the plain layers that it is tested against.
    max_edges
        Edges of the graphs in one batch; bounds the memory.
    potential
        An interatomic potential that relaxes what the model predicts, a word of `POTENTIALS` such as ``chgnet``, or
        `PotentialSettings` for the number of steps, the bounds, weights, or a start from the structures as they are.

    Raises
    ------
    CheckpointError
        For a checkpoint that is missing, damaged or of another release.
    DeviceError
        For a device that is not there.
    InputError
        For a potential that is not known, or cannot do what it is asked for.
    MissingPackageError
        Where the package of the potential is not installed.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Checkpoint | None = 'default',
        device: str = 'auto',
        dtype: str = 'float32',
        *,
        potential: str | PotentialSettings | None = None,
        threads: int | None = None,
        engine: str = ENGINES[0],
        max_edges: int = PredictionSettings.max_edges,
    ):
        for name, value, known in (('dtype', dtype, (AUTO, *DTYPES)), ('engine', engine, ENGINES)):
            if value not in known:
                raise ValueError(f'unknown {name} {short(repr(value))}{suggestion(str(value), list(known))}')
        if max_edges < 1:
            raise ValueError(f'max_edges: expected a number above 0, found {max_edges}')
        if threads is not None:
            set_threads(threads)
        self.max_edges = max_edges
        model, settings = _read_pre_relaxer(model, potential)
        place = resolve_device(device)
        precision, _ = choose_dtype(dtype, place, settings is not None)
        self._predictor = _load(model, place, precision, engine, settings, dtype == AUTO)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The model's origin: its content hash, and the elements that it was trained on; None without a model."""
        return self._predictor.checkpoint

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self._predictor.device

    @overload
    def relax(
        self,
        structures: S,
        *,
        freedom: Any = ...,
        vacuum: str | None = ...,
        progress: bool = ...,
        layers: bool = ...,
        bonds: bool = ...,
    ) -> Relaxation[S]: ...

    @overload
    def relax(
        self,
        structures: Iterable[S],
        *,
        freedom: Any = ...,
        vacuum: str | None = ...,
        progress: bool = ...,
        layers: bool = ...,
        bonds: bool = ...,
    ) -> list[Relaxation[S]]: ...

    def relax(
        self,
        structures: Any,
        *,
        freedom: str | Mapping[str, Any] | Freedom | None = None,
        vacuum: str | None = None,
        progress: bool = False,
        layers: bool = False,
        bonds: bool = False,
    ) -> Any:
        """Return the relaxed form of one structure, or those of several in their order: see `relax`."""
        how: Any = {'freedom': freedom, 'vacuum': vacuum, 'progress': progress, 'layers': layers, 'bonds': bonds}
        if hold(structures) is None:
            found = list(self.iterate(structures, **how))
            if not found:
                raise ValueError('no structure given: expected one, or several in a list')
            return found
        (only,) = self.iterate([structures], **how)
        if not only.ok:
            raise RelaxationError(only)
        return only

    __call__ = relax

    def iterate(
        self,
        structures: Iterable[S],
        *,
        freedom: str | Mapping[str, Any] | Freedom | None = None,
        vacuum: str | None = None,
        progress: bool = False,
        layers: bool = False,
        bonds: bool = False,
    ) -> Iterator[Relaxation[S]]:
        """Yield the relaxed forms of structures in their order, some thousands at a time, for more than memory holds.

        Arguments and faults are those of `relax`.
        """
        _check_iterable(structures)
        may_move, details = _read_freedom(freedom, vacuum), Details(layers, bonds)
        check_details_of(self.checkpoint, details)
        total = len(structures) if isinstance(structures, Sized) else None
        line = ProgressLine('relaxing', total) if progress else NoProgress()
        done, waiting = 0, iter(structures)
        while piece := list(itertools.islice(waiting, PIECE)):
            held = [hold(structure) for structure in piece]
            for index, (structure, known) in enumerate(zip(piece, held, strict=True), done):
                if known is None:
                    raise TypeError(f'structure {index}: {EXPECTED}, found {describe_wrong(structure)}')
            yield from self._relax_piece([known for known in held if known], may_move, line, details)
            done += len(piece)
        line.close()

    def _relax_piece(
        self, structures: Sequence[HeldStructure], freedom: Freedom | None, line: ProgressLine, details: Details
    ) -> list[Relaxation[Any]]:
        """Return the relaxed forms of a bounded number of structures."""
        relaxed: list[Relaxation[Any] | None] = []
        readable: list[tuple[HeldStructure, Atoms, tuple[str, ...]]] = []
        for structure in structures:
            try:
                readable.append((structure, *structure.take()))
                relaxed.append(None)
            except ValueError as error:
                relaxed.append(Relaxation(None, status='unreadable', message=explain(error)))
        frames = [atoms for _, atoms, _ in readable]
        crystals = make_crystals(
            [atoms.numbers for atoms in frames],
            [atoms.positions for atoms in frames],
            [atoms.cell.array for atoms in frames],
            pbc=[atoms.pbc for atoms in frames],
        )
        result, free, rows = self._predictor.predict(crystals, frames, freedom, self.max_edges, line, details)
        predicted: list[Relaxation[Any]] = []
        for index, ((structure, _, notes), row) in enumerate(zip(readable, rows, strict=True)):
            if row['status'] != 'ok':
                potential = row.get('potential')
                predicted.append(
                    Relaxation(None, status=row['status'], message=row['message'], notes=notes, potential=potential)
                )
                continue
            one, uncertainty = result.crystals.select([index]), row.get('uncertainty_A')
            moved = structure.moved(one.positions, one.cell[0], free.movable[index], uncertainty)
            told = (row['message'], *notes, free.notes.get(index, ''), result.broken_layers.get(index, ''))
            told = (*told, note_on_steps(row), note_on_training(row))
            trajectory = None
            if result.layers is not None and index not in result.broken_layers:
                earlier = [step.select([index]) for step in (crystals, *result.layers)]
                steps = (structure.moved(s.positions, s.cell[0], free.movable[index], None) for s in earlier)
                trajectory = (*steps, moved)
            bonds = None if result.bonds is None else result.bonds[index]
            candidates = None
            if result.candidates is not None and index in result.candidates:
                others = [
                    result.candidates[index].crystals.select([k]) for k in range(1, len(row['potential']['candidates']))
                ]
                movable = free.movable[index]
                candidates = (moved, *(structure.moved(s.positions, s.cell[0], movable, None) for s in others))
            predicted.append(
                Relaxation(
                    moved,
                    uncertainty,
                    notes=tuple(filter(None, told)),
                    layers=trajectory,
                    bonds=bonds,
                    potential=row.get('potential'),
                    distance_to_training=row.get('distance_to_training'),
                    nearest_training=row.get('nearest_training'),
                    candidates=candidates,
                )
            )
        following = iter(predicted)
        return [next(following) if fault is None else fault for fault in relaxed]


@overload
def relax(
    structures: S,
    model: str | os.PathLike[str] | Checkpoint | None = ...,
    device: str = ...,
    dtype: str = ...,
    *,
    potential: str | PotentialSettings | None = ...,
    freedom: str | Mapping[str, Any] | Freedom | None = ...,
    vacuum: str | None = ...,
    progress: bool = ...,
    layers: bool = ...,
    bonds: bool = ...,
    threads: int | None = ...,
    engine: str = ...,
    max_edges: int = ...,
) -> Relaxation[S]: ...


@overload
def relax(
    structures: Iterable[S],
    model: str | os.PathLike[str] | Checkpoint | None = ...,
    device: str = ...,
    dtype: str = ...,
    *,
    potential: str | PotentialSettings | None = ...,
    freedom: str | Mapping[str, Any] | Freedom | None = ...,
    vacuum: str | None = ...,
    progress: bool = ...,
    layers: bool = ...,
    bonds: bool = ...,
    threads: int | None = ...,
    engine: str = ...,
    max_edges: int = ...,
) -> list[Relaxation[S]]: ...


def relax(
    structures: Any,
    model: str | os.PathLike[str] | Checkpoint | None = 'default',
    device: str = 'auto',
    dtype: str = 'float32',
    *,
    potential: str | PotentialSettings | None = None,
    freedom: str | Mapping[str, Any] | Freedom | None = None,
    vacuum: str | None = None,
    progress: bool = False,
    layers: bool = False,
    bonds: bool = False,
    threads: int | None = None,
    engine: str = ENGINES[0],
    max_edges: int = PredictionSettings.max_edges,
) -> Any:
    """Return the relaxed form of a structure as a network or a potential has it, or those of several in their order.

    What is predicted, and what is refused, is that of `e3relax predict` for the same crystals. Sites that ASE's
    constraints or pymatgen's ``selective_dynamics`` hold stay, and so does the cell around a layer or a wire.

    Parameters
    ----------
    structures
        An `Atoms` of ASE, a `Structure` or `IStructure` of pymatgen, or any iterable of these, mixed or not. They stay
        as they are.
    model, device, dtype, threads, engine, max_edges, potential
        As for `Relaxer`. Model and potential are loaded in the first call and kept for the next ones.
    freedom
        What may move: a word of `--freedom` (``positions``, ``cell``, ``shape``, ``volume``, ``in-plane``), a mapping
        such as ``{'moves': 'in-plane', 'fixed': {'abc': [0, 1]}}``, or a `Freedom`.
    vacuum
        The lattice vector across the vacuum of a layer, ``a``, ``b`` or ``c``; ``none`` for bulk crystals, in which no
        gaps are looked for.
    progress
        Whether a line on stderr tells how far it is.
    layers
        Whether results have the structure after every layer of the network.
    bonds
        Whether results have the length of every bond with its uncertainty, of a model that states it.

    Returns
    -------
    A `Relaxation` for one structure, a list of them for several: new structures of the same kind, with their
    uncertainty in A, which stands also in the structure's ``info`` (ASE) or ``properties`` (pymatgen) as
    ``uncertainty_A``. What a structure has beside its geometry is kept, such as tags, labels, moments and oxidation
    states; energies, forces and the like are left out, and a note says so.

    Raises
    ------
    RelaxationError
        Where one structure was given, and there is no prediction for it. Of several, those have a ``status`` other
        than ``ok``, a ``message``, and no structure.
    TypeError
        For what is no structure.
    ValueError
        For nothing at all, and for arguments that have no meaning, such as `bonds` for a model that states none.

    Examples
    --------
    >>> relaxed = relax(bulk('NaCl', 'rocksalt', a=5.8))
    >>> relaxed.structure.get_volume(), relaxed.uncertainty
    >>> good = [r.structure for r in relax(structures) if r.ok]
    >>> by_potential = relax(structures, model=None, potential='sevennet-mf-0')
    """
    relaxer = Relaxer(model, device, dtype, potential=potential, threads=threads, engine=engine, max_edges=max_edges)
    return relaxer.relax(structures, freedom=freedom, vacuum=vacuum, progress=progress, layers=layers, bonds=bonds)


_loaded: dict[tuple[Any, ...], Predictor] = {}
_loading = threading.Lock()


def _read_pre_relaxer(
    model: str | os.PathLike[str] | Checkpoint | None, potential: str | PotentialSettings | None
) -> tuple[str | os.PathLike[str] | Checkpoint | None, PotentialSettings | None]:
    """Return the model and the potential that relax, None where there is none; raises ValueError for neither."""
    start = STARTS[0] if model is not None else STARTS[1]
    settings = PotentialSettings(potential, start) if isinstance(potential, str) else potential
    if settings is None:
        if model is None:
            raise ValueError("model=None: expected a potential in its place, such as potential='chgnet'")
        return model, None
    if settings.start == STARTS[0]:
        if model is None:
            raise ValueError("model=None: expected PotentialSettings with start='input', found 'network'")
        return model, settings
    if model not in (None, 'default'):
        raise ValueError("model: expected none beside a potential with start='input', which loads no network")
    return None, settings


def _load(
    model: str | os.PathLike[str] | Checkpoint | None,
    device: torch.device,
    dtype: str,
    engine: str,
    potential: PotentialSettings | None,
    restores_symmetry: bool,
) -> Predictor:
    """Return model and potential on their device; those of files that have not changed are those of an earlier call."""
    if isinstance(model, Checkpoint):
        own = dataclasses.replace(model, model=copy.deepcopy(model.model))  # it is moved, and made fast in its place
        relaxation = load_pre_relaxer(potential, device, dtype)
        return Predictor(own, device, DTYPES[dtype], engine, relaxation, restores_symmetry)
    if isinstance(model, RelaxationModel):
        raise TypeError(
            f'expected a checkpoint, found a {type(model).__name__} alone, which does not know the elements that it '
            'was trained on: give what `load_checkpoint` returns'
        )
    path = None if model is None else DEFAULT_CHECKPOINT if model == 'default' else Path(model)
    weights = potential.weights if potential else None
    with _loading:
        stamps = (path and _stamp(path), weights and _stamp(weights))
        key = (*stamps, str(device), dtype, engine, potential, restores_symmetry)
        predictor = _loaded.pop(key, None) or Predictor(
            None if path is None else load_checkpoint(path),
            device,
            DTYPES[dtype],
            engine,
            load_pre_relaxer(potential, device, dtype),
            restores_symmetry,
        )
        _loaded[key] = predictor
        while len(_loaded) > MOST_LOADED:
            del _loaded[next(iter(_loaded))]
    return predictor


def _stamp(path: Path) -> tuple[Any, ...] | None:
    """Return what is another for another file, or for this one when it has changed; None where there is none."""
    stamp = path.stat() if path.is_file() else None
    return stamp and (path.resolve(), stamp.st_ino, stamp.st_size, stamp.st_mtime_ns)


def _read_freedom(freedom: str | Mapping[str, Any] | Freedom | None, vacuum: str | None) -> Freedom | None:
    """Return what may move by the arguments, None where they say nothing; raises ValueError."""
    if freedom is None and vacuum is None:
        return None
    if freedom is None and vacuum != NO_VACUUM:
        raise ValueError(f"vacuum={vacuum!r}: expected freedom='in-plane' or freedom='positions' beside it")
    given = Moves.CELL.value if freedom is None else freedom
    whole = given if isinstance(given, Freedom) else Freedom.from_value(given)
    if vacuum is not None and whole.vacuum not in (None, vacuum):
        raise ValueError(f'vacuum={vacuum!r}: the freedom says {whole.vacuum!r}; leave one of the two out')
    return whole if vacuum is None else dataclasses.replace(whole, vacuum=vacuum)


def _check_iterable(structures: Any) -> None:
    """Raise TypeError for one thing that is no structure where several are expected."""
    alone = isinstance(structures, (str, bytes, os.PathLike, Mapping)) or hasattr(structures, 'get_ase')
    if alone or not isinstance(structures, Iterable) or type(structures).__name__ in {'Molecule', 'IMolecule'}:
        raise TypeError(f'{EXPECTED}, or several in a list, found {describe_wrong(structures)}')
