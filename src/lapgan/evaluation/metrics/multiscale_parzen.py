"""The multi-scale Parzen log-likelihood: the product of one density per level.

An orthogonal map splits an image into its low-pass coefficients and the rest, level by level:

    y_0 = I_0,   (y_{k+1}, h_k) = S_k y_k,   S_k orthogonal
    log p(I_0) = log q_K(y_K) + sum_k log q_k(h_k | I_{k+1})

q_K is a Parzen density over images that the coarsest level samples; q_k is one over residuals that
level k generates from the true low-pass image of the test image. Each has a width of its own.

For pyramids of disjoint 2x2 blocks y_{k+1} is twice the block mean, and h_k the rest in an
orthonormal basis, as in the paper. For any other sizes and operators (8 -> 14 -> 28) the same idea
holds: with C_k = d(d(...)) the matrix from I_0 to I_k on one axis,

    y_k = (C_k C_k^T)^(-1/2) I_k

are coordinates of I_k in an orthonormal basis of the row space of C_k; these spaces are nested, so
S_k exists: its first rows are (C_{k+1} C_{k+1}^T)^(-1/2) C_{k+1} in the coordinates y_k, the others
complete the basis. Nothing is approximated, and sizes need not divide each other.

References:
    Denton et al. (2015), section 5.1 and appendix A.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.errors import LapganError
from lapgan.evaluation.context import Context, EvaluatedModel
from lapgan.evaluation.measurement import Detail, Measurement
from lapgan.evaluation.metrics.base import Metric
from lapgan.evaluation.metrics.log_likelihood import SECTION, LogLikelihood, Width
from lapgan.evaluation.metrics.parzen import choose_width, parzen_log_likelihood
from lapgan.progress import tracked
from lapgan.pyramid import Operator, downsample, gaussian_pyramid, image_of, upsample
from lapgan.sizes import Size, check_sizes, size_text

__all__ = ["METRIC", "MultiscaleLogLikelihood", "OrthogonalSplit", "multiscale_parzen"]

# Residuals that are generated at once: a few blocks of the cascade.
_CHUNK = 1024


class OrthogonalSplit:
    """The orthogonal map from an image to low-pass coefficients and residuals of every level.

    Args:
        sizes: of every level, finest first.
        operator: the pyramid's d(.), by name.

    Raises:
        LapganError: sizes do not descend, or d(.) is rank-deficient.
    """

    def __init__(self, sizes: Sequence[Size], operator: Operator) -> None:
        check_sizes(sizes)
        self._axes = [_Axis([size[axis] for size in sizes], operator) for axis in (0, 1)]

    def low(self, image: Float[Tensor, "b c h w"], k: int) -> Float[Tensor, "b d"]:
        """Returns y_k of images I_k."""
        return self._coefficients(image, k).flatten(1)

    def high(self, image: Float[Tensor, "b c h w"], k: int) -> Float[Tensor, "b d"]:
        """Returns h_k of images I_k: the rest beside y_{k+1}, in an orthonormal basis."""
        rows, columns = (axis.splits[k] for axis in self._axes)
        split = rows @ self._coefficients(image, k) @ columns.T
        height, width = (axis.lengths[k + 1] for axis in self._axes)
        return torch.cat(
            (split[..., height:, :].flatten(1), split[..., :height, width:].flatten(1)), 1
        )

    def dimension(self, k: int) -> int:
        """Returns the number of values of h_k, for three colors."""
        fine, coarse = (math.prod(axis.lengths[i] for axis in self._axes) for i in (k, k + 1))
        return 3 * (fine - coarse)

    def _coefficients(self, image: Tensor, k: int) -> Tensor:
        rows, columns = (axis.roots[k] for axis in self._axes)
        return rows @ image.double() @ columns.T


@dataclass(frozen=True)
class MultiscaleLogLikelihood:
    """Multi-scale log-likelihoods, in nats per image.

    Args:
        levels: of every level, finest first; the last is that of the coarsest image.
    """

    levels: list[LogLikelihood]

    @property
    def total(self) -> LogLikelihood:
        """Of the whole image; its width is that of the finest level."""
        return LogLikelihood(
            values=torch.stack([level.values for level in self.levels]).sum(dim=0),
            width=Width(
                self.levels[0].width.sigma, any(level.width.on_edge for level in self.levels)
            ),
            dimension=sum(level.dimension for level in self.levels),
            samples=self.levels[-1].samples,
            validation=self.levels[-1].validation,
        )


def multiscale_parzen(
    cascade: Cascade,
    test: Float[Tensor, "n 3 h w"],
    validation: Float[Tensor, "v 3 h w"],
    *,
    samples: int,
    draws: int,
    seed: int = 0,
    labels: Tensor | None = None,
    validation_labels: Tensor | None = None,
) -> MultiscaleLogLikelihood:
    """Estimates the multi-scale log-likelihood of test images.

    Args:
        cascade: the model.
        test: held-out images at the finest size, in the scale of the nets.
        validation: images to choose the widths on.
        samples: how many images the coarsest level samples.
        draws: how many residuals each level generates for each image.
        seed: decides on the noise.
        labels: classes of `test`.
        validation_labels: classes of `validation`.

    Raises:
        LapganError: the images do not have the finest size, or are not finite.
    """
    images = _join_images(validation, test)
    split = OrthogonalSplit(cascade.sizes, cascade.operator)
    pyramid = gaussian_pyramid(images, cascade.sizes, cascade.operator)
    classes = _join_labels(validation_labels, labels) if cascade.class_names else None
    levels = []
    for k, (image, coarse) in enumerate(itertools.pairwise(pyramid)):
        low = upsample(coarse, cascade.sizes[k], cascade.operator)
        distances = _Level(cascade, split, k, image, low, classes).distances(draws, seed)
        levels.append(_log_likelihood(distances, split.dimension(k), len(validation)))
    generated = split.low(_sample_coarsest(cascade, samples, seed), len(levels))
    low = split.low(pyramid[-1], len(levels))
    chosen_on, true = torch.split(low, [len(validation), len(test)])
    return MultiscaleLogLikelihood([*levels, parzen_log_likelihood(generated, true, chosen_on)])


@dataclass(frozen=True, eq=False)
class _Level:
    """A level above the coarsest, and real images at it.

    Args:
        cascade: the model.
        split: the orthogonal map.
        k: which level.
        image: I_k.
        low: l_k = u(I_{k+1}).
        labels: classes of the images, for a model with classes.
    """

    cascade: Cascade
    split: OrthogonalSplit
    k: int
    image: Float[Tensor, "n 3 h w"]
    low: Float[Tensor, "n 3 h w"]
    labels: Tensor | None

    def distances(self, draws: int, seed: int) -> Float[Tensor, "n draws"]:
        """Returns |h_k - h~_k|^2 between each image's residual and those generated for it."""
        chunk = max(1, _CHUNK // draws)
        spans = [slice(start, start + chunk) for start in range(0, len(self.low), chunk)]
        distances = []
        for number, span in enumerate(tracked(spans, f"residuals of level {self.k}")):
            # Chunks must not share their noise.
            generated = self._generate(span, draws, seed * len(spans) + number)
            high = self.split.high(self.image[span], self.k)[:, None]
            highs = self.split.high(generated, self.k).view(-1, draws, high.shape[2])
            distances.append((highs - high).square().sum(dim=2))
        return torch.cat(distances)

    def _generate(self, span: slice, draws: int, seed: int) -> Float[Tensor, "m 3 h w"]:
        """Generates `draws` images from each low-pass image of a span."""
        low = self.low[span].repeat_interleave(draws, dim=0)
        label = None if self.labels is None else self.labels[span].repeat_interleave(draws)
        return image_of(self.cascade.residuals(self.k, low, seed, label), low)


def _sample_coarsest(cascade: Cascade, n: int, seed: int) -> Float[Tensor, "n 3 h w"]:
    """Samples I~_K in the scale of the nets."""
    blocks = cascade.stages(n, seed, finest=len(cascade.levels) - 1)
    return torch.cat([coarsest.image for (coarsest,) in blocks])


def _log_likelihood(
    distances: Float[Tensor, "n draws"], dimension: int, validation: int
) -> LogLikelihood:
    """Turns squared distances into log-likelihoods, with the width chosen on the first images."""

    def log_density(distances: Tensor, sigmas: Tensor) -> Tensor:
        """Returns the log of the mean of Gaussians: (s, n)."""
        variances = sigmas.square()[:, None]
        sums = (-0.5 * distances / variances[..., None]).logsumexp(dim=2)
        count = torch.tensor(float(distances.shape[1]), dtype=torch.float64)
        return sums - count.log() - dimension / 2 * torch.log(2 * torch.pi * variances)

    first = distances[:validation]
    unit = (first.mean() / dimension).sqrt().item()
    width = choose_width(lambda sigmas: log_density(first, sigmas).mean(dim=1), unit or 1.0)
    sigma = torch.tensor([width.sigma], dtype=torch.float64)
    values = log_density(distances[validation:], sigma)[0]
    return LogLikelihood(values, width, dimension, distances.shape[1], validation)


def _join_images(validation: Tensor, test: Tensor) -> Tensor:
    images = torch.cat((validation, test))
    if not images.isfinite().all():
        raise LapganError("multi-scale Parzen: the images hold values that are not finite.")
    return images


def _join_labels(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat((first, second))


class _Axis:
    """The orthogonal map on one axis of every level.

    `roots[k]` maps I_k to y_k; `splits[k]` maps y_k to y_{k+1} and then h_k.
    """

    def __init__(self, lengths: Sequence[int], operator: Operator) -> None:
        self.lengths = lengths
        composite = torch.eye(lengths[0], dtype=torch.float64)
        bases, self.roots = [composite], [composite]
        for length in lengths[1:]:
            composite = _downsample_axis(composite, length, operator)
            self.roots.append(_inverse_root(composite @ composite.T))
            bases.append(self.roots[-1] @ composite)
        self.splits = [
            _complete_basis(coarse @ fine.T) for fine, coarse in itertools.pairwise(bases)
        ]


def _downsample_axis(matrix: Float[Tensor, "fine n"], length: int, operator: Operator) -> Tensor:
    """Applies d(.) to the first axis alone."""
    columns = matrix.shape[1]
    return downsample(matrix[None, None], (length, columns), operator)[0, 0]


def _inverse_root(gram: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Returns the symmetric gram^(-1/2)."""
    values, vectors = torch.linalg.eigh(gram)
    if values[0] <= 1e-9 * values[-1]:
        raise LapganError(
            "multi-scale Parzen: d(.) is rank-deficient for these sizes, so no orthogonal split "
            "exists. Use sizes that lie further apart."
        )
    root: Tensor = (vectors * values.rsqrt()) @ vectors.T
    return root


def _complete_basis(rows: Float[Tensor, "m n"]) -> Float[Tensor, "n n"]:
    """Completes orthonormal rows to an orthogonal matrix."""
    m, n = rows.shape
    vectors = torch.linalg.svd(rows, full_matrices=True).Vh
    return torch.cat((rows, vectors[m:])) if m < n else rows


def _measure(context: Context, model: EvaluatedModel) -> Iterator[Measurement]:
    cascade = model.pyramid
    if cascade is None:
        return
    likelihood = _estimate(context, cascade)
    details: dict[str, Detail] = {
        "scale": cascade.recipe.data.normalisation,
        "draws": context.counts.draws,
    }
    sizes = [model.size, *cascade.sizes]
    names = [METRIC.name, *(f"{METRIC.name} level {size_text(size)}" for size in cascade.sizes)]
    parts = [likelihood.total, *likelihood.levels]
    for size, name, part in zip(sizes, names, parts, strict=True):
        yield part.report(
            subject=model.name, metric=name, size=size, seed=context.seed, details=details
        )


def _estimate(context: Context, cascade: Cascade) -> MultiscaleLogLikelihood:
    counts, real = context.counts, context.real(cascade.sizes[0])
    labels, validation_labels = None, None
    if cascade.class_names == context.training.class_names:
        labels, validation_labels = real.labels(counts.multiscale) or (None, None)
    return multiscale_parzen(
        cascade,
        cascade.normalization.normalize(real.test(counts.multiscale)),
        cascade.normalization.normalize(real.validation(counts.multiscale)),
        samples=counts.samples,
        draws=counts.draws,
        seed=context.seed,
        labels=labels,
        validation_labels=validation_labels,
    )


METRIC = Metric("multiscale-parzen", SECTION, _measure, uses_held_out=True)
