"""The layers of every form against the equations that docs/equations.md gives them, atom by atom and edge by edge."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from e3nn import o3
from numpy.polynomial.legendre import Legendre
from scipy.linalg import expm
from torch import nn

from aiida_e3relax.crystals import metrics
from aiida_e3relax.crystals.structures import make_crystals
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry, make_batch
from aiida_e3relax.gnn.layers import EdgeGeometry, LatticeState, RadialBasis
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.distance_geometry import DistancePrediction
from aiida_e3relax.gnn.models.losses import LossSettings, Target
from aiida_e3relax.gnn.models.published.axes import AxisStates
from aiida_e3relax.gnn.models.published.deeprelax import offset_encoding
from aiida_e3relax.gnn.models.published.edges import Edges, centred
from tests.gnn.crystals import batch_of, rattled
from tests.gnn.networks import random_network

F = 4
C = 8
"""Features, and channels of the strain."""

SIZES = {'features': F, 'layers': 1, 'radial_functions': 6, 'max_neighbours': 6}
CRYSTALS = batch_of(*rattled()[:2])
TOLERANCE = 1e-12


def network(architecture: str, **changes: Any) -> RelaxationModel:
    return random_network(architecture, **SIZES, **changes)


def batch_for(model: RelaxationModel) -> CrystalBatch:
    return make_batch(CRYSTALS, model.graph, dtype=torch.float64)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def atoms_of(batch: CrystalBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scalars and vectors that atoms might have."""
    n = len(batch.numbers)
    return drawn(n, F, seed=1), drawn(n, 3, F, seed=2)


def axes_of(batch: CrystalBatch) -> AxisStates:
    s = len(batch.cell)
    return AxisStates(drawn(s, 3, F, seed=3), drawn(s, 3, 3, F, seed=4))


def positions_of(batch: CrystalBatch) -> torch.Tensor:
    return Geometry(batch.fractional, batch.cell).positions(batch)


def linear(module: nn.Linear, x: np.ndarray) -> np.ndarray:
    weight = module.weight.detach().numpy()
    return weight @ x + (0 if module.bias is None else module.bias.detach().numpy())


def act(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x)) / 0.6


def mlp(module: nn.Sequential, x: np.ndarray) -> np.ndarray:
    for part in module:
        x = linear(part, x) if isinstance(part, nn.Linear) else act(x) if type(part) is not nn.SiLU else 0.6 * act(x)
    return x


def along_vectors(module: nn.Linear, v: np.ndarray) -> np.ndarray:
    """Map the features of vectors ``(3, F)``."""
    return np.stack([linear(module, component) for component in v])


def radial(basis: RadialBasis, distance: float) -> np.ndarray:
    x, k = distance / basis.cutoff, len(basis.centres)
    centres = basis.centres.double().numpy()  # k of them evenly on [0, 1], rounded to single precision
    gaussians = np.exp(-((x - centres) ** 2) / (2 / (k - 1) ** 2))
    return gaussians * (1 - 21 * x**5 + 35 * x**6 - 15 * x**7 if x < 1 else 0.0)


def edge_list(batch: CrystalBatch) -> list[tuple[int, int, np.ndarray]]:
    """Return centre i, neighbour j and the vector from i to j, r_j + k L - r_i (DeepRelax, eq. 1)."""
    positions, graph = positions_of(batch).numpy(), batch.graph
    rows = zip(graph.centre.tolist(), graph.neighbour.tolist(), graph.offset.numpy(), strict=True)
    return [(i, j, positions[j] + k @ batch.cell[batch.structure_index[i]].numpy() - positions[i]) for i, j, k in rows]


def same(found: torch.Tensor, expected: Any, tolerance: float = TOLERANCE) -> None:
    np.testing.assert_allclose(found.detach().numpy(), np.asarray(expected), rtol=0, atol=tolerance)


def symmetric_edges(model: RelaxationModel, batch: CrystalBatch) -> EdgeGeometry:
    vectors = batch.edge_vectors(batch.fractional, batch.cell)
    n = len(batch.numbers)
    return EdgeGeometry.of(vectors, batch.graph.centre, batch.graph.neighbour, model.radial_basis, n)


