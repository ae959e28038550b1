"""The switches of the papers' ablations: each is the network with the term that it names at zero, on every engine."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from e3nn import o3
from torch import nn

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from aiida_e3relax.gnn.checkpoints.import_published import import_published
from aiida_e3relax.gnn.engine.accelerate import accelerate
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry, make_batch
from aiida_e3relax.gnn.graph.shells import Graph
from aiida_e3relax.gnn.layers import MAX_DEGREE
from aiida_e3relax.gnn.models.base import RelaxationModel, Transformation
from aiida_e3relax.gnn.models.equivariance import deviations
from aiida_e3relax.gnn.models.losses import LossSettings, Target
from aiida_e3relax.gnn.models.published.edges import Edges
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.training.settings import read_settings
from tests.gnn.crystals import PROTOTYPES, batch_of, rattled
from tests.gnn.networks import random_network

CRYSTALS = batch_of(*rattled())
REFINED = ('e3relax-h2', 'e3relax', 'e3relax-h2-published', 'e3relax-published')
SYMMETRIC = ('e3relax-h2', 'e3relax', 'deeprelax')
PUBLISHED = ('e3relax-h2-published', 'e3relax-published')

SWITCHES = [
    *((name, {'lattice_nodes': False}) for name in REFINED),
    *((name, {'self_images': False, 'refinement': False}) for name in REFINED),
    *((name, {'l_max': l_max}) for name in ('e3relax-h2', 'e3relax-h2-published') for l_max in (0, 1, MAX_DEGREE)),
    ('e3relax-h2-published', {'centred_positions': False, 'cutoff': 3.5, 'max_neighbours': 6}),
    ('e3relax-published', {'centred_positions': True}),
    ('deeprelax', {'self_images': False, 'cutoff': 3.5, 'max_neighbours': 6}),
    ('deeprelax', {'vectors_along_edges': False}),
    ('deeprelax', {'local_uncertainty': False}),
    ('deeprelax', {'vectors_along_edges': False, 'local_uncertainty': False}),
    ('deeprelax-published', {'offset_encoding': False}),
    ('deeprelax-published', {'local_uncertainty': False}),
    ('deeprelax-published', {'offset_encoding': False, 'local_uncertainty': False}),
]


def name_of(value: object) -> str:
    return ','.join(f'{k}={v}' for k, v in value.items()) if isinstance(value, dict) else str(value)


def batch_for(model: RelaxationModel) -> CrystalBatch:
    return make_batch(CRYSTALS, model.graph, dtype=torch.float64)


@torch.no_grad()
def predicted(model: RelaxationModel, batch: CrystalBatch | None = None) -> list[Geometry]:
    return model(batch_for(model) if batch is None else batch)


def pair(architecture: str, **switches: object) -> tuple[RelaxationModel, RelaxationModel]:
    """Return a network and the same, as far as the weights have the same names, with `switches`."""
    whole, reduced = random_network(architecture), random_network(architecture, **switches)
    own, given = reduced.state_dict(), whole.state_dict()
    reduced.load_state_dict({k: given[k] if k in given and given[k].shape == own[k].shape else own[k] for k in own})
    return whole, reduced


@torch.no_grad()
def zero(*modules: nn.Module) -> None:
    for module in modules:
        for parameter in module.parameters():
            parameter.zero_()


def assert_same(found: list[Geometry], expected: list[Geometry], tolerance: float = 1e-12) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cell, other.cell, rtol=0, atol=tolerance)
        torch.testing.assert_close(one.fractional, other.fractional, rtol=0, atol=tolerance)


def differ(model: RelaxationModel, other: RelaxationModel) -> bool:
    one, two = predicted(model)[-1], predicted(other)[-1]
    return bool(max((one.fractional - two.fractional).abs().max(), (one.cell - two.cell).abs().max()) > 1e-5)


@pytest.mark.parametrize(('architecture', 'switches'), SWITCHES, ids=name_of)
def test_fast_engine_and_file_know_the_switch(architecture, switches, tmp_path):
    model = random_network(architecture, **switches)
    assert differ(model, random_network(architecture))
    batch = batch_for(model)
    fast = accelerate(copy.deepcopy(model))
    for found, expected in zip(predicted(fast, batch), predicted(model, batch), strict=True):
        torch.testing.assert_close(found.cell, expected.cell, rtol=0, atol=1e-6)
        torch.testing.assert_close(found.positions(batch), expected.positions(batch), rtol=0, atol=1e-6)
    if architecture in ('e3relax-h2', 'e3relax'):  # whose fast layers have gradients of their own
        gradients = []
        for one in (model, fast):
            one.zero_grad()
            last = one(batch)[-1]
            (last.fractional.square().sum() + last.cell.square().sum()).backward()
            gradients.append(torch.cat([p.grad.flatten() for p in one.parameters() if p.grad is not None]))
        assert (gradients[1] - gradients[0]).norm() < 1e-6 * gradients[0].norm()
    check_file(architecture, model, tmp_path)


def check_file(architecture: str, model: RelaxationModel, folder: Path) -> None:
    single = copy.deepcopy(model).float()
    save_checkpoint(folder / 'model.pt', architecture, single, [8], {})
    loaded = load_checkpoint(folder / 'model.pt').model
    assert loaded.hyperparameters == model.hyperparameters
    assert loaded.breaks == model.breaks
    for name, value in single.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


@pytest.mark.parametrize(
    ('architecture', 'switches'),
    [
        ('e3relax-h2', {'lattice_nodes': False, 'strain_channels': 1000}),
        ('deeprelax-published', {'offset_encoding': False, 'offset_features': 1000}),
    ],
)
def test_file_takes_the_size_of_what_is_left_out(architecture, switches, tmp_path):
    """No weights tell it."""
    check_file(architecture, random_network(architecture, **switches), tmp_path)


@pytest.mark.parametrize('architecture', REFINED)
def test_no_lattice_nodes_is_an_exchange_of_nothing(architecture):
    """Silent nodes that change no lattice vector, and a head that adds nothing to the cell, are no nodes."""
    whole, reduced = pair(architecture, lattice_nodes=False)
    zero(reduced.cell_head.output[-1])
    for layer in whole.layers:
        if architecture in PUBLISHED:
            for axis in layer.axes:
                pass_vectors_on(axis)
                zero(axis.scalar_to_atoms[-2], axis.vector_to_atoms, axis.change)
        else:
            lattice = layer.atoms_to_lattice
            zero(layer.lattice_to_atoms.mix[-1], lattice.dilation[-1], lattice.distortion)
    assert_same(predicted(reduced), predicted(whole))
    assert torch.equal(predicted(reduced)[-1].cell, batch_for(reduced).cell)


@torch.no_grad()
def pass_vectors_on(axis: nn.Module) -> None:
    """Make the published broadcast, which mixes and rescales vectors, add nothing to scalars and leave vectors."""
    zero(axis.separation_filter, axis.source[-1])
    f = axis.features
    axis.source[-1].bias[:f] = (3 * f) ** 0.5
    axis.separation_filter.bias[:f] = 1.0


@pytest.mark.parametrize('architecture', REFINED)
def test_no_lattice_nodes_predicts_the_cell_once_from_the_last_scalars(architecture):
    model = random_network(architecture, lattice_nodes=False)
    geometries = predicted(model)
    assert len(geometries) == model.hyperparameters.layers
    assert all(torch.equal(geometry.cell, geometries[-1].cell) for geometry in geometries)
    assert (geometries[0].fractional - geometries[-1].fractional).abs().max() > 1e-5
    assert (geometries[-1].cell - batch_for(model).cell).abs().max() > 1e-3
    assert not any('lattice' in name or 'axis' in name or 'axes' in name for name in model.state_dict())


@pytest.mark.parametrize('architecture', REFINED)
def test_no_refinement_is_the_last_layers_step_alone(architecture, monkeypatch):
    """All layers but the last have no displacement and no strain."""
    whole, reduced = pair(architecture, refinement=False)
    for layer in list(whole.layers)[:-1]:
        if architecture in PUBLISHED:
            zero(*(axis.change for axis in layer.axes))
            zero(layer.displacement)
        else:
            zero(layer.atoms_to_lattice.dilation[-1], layer.atoms_to_lattice.distortion)
            monkeypatch.setattr(layer, 'displacements', lambda x, v: v.new_zeros(len(v), 3))
        if architecture == 'e3relax-published':  # half of its displacement is an average that no weight takes away
            forward = layer.forward

            def still(*given, forward=forward):
                x, v, axes, displacement, changes = forward(*given)
                return x, v, axes, torch.zeros_like(displacement), changes

            monkeypatch.setattr(layer, 'forward', still)
    assert_same(predicted(reduced), predicted(whole)[-1:])
    assert type(reduced).supervised_layers(reduced.hyperparameters) == 1
    assert type(whole).supervised_layers(whole.hyperparameters) == whole.hyperparameters.layers


def edges_of(graph: Graph) -> set[tuple[int, ...]]:
    rows = torch.cat([graph.centre[:, None], graph.neighbour[:, None], graph.offset], dim=1)
    found = set(map(tuple, rows.tolist()))
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize('architecture', [*SYMMETRIC, *PUBLISHED])
def test_no_self_images_leaves_all_other_edges(architecture):
    whole, reduced = pair(architecture, self_images=False)
    own, all_edges = batch_for(reduced), batch_for(whole)
    images = {edge for edge in edges_of(all_edges.graph) if edge[0] == edge[1]}
    assert images
    assert edges_of(own.graph) == edges_of(all_edges.graph) - images
    assert_same(predicted(whole, own), predicted(reduced))


def lengths(batch: CrystalBatch) -> torch.Tensor:
    return batch.edge_vectors(batch.fractional, batch.cell).norm(dim=1)


@pytest.mark.parametrize('architecture', [*SYMMETRIC, *PUBLISHED])
def test_cutoff_and_neighbour_cap_shorten_the_graph(architecture):
    def batch(**sizes: object) -> CrystalBatch:
        return batch_for(random_network(architecture, **sizes))

    uncapped = batch(max_neighbours=10_000, cutoff=6.0, self_images=False)
    shorter = batch(max_neighbours=10_000, cutoff=4.0, self_images=False)
    near = lengths(uncapped) < 4.0
    assert 0 < near.sum() < len(near)
    assert edges_of(shorter.graph) == edges_of(uncapped.graph.select(near))
    capped = batch(max_neighbours=5, cutoff=6.0, self_images=False)
    left = edges_of(capped.graph)
    assert left < edges_of(uncapped.graph)
    for atom in range(len(uncapped.numbers)):
        of_atom = uncapped.graph.centre == atom
        order = lengths(uncapped)[of_atom].argsort()
        nearest = uncapped.graph.select(of_atom.nonzero()[:, 0][order])
        kept = [edge for edge in left if edge[0] == atom]
        # The published search counts the atom itself, and both count the images that are left out here.
        assert len(kept) <= 5
        assert set(kept) == edges_of(nearest.select(torch.arange(len(kept))))


@pytest.mark.parametrize('architecture', ['e3relax-h2', 'e3relax-h2-published'])
def test_l_max_0_is_a_gate_of_ones(architecture):
    whole, reduced = pair(architecture, l_max=0)
    for layer in whole.layers:
        zero(layer.gate.linear if architecture in PUBLISHED else layer.message_passing.angular_gate)
    assert_same(predicted(reduced), predicted(whole))
    assert not any('gate' in name for name in reduced.state_dict())


@pytest.mark.parametrize('l_max', [1, 2])
def test_lower_l_max_is_the_higher_degrees_at_zero(l_max):
    whole, reduced = pair('e3relax-h2', l_max=l_max)
    with torch.no_grad():
        for one, other in zip(whole.layers, reduced.layers, strict=True):
            gate, lower = one.message_passing.angular_gate, other.message_passing.angular_gate
            gate.weight[:, l_max + 1 :] = 0
            lower.weight.copy_(gate.weight[:, : l_max + 1])
    assert_same(predicted(reduced), predicted(whole))


@pytest.mark.parametrize('l_max', [1, 2, 3, 6])
def test_published_gate_of_any_degree_is_that_of_spherical_harmonics(l_max):
    """By e3nn: averages over m of component-normalised harmonics, a layer normalisation, and the cosine beside them."""
    model = random_network('e3relax-h2-published', l_max=l_max)
    batch, gate = batch_for(model), model.layers[0].gate
    edges = Edges.of(Geometry(batch.fractional, batch.cell).positions(batch), batch.cell, batch, 1e-9)
    with torch.no_grad():
        found = gate(edges, len(batch.numbers))
        reference = gate.references(edges, len(batch.numbers))[edges.centre]
        invariants = []
        for degree in range(l_max + 1):
            of_edge, of_reference = (
                o3.spherical_harmonics(degree, vectors, normalize=True, normalization='component')
                for vectors in (edges.direction, reference)
            )
            invariants.append((of_edge * of_reference).mean(dim=1))
        cosine = (edges.direction * reference).sum(dim=1, keepdim=True)
        arguments = gate.linear(torch.cat([cosine, gate.norm(torch.stack(invariants, dim=1))], dim=1))
        expected = 1 + torch.tanh(nn.functional.silu(arguments) / 0.6)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize('architecture', PUBLISHED)
def test_centred_positions_are_raw_ones_of_a_crystal_around_the_origin(architecture):
    centred = random_network(architecture, centred_positions=True)
    raw = random_network(architecture, centred_positions=False)
    batch = batch_for(raw)
    mean = batch.mean_over_atoms(batch.fractional)[batch.structure_index]
    around = CrystalBatch(**{**vars(batch), 'fractional': batch.fractional - mean})
    first = [predicted(model, around)[0] for model in (centred, raw)]  # later, atoms may have drifted
    assert_same(first[:1], first[1:])
    shifted = predicted(centred, batch)
    for geometry, other in zip(shifted, predicted(centred, around), strict=True):
        torch.testing.assert_close(geometry.cell, other.cell, rtol=0, atol=1e-12)
    assert (predicted(raw, batch)[-1].cell - predicted(raw, around)[-1].cell).abs().max() > 1e-6


@pytest.mark.parametrize(
    ('architecture', 'switches'),
    [
        ('e3relax-h2', {'lattice_nodes': False}),
        ('e3relax-h2', {'self_images': False}),
        ('e3relax-h2', {'refinement': False, 'l_max': 0}),
        ('deeprelax', {'vectors_along_edges': False, 'local_uncertainty': False, 'self_images': False}),
        ('e3relax-h2-published', {'centred_positions': False}),
        ('e3relax-published', {'centred_positions': True}),
        ('e3relax-published', {'lattice_nodes': False}),
    ],
    ids=name_of,
)
def test_symmetries_are_those_that_the_switch_leaves(architecture, switches):
    model = random_network(architecture, **switches)
    torch.manual_seed(3)
    turn = o3.rand_matrix(dtype=torch.float64).numpy()
    prototypes = batch_of(*(PROTOTYPES[name]() for name in ('caesium chloride', 'hcp')))
    found = deviations(model, batch_of(rattled()[0]), prototypes, turn)
    for transformation, deviation in found.items():
        largest = max(deviation.positions, deviation.cell)
        if transformation not in model.breaks:
            assert largest < 1e-9, transformation
        elif transformation in (Transformation.ROTATION, Transformation.TRANSLATION, Transformation.SUPERCELL):
            assert largest > 1e-6, transformation
    assert model.standard_orientation == (Transformation.ROTATION in model.breaks)


def test_no_encoding_of_offsets_is_its_columns_at_zero():
    """The rows Vanilla and DeepRelaxU of DeepRelax, Table 4."""
    whole, reduced = pair('deeprelax-published', offset_encoding=False)
    k = reduced.hyperparameters.radial_functions
    with torch.no_grad():
        for one, other in [
            *((a.message_passing.edge_filter, b.message_passing.edge_filter) for a, b in both_layers(whole, reduced)),
            *((getattr(whole, head).edge[0], getattr(reduced, head).edge[0]) for head in HEADS),
        ]:
            one.weight[:, k:] = 0
            other.weight.copy_(one.weight[:, :k])
            other.bias.copy_(one.bias)
        assert_same_distances(whole, reduced)


def test_no_vectors_along_edges_is_their_map_at_zero():
    whole, reduced = pair('deeprelax', vectors_along_edges=False)
    zero(*(getattr(whole, head).along for head in HEADS))
    assert_same_distances(whole, reduced)


HEADS = ('displacement_head', 'relaxed_head')


def both_layers(whole: RelaxationModel, reduced: RelaxationModel):
    return zip(whole.layers, reduced.layers, strict=True)


@torch.no_grad()
def assert_same_distances(whole: RelaxationModel, reduced: RelaxationModel) -> None:
    batch = batch_for(whole)
    one, other = whole.distances(batch), reduced.distances(batch)
    torch.testing.assert_close(other.distance, one.distance, rtol=0, atol=1e-12)
    torch.testing.assert_close(other.log_scale, one.log_scale, rtol=0, atol=1e-12)
    torch.testing.assert_close(other.cell, one.cell, rtol=0, atol=1e-12)


@pytest.mark.parametrize('architecture', ['deeprelax', 'deeprelax-published'])
def test_no_local_uncertainty_is_the_same_scale_for_all(architecture):
    """The rows Vanilla and DeepRelaxP of DeepRelax, Table 4: the loss with every scale 1 A, but for its constants."""
    whole, reduced = pair(architecture, local_uncertainty=False)
    with torch.no_grad():
        for head in HEADS:
            full, alone = getattr(whole, head).output[-1], getattr(reduced, head).output[-1]
            full.weight[1], full.bias[1] = 0, 0
            alone.weight.copy_(full.weight[:1])
            alone.bias.copy_(full.bias[:1])
        batch = batch_for(whole)
        one, other = whole.distances(batch), reduced.distances(batch)
        assert other.log_scale is None
        torch.testing.assert_close(other.distance, one.distance, rtol=0, atol=1e-12)
        target = Target.of(Geometry(batch.fractional + 0.01, batch.cell * 1.02))
        losses, errors = reduced.loss(batch, target, LossSettings())
        with_scales, _ = whole.loss(batch, target, LossSettings())
        torch.testing.assert_close(losses, with_scales - 2 * math.log(2), rtol=0, atol=1e-12)  # two kinds of distances
        assert torch.isfinite(errors).all()
        assert predicted(reduced)[-1].uncertainty is None
        assert predicted(whole)[-1].uncertainty is not None


def test_without_scales_the_published_solver_minimises_the_deviation_itself():
    """DeepRelax, eq. 17, by a loop over crystals with automatic differentiation and torch's Adam."""
    model = random_network('deeprelax-published', local_uncertainty=False)
    batch = batch_for(model)
    with torch.no_grad():
        prediction = model.distances(batch)
        found = model.solve(prediction, batch).positions(batch)
    start = Geometry(batch.fractional, batch.cell).positions(batch)
    shift = (batch.graph.offset.double()[:, None] @ prediction.cell[batch.structure_index[batch.graph.centre]])[:, 0]
    to_relaxed, relaxed = prediction.distance.split([int(prediction.displaced.sum()), len(prediction.displaced)])
    for crystal in range(len(batch.n_atoms)):
        positions = start.clone().requires_grad_()
        adam = torch.optim.Adam([positions], lr=0.1)
        own = batch.structure_index[batch.graph.centre] == crystal
        within = own[prediction.displaced]
        for _ in range(100):
            adam.zero_grad()
            ends = positions[batch.graph.neighbour] + shift
            moved = (ends - start[batch.graph.centre])[prediction.displaced].norm(dim=1)
            length = (ends - positions[batch.graph.centre]).norm(dim=1)
            loss = (length - relaxed).abs()[own].mean()
            if within.any():
                loss = loss + (moved - to_relaxed).abs()[within].mean()
            loss.backward()
            adam.step()
        atoms = batch.structure_index == crystal
        torch.testing.assert_close(found[atoms], positions.detach()[atoms], rtol=0, atol=1e-6)


