"""Batches and training pairs as PyTorch Geometric has them, for those who live in it.

Names are those of PyTorch Geometric and, where it has none, of the data sets of the Open Catalyst Project, lengths are
in A:

===================================  ================  =================================================================
``z``                                ``(A,)``          atomic numbers
``pos``                              ``(A, 3)``        Cartesian positions
``frac``                             ``(A, 3)``        fractional coordinates, which batches hold exactly
``cell``                             ``(S, 3, 3)``     lattice vectors as rows
``pbc``                              ``(S, 3)``        periodic directions, of pairs
``natoms``                           ``(S,)``          atoms of each crystal
``edge_index``                       ``(2, E)``        neighbour j (source) and centre i (target) of each edge
``cell_offsets``                     ``(E, 3)``        cell of the image of j: ``pos[j] + cell_offsets @ cell - pos[i]``
``pos_relaxed``, ``cell_relaxed``    as above          the target; ``frac_relaxed`` beside it in batches
``pos_filed``, ``cell_filed``        as above          the relaxed crystals as filed, where pairs were aligned
``fixed``, ``fixed_cell``            ``(A, 3), (S,)``  what a relaxation does not move; ``(A,)`` is read
``label``, ``split``, ``source``     words             of each pair; ``about_kind`` and the like are what `about` holds
``batch``, ``ptr``                   ``(A,), (S+1,)``  the crystal of each atom, the first atom of each crystal
===================================  ================  =================================================================

An example holds one crystal, with leading dimension S = 1 where there is one. PyTorch Geometric is imported when it is
needed: it comes with the extra ``baselines``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aiida_e3relax.common.errors import InputError, MissingPackageError
from aiida_e3relax.common.messages import suggestion
from aiida_e3relax.crystals.pairs import SPLIT_NAMES, Pairs, is_split
from aiida_e3relax.crystals.structures import MAX_ATOMIC_NUMBER, Crystals, make_crystals
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry, make_batch
from aiida_e3relax.gnn.graph.shells import Graph
from aiida_e3relax.gnn.models.losses import Target
from aiida_e3relax.gnn.models.registry import REMEDY

GraphFunction = Callable[[Tensor, Tensor, Tensor], Graph]
"""From fractional coordinates, cells and numbers of atoms to edges: the method `graph` of a model."""

AGREEMENT = 1e-3
"""By how much (A) ``pos`` may differ from ``frac @ cell``: more is no rounding, one of the two is out of date."""

ABOUT = 'about_'
"""Begins the attributes that hold what is known `about` a pair, such as its kind."""


def to_pyg(batch: CrystalBatch, target: Geometry | None = None) -> Any:
    """Return a batch, and its `target` where there is one, as a ``torch_geometric.data.Batch``.

    ``to_data_list()`` and ``get_example()`` of it give the crystals. Gradients pass. `from_pyg` is the exact inverse.

    Raises MissingPackageError where PyTorch Geometric is not installed.
    """
    n_atoms = batch.n_atoms.tolist()
    crystal = batch.structure_index[batch.graph.centre]
    n_edges = torch.bincount(crystal, minlength=len(n_atoms)).tolist()
    first = (torch.cumsum(batch.n_atoms, 0) - batch.n_atoms)[crystal]
    edges = torch.stack([batch.graph.neighbour - first, batch.graph.centre - first])
    parts: dict[str, Iterable[Tensor]] = {
        'z': batch.numbers.split(n_atoms),
        'pos': _cartesian(batch.fractional, batch.cell[batch.structure_index]).split(n_atoms),
        'frac': batch.fractional.split(n_atoms),
        'cell': batch.cell.split(1),
        'natoms': batch.n_atoms.split(1),
        'edge_index': edges.split(n_edges, dim=1),
        'cell_offsets': batch.graph.offset.split(n_edges),
    }
    if target is not None:
        parts |= {
            'pos_relaxed': target.positions(batch).split(n_atoms),
            'frac_relaxed': target.fractional.split(n_atoms),
            'cell_relaxed': target.cell.split(1),
        }
    if batch.fixed is not None:
        parts['fixed'] = batch.fixed.split(n_atoms)
    if batch.fixed_cell is not None:
        parts['fixed_cell'] = batch.fixed_cell.split(1)
    return _package().Batch.from_data_list(_examples(parts))


def from_pyg(data: Any, graph: GraphFunction | None = None) -> tuple[CrystalBatch, Target | None]:
    """Return a ``Batch``, or a ``Data`` with one crystal, as a batch, and its target if it holds one.

    They are what a model's `loss` takes. The target needs ``cell_relaxed``, unless ``fixed_cell`` is true of all.

    Parameters
    ----------
    data
        With ``z``, ``cell``, and ``pos`` or ``frac``. Where it holds both positions, they must agree, and ``frac``
        counts.
    graph
        Searches the edges, the method of that name of a model; None takes those of `data`.

    Raises
    ------
    InputError
        For what is missing or has another shape, for positions that disagree, and for edges between crystals; the
        message names it.
    """
    z = _attribute(data, 'z')
    if z.dim() != 1 or z.is_floating_point() or (len(z) and not 1 <= int(z.min()) <= int(z.max()) <= MAX_ATOMIC_NUMBER):
        raise InputError(f'z: expected atomic numbers (A,) from 1 to {MAX_ATOMIC_NUMBER}, found {_described(z)}')
    batch = data.get('batch')
    index = torch.zeros_like(z, dtype=torch.long) if batch is None else batch
    cell = _cells(data, 'cell')
    if index.shape != z.shape or (len(index) and (int(index[-1]) >= len(cell) or bool((index.diff() < 0).any()))):
        raise InputError(
            f'batch: expected the crystal of each of {len(z)} atoms, in order, of {len(cell)} in `cell`, '
            f'found {_described(index)}'
        )
    n_atoms = torch.bincount(index, minlength=len(cell))
    fractional = _fractional(data, 'pos', 'frac', cell[index])
    edges = _edges(data, index) if graph is None else graph(fractional.double(), cell.double(), n_atoms)
    fixed, fixed_cell = (
        None if data.get(name) is None else torch.tensor(_mask(data, name, shape), device=z.device)
        for name, shape in (('fixed', (len(z), 3)), ('fixed_cell', (len(cell),)))
    )
    crystals = CrystalBatch(z.long(), fractional, cell, n_atoms, index, edges, fixed, fixed_cell)
    keeps_cells = fixed_cell is not None and bool(fixed_cell.all())
    if 'cell_relaxed' not in data and not (keeps_cells and {'pos_relaxed', 'frac_relaxed'} & set(data.keys())):
        return crystals, None
    relaxed = _cells(data, 'cell_relaxed') if 'cell_relaxed' in data else cell
    if len(relaxed) != len(cell):
        raise InputError(f'cell_relaxed: expected {len(cell)} cells as in `cell`, found {len(relaxed)}')
    return crystals, Target.of(Geometry(_fractional(data, 'pos_relaxed', 'frac_relaxed', relaxed[index]), relaxed))


def pairs_to_pyg(pairs: Pairs, graph: GraphFunction | None = None, dtype: torch.dtype = torch.float64) -> list[Any]:
    """Return each pair as a ``torch_geometric.data.Data``, what a ``DataLoader`` or an ``InMemoryDataset`` takes.

    Parameters
    ----------
    pairs
        As `aiida_e3relax.crystals.datasets.pairs_file.read_pairs` gives them. `aligned` takes drift, rotation and
        wrapped atoms out of the targets.
    graph
        Searches the edges, the method of that name of a model; None gives none.
    dtype
        Of lengths; in float64, that of the files, `pairs_from_pyg` is the exact inverse.

    Raises
    ------
    MissingPackageError
        Where PyTorch Geometric is not installed.
    """
    before, n_atoms = pairs.unrelaxed, pairs.unrelaxed.n_atoms.tolist()
    parts: dict[str, Iterable[Any]] = {
        'z': torch.tensor(before.numbers).split(n_atoms),
        'pbc': torch.tensor(before.pbc).split(1),
        'natoms': torch.tensor(before.n_atoms).split(1),
        'label': before.labels.tolist(),
        'split': pairs.split.tolist(),
        'source': pairs.source.tolist(),
    }
    parts |= {f'{ABOUT}{name}': texts.tolist() for name, texts in pairs.about.items()}
    stages = {'': before, '_relaxed': pairs.relaxed} | ({'_filed': pairs.filed} if pairs.filed else {})
    for suffix, crystals in stages.items():
        parts[f'pos{suffix}'] = torch.tensor(crystals.positions, dtype=dtype).split(n_atoms)
        parts[f'cell{suffix}'] = torch.tensor(crystals.cell, dtype=dtype).split(1)
    if pairs.fixed is not None:
        parts['fixed'] = torch.tensor(pairs.fixed).split(n_atoms)
    if pairs.fixed_cell is not None:
        parts['fixed_cell'] = torch.tensor(pairs.fixed_cell).split(1)
    examples = _examples(parts)
    if graph is not None:
        for index, example in enumerate(examples):
            edges = make_batch(before.select([index]), graph).graph
            example.edge_index = torch.stack([edges.neighbour, edges.centre])
            example.cell_offsets = edges.offset
    return examples


def pairs_from_pyg(examples: Iterable[Any]) -> Pairs:
    """Return the pairs of examples with ``z``, ``pos``, ``cell``, ``pos_relaxed``, ``cell_relaxed`` and ``split``.

    ``label`` is by default the place in the list, ``source`` is ``pyg``, and ``pbc`` says periodic. An
    ``InMemoryDataset`` is a list of examples, too.

    Raises
    ------
    InputError
        For what is missing or has another shape; the message names the example and the attribute.
    """
    examples = list(examples)
    rows = []
    for place, example in enumerate(examples):
        try:
            rows.append(_pair(example))
        except InputError as error:
            raise InputError(f'example {place} ({example.get("label", "without label")}): {error}') from error
    labels = [str(example.get('label', place)) for place, example in enumerate(examples)]

    def stage(suffix: str) -> Crystals:
        return make_crystals(
            [row['z'] for row in rows],
            [row[f'pos{suffix}'] for row in rows],
            [row[f'cell{suffix}'] for row in rows],
            labels,
            [row['pbc'] for row in rows],
        )

    return Pairs(
        stage(''),
        stage('_relaxed'),
        np.array([row['split'] for row in rows], dtype=np.str_),
        np.array([str(example.get('source', 'pyg')) for example in examples], dtype=np.str_),
        stage('_filed') if any('pos_filed' in example for example in examples) else None,
        np.concatenate([row['fixed'] for row in rows]) if rows else None,
        np.array([row['fixed_cell'] for row in rows], dtype=np.bool_),
        _about(examples),
    )


def _about(examples: list[Any]) -> dict[str, NDArray[np.str_]]:
    """Return what is known `about` pairs; what an example lacks is empty."""
    names = dict.fromkeys(name for example in examples for name in example.to_dict() if name.startswith(ABOUT))
    return {
        name.removeprefix(ABOUT): np.array([str(example.get(name, '')) for example in examples], dtype=np.str_)
        for name in names
    }


@functools.cache
def _package() -> ModuleType:
    """Return ``torch_geometric.data``; raises MissingPackageError."""
    try:
        import torch_geometric.data
    except ModuleNotFoundError as error:
        if (error.name or '').partition('.')[0] != 'torch_geometric':
            raise
        raise MissingPackageError(
            f'batches of PyTorch Geometric need the package torch-geometric, which is not installed; {REMEDY}'
        ) from error
    return torch_geometric.data


def _examples(parts: dict[str, Iterable[Any]]) -> list[Any]:
    """Return one ``Data`` a crystal from the crystals' values by attribute."""
    kind = _package().Data
    return [kind(**dict(zip(parts, values, strict=True))) for values in zip(*parts.values(), strict=True)]


