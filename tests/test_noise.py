import pytest
import torch

from lapgan.noise import HashedNoise, LowRankNoise, Noise, PlaneNoise_, VectorNoise_


@pytest.mark.parametrize(
    ("noise", "shape"),
    [
        (PlaneNoise_(2), (50, 2, 7, 9)),
        (VectorNoise_(100), (50, 100)),
        (HashedNoise(100, 2), (50, 2, 7, 9)),
    ],
)
def test_noise_is_uniform_and_follows_its_generator(noise: Noise, shape: tuple[int, ...]):
    z = noise.sample(50, (7, 9), torch.Generator().manual_seed(3))
    assert z.shape == shape
    assert -1 <= z.min() < -0.99
    assert 0.99 < z.max() <= 1
    # The uniform distribution on [-1, 1] has variance 1/3.
    assert abs(z.var().item() - 1 / 3) < 0.02
    assert torch.equal(z, noise.sample(50, (7, 9), torch.Generator().manual_seed(3)))
    assert not torch.equal(z, noise.sample(50, (7, 9), torch.Generator().manual_seed(4)))


def draws(noise: Noise, count: int = 4000) -> torch.Tensor:
    return noise.sample(count, (6, 5), torch.Generator().manual_seed(0)).flatten(1).double()


def test_hashed_pixels_share_few_values_evenly_and_are_else_independent():
    z = draws(HashedNoise(7))
    correlation = z.T.corrcoef()
    tied = correlation.abs() > 0.999
    assert torch.linalg.matrix_rank(z) == 7
    # 30 pixels over 7 values: groups of 4 or 5, each pixel tied to its own group alone.
    assert sorted(set(tied.sum(dim=1).tolist())) == [4, 5]
    assert correlation[~tied].abs().max() < 0.08
    assert {round(value) for value in correlation[tied].tolist()} == {-1, 1}


def test_low_rank_noise_has_its_rank_and_the_variance_of_a_plane():
    z = draws(LowRankNoise(5))
    assert torch.linalg.matrix_rank(z, rtol=1e-5) == 5
    torch.testing.assert_close(z.var(dim=0), torch.full((30,), 1 / 3).double(), atol=0.03, rtol=0)
    assert z.mean(dim=0).abs().max() < 0.05


@pytest.mark.parametrize("kind", [HashedNoise, LowRankNoise])
def test_entropy_is_that_of_the_values_whatever_the_size(kind: type[HashedNoise | LowRankNoise]):
    assert kind(7).entropy((6, 5)) == kind(7).entropy((96, 96)) == 7 * 24
    assert kind(100).entropy((3, 4)) == 12 * 24
    assert kind(100).sample(2, (3, 4), torch.Generator()).shape == (2, 1, 3, 4)


@pytest.mark.parametrize("noise", [HashedNoise(7), LowRankNoise(7)])
def test_every_image_has_the_same_structure(noise: Noise):
    """What ties pixels together is no part of the noise: a net may learn it."""
    first, second = draws(noise, 50), draws(noise, 60)[50:]
    basis = torch.linalg.svd(first, full_matrices=False).Vh[:7]
    torch.testing.assert_close(second @ basis.T @ basis, second, atol=1e-5, rtol=0)