@pytest.mark.parametrize('l_max', [5, MAX_DEGREE])
def test_single_precision_carries_high_degrees(l_max):
    torch.manual_seed(1)
    model = make_model('e3relax-h2', {'features': 16, 'layers': 2, 'radial_functions': 16, 'l_max': l_max}).double()
    single = accelerate(copy.deepcopy(model).float())
    batch = batch_for(model)
    expected = predicted(model, batch)[-1]
    with torch.no_grad():
        found = single(make_batch(CRYSTALS, model.graph, dtype=torch.float32))[-1]
    torch.testing.assert_close(found.cell.double(), expected.cell, rtol=0, atol=5e-5)
    torch.testing.assert_close(found.fractional.double(), expected.fractional, rtol=0, atol=1e-5)


def test_settings_take_what_a_switch_may_be():
    for hyperparameters in ({'l_max': 0, 'lattice_nodes': False}, {'l_max': MAX_DEGREE, 'refinement': True}):
        assert read_settings({'hyperparameters': hyperparameters}, 'run.yaml').hyperparameters == hyperparameters
    for name, value, message in [
        ('l_max', -1, 'l_max: expected a number from 0 to 10, found -1'),
        ('l_max', 11, 'l_max: expected a number from 0 to 10, found 11'),
        ('lattice_nodes', 0, 'lattice_nodes: expected true or false, found 0'),
        ('centred_positions', False, "hyperparameters: unknown setting 'centred_positions'"),
    ]:
        with pytest.raises(InputError, match=message):
            read_settings({'hyperparameters': {name: value}}, 'run.yaml')


