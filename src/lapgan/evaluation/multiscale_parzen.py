"""The multi-scale Parzen log-likelihood: a density a level, which multiply.

An orthogonal map splits an image into its low-pass coefficients and the rest, level by level:

    y_0 = I_0,   (y_{k+1}, h_k) = S_k y_k,   S_k orthogonal
    log p(I_0) = log q_K(y_K) + sum_k log q_k(h_k | I_{k+1})

q_K is a Parzen density over images that the coarsest level samples; q_k is one over residuals that
level k generates from the true low-pass of the test image. Each has a width of its own.

For pyramids of disjoint 2x2 blocks y_{k+1} is twice the block mean, and h_k the rest in an
orthonormal basis, as in the paper. For any other sizes and operators (8 -> 14 -> 28) the same idea
holds: with C_k = d(d(...)) the matrix from I_0 to I_k on one axis,

    y_k = (C_k C_k^T)^(-1/2) I_k

are coordinates of I_k in an orthonormal basis of the row space of C_k; these spaces are nested, so
S_k exists: its first rows are (C_{k+1} C_{k+1}^T)^(-1/2) C_{k+1} in the coordinates y_k, the others
complete the basis. Nothing is approximated, and no size is refused.

Source: Denton et al. (2015), section 5.1 and appendix A.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.errors import LapganError
from lapgan.evaluation.parzen import LogLikelihood, Width, choose_width, parzen_log_likelihood
from lapgan.progress import tracked
from lapgan.pyramid import Operator, downsample, gaussian_pyramid, upsample
from lapgan.sizes import Size, check_sizes

__all__ = ["MultiscaleLogLikelihood", "OrthogonalSplit", "multiscale_parzen"]

# As many residuals at once as the cascade generates in a few blocks.
_AT_ONCE = 1024


class OrthogonalSplit:
    """The orthogonal map from an image to low-pass coefficients and residuals of every level.

    Args:
        sizes: of every level, finest first.
        operator: the pyramid's d(.), by name.

    Raises:
        LapganError: sizes do not descend, or d(.) loses a low-pass coefficient altogether.
    """

    def __init__(self, sizes: Sequence[Size], operator: Operator) -> None:
        check_sizes(sizes)
        self._axes = [_Axis([size[axis] for size in sizes], operator) for axis in (0, 1)]

    def low(self, image: Float[Tensor, "b c h w"], k: int) -> Float[Tensor, "b d"]:
        """Returns y_k of images I_k."""
        return self._coefficients(image, k).flatten(1)

    def high(self, image: Float[Tensor, "b c h w"], k: int) -> Float[Tensor, "b d"]:
        """Returns h_k of images I_k: what y_{k+1} leaves open, in an orthonormal basis."""
        rows, columns = (axis.splits[k] for axis in self._axes)
        split = rows @ self._coefficients(image, k) @ columns.T
        height, width = (axis.lengths[k + 1] for axis in self._axes)
        return torch.cat(
            (split[..., height:, :].flatten(1), split[..., :height, width:].flatten(1)), 1
        )

    def _coefficients(self, image: Tensor, k: int) -> Tensor:
        rows, columns = (axis.roots[k] for axis in self._axes)
        return rows @ image.double() @ columns.T


@dataclass(frozen=True)
class MultiscaleLogLikelihood:
    """Multi-scale log-likelihoods, in nats an image.

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
        labels: classes of `test`, for a model with classes; they go into the levels above the
            coarsest with the true low-pass image.
        validation_labels: the same for `validation`.

    Raises:
        LapganError: the images do not have the finest size, or are not finite.
    """
    split = OrthogonalSplit(cascade.sizes, cascade.operator)
    images = torch.cat((validation, test))
    if not bool(images.isfinite().all()):
        raise LapganError("multi-scale Parzen: the images hold values that are not finite.")
    pyramid = gaussian_pyramid(images, cascade.sizes, cascade.operator)
    given = _joined(validation_labels, labels) if cascade.class_names else None
    levels = []
    for k in range(len(cascade.levels) - 1):
        distances = _residual_distances(cascade, split, k, pyramid, draws, seed, given)
        dimension = split.high(pyramid[k][:1], k).shape[1]
        levels.append(_log_likelihood(distances, dimension, len(validation)))
    coarsest = len(cascade.levels) - 1
    made = torch.cat([image for ((_, image),) in cascade.steps(samples, seed, finest=coarsest)])
    low = split.low(pyramid[coarsest], coarsest)
    levels.append(
        parzen_log_likelihood(
            split.low(made, coarsest), low[len(validation) :], low[: len(validation)]
        )
    )
    return MultiscaleLogLikelihood(levels)


def _residual_distances(
    cascade: Cascade,
    split: OrthogonalSplit,
    k: int,
    pyramid: Sequence[Tensor],
    draws: int,
    seed: int,
    labels: Tensor | None,
) -> Float[Tensor, "n draws"]:
    """Returns |h_k - h~_k|^2 between each image's residual and those generated for it."""
    low = upsample(pyramid[k + 1], cascade.sizes[k], cascade.operator)
    chunk = max(1, _AT_ONCE // draws)
    spans = [slice(start, start + chunk) for start in range(0, len(low), chunk)]
    distances = []
    for number, span in enumerate(tracked(spans, f"residuals of level {k}")):
        repeated = low[span].repeat_interleave(draws, dim=0)
        label = None if labels is None else labels[span].repeat_interleave(draws)
        # Chunks must not share their noise.
        made = repeated + cascade.residuals(k, repeated, seed * len(spans) + number, label)
        high = split.high(pyramid[k][span], k)[:, None]
        generated = split.high(made, k).view(-1, draws, high.shape[2])
        distances.append((generated - high).square().sum(dim=2))
    return torch.cat(distances)


def _log_likelihood(
    distances: Float[Tensor, "n draws"], dimension: int, validation: int
) -> LogLikelihood:
    """Turns squared distances into log-likelihoods; the width is chosen on the first images."""

    def log_density(distances: Tensor, sigmas: Tensor) -> Tensor:
        """Returns the log of the mean of Gaussians: (s, n)."""
        variances = sigmas.square()[:, None]
        sums = (-0.5 * distances / variances[..., None]).logsumexp(dim=2)
        count = torch.tensor(float(distances.shape[1]), dtype=torch.float64)
        return sums - count.log() - dimension / 2 * torch.log(2 * torch.pi * variances)

    held = distances[:validation]
    unit = (held.mean() / dimension).sqrt().item()
    width = choose_width(lambda sigmas: log_density(held, sigmas).mean(dim=1), unit or 1.0)
    chosen = torch.tensor([width.sigma], dtype=torch.float64)
    values = log_density(distances[validation:], chosen)[0]
    return LogLikelihood(values, width, dimension, distances.shape[1], validation)


def _joined(first: Tensor | None, second: Tensor | None) -> Tensor | None:
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
            composite = _down(composite, length, operator)
            self.roots.append(_inverse_root(composite @ composite.T))
            bases.append(self.roots[-1] @ composite)
        self.splits = [_completed(coarse @ fine.T) for fine, coarse in itertools.pairwise(bases)]


def _down(matrix: Float[Tensor, "fine n"], length: int, operator: Operator) -> Tensor:
    """Applies d(.) to the first axis alone."""
    columns = matrix.shape[1]
    return downsample(matrix[None, None], (length, columns), operator)[0, 0]


def _inverse_root(gram: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Returns the symmetric gram^(-1/2)."""
    values, vectors = torch.linalg.eigh(gram)
    if values[0] <= 1e-9 * values[-1]:
        raise LapganError(
            "multi-scale Parzen: this pyramid's d(.) maps different images to the same coarse "
            "ones twice over, so no orthogonal split exists. Use sizes that lie further apart."
        )
    root: Tensor = (vectors * values.rsqrt()) @ vectors.T
    return root


def _completed(rows: Float[Tensor, "m n"]) -> Float[Tensor, "n n"]:
    """Completes orthonormal rows to an orthogonal matrix."""
    m, n = rows.shape
    vectors = torch.linalg.svd(rows, full_matrices=True).Vh
    return torch.cat((rows, vectors[m:])) if m < n else rows