@pytest.mark.parametrize('l_max', [0, 1, 3])
def test_symmetric_messages(l_max):
    """E3Relax, eqs. 1-2; E3Relax-H2, eqs. 5 and 9-16."""
    model = network('e3relax-h2', l_max=l_max)
    batch, layer = batch_for(model), model.layers[0].message_passing
    x, v = atoms_of(batch)
    edges = symmetric_edges(model, batch)
    rows = edge_list(batch)
    same(edges.direction * edges.distance[:, None], [-d for *_, d in rows])
    reference = np.zeros((len(x), 3))
    envelopes = np.zeros(len(x))
    for i, _, d in rows:
        t = np.linalg.norm(d) / model.cutoff
        envelope = 1 - 21 * t**5 + 35 * t**6 - 15 * t**7
        reference[i] -= envelope * d / np.linalg.norm(d)
        envelopes[i] += envelope
    reference /= (envelopes + 1e-3)[:, None]
    dx, dv = np.zeros((len(x), F)), np.zeros((len(x), 3, F))
    for i, j, d in rows:
        length = np.linalg.norm(d)
        u = -d / length
        gate = np.ones(F)
        if l_max:
            size = np.linalg.norm(reference[i])
            z = [size**degree * Legendre.basis(degree)(u @ reference[i] / size) for degree in range(l_max + 1)]
            gate = 1 + np.tanh(linear(layer.angular_gate, np.array(z)))
        filters = linear(layer.radial_filter, radial(model.radial_basis, length)).reshape(3, F)
        to_vector, along, to_scalar = mlp(layer.source, x[j].numpy()).reshape(3, F) * filters * gate * 3**-0.5
        dx[i] += to_scalar
        dv[i] += (to_vector * v[j].numpy() + np.outer(u, along)) * F**-0.5
    found = layer(x, v, edges, first=False)
    same(found[0], dx)
    same(found[1], dv)


