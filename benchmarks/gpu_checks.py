"""The checks of `gpu.py`: what the network computes on a device, against the processor, and how fast.

Each takes a `Record`, tells it what differs by how much, and raises where something cannot be done.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib.util
import itertools
import json
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aiida_e3relax.common.errors import MissingPackageError
from aiida_e3relax.common.progress import NoProgress
from aiida_e3relax.crystals.files.stream import read_crystal_files
from aiida_e3relax.crystals.structures import Crystals, write_npz
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.device import DTYPES, choose_dtype, describe_device, prepare_device
from aiida_e3relax.gnn.engine.accelerate import accelerate, with_engine
from aiida_e3relax.gnn.engine.cuda_graphs import ReplayedModel
from aiida_e3relax.gnn.engine.kernels import kernels_for, triton_works
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry, make_batch
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.losses import LossSettings, Target
from aiida_e3relax.gnn.models.registry import MODELS, make_model
from aiida_e3relax.gnn.potentials.registry import load_potential
from aiida_e3relax.gnn.prediction.predict import predict
from aiida_e3relax.gnn.prediction.predictor import Predictor
from aiida_e3relax.gnn.prediction.settings import PotentialSettings
from aiida_e3relax.gnn.training.precision import with_precision
from benchmarks.gpu import Result
from benchmarks.potential_batches import make as strained_crystals
from benchmarks.potential_batches import relax
from benchmarks.speed import Case, crystals_of, thirty_two
from tests.gnn.crystals import PROTOTYPES, batch_of, rattled
from tests.gnn.edge_sums import Edges, check_message_sums, check_no_edges, check_not_a_number, check_tensor_sums
from tests.gnn.networks import random_network

EXACT = {'float64': 1e-9, 'float32': 1e-4}
"""In A: by how much a plain network of random weights may differ from itself in float64 on the processor."""
WITH_TABLES = {'float64': 1e-7, 'float32': 1e-4}
"""The same of the fast engine, which reads functions from tables."""
WITH_E3NN = ('equiformer-v2', 'hegnn', 'gotennet')
BATCHED = ('chgnet', 'sevennet-mf-0')
"""Potentials that bring their weights and compute several crystals at once."""
RATTLED = 3
"""Crystals of `rattled`."""


class SkippedError(Exception):
    """A check that cannot be done here, and why."""


class Record:
    """What a check is to do, and what it has found."""

    def __init__(self, name: str, device: torch.device, is_small: bool):
        self.device, self.is_small = device, is_small
        self.result = Result(name, 'passed')

    @property
    def is_gpu(self) -> bool:
        """Whether there is a GPU to check."""
        return self.device.type == 'cuda'

    def same(self, what: str, found: Any, expected: Any, allowed: float) -> None:
        """Note by how much two arrays or tensors differ at most; what is not finite differs without bound."""
        arrays = (values.detach().double().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
                  for values in (found, expected))  # fmt: skip
        apart = float(np.abs(np.subtract(*arrays)).max(initial=0.0))
        apart = apart if np.isfinite(apart) else 1e300
        self.result.deviations.append({'what': what, 'found': apart, 'allowed': allowed})
        if apart > allowed:
            self.result.state = 'failed'
            self.result.message = f'{what}: differs by {apart:.3g}, allowed are {allowed:.3g}'

    def same_geometry(self, what: str, found: Geometry, expected: Geometry, allowed: float) -> None:
        """Note by how much two predictions differ, fractional coordinates and cells."""
        self.same(f'{what}, coordinates', found.fractional, expected.fractional, allowed)
        self.same(f'{what}, cell', found.cell, expected.cell, allowed)

    def same_crystals(self, what: str, found: Crystals, expected: Crystals, allowed: float) -> None:
        """Note by how much two predictions differ, positions and cells in A."""
        self.same(f'{what}, positions', found.positions, expected.positions, allowed)
        self.same(f'{what}, cell', found.cell, expected.cell, allowed)

    def time(self, what: str, run: Callable[[], object], count: int = 1) -> float:
        """Note and return the shortest of several times, in s, of doing something to `count` of whatever it is."""
        times = []
        begin = time.perf_counter()
        for repeat in itertools.count():
            self.wait()
            start = time.perf_counter()
            run()
            self.wait()
            times.append(time.perf_counter() - start)
            if self.is_small or (repeat >= 2 and time.perf_counter() - begin > 1.0) or repeat >= 50:
                break
        self.result.times.append({'what': what, 'seconds': min(times), 'per_second': count / min(times)})
        return min(times)

    def wait(self) -> None:
        """Wait for the device."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)


