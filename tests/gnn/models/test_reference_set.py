import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import make_supercell

from aiida_e3relax.gnn.models.reference_set import Growth, ReferenceSet, nearest_environments, over_sites
from aiida_e3relax.gnn.prediction.predict import predict
from tests.gnn.crystals import batch_of, rattled
from tests.gnn.networks import random_network


def random_set(features: int, growth: Growth | None = None) -> ReferenceSet:
    rng = torch.Generator().manual_seed(5)
    drawn = [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in ((features,), (features, 6), (40, 6))]
    example = torch.arange(40) % 8
    names = [f'crystal-{k}' for k in range(8)]
    return ReferenceSet(*drawn, example, names, [f'X{k}' for k in range(8)], unit=2.5, growth=growth)


def test_distance_by_hand():
    environments = torch.tensor([[0.0, 0.0], [3.0, 4.0], [10.0, 0.0]])
    reference = ReferenceSet(
        torch.tensor([1.0, 1.0]), torch.eye(2), environments, torch.tensor([0, 1, 1]), ['a', 'b'], ['A', 'B'], 2.0
    )
    features = torch.tensor([[1.0, 1.0], [1.0, 3.0], [4.0, 5.0]])  # 0, 2 and 0 away
    found = reference.find_nearest([features[:, :1], features[:, 1:]], torch.tensor([0, 0, 1]), torch.tensor([2, 1]))
    torch.testing.assert_close(found.distance, torch.tensor([(0.5 * (2 / 2) ** 4) ** 0.25, 0.0]))
    assert found.example.tolist() == [0, 1]
    assert found.site.tolist() == [1, 0]


def test_nearest_environments_leave_out_what_is_barred():
    sites, environments = torch.randn(30, 4), torch.randn(20, 4)
    of_site, of_environment = torch.arange(30) % 3, torch.arange(20) % 3
    distance, nearest = nearest_environments(sites, environments, (of_site, of_environment))
    every = torch.cdist(sites, environments).masked_fill(of_site[:, None] == of_environment, torch.inf)
    torch.testing.assert_close(distance, every.min(dim=1).values)
    assert (nearest == every.argmin(dim=1)).all()
    nothing, _ = nearest_environments(sites, environments, (torch.zeros(30), torch.zeros(20)))
    assert torch.isinf(nothing).all()


def test_one_foreign_site_does_not_drown_and_no_site_counts_twice():
    distance = torch.tensor([0.5] * 49 + [3.0])
    index = torch.zeros(50, dtype=torch.long)
    whole, furthest = over_sites(distance, index, torch.tensor([50]))
    assert float(distance.mean()) < 0.6
    assert float(whole) > 1.1
    assert furthest.tolist() == [49]
    twice, _ = over_sites(distance.repeat(2), index.repeat(2), torch.tensor([100]))
    torch.testing.assert_close(twice, whole)
    torch.testing.assert_close(over_sites(torch.zeros(50), index, torch.tensor([50]))[0], torch.zeros(1))


def transformed() -> dict[str, list[Atoms]]:
    frames = rattled()
    turned, moved, permuted, doubled, sheared, wrapped = ([a.copy() for a in frames] for _ in range(6))
    rng = np.random.default_rng(2)
    for k, atoms in enumerate(frames):
        turned[k].rotate(71.0, (1.0, 0.3, -2.0), rotate_cell=True)
        moved[k].translate([0.3, -5.1, 2.2])
        permuted[k] = atoms[rng.permutation(len(atoms))]
        doubled[k] = make_supercell(atoms, [[2, 0, 0], [0, 1, 0], [0, 1, 1]])
        sheared[k].set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]]) @ atoms.cell.array)
        wrapped[k].wrap()
    return {
        'rotation': turned,
        'translation': moved,
        'permutation': permuted,
        'supercell': doubled,
        'choice of cell': sheared,
        'images of atoms': wrapped,
        'company': frames[::-1],
    }


@pytest.mark.parametrize('architecture', ['e3relax-h2', 'ensemble'])
def test_distance_is_that_of_the_crystal(architecture):
    model = random_network(architecture)
    reference = random_set(model.site_features)
    elements = sorted({int(z) for atoms in rattled() for z in atoms.numbers})

    def distances(frames: list[Atoms]) -> tuple[np.ndarray, list[int]]:
        found = predict(model, batch_of(*frames), elements, torch.device('cpu'), torch.float64, reference=reference)
        assert not found.faults
        return found.distance, found.example.tolist()

    expected, examples = distances(rattled())
    assert np.ptp(expected) > 1e-3
    alone = [distances([atoms]) for atoms in rattled()]
    np.testing.assert_allclose([float(distance[0]) for distance, _ in alone], expected, rtol=1e-9)
    for name, frames in transformed().items():
        found, nearest = distances(frames)
        step = -1 if name == 'company' else 1
        np.testing.assert_allclose(found[::step], expected, rtol=1e-6, err_msg=name)
        assert nearest[::step] == examples, name


@pytest.mark.parametrize('architecture', ['e3relax', 'e3relax-h2', 'painn', 'ensemble'])
def test_features_are_as_many_as_the_model_says(architecture):
    from aiida_e3relax.gnn.graph.batch import make_batch

    model = random_network(architecture)
    batch = make_batch(batch_of(*rattled()), model.graph, dtype=torch.float64)
    with torch.no_grad():
        features = model(batch)[-1].features
    assert torch.cat(features, dim=1).shape == (len(batch.numbers), model.site_features)


def test_uncertainty_grows_with_the_distance_and_between_fixed_sites_there_is_none():
    from aiida_e3relax.gnn.prediction.settings import Details

    model = random_network('ensemble')
    crystals = batch_of(*rattled())
    fixed = np.zeros((len(crystals.numbers), 3), dtype=bool)
    fixed[:2] = True
    masks = fixed, np.array([True, False, False])
    cpu, elements = torch.device('cpu'), np.unique(crystals.numbers).tolist()

    def predicted(growth: Growth | None):
        reference = random_set(model.site_features, growth)
        return predict(
            model, crystals, elements, cpu, torch.float64, reference=reference, details=Details(bonds=True), fixed=masks
        )

    before, after = predicted(None), predicted(Growth(0.3, 2.0, limit=1e3))
    np.testing.assert_array_equal(after.distance, before.distance)
    np.testing.assert_allclose(after.uncertainty[1:], np.hypot(before.uncertainty, 0.3 * before.distance**2)[1:])
    for index in (1, 2):
        ratio = after.uncertainty[index] / before.uncertainty[index]
        np.testing.assert_allclose(after.bonds[index].uncertainty, ratio * before.bonds[index].uncertainty)
    assert after.bonds[0].uncertainty.max() < 1e-9, 'nothing of it may move'
    limited = predicted(Growth(0.3, 2.0, limit=0.1))
    np.testing.assert_allclose(limited.uncertainty[1:], np.hypot(before.uncertainty, 0.3 * 0.01)[1:])