def _pair(example: Any) -> dict[str, Any]:
    """Return what `pairs_from_pyg` reads of an example, as arrays."""
    z = _attribute(example, 'z').cpu().numpy()
    row: dict[str, Any] = {'z': z, 'split': example.get('split')}
    if not isinstance(row['split'], str) or not is_split(row['split']):
        raise InputError(f'split: expected {SPLIT_NAMES}, found {row["split"]!r}')
    pbc = example.get('pbc')
    row['pbc'] = np.ones(3, dtype=np.bool_) if pbc is None else pbc.reshape(-1).cpu().numpy()
    row['fixed'] = _mask(example, 'fixed', (len(z), 3))
    row['fixed_cell'] = bool(_mask(example, 'fixed_cell', (1,))[0])
    for suffix in ('', '_relaxed', *(('_filed',) if 'pos_filed' in example else ())):
        cell = _cells(example, f'cell{suffix}')
        if len(cell) != 1:
            raise InputError(f'cell{suffix}: expected one cell, found {len(cell)}')
        row[f'cell{suffix}'] = _array(cell[0])
        row[f'pos{suffix}'] = _array(_vectors(example, f'pos{suffix}', len(z)))
    return row


def _mask(example: Any, name: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a mask of that name; a column or a row does for all of its width, as OC20 has it. None fixes nothing."""
    value = example.get(name)
    if value is None:
        return np.zeros(shape, dtype=np.bool_)
    mask = value.cpu().numpy().astype(np.bool_)
    if mask.ndim < len(shape):
        mask = mask[..., None]
    if mask.ndim != len(shape) or len(mask) != shape[0] or mask.shape[-1] not in (1, shape[-1]):
        raise InputError(f'{name}: expected a mask of shape {shape} or {shape[:1]}, found {_described(value)}')
    return np.broadcast_to(mask, shape)


def _array(values: Tensor) -> NDArray[np.float64]:
    return values.detach().cpu().double().numpy()


def _cartesian(fractional: Tensor, cells: Tensor) -> Tensor:
    """Return the positions ``(A, 3)`` of fractional coordinates in each atom's cell ``(A, 3, 3)``."""
    return (fractional[:, None] @ cells)[:, 0]


def _attribute(data: Any, name: str) -> Tensor:
    """Return a tensor of an example by name; raises InputError."""
    value = data.get(name)
    if not isinstance(value, Tensor):
        found = 'none' if value is None else f'a {type(value).__name__}'
        raise InputError(f'{name}: expected a tensor, found {found}{suggestion(name, list(data.keys()))}')
    return value


def _vectors(data: Any, name: str, count: int) -> Tensor:
    """Return the finite vectors ``(count, 3)`` of that name; raises InputError."""
    value = _attribute(data, name)
    if value.shape != (count, 3) or not value.is_floating_point() or not bool(torch.isfinite(value).all()):
        raise InputError(f'{name}: expected finite vectors ({count}, 3), found {_described(value)}')
    return value


def _cells(data: Any, name: str) -> Tensor:
    """Return the cells ``(S, 3, 3)`` of that name, also where examples with ``(3, 3)`` were joined to ``(3 S, 3)``."""
    value = _attribute(data, name)
    if value.shape[-1:] != (3,) or value.numel() % 9 or not bool(torch.isfinite(value).all()):
        raise InputError(f'{name}: expected finite cells (S, 3, 3), found {_described(value)}')
    return value.reshape(-1, 3, 3)


def _fractional(data: Any, positions: str, fractional: str, cells: Tensor) -> Tensor:
    """Return fractional coordinates ``(A, 3)`` by the names of both kinds, in each atom's cell ``(A, 3, 3)``."""
    if fractional not in data:
        return _cartesian(_vectors(data, positions, len(cells)), torch.linalg.inv(cells))
    found = _vectors(data, fractional, len(cells))
    if positions in data and len(cells):
        apart = float((_cartesian(found, cells) - _vectors(data, positions, len(cells))).detach().abs().max())
        if apart > AGREEMENT:
            raise InputError(
                f'{positions} and {fractional} @ cell differ by {apart:.2g} A: one of them was changed; delete the '
                f'other, as in `del data.{fractional}` after atoms were moved'
            )
    return found


def _edges(data: Any, index: Tensor) -> Graph:
    """Return the edges of `data`, sorted by centre, whose atoms lie in the crystals `index` ``(A,)``."""
    ends, offset = _attribute(data, 'edge_index'), _attribute(data, 'cell_offsets')
    if ends.dim() != 2 or len(ends) != 2 or offset.shape != (ends.shape[1], 3):
        raise InputError(
            'edge_index, cell_offsets: expected the ends (2, E) of the edges and the cells (E, 3) of their neighbours, '
            f'found {_described(ends)} and {_described(offset)}'
        )
    if ends.shape[1] and not 0 <= int(ends.min()) <= int(ends.max()) < len(index):
        raise InputError(f'edge_index: expected atoms from 0 to {len(index) - 1}, found up to {int(ends.max())}')
    if bool((offset != offset.round()).any()):
        raise InputError('cell_offsets: expected whole numbers of cells, found vectors')
    neighbour, centre = ends.long()
    if bool((index[neighbour] != index[centre]).any()):
        raise InputError('edge_index: expected edges within a crystal, found some between two')
    order = torch.argsort(centre, stable=True)
    return Graph(centre[order], neighbour[order], offset.long()[order])


def _described(value: Tensor) -> str:
    return f'{str(value.dtype).removeprefix("torch.")} {tuple(value.shape)}'