def perform(name: str, device: str, is_small: bool) -> Result:
    """Do the check of that name, and return what came of it."""
    start = time.perf_counter()
    record: Record | None = None
    try:
        record = Record(name, prepare_device(device, None), is_small)
        with warnings.catch_warnings():
            warnings.simplefilter('error', RuntimeWarning)  # a slower path was taken
            globals()[name](record)
        record.wait()
    except (SkippedError, MissingPackageError) as error:
        return Result(name, 'skipped', time.perf_counter() - start, str(error))
    except Exception as error:
        result = record.result if record else Result(name, 'failed')
        where = traceback.extract_tb(error.__traceback__)[-1]
        lines = str(error).strip().splitlines() or ['']
        result.state = 'failed'
        result.message = f'{type(error).__name__}: {lines[0]} ({Path(where.filename).name}:{where.lineno})'
        return dataclasses.replace(result, seconds=time.perf_counter() - start)
    return dataclasses.replace(record.result, seconds=time.perf_counter() - start)


def hardware(record: Record) -> None:
    """Tell what the device is, and what it reaches: products of matrices, and copies."""
    record.result.facts = describe_device(record.device) | {'torch': torch.__version__}
    size = 256 if record.is_small else 8192
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        a, b = (torch.randn(size, size, device=record.device, dtype=dtype) for _ in range(2))
        seconds = record.time(f'product of matrices of {size}, {dtype}', lambda a=a, b=b: a @ b)
        record.result.facts[f'TFLOP/s, {dtype}'] = round(2e-12 * size**3 / seconds, 3)
    a, b = (torch.randn(512, 512, device=record.device, dtype=torch.float64) for _ in range(2))
    a, b = a.float(), b.float()
    apart = (a @ b).double() - a.double() @ b.double()
    record.same('products in float32, which are none of TF32', apart / 512**0.5, torch.zeros_like(apart), 1e-4)
    copied = torch.empty(1 << (20 if record.is_small else 28), device=record.device)
    seconds = record.time('copy', copied.clone)
    record.result.facts['copied GB/s'] = round(2e-9 * copied.nbytes / seconds, 1)


def neighbours(record: Record) -> None:
    """Find the neighbours of each atom on the device, as on the processor."""
    frames = [PROTOTYPES[name]() for name in PROTOTYPES] + rattled(1)
    needle = PROTOTYPES['rutile']() * (1, 1, 6)
    frames += [needle, *thirty_two()[: 4 if record.is_small else 32]]
    model = random_network('e3relax-h2')
    on_cpu, there = (
        make_batch(batch_of(*frames), model.graph, device, torch.float64) for device in ('cpu', record.device)
    )
    expected, found = (_sorted_edges(batch) for batch in (on_cpu, there))
    if expected.shape != found.shape:
        raise AssertionError(f'found {found.shape[1]} edges, expected {expected.shape[1]}')
    record.same('edges', found, expected, 0.0)
    many = crystals_of(_many(8 if record.is_small else 512))
    record.time(f'neighbours of {len(many)} crystals', lambda: make_batch(many, model.graph, record.device), len(many))


def _sorted_edges(batch: CrystalBatch) -> np.ndarray:
    edges = torch.cat([batch.graph.centre[:, None], batch.graph.neighbour[:, None], batch.graph.offset], dim=1)
    rows = edges.cpu().numpy()
    return rows[np.lexsort(rows.T[::-1])].T


def engine(record: Record) -> None:
    """Run every registered model, plain and fast, float64 and float32, against the plain one on the processor."""
    names = ('e3relax-h2', 'painn', 'deeprelax') if record.is_small else tuple(MODELS)
    left_out = []
    for name in names:
        try:
            model = random_network(name)
        except MissingPackageError as error:
            left_out.append(f'{name} ({error})')
            continue
        crystals = batch_of(*rattled())
        expected = _forward(model, crystals, 'cpu')
        size = max(1.0, float((expected.cell - torch.from_numpy(crystals.cell)).abs().max()))
        for dtype, is_fast in itertools.product(('float64', 'float32'), (False, True)):
            moved = copy.deepcopy(model).to(record.device, DTYPES[dtype])
            found = _forward(accelerate(moved) if is_fast else moved, crystals, record.device)
            allowed = size * (WITH_TABLES if is_fast else EXACT)[dtype]
            record.same_geometry(f'{name}, {"fast" if is_fast else "plain"}, {dtype}', found, expected, allowed)
    if left_out:
        record.result.facts['left out'] = left_out


