import pytest
import torch

from lapgan.noise import SublinearNoise


@pytest.mark.parametrize(("exponent", "ranks"), [(0.0, (8, 8, 8)), (0.5, (32, 64, 128))])
def test_the_rank_of_the_covariance_grows_as_the_power_of_the_pixels(
    exponent: float, ranks: tuple[int, ...]
):
    noise = SublinearNoise(exponent=exponent)
    for side, rank in zip((4, 8, 16), ranks, strict=True):
        z = noise.sample(300, (side, side), torch.Generator().manual_seed(0)).flatten(1)
        # 16 pixels have no room for 32 values.
        expected = min(rank, side * side)
        assert torch.linalg.matrix_rank(z.double(), rtol=1e-5) == expected
        assert noise.entropy((side, side)) == 24 * expected


def test_twice_the_side_is_half_the_entropy_per_pixel_at_exponent_one_half():
    noise = SublinearNoise(exponent=0.5, coefficient=4.0)
    per_pixel = [noise.entropy((side, side)) / side**2 for side in (8, 16, 32)]
    assert per_pixel[0] == 2 * per_pixel[1] == 4 * per_pixel[2]
