"""Planes of noise for nets that see maps, whatever kind of noise the recipe asks for.

Noise that is drawn as planes passes as it is. A vector becomes a plane as the class does in these
nets, by a linear map that is trained with G: z = A v, whose covariance has at most the rank of v.
"""

import math

import torch
from torch import Tensor, nn

from lapgan.noise import AnyNoise, MixedNoise, VectorNoise, is_vector
from lapgan.sizes import Size

__all__ = ["LearnedPlanes", "count_planes", "count_values", "fits_any_size", "make_planes"]


class LearnedPlanes(nn.Module):
    """Planes z = A v of a noise vector v, with a learned A.

    A starts with random rows of length 1, so that each pixel has the variance of one value.

    Args:
        values: length of v.
        planes: how many planes.
        size: their height and width, in pixels.
    """

    def __init__(self, values: int, planes: int, size: Size) -> None:
        super().__init__()
        self.shape = (planes, *size)
        self.factor = nn.Linear(values, planes * size[0] * size[1], bias=False)
        with torch.no_grad():
            rows = self.factor.weight.normal_()
            rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True)

    def forward(self, v: Tensor) -> Tensor:
        """Turns vectors (B, values) into planes (B, planes, *size)."""
        z: Tensor = self.factor(v)
        return z.view(v.shape[0], *self.shape)


def count_planes(noise: AnyNoise) -> int:
    """Returns how many planes a net of maps sees of this noise."""
    return 1 if isinstance(noise, VectorNoise | MixedNoise) else noise.planes


def count_values(noise: AnyNoise, size: Size) -> int:
    """Returns how many numbers z has, for nets that see it as a vector."""
    if isinstance(noise, VectorNoise | MixedNoise) or is_vector(noise):
        return noise.covariance_rank(size)
    return noise.planes * math.prod(size)


def make_planes(noise: AnyNoise, size: Size) -> nn.Module:
    """Makes what turns z into planes of a size; it has no weights if z is planes already."""
    if not is_vector(noise):
        return nn.Identity()
    return LearnedPlanes(noise.covariance_rank(size), count_planes(noise), size)


def fits_any_size(noise: AnyNoise) -> bool:
    """Returns whether noise can be drawn at another size than that of training.

    A learned A has the rows of one size. So has z of `MixedNoise`, but nets that take it know it.
    """
    return not is_vector(noise) or isinstance(noise, MixedNoise)
