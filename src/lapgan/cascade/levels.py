"""The descent through the pyramid: the cascade as a pure function.

    I~_K = G_K(z_K),   I~_k = u(I~_{k+1}) + G_k(z_k, u(I~_{k+1}))

References:
    Denton et al. (2015), equation 5.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lapgan.compute import Compute
from lapgan.errors import LapganError
from lapgan.models.contracts import generate
from lapgan.noise import AnyNoise, draw_normal
from lapgan.pyramid import Operator, Stage, image_of, upsample
from lapgan.recipe import LevelRecipe
from lapgan.sizes import Size
from lapgan.weights import Weights, generator_state

__all__ = ["CascadeNet", "Level", "build_level", "descend", "perturb"]


# Conditioning noise is added to images of [-1, 1]; the coarser level may draw a little beyond.
_LARGEST_VALUE = 1.1


@dataclass(frozen=True)
class Level:
    """One level of a cascade.

    Args:
        size: height and width.
        noise: what the generator starts from.
        generator: of the residual, or of the image at the coarsest level.
        sigma: standard deviation of the conditioning noise in sampling, in the scale of the nets;
            None where the level has none.
    """

    size: Size
    noise: AnyNoise
    generator: nn.Module
    sigma: float | None = None

    def draw_noise(
        self, count: int, below: Size, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Draws z and then e, which is None without conditioning noise; see `descend`.

        Args:
            count: how many.
            below: the size of the coarser level.
            generator: of both.
        """
        z = self.noise.sample(count, self.size, generator)
        return z, None if self.sigma is None else draw_normal((count, 3, *below), generator)

    def prepare(self, compute: Compute) -> None:
        """Readies the generator for sampling on the given device."""
        self.generator.requires_grad_(False).eval()
        compute.place(self.generator)


def descend(
    levels: Sequence[Level],
    operator: Operator,
    z: Sequence[Tensor],
    label: Tensor | None,
    start: Tensor | None = None,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    epsilon: Sequence[Tensor | None] | None = None,
) -> list[Stage]:
    """Generates one level after the other, each from the image of the one before.

    At a level with conditioning noise, l_k = u(I~_{k+1} + sigma e), and G_k is given sigma.

    Args:
        levels: coarsest first.
        operator: u(.) of the pyramid.
        z: the noise of each level, (n, ...).
        label: class indices (n,), or None without classes.
        start: images (n, 3, h, w) to continue from, in the scale of the nets; None to begin with
            the coarsest level.
        autocast: makes the context in which the generators run.
        epsilon: e of each level, standard normal, (n, 3, h, w) of the coarser level's size; None at
            a level without conditioning noise, or for sigma = 0.

    Returns:
        One stage per level, in the same order.
    """
    stages: list[Stage] = []
    image = start
    for level, noise, e in zip(levels, z, epsilon or [None] * len(levels), strict=True):
        sigma = None
        if image is not None and level.sigma is not None and e is not None:
            image = perturb(image, level.sigma, e)
            sigma = image.new_full((image.shape[0], 1), level.sigma)
        low = None if image is None else upsample(image, level.size, operator)
        with autocast():
            high = generate(level.generator, low, noise, label, sigma).float()
        image = image_of(high, low)
        stages.append(Stage(low, high, image))
    return stages


def perturb(image: Tensor, sigma: float | Tensor, epsilon: Tensor) -> Tensor:
    """Adds conditioning noise, sigma e, to a generated image (n, 3, h, w)."""
    return image.clamp(-_LARGEST_VALUE, _LARGEST_VALUE) + sigma * epsilon


class CascadeNet(nn.Module):
    """A whole cascade as one module of tensors, for `torch.export` and the like.

    Args:
        levels: coarsest first.
        operator: u(.) of the pyramid.
    """

    def __init__(self, levels: Sequence[Level], operator: Operator) -> None:
        super().__init__()
        self.levels, self.operator = tuple(levels), operator
        self.generators = nn.ModuleList(level.generator for level in levels)

    def forward(
        self,
        z: Sequence[Tensor],
        label: Tensor | None = None,
        start: Tensor | None = None,
        epsilon: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """Generates images (n, 3, H, W) of the finest level; see `descend`."""
        stages = descend(self.levels, self.operator, z, label, start, epsilon=epsilon)
        return stages[-1].image


def build_level(path: Path, weights: Weights, level: LevelRecipe) -> Level:
    """Builds a level from weights that were read from `path`, which errors name.

    Raises:
        LapganError: the weights do not fit their recipe.
    """
    generator = level.build_generator(len(weights.class_names))
    try:
        generator.load_state_dict(generator_state(level.name, weights.tensors))
    except RuntimeError as error:
        raise LapganError(f"{path}: level {level.name} does not fit its recipe: {error}") from None
    conditioning = level.conditioning_noise
    sigma = None if conditioning is None else conditioning.sample
    return Level(level.size, level.noise, generator, sigma)