def self_interaction(module: nn.Module, x: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return V v, U v and the three parts of the function of x and |U v|."""
    kept, measured = np.split(along_vectors(module.vector_mix, v), 2, axis=1)
    length = np.sqrt((measured**2).sum(axis=0) + 1e-8)
    return kept, measured, *np.split(mlp(module.scalar_mix, np.concatenate([x, length])), 3)


@pytest.mark.parametrize('architecture', ['e3relax', 'e3relax-h2', 'e3relax-published', 'e3relax-h2-published'])
def test_self_interaction(architecture):
    """E3Relax, eqs. 3-4; E3Relax-H2, eqs. 17-18."""
    model = network(architecture)
    module = model.layers[0].self_interaction
    x, v = atoms_of(batch_for(model))
    dx, dv = module(x, v)
    for i in range(len(x)):
        kept, _, rescale, shift, damp = self_interaction(module, x[i].numpy(), v[i].numpy())
        same(dx[i], shift / np.sqrt(2) + x[i].numpy() * np.tanh(damp))
        same(dv[i], rescale * kept)


@pytest.mark.parametrize('architecture', ['deeprelax', 'deeprelax-published'])
def test_self_interaction_of_products(architecture):
    """DeepRelax, eqs. 6-7."""
    model = network(architecture)
    module = model.layers[0].self_interaction
    x, v = atoms_of(batch_for(model))
    dx, dv = module(x, v)
    for i in range(len(x)):
        kept, measured, shift, weight, rescale = self_interaction(module, x[i].numpy(), v[i].numpy())
        product = (kept * measured).sum(axis=0) / np.sqrt(F)
        same(dx[i], (shift + weight * product) / np.sqrt(2))
        same(dv[i], rescale * kept)


def softmax(values: np.ndarray) -> np.ndarray:
    return np.exp(values) / np.exp(values).sum()


@pytest.mark.parametrize('architecture', ['e3relax', 'e3relax-h2'])
def test_symmetric_structure_update(architecture):
    """E3Relax, eqs. 5-8 and 14; E3Relax-H2, eqs. 33 and 35-36: bounded, without drift, a strain in the cell's place."""
    model = network(architecture)
    batch, layer = batch_for(model), model.layers[0]
    x, v = model.embedding(batch.numbers), torch.zeros(len(batch.numbers), 3, F, dtype=torch.float64)
    x, v, _, displacement, strain = layer(x, v, model._lattice(batch), symmetric_edges(model, batch), batch, True)
    for i in range(len(x)):
        expected = along_vectors(layer.displacement, v[i].detach().numpy())[:, 0]
        if architecture == 'e3relax':
            weights = softmax(mlp(layer.attention, x[i].detach().numpy()))
            expected = (expected + v[i].detach().numpy() @ weights) / 2
        same(displacement[i], expected)
    geometry = model(batch)[0]
    for s in range(len(batch.cell)):
        own = (batch.structure_index == s).numpy()
        cell = batch.cell[s].numpy() @ expm(strain[s].detach().numpy())
        same(geometry.cell[s], cell)
        step = displacement.detach().numpy()[own]
        step = step / np.sqrt(1 + (step**2).sum(axis=1, keepdims=True) / 3.0**2)
        step = step - step.mean(axis=0)
        same(geometry.fractional[own], batch.fractional.numpy()[own] + step @ np.linalg.inv(cell))


def lattice_of(batch: CrystalBatch) -> LatticeState:
    tensor = drawn(len(batch.cell), 3, 3, F, seed=6)
    return LatticeState(drawn(len(batch.cell), F, seed=5), tensor + tensor.transpose(1, 2))


def test_symmetric_lattice_to_atoms():
    """In the place of E3Relax, eqs. 15-18, and E3Relax-H2, eqs. 19-24."""
    model = network('e3relax-h2')
    batch, module = batch_for(model), model.layers[0].lattice_to_atoms
    (x, v), lattice = atoms_of(batch), lattice_of(batch)
    found = module(x, v, lattice, batch.structure_index)
    for i, s in enumerate(batch.structure_index.tolist()):
        mixed = mlp(module.mix, np.concatenate([x[i].numpy(), lattice.scalar[s].numpy()]))
        shift, keep, turn = np.split(mixed, 3)
        turned = np.einsum('xyf,yf->xf', lattice.tensor[s].numpy(), v[i].numpy())
        same(found[0][i], x[i].numpy() + shift)
        same(found[1][i], v[i].numpy() + keep * v[i].numpy() + turn * turned)


def traceless(tensor: np.ndarray) -> np.ndarray:
    symmetric = (tensor + tensor.swapaxes(0, 1)) / 2
    return symmetric - np.einsum('xxf->f', symmetric) * np.eye(3)[:, :, None] / 3


def test_symmetric_atoms_to_lattice():
    """In the place of E3Relax, eqs. 9-13, and E3Relax-H2, eqs. 25-32 and 34."""
    model = network('e3relax-h2')
    batch, module = batch_for(model), model.layers[0].atoms_to_lattice
    (x, v), lattice = atoms_of(batch), lattice_of(batch)
    state, strain = module(x, v, symmetric_edges(model, batch), lattice, batch)
    for s, n in enumerate(batch.n_atoms.tolist()):
        own = [i for i, crystal in enumerate(batch.structure_index.tolist()) if crystal == s]
        stretch, polar = np.zeros((3, 3, C)), np.zeros((3, 3, F))
        for i, j, d in edge_list(batch):
            if i in own:
                u = d / np.linalg.norm(d)
                of_centre = linear(module.bond_ends, x[i].numpy())[:C]
                of_neighbour = linear(module.bond_ends, x[j].numpy())[C:]
                weight = linear(module.bond_filter, radial(model.radial_basis, np.linalg.norm(d)))
                stretch += np.outer(u, u)[:, :, None] * weight * of_centre * of_neighbour / n
        for i in own:
            vectors = along_vectors(module.vector_mix, v[i].numpy())
            left, right = np.split(vectors / np.sqrt(1 + (vectors**2).sum(axis=0)), 2, axis=1)
            polar += left[:, None] * right[None] / n
        mapped = np.einsum('xyc,fc->xyf', stretch, module.bond_mix.weight.detach().numpy())
        tensor = lattice.tensor[s].numpy() + traceless(mapped + polar)
        kept, measured = np.split(
            np.einsum('xyf,gf->xyg', tensor, module.tensor_mix.weight.detach().numpy()), 2, axis=2
        )
        mean = np.mean([x[i].numpy() for i in own], axis=0)
        length = np.sqrt((measured**2).sum(axis=(0, 1)) + 1e-8)
        mixed = mlp(module.scalar_mix, np.concatenate([lattice.scalar[s].numpy(), mean, length]))
        scalar = lattice.scalar[s].numpy() + mixed[:F]
        tensor = tensor + np.tanh(mixed[F:]) * kept
        distortion = tensor @ module.distortion.weight.detach().numpy()[0]
        whole = distortion + mlp(module.dilation, scalar) * np.eye(3)
        same(state.scalar[s], scalar)
        same(state.tensor[s], tensor)
        same(strain[s], whole / np.sqrt(1 + (whole**2).sum()))


@pytest.mark.parametrize('architecture', ['e3relax-published', 'e3relax-h2-published'])
def test_published_messages(architecture):
    """E3Relax, eqs. 1-2; E3Relax-H2, eqs. 10-16: a factor 1 + tanh on all three thirds, and no further perceptrons."""
    model = network(architecture)
    batch, layer = batch_for(model), model.layers[0]
    x, v = atoms_of(batch)
    h2 = architecture == 'e3relax-h2-published'
    edges = Edges.of(positions_of(batch), batch.cell, batch, 1e-9 if h2 else 0.0)
    found = layer.message_passing.radial(x, v, edges, model.radial_basis, layer.gate if h2 else None)
    rows = [(i, j, np.linalg.norm(d), -d / (np.linalg.norm(d) + (1e-9 if h2 else 0.0))) for i, j, d in edge_list(batch)]
    mean = [np.mean([u for i, _, _, u in rows if i == atom], axis=0) for atom in range(len(x))]
    dx, dv = np.zeros((len(x), F)), np.zeros((len(x), 3, F))
    for i, j, length, u in rows:
        filters = linear(layer.message_passing.edge_filter, radial(model.radial_basis, length))
        if h2:
            reference = mean[i] / np.sqrt(mean[i] @ mean[i] + 1e-9)
            cosine = (u / np.linalg.norm(u)) @ (reference / np.linalg.norm(reference))
            z = np.array([Legendre.basis(degree)(cosine) for degree in range(4)])
            norm = layer.gate.norm
            z = (z - z.mean()) / np.sqrt(z.var() + norm.eps) * norm.weight.detach().numpy() + norm.bias.detach().numpy()
            filters = filters * (1 + np.tanh(act(linear(layer.gate.linear, np.array([u @ reference, *z])))))
        message = mlp(layer.message_passing.source, x[j].numpy()) * filters / np.sqrt(3)
        to_vector, along, to_scalar = np.split(message, 3)
        dx[i] += to_scalar
        dv[i] += (to_vector * v[j].numpy() + np.outer(u, along)) / np.sqrt(F)
    same(found[0], (x.numpy() + dx) / np.sqrt(2), 1e-9)
    same(found[1], v.numpy() + dv, 1e-9)


def test_published_reference_is_the_x_axis_where_directions_cancel():
    """E3Relax-H2, eqs. 10 and 48, which leave this case open."""
    gate = network('e3relax-h2-published').layers[0].gate
    ends = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [0.6, 0.8, 0], [0, 0.8, 0.6]], dtype=torch.float64)
    edges = Edges(torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 0]), ends.norm(dim=1), ends)
    mean = np.array([0.3, 0.8, 0.3])
    same(gate.references(edges, 2), [[1, 0, 0], mean / np.sqrt(mean @ mean + 1e-9)])


