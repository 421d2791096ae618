"""Pieces that the modern nets share."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["leaky", "normal_", "variety"]

# Images that judge of each other's variety; Karras et al. (2020), StyleGAN2's code, take 4.
_GROUP = 8


def leaky(x: Tensor) -> Tensor:
    """Computes max(x, 0.2 x) in place of x, which nothing else may need."""
    return F.leaky_relu(x, 0.2, inplace=True)


def normal_(layer: nn.Conv2d | nn.Linear, gain: float = math.sqrt(2)) -> None:
    """Draws weights with the variance gain^2 / fan-in, and zero biases (He et al., 2015)."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def variety(x: Tensor) -> Tensor:
    """Returns the mean standard deviation of each group of consecutive examples, (B, 1).

    Source: Karras et al. (2018), section 3, for the statistic of the minibatch.
    """
    size = math.gcd(len(x), _GROUP)
    groups = x.view(-1, size, x.shape[1])
    deviation = (groups.var(dim=1, correction=0) + 1e-8).sqrt().mean(dim=1)
    return deviation.repeat_interleave(size)[:, None]
