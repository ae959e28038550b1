"""The published models against outputs of their authors' code, for random weights.

`data/published_*.npz` is a small copy of those outputs: three of eight crystals, weights in single precision, and two
of three layers of E3Relax and E3Relax-H2. The whole, in double precision, lies beside the repository where it is kept.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from aiida_e3relax.common.errors import CheckpointError
from aiida_e3relax.gnn.checkpoints.import_published import import_published
from aiida_e3relax.gnn.graph import pair_search
from aiida_e3relax.gnn.graph.batch import CrystalBatch, make_batch
from aiida_e3relax.gnn.graph.shells import Graph
from aiida_e3relax.gnn.models.published import DeepRelaxPublished, E3RelaxH2Published, E3RelaxPublished
from aiida_e3relax.gnn.models.registry import make_model
from tests.gnn.crystals import PROTOTYPES, batch_of
from tests.gnn.networks import random_network

WHOLE = Path(__file__).parents[4] / 'shared' / 'reference'
CLASSES = {'h2': E3RelaxH2Published, 'e3relax': E3RelaxPublished, 'deeprelax': DeepRelaxPublished}
RELAXATIONS = ('h2', 'e3relax')


class Reference:
    """Outputs of one model, and its weights under the authors' names."""

    def __init__(self, name: str, outputs: Path, weights: Path | None = None):
        with np.load(outputs) as arrays:
            self.arrays = dict(arrays)
        if weights is None:
            self.weights = {key[8:]: torch.tensor(v) for key, v in self.arrays.items() if key.startswith('weights/')}
        else:
            with np.load(weights) as arrays:
                self.weights = {key: torch.tensor(value) for key, value in arrays.items()}
        self.config = json.loads(str(self.arrays['meta']))['config']
        self.crystals = sorted(int(key[1 : -len('_numbers')]) for key in self.arrays if key.endswith('_numbers'))
        self.model_class = CLASSES[name]

    def model(self, **options: str) -> torch.nn.Module:
        """Return the network in float64, with the authors' weights."""
        config = self.config
        sizes = {
            'features': config['hidden_channels'],
            'layers': config['num_layers'],
            'radial_functions': config['num_rbf'],
            'radial_cutoff': config['cutoff'],
        }
        if 'd_model' in config:
            sizes['offset_features'] = config['d_model']
        model = self.model_class(self.model_class.Hyperparameters(**sizes, **options)).double()
        model.load_state_dict(self.weights)
        return model.eval()

    def batch(self, crystals: list[int]) -> CrystalBatch:
        """Return crystals with the graphs that the authors' code searched."""
        parts, first = [], 0
        for k in crystals:
            neighbour, centre = torch.tensor(self.arrays[f's{k}_edge_index']).long() + first
            cell = torch.tensor(self.arrays[f's{k}_cell'])
            parts.append(
                CrystalBatch(
                    numbers=torch.tensor(self.arrays[f's{k}_numbers']).long(),
                    fractional=torch.tensor(self.arrays[f's{k}_positions']) @ torch.linalg.inv(cell),
                    cell=cell[None],
                    n_atoms=torch.tensor([len(self.arrays[f's{k}_numbers'])]),
                    structure_index=torch.empty(0),
                    graph=Graph(centre, neighbour, torch.tensor(self.arrays[f's{k}_cell_offsets']).long()),
                )
            )
            first += len(parts[-1].numbers)
        n_atoms = torch.cat([part.n_atoms for part in parts])
        return CrystalBatch(
            numbers=torch.cat([part.numbers for part in parts]),
            fractional=torch.cat([part.fractional for part in parts]),
            cell=torch.cat([part.cell for part in parts]),
            n_atoms=n_atoms,
            structure_index=torch.repeat_interleave(torch.arange(len(crystals)), n_atoms),
            graph=Graph(*(torch.cat([getattr(part.graph, field) for part in parts]) for field in GRAPH_FIELDS)),
        )

    def expected(self, crystals: list[int]) -> list[np.ndarray]:
        """Return the authors' outputs in the order of `outputs`, crystals concatenated."""
        if self.model_class is DeepRelaxPublished:
            names = ('displacement_distance', 'displacement_log_scale', 'relaxed_distance', 'relaxed_log_scale')
            return [np.concatenate([self.arrays[f's{k}_{name}'] for k in crystals]) for name in (*names, 'cell_out')]
        positions = np.concatenate([self.arrays[f's{k}_positions_layers'] for k in crystals], axis=1)
        return [positions, np.stack([self.arrays[f's{k}_cell_layers'] for k in crystals], axis=1)]


