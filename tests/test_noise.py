import pytest
import torch

from lapgan.noise import (
    AnyNoise,
    HashedNoise,
    LowRankNoise,
    MixedNoise,
    PlaneNoise,
    VectorNoise,
)


@pytest.mark.parametrize(
    ("noise", "shape"),
    [
        (PlaneNoise(planes=2), (50, 2, 7, 9)),
        (VectorNoise(dimension=100), (50, 100)),
        (HashedNoise(dimension=100, planes=2), (50, 2, 7, 9)),
    ],
)
def test_noise_is_uniform_and_follows_its_generator(noise: AnyNoise, shape: tuple[int, ...]):
    z = noise.sample(50, (7, 9), torch.Generator().manual_seed(3))
    assert z.shape == shape
    assert -1 <= z.min() < -0.99
    assert 0.99 < z.max() <= 1
    # The uniform distribution on [-1, 1] has variance 1/3.
    assert abs(z.var().item() - 1 / 3) < 0.02
    assert torch.equal(z, noise.sample(50, (7, 9), torch.Generator().manual_seed(3)))
    assert not torch.equal(z, noise.sample(50, (7, 9), torch.Generator().manual_seed(4)))


def draws(noise: AnyNoise, count: int = 4000) -> torch.Tensor:
    return noise.sample(count, (6, 5), torch.Generator().manual_seed(0)).flatten(1).double()


def test_hashed_pixels_share_few_values_evenly_and_are_else_independent():
    z = draws(HashedNoise(dimension=7))
    correlation = z.T.corrcoef()
    tied = correlation.abs() > 0.999
    assert torch.linalg.matrix_rank(z) == 7
    # 30 pixels over 7 values: groups of 4 or 5, each pixel tied to its own group alone.
    assert sorted(set(tied.sum(dim=1).tolist())) == [4, 5]
    assert correlation[~tied].abs().max() < 0.08
    assert {round(value) for value in correlation[tied].tolist()} == {-1, 1}


def test_low_rank_noise_has_its_rank_and_the_variance_of_a_plane():
    z = draws(LowRankNoise(rank=5))
    assert torch.linalg.matrix_rank(z, rtol=1e-5) == 5
    torch.testing.assert_close(z.var(dim=0), torch.full((30,), 1 / 3).double(), atol=0.03, rtol=0)
    assert z.mean(dim=0).abs().max() < 0.05


@pytest.mark.parametrize(
    ("few", "many"),
    [
        (HashedNoise(dimension=7), HashedNoise(dimension=100)),
        (LowRankNoise(rank=7), LowRankNoise(rank=100)),
    ],
)
def test_entropy_is_that_of_the_values_whatever_the_size(few: AnyNoise, many: AnyNoise):
    assert few.entropy((6, 5)) == few.entropy((96, 96)) == 7 * 24
    assert many.entropy((3, 4)) == 12 * 24
    assert many.sample(2, (3, 4), torch.Generator()).shape == (2, 1, 3, 4)


def test_entropy_of_uniform_noise_is_24_bits_per_value():
    assert PlaneNoise(planes=2).entropy((6, 5)) == 2 * 30 * 24
    assert VectorNoise(dimension=5).entropy((6, 5)) == VectorNoise(dimension=5).entropy((1, 1))
    assert VectorNoise(dimension=5).entropy((6, 5)) == 5 * 24


@pytest.mark.parametrize("noise", [HashedNoise(dimension=7), LowRankNoise(rank=7)])
def test_every_image_has_the_same_structure(noise: AnyNoise):
    """How pixels depend on each other is fixed, so that a net may learn it."""
    first, second = draws(noise, 50), draws(noise, 60)[50:]
    basis = torch.linalg.svd(first, full_matrices=False).Vh[:7]
    torch.testing.assert_close(second @ basis.T @ basis, second, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("noise", "values"),
    [
        (VectorNoise(dimension=100, distribution="normal"), 100),
        (MixedNoise(dimension=10, planes=3), 10 + 3 * 30),
    ],
)
def test_normal_noise_has_the_moments_of_the_normal_distribution(noise: AnyNoise, values: int):
    z = draws(noise)
    assert z.shape == (4000, values)
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        assert (z**power).mean().item() == pytest.approx(moment, abs=0.05)
    assert torch.equal(z, draws(noise))
    assert noise.entropy((6, 5)) == 24 * values