@torch.no_grad()
def _forward(model: RelaxationModel, crystals: Crystals, device: torch.device | str) -> Geometry:
    dtype = next(model.parameters()).dtype
    return model(make_batch(crystals, model.graph, device, dtype))[-1]


def kernels(record: Record) -> None:
    """Run Triton's kernels, forward and backward, against their formulas; without a GPU in its interpreter."""
    if not triton_works():
        raise SkippedError("Triton, a C compiler or Python's headers are missing: the plain layers run")
    from aiida_e3relax.gnn.engine import triton_sums

    device, count = str(record.device), 6 if record.is_small else 16
    for dtype in (torch.float32,) if record.is_small else (torch.float32, torch.float64):
        for gated, with_vectors in ((True, True), (False, True), (True, False)):
            check_message_sums(triton_sums, Edges(dtype, count, device), 24, gated, with_vectors)
        for channels, components in ((30, 6), (130, 1)):
            check_tensor_sums(triton_sums, Edges(dtype, count, device), channels, components)
        check_no_edges(triton_sums, Edges(dtype, 0, device))
        check_not_a_number(triton_sums, Edges(dtype, count, device))
        check_message_sums(triton_sums, Edges(dtype, count, device), 150, gated=True, with_vectors=True)
    if record.is_gpu:
        tensor = torch.ones(2, 3, 64, device=record.device)
        if kernels_for(tensor) is not triton_sums:
            raise AssertionError(f'the fast engine takes {kernels_for(tensor)}, expected triton_sums')


def graphs(record: Record) -> None:
    """Replay CUDA graphs, which gives what a forward pass gives, for batches of one shape and of several."""
    names = ('e3relax-h2',) if record.is_small else ('e3relax-h2', 'e3relax', 'painn', 'egnn', 'ensemble')
    for name in names:
        _check_replay(record, name)
    checkpoint = load_checkpoint(DEFAULT_CHECKPOINT)
    model = accelerate(checkpoint.model.to(record.device).eval())
    for count in (1, 2) if record.is_small else (1, 8, 32):
        batch = make_batch(crystals_of(_many(count)), model.graph, record.device, torch.float32)
        replayed = ReplayedModel(model)
        for _ in range(2):
            replayed(batch)
        record.time(
            f'default model, forward pass over {count}, kernel by kernel', lambda b=batch: _no_grad(model, b), count
        )
        record.time(f'default model, forward pass over {count}, replayed', lambda b=batch, r=replayed: r(b), count)


@torch.no_grad()
def _no_grad(model: nn.Module, batch: CrystalBatch) -> Any:
    return model(batch)


def harmonics(record: Record) -> None:
    """Run the models with e3nn's spherical harmonics in captured graphs and out of them."""
    for name in WITH_E3NN[:1] if record.is_small else WITH_E3NN:
        _check_replay(record, name)


def _check_replay(record: Record, name: str) -> None:
    """Let a model see three batches of each of two shapes, so that each is captured once and replayed once."""
    plain = random_network(name)
    model = accelerate(copy.deepcopy(plain).to(record.device))
    replayed = ReplayedModel(model)
    for seed, is_single in itertools.product(range(1 if record.is_small else 3), (False, True)):
        crystals = batch_of(*rattled(seed)[: 1 if is_single else RATTLED])
        batch = make_batch(crystals, model.graph, record.device, torch.float64)
        for _ in range(3):
            found = replayed(batch)
        record.same_geometry(f'{name}, replayed against a forward pass', found, _no_grad(model, batch)[-1], 1e-9)
        record.same_geometry(f'{name}, replayed against the processor', found, _forward(plain, crystals, 'cpu'), 1e-7)
    captured = sum(one is not None for one in replayed._captured.values())
    record.result.facts[f'{name}: graphs captured'] = captured
    if record.is_gpu and plain.capturable and not captured:
        raise AssertionError(f'{name}: nothing was captured')


