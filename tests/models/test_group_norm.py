from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lapgan.models.group_norm import normalize_groups, normalize_groups_fused
from lapgan.models.residual import ResidualGenerator

BOTH = pytest.mark.parametrize("normalize", [normalize_groups, normalize_groups_fused])


def expected(x: Tensor, groups: int, scale: Tensor, shift: Tensor) -> Tensor:
    return scale[..., None, None] * F.group_norm(x, groups) + shift[..., None, None]


@BOTH
@pytest.mark.parametrize("groups", [1, 4, 12])
@pytest.mark.parametrize("shape", [(12,), (3, 12)])
def test_values_and_gradients_are_those_of_pytorch(
    normalize: Any, groups: int, shape: tuple[int, ...]
):
    x = (3 + 2 * torch.randn(3, 12, 6, 5, dtype=torch.float64)).requires_grad_()
    scale, shift = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(2))
    other = torch.randn_like(x)
    results = []
    for function in (normalize, expected):
        y = function(x, groups, scale, shift)
        results.append((y, *torch.autograd.grad(y, (x, scale, shift), other)))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


@BOTH
def test_in_bfloat16_the_error_is_that_of_rounding(normalize: Any):
    """Also where the mean of a group is several times its spread."""
    x = 4 + torch.randn(8, 32, 16, 16, dtype=torch.float64)
    x = x.bfloat16().double().to(memory_format=torch.channels_last)
    scale, shift = torch.randn(8, 32, dtype=torch.float64), torch.randn(8, 32, dtype=torch.float64)
    other = torch.randn_like(x)
    results = []
    for function, dtype in ((normalize, torch.bfloat16), (expected, torch.float64)):
        maps = x.to(dtype).requires_grad_()
        y = function(maps, 16, scale, shift)
        assert y.dtype == dtype
        results.append((y, *torch.autograd.grad(y, maps, other.to(dtype))))
    for mine, theirs in zip(*results, strict=True):
        error = (mine.double() - theirs).square().mean().sqrt()
        # Half of the last of 8 bits is 0.2% of values that are 4 to 5 times as large as the result.
        assert error < 0.02 * theirs.square().mean().sqrt()


@BOTH
def test_a_group_of_constant_maps_becomes_its_shift(normalize: Any):
    x = torch.full((2, 4, 8, 8), 7.0, requires_grad=True)
    y = normalize(x, 2, torch.ones(4), torch.arange(4.0))
    torch.testing.assert_close(y, torch.arange(4.0)[:, None, None].expand_as(x), atol=0.1, rtol=0)
    assert torch.autograd.grad(y.sum(), x)[0].isfinite().all()


def test_a_generator_draws_the_same_with_and_without_gradients():
    net = ResidualGenerator((8, 8), (16, 32), (4, 2), 8, groups=4)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    low, z = torch.randn(4, 3, 8, 8), torch.randn(4, 4 + 2 * 64)
    trained = net(low, z, None)
    with torch.no_grad():
        torch.testing.assert_close(net(low, z, None), trained.detach(), atol=1e-5, rtol=1e-4)
