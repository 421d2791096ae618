"""Layers and initial weights that several families share."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ProjectionHead", "activate_flat", "he_normal_", "leaky_relu_", "minibatch_std"]

# Group size of the minibatch standard deviation; Karras et al. (2020), StyleGAN2's code, take 4.
_GROUP = 8


def leaky_relu_(x: Tensor) -> Tensor:
    """Computes max(x, 0.2 x) in place; nothing else may need x."""
    return F.leaky_relu(x, 0.2, inplace=True)


def activate_flat(x: Tensor, slope: float) -> Tensor:
    """Computes max(x, slope x) of maps (B, C, h, w), laid out flat, (B, C h w).

    Flat first: otherwise the gradient comes laid out flat to maps with channels last, and a CPU
    takes several times as long for it.
    """
    return F.leaky_relu(x.flatten(1), slope)


def he_normal_(layer: nn.Conv2d | nn.Linear, gain: float = math.sqrt(2)) -> None:
    """Draws weights with the variance gain^2 / fan-in, and zero biases.

    References:
        He et al. (2015), "Delving deep into rectifiers", section 2.2.
    """
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


class ProjectionHead(nn.Module):
    """The end of a discriminator: dense layers to a logit.

    The class enters by projection, logit = a(x) + <b(x), e_c>, and one unit is the standard
    deviation within a group of 8 examples.

    Args:
        features: values per example.
        units: units in each layer.
        num_classes: how many classes condition the examples; 0 for none.

    References:
        Miyato and Koyama (2018), equation 3, for the projection; Karras et al. (2018), section 3,
        for the statistic of the minibatch.
    """

    def __init__(self, features: int, units: int, num_classes: int) -> None:
        super().__init__()
        self.dense = nn.Linear(features, units)
        self.joint = nn.Linear(units + 1, units)
        self.last = nn.Linear(units, 1)
        self.embedding = nn.Embedding(num_classes, units) if num_classes else None
        for layer in (self.dense, self.joint):
            he_normal_(layer)
        he_normal_(self.last, 1.0)

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        """Turns values (B, features) into logits (B,)."""
        x = leaky_relu_(self.dense(x))
        x = leaky_relu_(self.joint(torch.cat((x, minibatch_std(x)), dim=1)))
        logits: Tensor = self.last(x).squeeze(1)
        if self.embedding is None:
            return logits
        match: Tensor = (x * self.embedding(label)).sum(1) / math.sqrt(x.shape[1])
        return logits + match


def minibatch_std(x: Tensor) -> Tensor:
    """Returns the mean standard deviation of each group of consecutive examples, (B, 1)."""
    if not len(x):
        return x.new_zeros(0, 1)
    size = math.gcd(len(x), _GROUP)
    groups = x.view(len(x) // size, size, x.shape[1])
    std = (groups.var(dim=1, correction=0) + 1e-8).sqrt().mean(dim=1)
    return std.repeat_interleave(size)[:, None]