def fixed(record: Record) -> None:
    """Hold what is fixed, under replay and without, in float32 to the last digit."""
    model = random_network('e3relax-h2')
    crystals = batch_of(*rattled())
    held = np.zeros((len(crystals.numbers), 3), dtype=bool)
    held[::2], held[1, 0] = True, True
    cells = np.array([True] + [False] * (RATTLED - 1))
    for dtype in ('float64', 'float32'):
        moved = accelerate(copy.deepcopy(model).to(record.device, DTYPES[dtype]))
        replayed = ReplayedModel(moved)
        for _ in range(3):
            result = _predicted(moved, crystals, record.device, dtype, replayed=replayed, fixed=(held, cells))
        record.same(f'fixed cell, {dtype}', result.crystals.cell[0], crystals.cell[0], 0.0)
        record.same(
            f'fixed coordinates, {dtype}', result.crystals.fractional()[held], crystals.fractional()[held], 1e-14
        )
        on_cpu = _predicted(copy.deepcopy(model), crystals, torch.device('cpu'), 'float64', fixed=(held, cells))
        record.same_crystals(f'the rest, {dtype}', result.crystals, on_cpu.crystals, WITH_TABLES[dtype])


def _predicted(
    model: RelaxationModel, crystals: Crystals, device: torch.device, dtype: str, max_edges: int = 50_000, **more: Any
) -> Any:
    elements = sorted(set(crystals.numbers.tolist()))
    result = predict(model, crystals, elements, device, DTYPES[dtype], max_edges, NoProgress(), **more)
    if result.faults:
        raise AssertionError(f'not predicted: {result.faults}')
    return result


def batches(record: Record) -> None:
    """Run the default model on batches of 1, 32 and 512 crystals: float32, float64, both engines, and how fast."""
    checkpoint = load_checkpoint(DEFAULT_CHECKPOINT)
    most = 4 if record.is_small else 32
    compared = crystals_of(_many(most))
    on_cpu = _predicted(copy.deepcopy(checkpoint.model), compared, torch.device('cpu'), 'float64')
    for engine_name, dtype in itertools.product(('fast', 'reference'), ('float32', 'float64')):
        model = with_engine(copy.deepcopy(checkpoint.model).to(record.device, DTYPES[dtype]).eval(), engine_name)
        replayed = ReplayedModel(model)

        def run(
            crystals: Crystals,
            max_edges: int = 50_000,
            model: Any = model,
            dtype: str = dtype,
            replayed: Any = replayed,
        ) -> Any:
            return _predicted(model, crystals, record.device, dtype, max_edges, replayed=replayed)

        record.same_crystals(
            f'{engine_name}, {dtype}', run(compared).crystals, on_cpu.crystals, 1e-3 if dtype == 'float32' else 1e-6
        )
        for count in (1, most) if record.is_small else (1, 32, 512):
            crystals = crystals_of(_many(count))
            run(crystals), run(crystals)  # tables, kernels and graphs are made
            record.time(f'predict {count} crystals, {engine_name}, {dtype}', lambda c=crystals, r=run: r(c), count)
        if engine_name == 'fast' and not record.is_small:
            for max_edges in (200_000, 1_000_000):
                told = f'predict 512 crystals, {dtype}, {max_edges:,} edges a batch'
                record.time(told, lambda c=crystals, m=max_edges, r=run: r(c, m), len(crystals))
    if record.is_gpu:
        record.result.facts['peak memory MB'] = round(torch.cuda.max_memory_allocated(record.device) / 1e6)


def _many(count: int) -> list[Any]:
    """Return so many of the rattled crystals of `thirty_two`, again and again."""
    return list(itertools.islice(itertools.cycle(thirty_two()), count))


def symmetry(record: Record) -> None:
    """Predict prototypes in float32: restored, they have the space groups of float64; and what `auto` takes here."""
    if importlib.util.find_spec('spglib') is None:
        raise SkippedError('spglib is not installed')
    import spglib

    dtype, reason = choose_dtype('auto', record.device)
    record.result.facts = {'auto': f'{dtype}: {reason}'}
    crystals = batch_of(*(make() for make in PROTOTYPES.values()))
    checkpoint = load_checkpoint(DEFAULT_CHECKPOINT)
    found = {}
    for name in ('float64', 'float32'):
        predictor = Predictor(copy.deepcopy(checkpoint), record.device, DTYPES[name], 'fast', restores_symmetry=True)
        result, _, _ = predictor.predict(crystals, [None] * len(crystals), None, 50_000, NoProgress())
        found[name] = result.crystals
        record.result.facts[name] = predictor.symmetry.facts()
    record.result.times.append(
        {
            'what': f'restoring the symmetry of {len(crystals)} prototypes',
            'seconds': result.seconds['symmetry'],
            'per_second': len(crystals) / result.seconds['symmetry'],
        }
    )
    record.same_crystals('float32, restored, against float64', found['float32'], found['float64'], 1e-3)
    for index, name in enumerate(PROTOTYPES):
        groups = []
        for of_all in found.values():
            one = of_all.select([index])
            cell = (one.cell[0].tolist(), one.fractional().tolist(), one.numbers.tolist())
            groups.append(spglib.get_symmetry_dataset(cell, symprec=1e-6).international)
        if len(set(groups)) > 1:
            raise AssertionError(f'{name}: {groups[0]} in float64, {groups[1]} in float32')