def separations(model: RelaxationModel, layer: nn.Module, r: np.ndarray, axis: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the radial features and the direction between an atom at r and a lattice vector."""
    if not hasattr(layer, 'separation'):
        distance = np.linalg.norm(axis - r)  # E3Relax, eq. 15
        return radial(model.radial_basis, distance), (r - axis) / distance
    length = np.linalg.norm(axis) + 1e-9
    parallel, perpendicular = r @ axis / length, np.linalg.norm(np.cross(r, axis)) / length
    parts = [radial(model.radial_basis, part) for part in (parallel, perpendicular)]
    direction = (r - axis) / (np.linalg.norm(axis - r) + 1e-9)
    return mlp(layer.separation, np.concatenate(parts)), direction


@pytest.mark.parametrize('is_centred', [True, False])
@pytest.mark.parametrize('architecture', ['e3relax-published', 'e3relax-h2-published'])
def test_published_lattice_to_atoms(architecture, is_centred):
    """E3Relax, eqs. 15-18; E3Relax-H2, eqs. 19-24 and 52: axis after axis, each with its own weights."""
    model = network(architecture, centred_positions=is_centred)
    batch, layer = batch_for(model), model.layers[0]
    (x, v), axes, positions = atoms_of(batch), axes_of(batch), positions_of(batch)
    given = layer._separations(positions, batch.cell, batch, model.radial_basis)
    found = layer.axes.to_atoms(x, v, axes, *given, batch.structure_index)
    for i, s in enumerate(batch.structure_index.tolist()):
        mean = positions[batch.structure_index == s].mean(dim=0).numpy()
        r = positions[i].numpy() - (mean if is_centred else 0)
        scalar, vector = x[i].numpy(), v[i].numpy()
        for c, axis in enumerate(layer.axes):
            features, direction = separations(model, layer, r, batch.cell[s, c].numpy())
            message = mlp(axis.source, scalar) * linear(axis.separation_filter, features) / np.sqrt(3)
            keep, along, shift = np.split(message, 3)
            scalar = scalar + shift
            vector = (keep * vector + np.outer(direction, along)) / np.sqrt(F)
            scalar = scalar + mlp(axis.scalar_to_atoms, np.concatenate([scalar, axes.scalar[s, c].numpy()]))
            vector = vector + along_vectors(axis.vector_to_atoms, vector + axes.vector[s, c].numpy())
        same(found[0][i], scalar, 1e-9)
        same(found[1][i], vector, 1e-9)


@pytest.mark.parametrize('architecture', ['e3relax-published', 'e3relax-h2-published'])
def test_published_atoms_to_lattice(architecture):
    """E3Relax, eqs. 9-13; E3Relax-H2, eqs. 25-28 and 34, after which the code has E3Relax's eqs. 11-12."""
    model = network(architecture)
    batch, layer = batch_for(model), model.layers[0]
    (x, v), axes = atoms_of(batch), axes_of(batch)
    found = layer.axes.from_atoms(axes, x, v, batch)
    changes = layer.axes.changes(found)
    for s, c in itertools.product(range(len(batch.cell)), range(3)):
        own, axis = batch.structure_index == s, layer.axes[c]
        mean_x, mean_v = x[own].mean(dim=0).numpy(), v[own].mean(dim=0).numpy()
        scalar, vector = axes.scalar[s, c].numpy(), axes.vector[s, c].numpy()
        scalar = scalar + mlp(axis.scalar_from_atoms, np.concatenate([mean_x, scalar]))
        vector = vector + along_vectors(axis.vector_from_atoms, mean_v + vector)
        kept, _, rescale, shift, damp = self_interaction(axis.self_interaction, scalar, vector)
        scalar, vector = shift + scalar * np.tanh(damp), rescale * kept + vector
        same(found.scalar[s, c], scalar)
        same(found.vector[s, c], vector)
        same(changes[s, c], along_vectors(axis.change, vector)[:, 0])


def test_published_axes_are_mixed():
    """E3Relax-H2, eqs. 29-32; the scalars' map has a bias, which eq. 31 does not print."""
    model = network('e3relax-h2-published')
    axes, mixing = axes_of(batch_for(model)), model.layers[0].mixing
    found = mixing(axes)
    for s in range(len(axes.scalar)):
        for f in range(F):
            same(found.scalar[s, :, f], linear(mixing.scalar, axes.scalar[s, :, f].numpy()))
            for direction in range(3):
                same(found.vector[s, :, direction, f], linear(mixing.vector, axes.vector[s, :, direction, f].numpy()))
    assert mixing.vector.bias is None


@pytest.mark.parametrize('update', ['rows', 'published'])
@pytest.mark.parametrize('architecture', ['e3relax-published', 'e3relax-h2-published'])
def test_published_structure_update(architecture, update):
    """E3Relax, eqs. 5-8 and 14; E3Relax-H2, eqs. 33-36: the code adds the change of vector c to column c."""
    model = network(architecture, lattice_update=update)
    batch, layer = batch_for(model), model.layers[0]
    x, v = model.embedding(batch.numbers), torch.zeros(len(batch.numbers), 3, F, dtype=torch.float64)
    given = (model._axes(len(batch.cell)), positions_of(batch), batch.cell, batch, model.radial_basis)
    with torch.no_grad():
        x, v, _, displacement, changes = layer(x, v, *given)
    for i in range(len(x)):
        expected = along_vectors(layer.displacement, v[i].numpy())[:, 0]
        if architecture == 'e3relax-published':
            expected = (expected + v[i].numpy() @ softmax(mlp(layer.attention, x[i].numpy()))) / 2
        else:
            expected = float(layer.displacement_scale) * expected
        same(displacement[i], expected)
    geometry = model(batch)[0]
    cell = batch.cell.numpy().copy()
    for s, c, component in itertools.product(range(len(cell)), range(3), range(3)):
        place = (s, c, component) if update == 'rows' else (s, component, c)
        cell[place] += float(changes[s, c, component])
    same(geometry.cell, cell)
    same(geometry.positions(batch), (positions_of(batch) + displacement).numpy(), 1e-10)


def test_encoding_of_offsets():
    """DeepRelax, eqs. 2-3."""
    size = 6
    offsets = torch.tensor(list(itertools.product((-2, 0, 1, 2), repeat=3)))
    found = offset_encoding(offsets, size, torch.float64)
    for (k1, k2, k3), row in zip(offsets.tolist(), found, strict=True):
        number = (k1 + 2) + 5 * (k2 + 2) + 25 * (k3 + 2)
        same(row, [
            np.cos(number / 10000 ** ((f - 1) / size)) if f % 2 else np.sin(number / 10000 ** (f / size))
            for f in range(size)
        ])  # fmt: skip


def test_published_messages_and_distances_of_deeprelax():
    """DeepRelax, eqs. 4-5 and 8-10."""
    model = network('deeprelax-published', offset_features=4)
    batch, layer = batch_for(model), model.layers[0]
    prediction = model.distances(batch)
    x = [model.embedding.weight[z - 1].detach().numpy() for z in batch.numbers.tolist()]
    rows = edge_list(batch)
    offsets = offset_encoding(batch.graph.offset, 4, torch.float64).numpy()
    features = [
        np.concatenate([radial(model.radial_basis, np.linalg.norm(d)), k])
        for (*_, d), k in zip(rows, offsets, strict=True)
    ]
    dx, dv = np.zeros((len(x), F)), np.zeros((len(x), 3, F))
    for (i, j, d), feature in zip(rows, features, strict=True):
        message = mlp(layer.message_passing.source, x[j]) * linear(layer.message_passing.edge_filter, feature)
        _, along, to_scalar = np.split(message / np.sqrt(3), 3)
        dx[i] += to_scalar
        dv[i] += np.outer(-d / np.linalg.norm(d), along) / np.sqrt(F)
    atoms = []
    for i in range(len(x)):
        scalar = (x[i] + dx[i]) / np.sqrt(2)
        kept, measured, shift, weight, _ = self_interaction(layer.self_interaction, scalar, dv[i])
        atoms.append(scalar + (shift + weight * (kept * measured).sum(axis=0) / np.sqrt(F)) / np.sqrt(2))
    within = [index for index, k in enumerate(batch.graph.offset.tolist()) if k == [0, 0, 0]]
    kinds = [(model.displacement_head, index) for index in within]
    kinds += [(model.relaxed_head, index) for index in range(len(rows))]
    expected = []
    for head, index in kinds:
        i, j, _ = rows[index]
        ends = [mlp(head.branch, atoms[i]), mlp(head.branch, atoms[j]), mlp(head.edge, features[index])]
        expected.append(mlp(head.output, np.concatenate(ends)))
    same(prediction.distance, [max(distance, 0) for distance, _ in expected])
    same(prediction.log_scale, [scale for _, scale in expected])
    head = model.cell_head
    for s in range(len(batch.cell)):
        own = [i for i, crystal in enumerate(batch.structure_index.tolist()) if crystal == s]
        pooled = np.sum([mlp(head.branch, atoms[i]) for i in own], axis=0)
        cell = batch.cell[s].numpy()
        joined = np.concatenate([pooled, mlp(head.cell, cell.flatten())])
        same(prediction.cell[s], cell + mlp(head.output, joined).reshape(3, 3))


def test_symmetric_distances_of_deeprelax():
    """In the place of DeepRelax, eqs. 8-10: changes of the lengths in the predicted cell."""
    model = network('deeprelax')
    batch = batch_for(model)
    edges = symmetric_edges(model, batch)
    x, v = atoms_of(batch)
    head = model.relaxed_head
    change, log_scale = head(x, v, edges)
    channels = head.channels
    for index, (i, j, d) in enumerate(edge_list(batch)):
        length = np.linalg.norm(d)
        ends = linear(head.ends, x[i].numpy())[:F] + linear(head.ends, x[j].numpy())[F:]
        of_centre = along_vectors(head.vectors, v[i].numpy())[:, :channels]
        of_neighbour = along_vectors(head.vectors, v[j].numpy())[:, channels:]
        along = linear(head.along, (-d / length) @ (of_centre + of_neighbour))
        given = ends + linear(head.length, radial(model.radial_basis, length)) + along
        expected, scale = mlp(head.output, given)
        same(change[index], expected / np.sqrt(1 + expected**2 / 9))
        same(log_scale[index], scale)
    prediction = model.distances(batch)
    carried = batch.edge_vectors(batch.fractional, prediction.cell).norm(dim=1)
    assert (prediction.distance - carried.repeat(2)).abs().max() < 3
    strain = np.linalg.solve(batch.cell.numpy(), prediction.cell.detach().numpy())
    np.testing.assert_allclose(strain, strain.swapaxes(1, 2), atol=TOLERANCE)


def test_loss_of_distances_is_laplace_s_likelihood():
    """DeepRelax, eqs. 11-15."""
    model = network('deeprelax-published', offset_features=4)
    batch = batch_for(model)
    target = Target.of(Geometry(batch.fractional + 0.02, batch.cell * 1.01))
    prediction: DistancePrediction = model.distances(batch)
    scale = prediction.log_scale.clamp(-3, 3).exp()
    likelihood = torch.distributions.Laplace(prediction.distance, scale)
    unlikeliness = -likelihood.log_prob(model.true_distances(target, prediction, batch))
    kind = prediction.kind(batch)
    losses, _ = model.loss(batch, target, LossSettings())
    for s in range(len(batch.cell)):
        expected = sum(unlikeliness[kind == 2 * s + k].mean() for k in (0, 1))
        expected = expected + (prediction.cell[s] - target.cell[s]).abs().mean()
        same(losses[s], expected.detach())


def test_measures():
    """E3Relax, eqs. 20-22; E3Relax-H2, eqs. 58-60; DeepRelax, eqs. 25 and 28."""
    rng = np.random.default_rng(2)
    frames = rattled()[:2]
    cells = [atoms.cell.array @ (np.eye(3) + 0.05 * rng.normal(size=(3, 3))) for atoms in frames]
    moved = [atoms.positions + 0.1 * rng.normal(size=atoms.positions.shape) for atoms in frames]
    relaxed = batch_of(*frames)
    across = [positions + cell[1] for positions, cell in zip(moved, [a.cell.array for a in frames], strict=True)]
    predicted = make_crystals([a.numbers for a in frames], across, cells)
    coordinates, shape, volume = (
        measure(predicted, relaxed)
        for measure in (metrics.coordinate_mae, metrics.cell_shape_deviation, metrics.volume_error)
    )
    for s, atoms in enumerate(frames):
        error = sum(abs(a - b) for a, b in zip(moved[s].flatten(), atoms.positions.flatten(), strict=True))
        assert coordinates[s] == pytest.approx(error / (3 * len(atoms)), abs=1e-10)
        metric, true_metric = cells[s] @ cells[s].T, atoms.cell.array @ atoms.cell.array.T
        total = sum((metric[i, j] - true_metric[i, j]) ** 2 for i, j in itertools.product(range(3), repeat=2))
        assert shape[s] == pytest.approx(np.sqrt(total), abs=1e-10)
        volumes = [abs(np.dot(a, np.cross(b, c))) for a, b, c in (cells[s], atoms.cell.array)]
        assert volume[s] == pytest.approx(abs(volumes[0] - volumes[1]), abs=1e-10)


def test_harmonics_turn_by_wigner_matrices_and_their_contraction_does_not():
    """E3Relax-H2, eqs. 6-8, 11-12 and 49-51; the Clebsch-Gordan product with a result of degree 0 is the invariant."""
    torch.manual_seed(0)
    turn = o3.rand_matrix(dtype=torch.float64)
    u, n = (vectors / vectors.norm(dim=1, keepdim=True) for vectors in (drawn(5, 3, seed=7), drawn(5, 3, seed=8)))
    for degree in range(4):
        irrep = o3.Irrep(degree, (-1) ** degree)
        of_u, of_n, turned_u, turned_n = (
            o3.spherical_harmonics(degree, vectors, normalize=True, normalization='integral')
            for vectors in (u, n, u @ turn.T, n @ turn.T)
        )
        assert of_u.shape == (5, 2 * degree + 1)
        same(turned_u, of_u @ irrep.D_from_matrix(turn).T, 1e-6)
        invariant = (of_u * of_n).sum(dim=1)
        same((turned_u * turned_n).sum(dim=1), invariant, 1e-6)
        legendre = Legendre.basis(degree)((u * n).sum(dim=1).numpy())
        same(invariant, (2 * degree + 1) / (4 * np.pi) * legendre, 1e-6)
        product = torch.einsum('ijk,ai,aj->ak', o3.wigner_3j(degree, degree, 0, dtype=torch.float64), of_u, of_n)
        same(product[:, 0] * (2 * degree + 1) ** 0.5, invariant, 1e-6)


def test_a_layer_follows_rigid_motions():
    """E3Relax-H2, eqs. 1-4, 9, 19, 41-47 and 52-57: scalars stay, vectors turn, the origin does not matter."""
    model = network('e3relax-h2-published')
    batch, layer = batch_for(model), model.layers[0]
    (x, v), axes, positions = atoms_of(batch), axes_of(batch), positions_of(batch)
    torch.manual_seed(1)
    turn, shift = o3.rand_matrix(dtype=torch.float64), drawn(3, seed=9)

    def turned(vectors: torch.Tensor) -> torch.Tensor:
        """Turn ``(..., 3, F)``."""
        return torch.einsum('xy,...yf->...xf', turn, vectors)

    same(centred(positions @ turn.T + shift, batch), (centred(positions, batch) @ turn.T).numpy())
    cell = batch.cell @ turn.T
    seen = layer._separations(positions, batch.cell, batch, model.radial_basis)
    seen_turned = layer._separations(positions @ turn.T + shift, cell, batch, model.radial_basis)
    same(seen_turned[0], seen[0].detach())
    same(seen_turned[1], (seen[1] @ turn.T).numpy())
    given = layer(x, v, axes, positions, batch.cell, batch, model.radial_basis)
    moved_axes = dataclasses.replace(axes, vector=turned(axes.vector))
    moved = layer(x, turned(v), moved_axes, positions @ turn.T + shift, cell, batch, model.radial_basis)
    same(moved[0], given[0].detach(), 1e-10)
    same(moved[1], turned(given[1]).detach(), 1e-10)
    same(moved[2].scalar, given[2].scalar.detach(), 1e-10)
    same(moved[2].vector, turned(given[2].vector).detach(), 1e-10)
    same(moved[3], (given[3] @ turn.T).detach(), 1e-10)
    same(moved[4], (given[4] @ turn.T).detach(), 1e-10)
