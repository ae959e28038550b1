"""The papers' baselines against their equations, written out edge by edge.

Where e3nn gives the networks spherical harmonics, there are Legendre polynomials here, by the addition theorem: a
steerable feature is a sum of coefficients times the harmonics of directions, and only scalar products of two are ever
needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.special import eval_legendre
from torch import Tensor

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry, make_batch
from aiida_e3relax.gnn.layers import displaced, inverse
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.gotennet import NO_NEIGHBOUR
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.training.settings import read_settings
from tests.gnn.crystals import batch_of, rattled
from tests.gnn.networks import random_network

Steerable = list[tuple[Tensor, Tensor]]
"""Coefficients ``(F,)`` and the unit vectors ``(3,)`` whose harmonics of one degree they multiply."""


def product(left: Steerable, right: Steerable, degree: int) -> Tensor:
    """Return the scalar products ``(F,)`` over the components, of harmonics that have the norm 1."""
    coefficients, directions = zip(*left, strict=True)
    others, towards = zip(*right, strict=True)
    legendre = torch.tensor(eval_legendre(degree, (torch.stack(directions) @ torch.stack(towards).T).numpy()))
    return torch.einsum('pf,pq,qf->f', torch.stack(coefficients), legendre, torch.stack(others))


def times(factor: Tensor, feature: Steerable) -> Steerable:
    return [(factor * coefficient, direction) for coefficient, direction in feature]


def mapped(linear: Callable[[Tensor], Tensor], feature: Steerable) -> Steerable:
    return [(linear(coefficient), direction) for coefficient, direction in feature]


def edges_of(batch: CrystalBatch, fractional: Tensor) -> list[list[tuple[int, Tensor]]]:
    """Return, for every atom, its neighbours and the vectors from them to it, in A."""
    vectors, graph = -batch.edge_vectors(fractional, batch.cell), batch.graph
    return [
        [(int(graph.neighbour[e]), vectors[e]) for e in torch.nonzero(graph.centre == i)[:, 0]]
        for i in range(len(batch.numbers))
    ]


def hegnn(model: RelaxationModel, batch: CrystalBatch) -> Tensor:
    """Return the relaxed fractional coordinates."""
    cutoff, degrees = model.cutoff, range(model.hyperparameters.l_max + 1)
    x, fractional = list(model.embedding(batch.numbers)), batch.fractional

    def near(vector: Tensor) -> Tensor:
        return (1 - vector.square().sum() / cutoff**2) ** 2

    def ends(i: int, j: int, vector: Tensor) -> list[Tensor]:
        return [x[i], x[j], vector.square().sum()[None] / cutoff**2]

    steerable: list[list[Steerable]] = []
    for i, edges in enumerate(edges_of(batch, fractional)):
        total = sum(near(vector) for _, vector in edges) + 1e-3
        weights = [model.start.weight(torch.cat(ends(i, j, vector))) * near(vector) / total for j, vector in edges]
        unit = [vector / vector.norm() for _, vector in edges]
        steerable.append([[(w[degree][None], u) for w, u in zip(weights, unit, strict=True)] for degree in degrees])
    for layer in model.layers:
        new_x, new_steerable, displacements = [], [], []
        for i, edges in enumerate(edges_of(batch, fractional)):
            total = sum(near(vector) for _, vector in edges) + 1e-3
            received, step, feature = 0.0, 0.0, [list(own) for own in steerable[i]]
            for j, vector in edges:
                inner = torch.cat([product(steerable[i][degree], steerable[j][degree], degree) for degree in degrees])
                message = layer.message(torch.cat([*ends(i, j, vector), inner]))
                share = near(vector) / total
                received = received + share * message
                step = step + share * layer.step(message) * vector
                weight = layer.weight(message)
                for degree in degrees:
                    feature[degree] += times(share * weight[degree], steerable[i][degree])
                    feature[degree] += times(-share * weight[degree], steerable[j][degree])
            new_x.append(x[i] + layer.node(torch.cat([x[i], received])))
            new_steerable.append(feature)
            displacements.append(step)
        x, steerable = new_x, new_steerable
        fractional = displaced(fractional, torch.stack(displacements), batch.cell, batch)
    return fractional


def gotennet(model: RelaxationModel, batch: CrystalBatch) -> Tensor:
    """Return the relaxed fractional coordinates."""
    p, basis = model.hyperparameters, model.radial_basis
    degrees, heads = range(1, p.l_max + 1), p.heads
    edges = edges_of(batch, batch.fractional)
    atoms = range(len(edges))
    length = [[vector.norm() for _, vector in own] for own in edges]
    unit = [[vector / vector.norm() for _, vector in own] for own in edges]
    radial = [[basis(d[None])[0] for d in own] for own in length]
    near = [[basis.envelope(d[None])[0] for d in own] for own in length]
    neighbours = model.start.neighbours(batch.numbers)
    first = model.embedding(batch.numbers)
    x = []
    for i in atoms:
        filtered = [model.start.radial_filter(r) * f for r, f in zip(radial[i], near[i], strict=True)]
        received = sum(neighbours[j] * f for (j, _), f in zip(edges[i], filtered, strict=True))
        x.append(model.start.mix(torch.cat([first[i], received])))
    bond = [[(x[i] + x[j]) * model.start.bond_filter(radial[i][e]) for e, (j, _) in enumerate(edges[i])] for i in atoms]
    steerable: list[list[Steerable]] = [
        [[(torch.zeros(p.features).double(), torch.eye(3)[0].double())] for _ in degrees] for _ in atoms
    ]
    for layer in model.layers:
        attention = layer.attention
        new_x, new = [], []
        for i in atoms:
            scores = [
                (attention.query(x[i]) * attention.key(x[j]) * attention.bond_key(bond[i][e])).view(heads, -1).sum(1)
                for e, (j, _) in enumerate(edges[i])
            ]
            total = NO_NEIGHBOUR + sum(f * score.exp() for f, score in zip(near[i], scores, strict=True))
            scalar, feature = x[i], [list(own) for own in steerable[i]]
            for e, (j, _) in enumerate(edges[i]):
                share = (near[i][e] * scores[e].exp() / total / math.sqrt(p.features)).repeat_interleave(
                    p.features // heads
                )
                by_distance = attention.source(x[j]) * attention.bond_filter(bond[i][e]) * near[i][e]
                message = by_distance + share.repeat(1 + 2 * len(degrees)) * attention.value(x[j])
                parts = message.split(p.features)
                scalar = scalar + parts[0]
                for degree in degrees:
                    feature[degree - 1].append((parts[degree], unit[i][e]))
                    feature[degree - 1] += times(parts[len(degrees) + degree], steerable[j][degree - 1])
            new_x.append(scalar)
            new.append(feature)
        x, steerable = new_x, new
        if layer.refinement is not None:
            for i in atoms:
                for e, (j, _) in enumerate(edges[i]):
                    along, weight = [(torch.ones(p.features).double(), unit[i][e])], 0.0
                    for degree in degrees:
                        query = mapped(layer.refinement.query, steerable[i][degree - 1])
                        key = mapped(layer.refinement.keys[degree - 1], steerable[j][degree - 1])
                        across = product(query, along, degree) * product(key, along, degree)
                        weight = weight + product(query, key, degree) - across
                    bond[i][e] = bond[i][e] + layer.refinement.bond(bond[i][e]) * weight
        new_x, new = [], []
        for i in atoms:
            mixed = [mapped(layer.feed_forward.steerable_mix, feature) for feature in steerable[i]]
            squared = sum(product(mixed[degree - 1], mixed[degree - 1], degree) for degree in degrees)
            shift, rescale = layer.feed_forward.scalar_mix(torch.cat([x[i], torch.sqrt(squared + 1e-8)])).chunk(2)
            new_x.append(x[i] + shift)
            new.append([own + times(rescale, more) for own, more in zip(steerable[i], mixed, strict=True)])
        x, steerable = new_x, new
    vectors = torch.stack([sum(c * u[:, None] for c, u in feature[0]) for feature in steerable])
    return displaced(batch.fractional, model.gates(torch.stack(x), vectors), batch.cell, batch)


def egnn_published(model: RelaxationModel, batch: CrystalBatch) -> Tensor:
    """Return the relaxed positions in A."""
    x, positions, graph = list(model.embedding(batch.numbers)), batch.fractional @ batch.cell[0], batch.graph
    shift = graph.offset.double() @ batch.cell[0]
    for layer in model.layers:
        new_x, new_positions = [], []
        for i in range(len(x)):
            received, steps = 0.0, []
            for e in torch.nonzero(graph.centre == i)[:, 0]:
                j = int(graph.neighbour[e])
                difference = positions[i] - (positions[j] + shift[e])
                message = layer.message(torch.cat([x[i], x[j], difference.square().sum()[None]]))
                received = received + message
                steps.append(difference * layer.weight(message))
            new_x.append(x[i] + layer.node(torch.cat([x[i], received])))
            new_positions.append(positions[i] + sum(steps) / len(steps))
        x, positions = new_x, torch.stack(new_positions)
    return positions


def painn_published(model: RelaxationModel, batch: CrystalBatch) -> Tensor:
    """Return the relaxed positions in A."""
    x, f = model.embedding(batch.numbers), model.hyperparameters.features
    v, graph = torch.zeros(len(x), 3, f).double(), batch.graph
    vectors = batch.edge_vectors(batch.fractional, batch.cell)
    for layer in model.layers:
        dx, dv = torch.zeros_like(x), torch.zeros_like(v)
        for i, j, vector in zip(graph.centre, graph.neighbour, vectors, strict=True):
            filters = layer.edge_filter(model.radial_basis(vector.norm()[None])[0])
            scalar, keep, along = (layer.source(layer.normalisation(x[j])) * filters).split(f)
            dx[i] += scalar
            dv[i] += (keep * v[j] / math.sqrt(3) - along * (vector / vector.norm())[:, None]) / math.sqrt(f)
        x, v = (x + dx) / math.sqrt(2), v + dv
        left, right = layer.self_interaction.vector_mix(v).split(f, dim=2)
        length = torch.sqrt(right.square().sum(1) + 1e-8)
        shift, weight, rescale = layer.self_interaction.scalar_mix(torch.cat([x, length], dim=1)).split(f, dim=1)
        x = x + (shift + weight * (left * right).sum(1) / math.sqrt(f)) / math.sqrt(2)
        v = v + rescale[:, None] * left
    return batch.fractional @ batch.cell[0] + model.gates(x, v)


SIZES = {'features': 8, 'layers': 2, 'max_neighbours': 6}


def tiny(architecture: str) -> tuple[RelaxationModel, CrystalBatch]:
    """Return a network, and a crystal of four atoms without symmetry."""
    model = random_network(architecture, **SIZES)
    return model, make_batch(batch_of(rattled()[1]), model.graph, dtype=torch.float64)


@pytest.mark.parametrize('literal', [hegnn, gotennet])
@torch.no_grad()
def test_atoms_move_as_the_equations_say(literal):
    model, batch = tiny(literal.__name__)
    found = model(batch)[-1].fractional
    assert (found - batch.fractional).abs().max() > 1e-3
    torch.testing.assert_close(found, literal(model, batch), rtol=0, atol=1e-12)


@pytest.mark.parametrize('literal', [painn_published, egnn_published])
@torch.no_grad()
def test_published_forms_move_atoms_in_cartesian_coordinates(literal):
    model, batch = tiny(literal.__name__.replace('_', '-'))
    after = model(batch)[-1]
    positions, before = after.positions(batch), Geometry(batch.fractional, batch.cell).positions(batch)
    assert (positions - before).abs().max() > 1e-3
    torch.testing.assert_close(positions, literal(model, batch), rtol=0, atol=1e-12)
    assert (after.cell - batch.cell).abs().max() > 1e-2
    torch.testing.assert_close(after.fractional, positions @ inverse(after.cell)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('l_max', [1, 3])
def test_degrees_are_a_size(l_max):
    for architecture in ('hegnn', 'gotennet'):
        model = random_network(architecture, **SIZES | {'l_max': l_max})
        batch = make_batch(batch_of(*rattled()), model.graph, dtype=torch.float64)
        turn = torch.tensor(np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0])
        turned = CrystalBatch(**vars(batch) | {'cell': batch.cell @ turn})
        with torch.no_grad():
            torch.testing.assert_close(model(turned)[-1].fractional, model(batch)[-1].fractional, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ('architecture', 'smooth'),
    [('painn', True), ('egnn', True), ('hegnn', True), ('gotennet', True)]
    + [('painn-published', False), ('egnn-published', False)],
)
@torch.no_grad()
def test_a_bond_ends_smoothly_at_the_cutoff(architecture, smooth):
    """Two atoms of a chain apart from others, whose distances cross the cutoff one after the other."""
    model = random_network(architecture, **SIZES | {'max_neighbours': 50})
    predicted = []
    for distance in (model.cutoff - 1e-4, model.cutoff + 1e-4):
        chain = Atoms('COMg', positions=[(0, 0, 0), (1.2, 0.4, 0), (0, 0, distance)], cell=[14, 14, 14], pbc=True)
        batch = make_batch(batch_of(chain), model.graph, dtype=torch.float64)
        predicted.append(model(batch)[-1].positions(batch) - Geometry(batch.fractional, batch.cell).positions(batch))
    jump = (predicted[1] - predicted[0])[:2].abs().max()
    assert jump < 1e-6 if smooth else jump > 1e-4


@pytest.mark.parametrize('architecture', ['hegnn', 'gotennet'])
def test_displacements_need_the_first_degree(architecture):
    with pytest.raises(InputError, match='l_max: expected a number from 1 to 10, found 0'):
        read_settings({'architecture': architecture, 'hyperparameters': {'l_max': 0}}, 'run.yaml')


def test_gotennet_takes_features_that_its_heads_can_share():
    with pytest.raises(InputError, match='features: expected a multiple of the 8 heads, found 20'):
        read_settings({'architecture': 'gotennet', 'hyperparameters': {'features': 20}}, 'run.yaml')
    assert make_model('gotennet', {'features': 20, 'heads': 5, 'layers': 1}).hyperparameters.heads == 5