@pytest.mark.parametrize('member', ['e3relax-h2', 'deeprelax'])
def test_ensemble_takes_after_its_members(member):
    switches = {'lattice_nodes': False} if member == 'e3relax-h2' else {'local_uncertainty': False}
    sizes = {'features': 8, 'layers': 1, 'radial_functions': 8, **switches}
    ensemble = random_network('ensemble', member=member, member_hyperparameters=sizes)
    assert ensemble.breaks == ensemble.members[0].breaks
    assert (Transformation.ROTATION in ensemble.breaks) == ensemble.standard_orientation == (member == 'e3relax-h2')
    assert (predicted(ensemble)[-1].uncertainty > 0).all()


def test_import_reads_the_degree_off_the_weights(tmp_path):
    with np.load(Path(__file__).parent / 'published' / 'h2.npz') as arrays:
        weights = {name[8:]: torch.tensor(arrays[name]) for name in arrays if name.startswith('weights/')}
    for name, value in weights.items():
        if '.inv_norm.' in name:
            weights[name] = value[:3]
        elif '.edge_inv_proj.0.weight' in name:
            weights[name] = value[:, :4]
    torch.save({'ema': weights}, tmp_path / 'model.pt')
    assert import_published(tmp_path / 'model.pt', tmp_path / 'imported.pt').model.hyperparameters.l_max == 2
