"""The Parzen-window log-likelihood: held-out images under Gaussians centered on the samples.

    log p(x) = log 1/m sum_j N(x; c_j, sigma^2 I)
             = log sum_j exp(-|x - c_j|^2 / 2 sigma^2) - log m - d/2 log(2 pi sigma^2)

In nats per image. The value depends on the scale of the pixels, on the dimension d and on the
number of samples m, which are therefore reported with it. It does not rank models by the quality of
their images: centroids of k-means score higher than real images (Theis et al., 2016).

References:
    Denton et al. (2015), section 5.1; Breuleux et al. (2010).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lapgan.data import Images
from lapgan.errors import LapganError
from lapgan.evaluation.config import Scale
from lapgan.evaluation.context import Context, EvaluatedModel
from lapgan.evaluation.measurement import TRAINING, Detail, Measurement
from lapgan.evaluation.metrics.base import Metric
from lapgan.evaluation.metrics.log_likelihood import SECTION, LogLikelihood, Width
from lapgan.evaluation.metrics.parzen_references import GaussianFit, fit_centroids
from lapgan.normalization import Normalization, standard_normalization, symmetric_normalization
from lapgan.progress import tracked, working
from lapgan.sizes import Size

__all__ = [
    "CENTROIDS",
    "GAUSSIAN",
    "METRIC",
    "choose_scale",
    "choose_width",
    "parzen_log_density",
    "parzen_log_likelihood",
]

# The subjects of reference rows.
CENTROIDS = "k-means centroids"
GAUSSIAN = "Gaussian fit"

# Blocks that fill the matrix product and keep memory at a few MiB, whatever is compared.
_SAMPLES, _IMAGES = 512, 512

# The grid of widths, in standard deviations of the images' pixels: 0.77 is best for real images of
# CIFAR-10, and the best width of any useful model lies well within.
_COARSE = torch.logspace(math.log10(0.05), math.log10(2.5), 15, dtype=torch.float64)
_REFINEMENTS = 2


def choose_scale(
    scale: Scale, images: Images, size: Size, *, corners: bool = False
) -> Normalization:
    """Returns the map from pixels to the scale in which densities are computed.

    `standardised` has zero mean and unit variance per pixel over the training images, as in the
    code of Denton et al. (2015); `unit` is [0, 1]; `symmetric` is [-1, 1].

    Args:
        scale: by name.
        images: the training images.
        size: of the images to compare.
        corners: whether these are corner crops of the training images.
    """
    if scale == "standardised":
        return standard_normalization(images, size, corners=corners, flip=False)
    if scale == "symmetric":
        return symmetric_normalization(size)
    return Normalization(mean=torch.zeros((3, *size)), std=torch.full((3, *size), 255.0))


def parzen_log_likelihood(
    samples: Float[Tensor, "m ..."],
    test: Float[Tensor, "n ..."],
    validation: Float[Tensor, "v ..."],
    sigma: float | None = None,
) -> LogLikelihood:
    """Estimates the log-likelihood of test images from samples of a model.

    Args:
        samples: images of the model, in the scale in which the density is computed.
        test: held-out images.
        validation: images to choose sigma on, neither among the samples nor in `test`.
        sigma: the width; chosen if None.

    Returns:
        The log-likelihoods, in nats per image.

    Raises:
        LapganError: shapes differ, a set is empty, or a value is not finite.
    """
    samples, test, validation = (x.flatten(1) for x in (samples, test, validation))
    _check(samples=samples, test=test, validation=validation)
    center = samples.mean(dim=0)
    # Distances do not change, but lose fewer digits where the numbers are small.
    samples, test, validation = (x - center for x in (samples, test, validation))
    if sigma is None:
        unit = validation.std(dim=0, correction=0).square().mean().sqrt().item()
        width = choose_width(
            lambda sigmas: _log_densities(validation, samples, sigmas).mean(dim=1), unit or 1.0
        )
    else:
        width = Width(sigma, on_edge=False)
    values = parzen_log_density(test, samples, width.sigma)
    return LogLikelihood(values, width, test.shape[1], len(samples), len(validation))


def choose_width(score: Callable[[Tensor], Tensor], unit: float) -> Width:
    """Returns the width with the best score on a grid, refined around the best.

    Args:
        score: from widths (s,) to scores (s,), larger is better.
        unit: the standard deviation of the images, which places the grid.
    """
    grid = _COARSE * unit
    best = int(score(grid).argmax())
    on_edge = best in (0, len(grid) - 1)
    for _ in range(_REFINEMENTS):
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        grid = torch.logspace(low.log10().item(), high.log10().item(), 9, dtype=torch.float64)
        best = int(score(grid).argmax())
    return Width(grid[best].item(), on_edge)


def parzen_log_density(
    x: Float[Tensor, "n d"], samples: Float[Tensor, "m d"], sigma: float
) -> Float[Tensor, " n"]:
    """Computes log p(x) under Gaussians of width sigma on the samples, in nats, float64."""
    return _log_densities(x, samples, torch.tensor([sigma], dtype=torch.float64))[0]


def _log_densities(
    x: Float[Tensor, "n d"], samples: Float[Tensor, "m d"], sigmas: Float[Tensor, " s"]
) -> Float[Tensor, "s n"]:
    """Computes log densities for several widths in one pass over the samples."""
    m, d = samples.shape
    scales = (-0.5 / sigmas.square()).to(x.dtype)
    total = x.new_full((len(sigmas), len(x)), -math.inf, dtype=torch.float64)
    norms = _square_norms(x)
    for first in tracked(range(0, m, _SAMPLES), "Parzen windows"):
        block = samples[first : first + _SAMPLES]
        block_norms = _square_norms(block)
        for start in range(0, len(x), _IMAGES):
            span = slice(start, start + _IMAGES)
            distances = torch.addmm(block_norms, x[span], block.T, alpha=-2)
            distances += norms[span, None]
            for sums, scale in zip(total[:, span], scales, strict=True):
                torch.logaddexp(sums, (distances * scale).logsumexp(dim=1).double(), out=sums)
    return total - math.log(m) - d / 2 * torch.log(2 * math.pi * sigmas.square())[:, None]


def _square_norms(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Returns |x|^2, without the squares of all values in memory."""
    norms: Tensor = torch.linalg.vector_norm(x, dim=1)
    return norms.square()


