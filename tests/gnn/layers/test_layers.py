import pytest
import torch
from e3nn import o3

from aiida_e3relax.gnn.layers import RadialBasis, inverse, limited, matrix_exponential, solid_invariants, volume
from aiida_e3relax.gnn.layers.activation import LARGEST_FEATURE


def test_invariants_are_contracted_spherical_harmonics():
    """Addition theorem, against e3nn: z_l = 4 pi/(2l+1) |n|^l sum_m Y_lm(u) Y_lm(n/|n|)."""
    torch.manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(40, 3, dtype=torch.float64), dim=1)
    reference = torch.randn(40, 3, dtype=torch.float64)
    invariants = solid_invariants(direction, reference, 4)
    length = reference.norm(dim=1)
    for degree in range(5):
        y_direction = o3.spherical_harmonics(degree, direction, normalize=True, normalization='norm')
        y_reference = o3.spherical_harmonics(degree, reference, normalize=True, normalization='norm')
        expected = length**degree * (y_direction * y_reference).sum(dim=1)
        torch.testing.assert_close(invariants[:, degree], expected, atol=1e-12, rtol=1e-12)


def test_invariants_fade_with_the_reference():
    direction = torch.nn.functional.normalize(torch.randn(5, 3, dtype=torch.float64), dim=1)
    invariants = solid_invariants(direction, torch.zeros(5, 3, dtype=torch.float64), 3)
    assert torch.equal(invariants, torch.tensor([[1.0, 0, 0, 0]] * 5, dtype=torch.float64))


@pytest.mark.parametrize('l_max', [0, 1, 2, 5])
def test_one_invariant_a_degree(l_max):
    assert solid_invariants(torch.ones(2, 3), torch.ones(2, 3), l_max).shape == (2, l_max + 1)


def test_radial_basis_ends_smoothly():
    basis = RadialBasis(16, 6.0).double()
    distance = torch.tensor([1.0, 5.999, 6.0, 7.0], dtype=torch.float64, requires_grad=True)
    values, envelope = basis(distance), basis.envelope(distance)
    slope = torch.autograd.grad(values.sum(), distance)[0]
    assert values[0].abs().max() > 0.1
    assert values[1].abs().max() < 1e-9
    assert slope[1].abs() < 1e-5
    assert torch.equal(values[2:], torch.zeros(2, 16, dtype=torch.float64))
    assert torch.equal(envelope[2:], torch.zeros(2, dtype=torch.float64))


def test_envelope_is_its_polynomial_and_never_negative():
    x = torch.linspace(0, 1, 20001, dtype=torch.float64)
    basis = RadialBasis(4, 6.0)
    polynomial = 1 - 21 * x**5 + 35 * x**6 - 15 * x**7
    torch.testing.assert_close(basis.envelope(6 * x), polynomial, rtol=0, atol=1e-14)
    single = basis.envelope(6 * x.float())
    assert (single >= 0).all()
    assert (single.diff() <= 0)[-100:].all()


def test_features_within_the_limit_stay_to_the_last_bit_and_others_get_shorter():
    torch.manual_seed(0)
    features = torch.randn(3, 8, 5) * torch.tensor([1e-3, 20.0, 1e6])[:, None, None]
    found = limited(features)
    assert torch.equal(found[:2], features[:2])
    torch.testing.assert_close(found[2].square().mean().sqrt(), torch.tensor(LARGEST_FEATURE))
    torch.testing.assert_close(*(torch.nn.functional.normalize(t[2].flatten(), dim=0) for t in (found, features)))
    zero = torch.zeros(2, 4, requires_grad=True)
    assert torch.equal(torch.autograd.grad(limited(zero).sum(), zero)[0], torch.ones(2, 4))


@pytest.mark.parametrize('norm', [0.0, 1e-3, 0.04, 0.3, 1.5])
def test_exponential_is_that_of_the_eigenvalues_whatever_the_companions(norm):
    torch.manual_seed(0)
    matrices = torch.randn(20, 3, 3, dtype=torch.float64)
    matrices = matrices + matrices.mT
    matrices *= norm / torch.linalg.matrix_norm(matrices)[:, None, None]
    values, vectors = torch.linalg.eigh(matrices)
    expected = vectors @ torch.diag_embed(values.exp()) @ vectors.mT
    torch.testing.assert_close(matrix_exponential(matrices), expected, atol=1e-14, rtol=1e-14)
    alone = torch.cat([matrix_exponential(matrix[None]) for matrix in matrices])
    torch.testing.assert_close(alone, expected, atol=1e-14, rtol=1e-14)


def test_volume_and_inverse_of_cells_of_either_hand():
    cell = torch.randn(20, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(volume(cell), torch.linalg.det(cell))
    torch.testing.assert_close(inverse(cell), torch.linalg.inv(cell))
    assert (volume(cell) < 0).any()
