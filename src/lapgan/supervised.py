"""The supervised term in the loss of G: how far generated residuals are from the real ones.

    L_G = adversarial loss + w(p) mean_i min_j d(G(z_ij, l_i), h_i),    j = 1 ... n

p is the fraction of the budget that is spent, and w the weight. With n = 1 G learns one best guess,
and noise only costs it. With more, only the nearest of n residuals of an image is drawn to the real
one: the others stay free, so that diversity given l_k survives.

References:
    Huszár (2015), inference.vc, who asks for "a combination of the adversarial and a supervised
    objective function"; Gupta et al. (2018), "Social GAN", section 3.4, for the best of n.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, model_validator
from torch import Tensor

from lapgan.pyramid import laplacian_pyramid
from lapgan.section import Count, NotNegative, Section

__all__ = ["AnySupervised", "Distance", "Supervised", "residual_deviations"]

Distance = Literal["own", "l1", "l2", "pyramid", "features"]

# The pyramid of a difference ends where the shorter side has fewer pixels.
_SHORTEST = 8


class Supervised(Section):
    """The supervised term; in a file a table, or its weight alone.

    Args:
        weight: w at the beginning.
        distance: `own` is that of the generator where it has one, else `l1`; `l1` and `l2` are the
            mean absolute and mean square difference of residuals; `pyramid` the sum of the mean
            absolute differences of all levels of their Laplacian pyramids; `features` the mean
            relative difference of the values within D.
        best_of: n, how many residuals of each low-pass image are drawn. Each further one costs one
            pass of G without gradients, and any number above 1 one more pass with gradients.
        schedule: of the weight: `constant`, or from `weight` to `final` along a line (`linear`) or
            along half a cosine (`cosine`).
        final: w at the end of the budget.
    """

    weight: NotNegative = 0.0
    distance: Distance = "own"
    best_of: Count = 1
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    final: NotNegative = 0.0

    @model_validator(mode="after")
    def _check_final(self) -> "Supervised":
        if self.final and self.schedule == "constant":
            raise ValueError(
                f"final = {self.final:g} needs schedule = 'linear' or 'cosine', found 'constant'"
            )
        return self

    @property
    def is_used(self) -> bool:
        """Whether the weight is ever above 0."""
        return max(self.weight, self.final) > 0

    def weight_at(self, progress: float) -> float:
        """Returns w after a fraction of the budget, from 0 to 1."""
        p = min(max(progress, 0.0), 1.0)
        if self.schedule == "constant":
            return self.weight
        if self.schedule == "cosine":
            p = (1 - math.cos(math.pi * p)) / 2
        return self.weight + (self.final - self.weight) * p

    def as_plain_data(self) -> float | dict[str, Any]:
        """Returns the weight where that says all, as files of earlier versions have it."""
        content = self.model_dump()
        return self.weight if self == Supervised(weight=self.weight) else content


def _read(value: Any) -> Any:
    """Reads `supervised = 1.0` as `supervised = { weight = 1.0 }`."""
    if isinstance(value, Mapping | Supervised):
        return value
    if isinstance(value, int | float) and value < 0:
        raise ValueError("the weight should be greater than or equal to 0")
    return {"weight": value}


AnySupervised = Annotated[Supervised, BeforeValidator(_read)]


def residual_deviations(
    kind: Literal["l1", "l2", "pyramid"], high: Tensor, other: Tensor
) -> list[Tensor]:
    """Returns how residuals (B, 3, H, W) deviate: the sum of the means of all is the distance.

        l1: |h - h'|,    l2: (h - h')^2,    pyramid: |L_j(h - h')|, j = 0 ... J

    L_j is level j of the Laplacian pyramid, whose sizes are halved until the shorter side is below
    8 pixels. It is linear, so that of the difference is the difference of those of both.

    Returns:
        One tensor, or one per level of the pyramid, (B, ...) each.

    References:
        Bojanowski et al. (2018), "Optimizing the latent space of generative networks", section 3,
        for the pyramid: Lap_1 per pixel.
    """
    difference = high.float() - other
    if kind == "l2":
        return [difference.square()]
    if kind == "l1":
        return [difference.abs()]
    sizes = [(difference.shape[-2], difference.shape[-1])]
    while min(sizes[-1]) >= _SHORTEST:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    with torch.autocast(difference.device.type, enabled=False):
        return [level.abs() for level in laplacian_pyramid(difference, sizes)]