def memory(record: Record) -> None:
    """Let memory run out, which halves the batch: the same predictions, in more batches, and nothing is lost."""
    model = accelerate(load_checkpoint(DEFAULT_CHECKPOINT).model.to(record.device).eval())
    crystals = crystals_of(_many(8 if record.is_small else 256))
    everything = 1 << 30
    if record.is_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(record.device)
    expected = _predicted(model, crystals, record.device, 'float32', everything)
    if len(expected.batches) != 1:
        raise AssertionError(f'expected one batch without a bound, found {len(expected.batches)}')
    with _short_of_memory(record, model, crystals):
        found = _predicted(model, crystals, record.device, 'float32', everything)
    record.result.facts['batches with little memory'] = len(found.batches)
    if len(found.batches) < 2:
        raise AssertionError('memory was to run out, and did not')
    record.same_crystals('with little memory', found.crystals, expected.crystals, 1e-4)
    again = _predicted(model, crystals, record.device, 'float32', everything)
    record.same_crystals('with all of it again', again.crystals, expected.crystals, 1e-4)


@contextlib.contextmanager
def _short_of_memory(record: Record, model: RelaxationModel, crystals: Crystals) -> Iterator[None]:
    """Let half of the memory that one batch takes be there; on the processor an error stands for it."""
    if not record.is_gpu:
        most = int(crystals.n_atoms.sum()) // 2

        def refuse(_: nn.Module, inputs: tuple[CrystalBatch]) -> None:
            if len(inputs[0].numbers) > most:
                raise MemoryError

        handle = model.register_forward_pre_hook(refuse)
        yield
        handle.remove()
        return
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved(record.device)
    needed = torch.cuda.max_memory_reserved(record.device) - held
    total = torch.cuda.get_device_properties(record.device).total_memory
    torch.cuda.set_per_process_memory_fraction((held + needed / 2) / total, record.device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, record.device)


def training(record: Record) -> None:
    """Take a training step, against that of the plain layers on the processor: its loss and its gradients."""
    for name in ('e3relax-h2',) if record.is_small else ('e3relax-h2', 'e3relax', 'deeprelax', 'painn'):
        model = random_network(name)
        loss, gradients = _step(model, 'cpu')
        for dtype, is_fast in itertools.product(('float64', 'float32'), (False, True)):
            moved = copy.deepcopy(model).to(record.device, DTYPES[dtype])
            found, found_gradients = _step(accelerate(moved) if is_fast else moved, record.device)
            told = f'{name}, {"fast" if is_fast else "plain"}, {dtype}'
            allowed = 1e-7 if dtype == 'float64' else 1e-3
            record.same(f'{told}, loss', found / loss, 1.0, allowed)
            largest = np.abs(gradients).max()
            record.same(f'{told}, gradients', found_gradients / largest, gradients / largest, 10 * allowed)
    case = Case(
        '', 'e3relax-h2', {'features': 16} if record.is_small else {}, _many(2 if record.is_small else 32), True
    )
    plain = make_model(case.architecture, case.sizes).to(record.device)
    batch = make_batch(crystals_of(case.frames), plain.graph, record.device)
    half = with_precision(accelerate(copy.deepcopy(plain)), 'bfloat16')
    for told, model in (('plain', plain), ('fast', accelerate(copy.deepcopy(plain))), ('fast, bfloat16', half)):
        record.time(f'training step, e3relax-h2, {len(case.frames)} crystals, {told}', case.run(model, batch))


