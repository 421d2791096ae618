"""From images to the examples of one level."""

import dataclasses

import torch
from torch import Tensor

from lapgan.batches import Batches
from lapgan.data import Images
from lapgan.normalization import Normalization, standard_normalization, symmetric_normalization
from lapgan.pyramid import gaussian_pyramid, upsample
from lapgan.recipe import Recipe
from lapgan.training.job import LevelTask
from lapgan.training.step import Examples

__all__ = [
    "level_examples",
    "make_examples",
    "normalization_of",
    "real_examples",
    "training_batches",
]


def training_batches(recipe: Recipe, images: Images, seed: int) -> Batches:
    """Returns the minibatches of a recipe; a LapganError if the images do not fit it."""
    data = recipe.data
    return Batches(
        images,
        recipe.sizes[0],
        recipe.training.batch,
        seed,
        corners=data.crop == "corners",
        flip=data.flip,
    )


def normalization_of(recipe: Recipe, images: Images) -> Normalization:
    """Returns the normalization of the finest level that the recipe asks for."""
    size = recipe.sizes[0]
    if recipe.data.normalisation == "symmetric":
        return symmetric_normalization(size)
    corners = recipe.data.crop == "corners"
    return standard_normalization(images, size, corners=corners, flip=recipe.data.flip)


def level_examples(job: LevelTask, batches: Batches, images_seen: int) -> Examples:
    """Makes the examples that follow `images_seen`, and seeds all that is random in the step."""
    pixels, labels = batches.at(images_seen)
    generator = torch.Generator().manual_seed(job.seed_after(images_seen))
    # Dropout draws from the global generators, which the caller has forked.
    job.compute.seed(job.seed_after(images_seen) ^ 1)
    return make_examples(job, pixels, labels, generator)


def real_examples(job: LevelTask, batches: Batches, images_seen: int, count: int) -> Examples:
    """Makes `count` examples with real low-pass images alone, where G has no part in them."""
    larger = dataclasses.replace(batches, batch=count)
    return level_examples(dataclasses.replace(job, below=None), larger, images_seen)


def make_examples(
    job: LevelTask, pixels: Tensor, labels: Tensor | None, generator: torch.Generator
) -> Examples:
    """Turns pixels (B, 3, H, W) into one level's examples: l_k = u(I_{k+1}), h_k = I_k - l_k."""
    level, size, compute = job.recipe.level(job.k), job.recipe.sizes[job.k], job.compute
    operator, deepest = job.recipe.pyramid.operator, job.k + 2
    images = gaussian_pyramid(
        job.normalization.normalize(pixels), job.recipe.sizes[:deepest], operator
    )
    image = images[job.k]
    low = upsample(images[job.k + 1], size, operator) if len(images) > job.k + 1 else None
    high = image if low is None else image - low
    z = level.noise.build().sample(len(pixels), size, generator)
    low = None if low is None else compute.place(low)
    label = labels.to(compute.device) if labels is not None and job.num_classes else None
    return Examples(
        high=compute.place(high),
        low=low,
        given=None if low is None else _given(job, low, label, generator),
        z=compute.place(z),
        label=label,
    )


def _given(job: LevelTask, low: Tensor, label: Tensor | None, generator: torch.Generator) -> Tensor:
    """Puts low-pass images that the levels below generate in place of the first few."""
    count = round(job.recipe.training.exposure * len(low))
    if job.below is None or not count:
        return low
    image = job.below.sample(count, None if label is None else label[:count], generator)
    generated = upsample(image, job.recipe.sizes[job.k], job.recipe.pyramid.operator)
    return job.compute.place(torch.cat((generated, low[count:])))
