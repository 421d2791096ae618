"""How much of a generated residual is noise.

Half the squared difference of two residuals of one low-pass image is an unbiased estimate of the
variance given that image; half that of residuals of two images, of the total variance.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.cascade.blocks import BLOCK
from lapgan.evaluation.measurement import (
    Estimate,
    divide_estimates,
    estimate_mean,
    estimate_ratio,
)
from lapgan.evaluation.metrics.dependence.pairs import (
    balance_labels,
    couple,
    generate_pairs,
    spawn_seeds,
    split_real,
    track_blocks,
)

__all__ = ["Diversity", "measure_diversity"]


@dataclass(frozen=True)
class Diversity:
    """How much of a generated residual is noise, by the law of total variance.

        Var(h) = E Var(h | l) + Var E(h | l)

    Variances are of each pixel over images, then averaged over pixels.

    Args:
        given_low: standard deviation of h~_k over z, given l_k (and the class), in grey levels.
        overall: standard deviation of h~_k over images, in grey levels.
        real: standard deviation of the real h_k, in grey levels.
        noise_fraction: given_low^2 / overall^2, from 0 (the noise is ignored) to 1 (h~_k does not
            depend on l_k). An image that ignores l_k has Var(I) / (Var(I) + Var(l)), about 1/2,
            since its h~_k = I~_k - l_k holds l_k.
        relative_to_real: given_low / real.
    """

    given_low: Estimate
    overall: Estimate
    real: Estimate
    noise_fraction: Estimate
    relative_to_real: Estimate


def measure_diversity(
    cascade: Cascade, n: int, real: UInt8[Tensor, "m 3 h w"], seed: int
) -> list[Diversity]:
    """Compares residuals of one low-pass image with residuals of two, at every level.

    Args:
        cascade: the model.
        n: how many low-pass images, a multiple of the block size.
        real: real images, whose residuals vary as those of a perfect model would.
        seed: of images and residuals.

    Returns:
        one entry per level but the coarsest, finest first.
    """
    image_seed, *draw_seeds = spawn_seeds(seed, 1 + n // BLOCK)
    labels = balance_labels(cascade, n, image_seed)
    label_blocks = [None] * len(draw_seeds) if labels is None else torch.split(labels, BLOCK)
    blocks = track_blocks(generate_pairs(cascade, n, image_seed), "diversity", n)
    generated = [
        [
            _generated_variances(cascade, k, pairs.low, label, draw_seed)
            for k, pairs in enumerate(level_pairs)
        ]
        for level_pairs, label, draw_seed in zip(blocks, label_blocks, draw_seeds, strict=True)
    ]
    truths = [
        [_half_square(cascade, couple(pairs.high), 1) for pairs in level_pairs]
        for level_pairs in split_real(cascade, torch.split(real, BLOCK))
    ]
    return [
        _estimate_diversity(torch.cat(variances), torch.cat(truth))
        for variances, truth in zip(
            zip(*generated, strict=True), zip(*truths, strict=True), strict=True
        )
    ]


def _generated_variances(
    cascade: Cascade, k: int, low: Tensor, label: Tensor | None, seed: int
) -> Float[Tensor, "couples 2"]:
    """Returns each couple's estimates of Var(h~_k | l_k) and Var(h~_k)."""
    twice = None if label is None else label.repeat(2)
    high = cascade.residuals(k, low.repeat(2, 1, 1, 1), seed, twice)
    # (B / 2 couples, 2 low-pass images, 2 draws, 3, H, W)
    high = high.reshape(2, -1, 2, *high.shape[1:]).permute(1, 2, 0, 3, 4, 5)
    return torch.stack((_half_square(cascade, high, 2), _half_square(cascade, high, 1)), dim=1)


def _half_square(cascade: Cascade, x: Tensor, dim: int) -> Tensor:
    """Returns E (a - b)^2 / 2 over all but the couples: the variance between the two of `dim`."""
    difference = cascade.normalization.gray_levels(x.select(dim, 0) - x.select(dim, 1))
    return difference.square().flatten(1).mean(dim=1) / 2


def _estimate_diversity(variances: Tensor, truth: Tensor) -> Diversity:
    given_low, overall = variances.T
    noise, real = estimate_mean(given_low).root(), estimate_mean(truth).root()
    return Diversity(
        given_low=noise,
        overall=estimate_mean(overall).root(),
        real=real,
        noise_fraction=estimate_ratio(given_low, overall),
        relative_to_real=divide_estimates(noise, real),
    )