GRAPH_FIELDS = ('centre', 'neighbour', 'offset')


@torch.no_grad()
def outputs(model: torch.nn.Module, batch: CrystalBatch) -> list[np.ndarray]:
    """Return the distances and cell of DeepRelax, and the positions and cells of every layer of the others."""
    if isinstance(model, DeepRelaxPublished):
        predicted = model.distances(batch)
        np.testing.assert_array_equal(predicted.displaced, (batch.graph.offset == 0).all(dim=1))
        sizes = [int(predicted.displaced.sum()), len(predicted.displaced)]
        distances, log_scales = predicted.distance.split(sizes), predicted.log_scale.split(sizes)
        arrays = (distances[0], log_scales[0], distances[1], log_scales[1], predicted.cell)
        return [array.numpy() for array in arrays]
    geometries = model(batch)
    positions = torch.stack([geometry.positions(batch) for geometry in geometries])
    return [positions.numpy(), torch.stack([geometry.cell for geometry in geometries]).numpy()]


def small_copy(name: str) -> Reference:
    return Reference(name, Path(__file__).parent / 'published' / f'{name}.npz')


@pytest.fixture(scope='module', params=list(CLASSES))
def reference(request):
    return small_copy(request.param)


@pytest.fixture(scope='module')
def h2():
    return small_copy('h2')


def published(reference: Reference) -> torch.nn.Module:
    """Return the model as its authors' code computes it."""
    return reference.model(**({} if reference.model_class is DeepRelaxPublished else {'lattice_update': 'published'}))


