import pytest
import torch
from torch import Tensor

from lapgan.errors import LapganError
from lapgan.models.whitening import PatchWhitening


def correlated(n: int = 500) -> Tensor:
    """Images of 4x6 with a mean, and neighbouring pixels that are alike."""
    x = torch.randn(n, 3, 4, 6)
    return 0.3 + 0.2 * x.cumsum(dim=2).cumsum(dim=3)


def components_of(basis: PatchWhitening, images: Tensor) -> Tensor:
    return basis.whiten(images).permute(0, 2, 3, 1).reshape(-1, basis.components)


def test_whitened_patches_have_zero_mean_and_unit_covariance():
    basis = PatchWhitening((4, 6), (2, 3), floor=0.0)
    images = correlated()
    basis.fit(images)
    assert basis.whiten(images).shape == (500, 18, 2, 2)
    whitened = components_of(basis, images)
    assert whitened.mean(dim=0).abs().max() < 1e-4
    assert torch.allclose(torch.cov(whitened.T, correction=0), torch.eye(18), atol=1e-3)


def test_unwhitening_undoes_whitening_and_differences_lack_the_mean():
    basis = PatchWhitening((4, 6), (2, 3))
    images = correlated()
    basis.fit(images)
    assert torch.allclose(basis.unwhiten(basis.whiten(images)), images, atol=1e-4)
    assert torch.allclose(
        basis.unwhiten_difference(basis.whiten(images[:1]) - basis.whiten(images[1:2])),
        images[:1] - images[1:2],
        atol=1e-4,
    )


def test_directions_without_variance_are_not_blown_up():
    basis = PatchWhitening((2, 2), (2, 2), floor=0.01)
    flat = torch.randn(200, 3, 1, 1).expand(200, 3, 2, 2)
    basis.fit(flat)
    noisy = flat + 0.001 * torch.randn_like(flat)
    assert components_of(basis, noisy).std(dim=0)[3:].max() < 0.2


def test_whitening_is_computed_in_float32_under_autocast():
    basis = PatchWhitening((4, 6), (2, 3))
    images = correlated()
    basis.fit(images)
    expected = basis.whiten(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(basis.whiten(images), expected)


def test_patches_must_fill_the_image():
    with pytest.raises(LapganError, match="patches of 4x4 do not fill images of 12x10"):
        PatchWhitening((12, 10), (4, 4))