def _step(model: RelaxationModel, device: torch.device | str) -> tuple[float, np.ndarray]:
    """Return the loss of a few crystals, and its gradients in one row."""
    dtype = next(model.parameters()).dtype
    batch = make_batch(batch_of(*rattled()), model.graph, device, dtype)
    target = Target.of(Geometry(batch.fractional + 0.01, batch.cell * 1.02))
    model.zero_grad()
    losses, _ = model.loss(batch, target, LossSettings())
    losses.mean().backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return losses.mean().item(), torch.cat([g.flatten() for g in gradients]).double().cpu().numpy()


def bfloat16(record: Record) -> None:
    """Take a training step with products in half precision, which is near that in float32."""
    model = random_network('e3relax-h2').to(record.device, torch.float32)
    half = with_precision(accelerate(copy.deepcopy(model)), 'bfloat16')
    loss, gradients = _step(accelerate(model), record.device)
    found, half_gradients = _step(half, record.device)
    record.same('loss', found / loss, 1.0, 0.05)
    aligned = half_gradients @ gradients / (np.linalg.norm(half_gradients) * np.linalg.norm(gradients))
    record.same('direction of the gradient', aligned, 1.0, 0.05)


def devices(record: Record) -> None:
    """Predict on the last of several GPUs what the first one predicts."""
    if not record.is_gpu or torch.cuda.device_count() < 2:
        raise SkippedError('there are not two GPUs')
    last = torch.device('cuda', torch.cuda.device_count() - 1)
    model, crystals = random_network('e3relax-h2'), batch_of(*rattled())
    found = []
    for device in (torch.device('cuda', 0), last):
        moved = accelerate(copy.deepcopy(model).to(device))
        replayed = ReplayedModel(moved)
        for _ in range(3):
            result = _predicted(moved, crystals, device, 'float64', replayed=replayed)
        found.append(result.crystals)
    record.same_crystals(f'{last} against cuda:0', found[1], found[0], 1e-9)


def program(record: Record) -> None:
    """Run `e3relax predict` as jobs do: its output, and what its report says of the device."""
    from aiida_e3relax.gnn.cli import main

    crystals = crystals_of(_many(2 if record.is_small else 64))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_npz(folder / 'in.npz', crystals)
        words = ['predict', folder / 'in.npz', '--output', folder / 'out.npz', '--report', folder / 'report.json']
        status = main([*map(str, words), '--device', str(record.device), '--vacuum', 'none'])
        report = json.loads((folder / 'report.json').read_text(encoding='utf-8'))
        found = read_crystal_files([folder / 'out.npz'])
    failed = [row for row in report['structures'] if row['status'] != 'ok']
    if status or failed:
        raise AssertionError(f'exit status {status}, {failed[:1]}')
    record.result.facts = {
        'report': {name: report[name] for name in ('device', 'dtype', 'timings_s', 'peak_memory_mb')}
    }
    checkpoint = load_checkpoint(DEFAULT_CHECKPOINT)
    few = crystals.select(np.arange(min(16, len(crystals))))
    expected = _predicted(checkpoint.model, few, torch.device('cpu'), 'float64')
    record.same_crystals('of the program', found.select(np.arange(len(few))), expected.crystals, 1e-3)


def potentials(record: Record) -> None:
    """Run the potentials that are installed: crystals in batches, one after the other, and on the processor."""
    done = []
    for name in BATCHED:
        crystals = strained_crystals(4 if record.is_small else 24)
        settings = PotentialSettings(name, 'input', 0)
        told = {}
        try:
            for where, in_batches in ((record.device, True), (record.device, False), (torch.device('cpu'), False)):
                potential = load_potential(name, where, in_batches=in_batches)
                with warnings.catch_warnings():
                    warnings.simplefilter('ignore')
                    told[str(where), in_batches], seconds, _ = relax(crystals, potential, settings)
                if where == record.device:
                    timed = {'what': f'{name}, {potential.evaluation}', 'seconds': seconds}
                    record.result.times.append(timed | {'per_second': len(crystals) / seconds})
        except MissingPackageError as error:
            record.result.facts[name] = str(error)
            continue
        done.append(name)
        expected = told['cpu', False]
        for key, allowed in (('energy_prediction_eV_per_atom', 1e-4), ('max_force_prediction_eV_per_A', 5e-3)):
            for place, rows in told.items():
                found = [[row[key] for row in some] for some in (rows, expected)]
                record.same(f'{name}, {key}, {place[0]}{" in batches" if place[1] else ""}', *found, allowed)
    if not done:
        raise SkippedError('; '.join(map(str, record.result.facts.values())))
