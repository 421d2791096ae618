"""Group normalization with a scale and a shift per example and map, fast to train.

Where maps are stored channels last, PyTorch's own kernel takes 3 to 6 times as long in training
(`benchmarks/group_norm.py`) and was half of a step. Here everything that is computed per pixel is a
product or a sum of the whole tensor; all else is computed per example and map. A compiler for GPUs
also makes faster kernels of that than of PyTorch's function (`normalize_groups_fused`).

References:
    Wu and He (2018), "Group normalization", equations 1 and 3.
"""

from typing import Any

import torch
from torch import Tensor

__all__ = ["normalize_groups", "normalize_groups_fused"]

_EPSILON = 1e-5


def normalize_groups(x: Tensor, groups: int, scale: Tensor, shift: Tensor) -> Tensor:
    """Normalizes maps by groups, and scales and shifts each map.

        y = scale (x - m) / sqrt(v + 1e-5) + shift

    m and v are mean and variance of an example over the pixels and maps of a group.

    Args:
        x: maps (B, c, h, w).
        groups: how many; divides c.
        scale: per map, (c,), or per example and map, (B, c).
        shift: the same shape.

    Returns:
        Maps (B, c, h, w), of the type of x. They can be differentiated once.
    """
    shape = x.shape[:2]
    y: Tensor = _NormalizeGroups.apply(x, groups, _expand(scale, shape), _expand(shift, shape))
    return y


def normalize_groups_fused(x: Tensor, groups: int, scale: Tensor, shift: Tensor) -> Tensor:
    """Computes `normalize_groups` by operations that a compiler fuses, derivatives included."""
    maps = x.to(torch.promote_types(x.dtype, torch.float32))
    mean = _mean_of_groups(maps.mean((2, 3)), groups)
    variance = _mean_of_groups(maps.square().mean((2, 3)), groups) - mean.square()
    gain = scale.to(maps.dtype) * (variance.clamp(min=0) + _EPSILON).rsqrt()
    return (gain[..., None, None] * maps + (shift - gain * mean)[..., None, None]).to(x.dtype)


class _NormalizeGroups(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, groups: int, scale: Tensor, shift: Tensor) -> Tensor:
        count = x.shape[1:].numel() // groups
        mean = _sum_groups(_sum_pixels(x), groups) / count
        variance = _sum_groups(_sum_pixels(x * x), groups) / count - mean.square()
        inverse = (variance.clamp(min=0) + _EPSILON).rsqrt()
        gain = scale * inverse
        ctx.save_for_backward(x, scale, mean, inverse)
        ctx.groups = groups
        return torch.addcmul(_spread(shift - gain * mean, x), x, _spread(gain, x))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        x, scale, mean, inverse = ctx.saved_tensors
        count = x.shape[1:].numel() // ctx.groups
        d_shift = _sum_pixels(dy)
        # The sum of dy times the normalized maps.
        d_scale = (_sum_pixels(dy * x) - mean * d_shift) * inverse
        by_x = -inverse.square() / count * _sum_groups(scale * d_scale, ctx.groups)
        constant = -inverse / count * _sum_groups(scale * d_shift, ctx.groups) - by_x * mean
        dx = torch.addcmul(_spread(constant, x), x, _spread(by_x, x))
        return dx.addcmul_(dy, _spread(scale * inverse, x)), None, d_scale, d_shift


def _expand(x: Tensor, shape: torch.Size) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32)).expand(shape)


def _sum_pixels(x: Tensor) -> Tensor:
    """Sums maps (B, c, h, w) over their pixels, to (B, c) in float32 or more.

    A row is summed in the type of x, which is much the faster, and the rows in float32.
    """
    n, c, h, w = x.shape
    # With the maps last, as they are stored, the sum over a row runs over whole vectors.
    rows = x.permute(0, 2, 3, 1).reshape(n * h, w, c).sum(1)
    return rows.to(torch.promote_types(x.dtype, torch.float32)).view(n, h, c).sum(1)


def _sum_groups(x: Tensor, groups: int) -> Tensor:
    """Sums (B, c) within groups, and gives each map the sum of its group."""
    examples, maps = x.shape
    sums = x.reshape(examples, groups, maps // groups).sum(2, keepdim=True)
    return sums.expand(-1, -1, maps // groups).flatten(1)


def _mean_of_groups(x: Tensor, groups: int) -> Tensor:
    """Averages (B, c) within groups, and gives each map the mean of its group."""
    return _sum_groups(x, groups) * groups / x.shape[1]


def _spread(x: Tensor, maps: Tensor) -> Tensor:
    """Turns (B, c) into (B, c, 1, 1) of the type of the maps."""
    return x.to(maps.dtype)[..., None, None]
