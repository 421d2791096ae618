import pytest
import torch

from lapgan.noise import Noise, NoisePlane, NoiseVector


@pytest.mark.parametrize(
    ("noise", "shape"), [(NoisePlane(2), (50, 2, 7, 9)), (NoiseVector(100), (50, 100))]
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