def test_authors_outputs_are_reproduced(reference):
    for found, expected in zip(
        outputs(published(reference), reference.batch(reference.crystals)),
        reference.expected(reference.crystals),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize('name', list(CLASSES))
def test_authors_outputs_are_reproduced_to_rounding(name):
    if not WHOLE.is_dir():
        pytest.skip(f'the whole reference is not at {WHOLE}')
    reference = Reference(name, WHOLE / f'{name}.npz', WHOLE / f'{name}-weights.npz')
    assert len(reference.crystals) == 8
    model = published(reference)
    for k in reference.crystals:
        for found, expected in zip(outputs(model, reference.batch([k])), reference.expected([k]), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_graph_is_the_authors(reference):
    batch = reference.batch(reference.crystals)
    graph = published(reference).graph(batch.fractional, batch.cell, batch.n_atoms)
    assert (graph.centre.diff() >= 0).all()
    for centre in range(len(batch.numbers)):
        found, given = (edges_of(centre, batch, edges, reference) for edges in (graph, batch.graph))
        assert {edge for edge, length in given.items() if length == 0} == {
            e for e, length in found.items() if length == 0
        }
        # Of neighbours that are equally far either may stay, and the authors' search mostly counts the atom itself.
        assert abs(len(given) - len(found)) <= 1
        for one, other in ((given, found), (found, given)):
            assert all(one[edge] > max(other.values()) - 1e-6 for edge in one.keys() - other.keys())


@pytest.mark.parametrize('name', ['e3relax-h2-published', 'deeprelax-published'])
def test_neighbours_that_are_equally_far_are_not_left_to_the_search(name, monkeypatch):
    model, crystals = random_network(name), batch_of(*(make() for make in PROTOTYPES.values()))
    by_vesin = make_batch(crystals, model.graph).graph
    monkeypatch.setattr(pair_search, 'vesin', None)
    by_torch = make_batch(crystals, model.graph).graph
    for field in GRAPH_FIELDS:
        assert torch.equal(getattr(by_vesin, field), getattr(by_torch, field))


def edges_of(centre: int, batch: CrystalBatch, graph: Graph, reference: Reference) -> dict[tuple[int, ...], float]:
    """Return the lengths in A of the edges (neighbour, offset) of one atom; 0 for those kept whatever their length."""
    vectors = dataclasses.replace(batch, graph=graph).edge_vectors(batch.fractional, batch.cell)
    within_cell = (graph.offset == 0).all(dim=1)
    kept = within_cell if reference.model_class is DeepRelaxPublished else graph.centre == graph.neighbour
    length = torch.where(kept, 0.0, vectors.norm(dim=1))
    edges = torch.cat([graph.neighbour[:, None], graph.offset], dim=1)
    chosen = graph.centre == centre
    return dict(zip(map(tuple, edges[chosen].tolist()), length[chosen].tolist(), strict=True))


def test_weights_that_are_not_all_there_are_refused(reference):
    model, name = published(reference), next(iter(reference.weights))
    with pytest.raises(RuntimeError, match='Missing key'):
        model.load_state_dict({key: value for key, value in reference.weights.items() if key != name})
    with pytest.raises(RuntimeError, match=r'Unexpected key.*lattice_l4'):
        model.load_state_dict(reference.weights | {'lattice_l4': torch.zeros(1)})


def test_unknown_lattice_update_is_named():
    with pytest.raises(ValueError, match="lattice_update 'columns'; known: rows, published"):
        make_model('e3relax-published', {'features': 8, 'lattice_update': 'columns'})


@pytest.fixture(params=list(CLASSES))
def authors_file(request, tmp_path):
    """A file as the authors' training writes it: all but E3Relax-H2's hold the parameters' running average alone."""
    reference, path = small_copy(request.param), tmp_path / 'model.pt'
    if request.param == 'h2':
        training = {'optimizer': {'state': {}}, 'scaler': None, 'epoch': 3, 'step': 2400}
        average = {'ema': reference.weights, 'ema_decay': 0.999, 'ema_updates': 2400}
        torch.save({**average, 'model': {}, **training}, path)
    else:
        torch.save({k: v for k, v in reference.weights.items() if not k.startswith('radial_basis')}, path)
    return reference, path


def test_imported_checkpoint_predicts_as_the_authors_code(authors_file, tmp_path):
    reference, path = authors_file
    checkpoint = import_published(path, tmp_path / 'imported.pt')
    assert checkpoint.model.standard_orientation
    assert checkpoint.elements == list(range(1, 119 if reference.model_class is DeepRelaxPublished else 118))
    assert checkpoint.training['imported_from'] == 'model.pt'
    card = json.loads((tmp_path / 'imported.card.json').read_text())
    assert (card['architecture'], card['content_hash']) == (checkpoint.architecture, checkpoint.content_hash)
    found = outputs(checkpoint.model.double(), reference.batch(reference.crystals))
    for values, expected in zip(found, reference.expected(reference.crystals), strict=True):
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda weights: {'model': weights}, 'expected the weights of E3Relax-H2, E3Relax or'),
        (lambda weights: {'ema': None}, 'expected the weights of E3Relax-H2, E3Relax or'),
        (lambda weights: {k: v for k, v in weights.items() if 'pos_mlp' not in k}, 'Missing key.*displacement'),
        (lambda weights: {k: v for k, v in weights.items() if 'atom_emb' not in k}, "whole.*'atom_emb.embeddings"),
    ],
)
def test_file_without_whole_weights_is_named(h2, tmp_path, change, message):
    torch.save(change(h2.weights), tmp_path / 'model.pt')
    with pytest.raises(CheckpointError, match=r'(?s)model\.pt.*' + message):
        import_published(tmp_path / 'model.pt', tmp_path / 'imported.pt')
    assert not (tmp_path / 'imported.pt').exists()
