"""From pixels to the examples of one level: h_k and l_k of the Laplacian pyramid, and noise."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lapgan.batches import Batches
from lapgan.compute import Compute
from lapgan.data import Images
from lapgan.models.contracts import generate
from lapgan.normalization import (
    Normalization,
    standard_normalization,
    symmetric_normalization,
)
from lapgan.pyramid import Stage, direct_stage, gaussian_pyramid, stages_of, upsample
from lapgan.recipe import LevelRecipe, Recipe

__all__ = [
    "Examples",
    "add_conditioning_noise",
    "make_examples",
    "normalization_of",
    "real_stage",
    "training_batches",
]


@dataclass(frozen=True)
class Examples:
    """Examples of one level.

    Args:
        high: residuals h_k, or images at the coarsest level, (B, 3, H, W).
        low: low-pass images l_k, the same shape; None at the coarsest level.
        z: noise, (B, ...).
        label: class indices (B,), or None.
        sigma: standard deviation (B, 1) of the conditioning noise in l_k, or None without it.
        generated_low: what G adds its residuals to, where that is not l_k of all examples; see
            `lapgan.training.coarse`.
    """

    high: Tensor
    low: Tensor | None
    z: Tensor
    label: Tensor | None
    sigma: Tensor | None = None
    generated_low: Tensor | None = None

    def __len__(self) -> int:
        return len(self.high)

    @property
    def device(self) -> torch.device:
        """Where the examples are."""
        return self.high.device

    def __getitem__(self, span: slice | Tensor) -> "Examples":
        return self._apply(lambda x: x[span])

    def clone(self) -> "Examples":
        """Returns a copy in memory of its own."""
        return self._apply(torch.clone)

    def _apply(self, change: Callable[[Tensor], Tensor]) -> "Examples":
        others = (self.low, self.label, self.sigma, self.generated_low)
        low, label, sigma, generated = (None if x is None else change(x) for x in others)
        return Examples(change(self.high), low, change(self.z), label, sigma, generated)

    @property
    def fake_low(self) -> Tensor | None:
        """The low-pass images of the generated residuals."""
        return self.low if self.generated_low is None else self.generated_low

    def generate(self, generator: nn.Module) -> Tensor:
        """Generates a residual for each example, (B, 3, H, W)."""
        return generate(generator, self.fake_low, self.z, self.label, self.sigma)


def training_batches(recipe: Recipe, images: Images, seed: int) -> Batches:
    """Returns the minibatches of a recipe; a LapganError if the images do not fit it."""
    data = recipe.data
    return Batches(
        images,
        recipe.sizes[0],
        seed,
        corners=data.crop == "corners",
        flip=data.flip,
        replacement=data.replacement,
    )


def normalization_of(recipe: Recipe, images: Images) -> Normalization:
    """Returns the normalization of the finest level that the recipe asks for."""
    size = recipe.sizes[0]
    if recipe.data.normalisation == "symmetric":
        return symmetric_normalization(size)
    corners = recipe.data.crop == "corners"
    return standard_normalization(images, size, corners=corners, flip=recipe.data.flip)


def real_stage(
    pixels: Tensor, recipe: Recipe, level: LevelRecipe, normalization: Normalization
) -> Stage:
    """Returns l_k, h_k and I_k of pixels (B, 3, H, W) of the finest size, at one level."""
    operator, sizes = recipe.pyramid.operator, recipe.sizes
    finest = normalization.normalize(pixels)
    if recipe.pyramid.direct:
        return direct_stage(finest, sizes[level.index : level.index + 2], operator)
    images = gaussian_pyramid(finest, sizes[: level.index + 1], operator)
    return stages_of(images[-1], sizes[level.index : level.index + 2], operator)[0]


def make_examples(
    stage: Stage,
    level: LevelRecipe,
    label: Tensor | None,
    generator: torch.Generator,
    compute: Compute,
) -> Examples:
    """Adds noise to the real images of a level.

    Args:
        stage: of the real images.
        level: whose noise is drawn.
        label: class indices (B,), or None.
        generator: of the noise.
        compute: where the nets run.
    """
    z = level.noise.sample(len(stage.high), level.size, generator)
    return Examples(
        high=compute.place(stage.high),
        low=None if stage.low is None else compute.place(stage.low),
        z=compute.place(z),
        label=None if label is None else compute.send(label),
    )


def add_conditioning_noise(
    examples: Examples, recipe: Recipe, level: LevelRecipe, generator: torch.Generator
) -> Examples:
    """Adds conditioning noise to the low-pass images, and takes it off the residuals.

        l'_k = u(I_{k+1} + sigma e) = l_k + u(sigma e),    h'_k = I_k - l'_k

    since u(.) is linear. Examples of a level without it are returned as they are.

    Args:
        examples: of the level.
        recipe: of the whole cascade.
        level: the level.
        generator: of sigma and e.
    """
    if level.conditioning_noise is None or examples.low is None:
        return examples
    coarse = recipe.sizes[level.index + 1]
    sigma, noise = level.conditioning_noise.draw(len(examples), coarse, generator)
    change = upsample(noise, level.size, recipe.pyramid.operator).to(examples.low)
    return replace(
        examples,
        high=examples.high - change,
        low=examples.low + change,
        sigma=sigma.to(examples.low),
    )
