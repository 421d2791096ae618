"""The sliced Wasserstein distance between patches of Laplacian levels (`swd`).

The local structure of images at each scale is compared apart from the other scales:

    SWD(A, B) = mean over directions t, |t| = 1, of W_1(<t, a>, <t, b>)

a and b are descriptors: patches of 7x7 pixels at random places of one level h_k of the Laplacian
pyramid, with mean 0 and standard deviation 1 per color over each set. The pyramid is the same for
all models: the operator of Burt and Adelson, sizes halved down to about 16.

References:
    Karras et al. (2018), "Progressive growing of GANs", section 5; their tables multiply by 1000.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lapgan.errors import LapganError
from lapgan.evaluation.context import Context, EvaluatedModel
from lapgan.evaluation.measurement import HELD_OUT, Estimate, Measurement
from lapgan.evaluation.metrics.base import Metric, only_when_named
from lapgan.evaluation.sections import (
    COUNT_COLUMN,
    ERROR_COLUMN,
    VALUE_COLUMN,
    Column,
    ReportSection,
    plot_each_metric,
    tabulate_by_metric,
)
from lapgan.progress import tracked
from lapgan.pyramid import size_of, stages_of
from lapgan.seeds import generator_of
from lapgan.sizes import Size, size_text

__all__ = ["METRIC", "cut_patches", "describe", "halve_sizes", "sliced_wasserstein"]

_PATCH, _PATCHES_PER_IMAGE, _DIRECTIONS = 7, 128, 512
# As many as fit into memory: 262,144 descriptors per level.
_MAX_IMAGES = 2048
# The coarsest level of 32 and 64 pixels has 16, that of 28 has 14.
_MIN_SIDE = 14
# Images and directions that are worked on at once.
_IMAGE_CHUNK, _DIRECTION_CHUNK = 256, 32


def halve_sizes(finest: Size) -> list[Size]:
    """Returns the sizes of the pyramid: halved, rounded up, while no side is below 14."""
    sizes = [finest]
    while min(half := ((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2)) >= _MIN_SIDE:
        sizes.append(half)
    return sizes


def describe(images: UInt8[Tensor, "n 3 h w"], seed: int) -> list[Float[Tensor, "m 147"]]:
    """Computes the descriptors of every level, finest first.

    Args:
        images: pixels of 0 to 255, at least 7x7.
        seed: decides where patches are cut; equal seeds give equal places.
    """
    sizes = halve_sizes(size_of(images))
    generators = [generator_of(seed, k) for k in range(len(sizes))]
    patches: list[list[Tensor]] = [[] for _ in sizes]
    for chunk in tracked(torch.split(images, _IMAGE_CHUNK), "patches of Laplacian levels"):
        for k, stage in enumerate(stages_of(chunk.float(), sizes)):
            patches[k].append(cut_patches(stage.high, generators[k]))
    return [_normalize(torch.cat(level)) for level in patches]


def cut_patches(
    x: Float[Tensor, "n c h w"], generator: torch.Generator
) -> Float[Tensor, "n 128 c 7 7"]:
    """Cuts 128 patches of 7x7 pixels from each image, at random places."""
    rows, columns = (
        torch.randint(side - _PATCH + 1, (len(x), _PATCHES_PER_IMAGE, 1), generator=generator)
        + torch.arange(_PATCH)
        for side in size_of(x)
    )
    image = torch.arange(len(x))[:, None, None, None]
    patches = x[image, :, rows[..., :, None], columns[..., None, :]]
    return patches.permute(0, 1, 4, 2, 3)


def _normalize(patches: Float[Tensor, "n 128 c 7 7"]) -> Float[Tensor, "m d"]:
    """Sets mean and standard deviation of each color to 0 and 1, and flattens the patches."""
    patches = patches.flatten(0, 1)
    std, mean = torch.std_mean(patches, dim=(0, 2, 3), keepdim=True)
    return ((patches - mean) / std.clamp(min=1e-8)).flatten(1)


def sliced_wasserstein(a: Float[Tensor, "m d"], b: Float[Tensor, "m d"], seed: int = 0) -> Estimate:
    """Computes the sliced Wasserstein distance of two sets of as many points.

    In one dimension W_1 is the mean distance between the sorted points.

    Args:
        a: one set.
        b: the other.
        seed: of the 512 directions.

    Returns:
        the mean over directions and its standard error, which does not cover the choice of points.
    """
    directions = torch.randn(_DIRECTIONS, a.shape[1], generator=generator_of(seed))
    directions = directions / directions.norm(dim=1, keepdim=True)
    chunks = tracked(torch.split(directions, _DIRECTION_CHUNK), "sliced Wasserstein distance")
    values = torch.cat(
        [(_project(a, t) - _project(b, t)).abs().mean(dim=1) for t in chunks]
    ).double()
    error = float(values.std() / len(values) ** 0.5)
    return Estimate(float(values.mean()), error, len(a), "standard error over directions")


def _project(x: Float[Tensor, "m d"], directions: Float[Tensor, "t d"]) -> Float[Tensor, "t m"]:
    """Returns the coordinates of points along directions, sorted."""
    # NumPy sorts floats an order of magnitude faster than PyTorch on CPUs with AVX2.
    return torch.from_numpy(np.sort((directions @ x.T).numpy(), axis=1))


def _check(context: Context) -> None:
    for model in context.models:
        if min(model.size) < _PATCH:
            raise LapganError(
                f"swd: the images of {model.name} are {size_text(model.size)}, expected at least "
                f"{_PATCH}x{_PATCH}; leave out the metric."
            )


def _count(context: Context) -> int:
    return min(context.counts.samples, _MAX_IMAGES)


def _measure(context: Context, model: EvaluatedModel) -> Iterator[Measurement]:
    images = context.samples(model)[: _count(context)]
    yield from _compare(context, model.name, model.size, images)


def _measure_references(context: Context, size: Size) -> Iterator[Measurement]:
    n = _count(context)
    if len(context.held_out) >= n:
        yield from _compare(context, HELD_OUT, size, context.real(size).test(n))


def _compare(
    context: Context, subject: str, size: Size, images: UInt8[Tensor, "n 3 h w"]
) -> Iterator[Measurement]:
    """Compares images with as many training images, level by level."""
    real = context.remember(size, _describe_training_images, context, size)
    fake = describe(images, context.seed)
    for level, a, b in zip(halve_sizes(size), real, fake, strict=True):
        estimate = sliced_wasserstein(a, b, context.seed)
        yield Measurement(
            subject=subject,
            metric=f"{METRIC.name} at {size_text(level)}",
            value=estimate.value,
            error=estimate.error,
            n=len(images),
            seed=context.seed,
            section=SECTION.name,
            details={"error_is": estimate.error_is, "descriptors": len(b)},
        )


def _describe_training_images(context: Context, size: Size) -> list[Tensor]:
    return describe(context.real(size).train(_count(context)), context.seed)


SECTION = ReportSection(
    name="swd",
    title="Sliced Wasserstein distance",
    introduction=(
        "The distance between patches of training images and of generated ones, level by level of "
        "a Laplacian pyramid: how well local structure is matched at each scale. Lower is better; "
        "held-out images show the distance of equal distributions at this n."
    ),
    tabulate=tabulate_by_metric(
        Column("images", lambda m: m.subject, left=True),
        VALUE_COLUMN,
        ERROR_COLUMN,
        Column("± is the", lambda m: str(m.details["error_is"]), left=True),
        COUNT_COLUMN,
    ),
    plot=plot_each_metric,
)
METRIC = Metric(
    "swd",
    SECTION,
    _measure,
    _measure_references,
    check=_check,
    is_usual=only_when_named,  # it sees texture only
    needs="samples",
)