def _check(**sets: Tensor) -> None:
    shape = sets["test"].shape[1:]
    for name, images in sets.items():
        if not len(images):
            raise LapganError(f"Parzen: no {name} images; give at least one.")
        if images.shape[1:] != shape:
            raise LapganError(
                f"Parzen: {name} images have {images.shape[1]} values, test images {shape[0]}; "
                "all must have one size."
            )
        if not bool(images.isfinite().all()):
            raise LapganError(f"Parzen: {name} images hold values that are not finite.")


@dataclass(frozen=True, eq=False)
class _Target:
    """What all samples of one size are compared with: real images in one scale."""

    size: Size
    scale: Normalization
    test: Tensor
    validation: Tensor


def _target(context: Context, size: Size) -> _Target:
    return context.remember(size, _read_target, context, size)


def _read_target(context: Context, size: Size) -> _Target:
    real, counts = context.real(size), context.counts
    scale = choose_scale(context.scale, context.training, size, corners=real.cropped)
    test = scale.normalize(real.test(counts.test)).flatten(1)
    validation = scale.normalize(real.validation(counts.validation)).flatten(1)
    return _Target(size, scale, test, validation)


def _measure(context: Context, model: EvaluatedModel) -> Iterator[Measurement]:
    target = _target(context, model.size)
    samples = target.scale.normalize(context.samples(model)).flatten(1)
    yield _compare(context, target, model.name, samples)


def _measure_references(context: Context, size: Size) -> Iterator[Measurement]:
    """Measures training images, centroids of k-means, and samples of a Gaussian fit."""
    target, counts = _target(context, size), context.counts
    real, normalize = context.real(size), target.scale.normalize
    training = normalize(real.train(counts.samples)).flatten(1)
    yield _compare(context, target, TRAINING, training)
    images = normalize(real.train(counts.fit)).flatten(1)
    with working("k-means"):
        centroids = fit_centroids(images, counts.centroids, context.seed)
    yield _compare(context, target, CENTROIDS, centroids)
    if len(images) > images.shape[1]:
        with working("Gaussian fit"):
            gaussian = GaussianFit.of(images)
            exact = gaussian.log_likelihood(target.test).mean().item()
            samples = gaussian.sample(counts.samples, context.seed)
        yield _compare(context, target, GAUSSIAN, samples, exact_log_likelihood=exact)


def _compare(
    context: Context, target: _Target, subject: str, samples: Tensor, **details: Detail
) -> Measurement:
    """Measures samples that are in the target's scale already, (m, d)."""
    likelihood = parzen_log_likelihood(samples, target.test, target.validation)
    return likelihood.report(
        subject=subject,
        metric=METRIC.name,
        size=target.size,
        seed=context.seed,
        details={"scale": context.scale, **details},
    )


METRIC = Metric(
    "parzen", SECTION, _measure, _measure_references, needs="samples", uses_held_out=True
)
