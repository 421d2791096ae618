"""Density and coverage of features."""

import torch
from torch import Tensor

from lapgan.evaluation.features.extract import Features
from lapgan.evaluation.measurement import Estimate
from lapgan.evaluation.metrics.feature_scores import (
    BLOCK,
    FeatureScore,
    check_pair,
    estimate_over_draws,
    make_metric,
)

__all__ = ["METRIC", "SCORE", "density_coverage"]

# As in the paper.
_NEIGHBORS = 5


def density_coverage(real: Features, fake: Features, seed: int = 0) -> dict[str, Estimate]:
    """Computes density and coverage, with balls to the fifth real neighbor of each real image.

        density  = 1 / (k M) sum_j sum_i 1[y_j in B(x_i)]     about 1 for equal distributions
        coverage = 1 / N sum_i 1[some y_j in B(x_i)]          in [0, 1]

    for N real images x and M generated ones y. The errors hold for other draws of both sets.

    Args:
        real: features of real images, (N, d).
        fake: features of generated images, (M, d), by the same net.
        seed: of the errors.

    Returns:
        `density` and `coverage`.

    Raises:
        LapganError: fewer than six images, or different nets.

    References:
        Naeem et al. (2020), equations 3 and 4.
    """
    check_pair(SCORE, real, fake)
    return estimate_over_draws(_compute, real, fake, _NEIGHBORS + 1, seed)


def _compute(real: Tensor, fake: Tensor) -> dict[str, float]:
    balls = torch.zeros(len(fake), dtype=torch.int64)
    covered = torch.zeros(len(real), dtype=torch.bool)
    for start in range(0, len(real), BLOCK):
        x = real[start : start + BLOCK]
        # The nearest real image is the image itself.
        radius = torch.cdist(x, real).kthvalue(_NEIGHBORS + 1).values
        inside = torch.cdist(x, fake) <= radius[:, None]
        balls += inside.sum(dim=0)
        covered[start : start + BLOCK] = inside.any(dim=1)
    return {
        "density": float(balls.double().mean()) / _NEIGHBORS,
        "coverage": float(covered.double().mean()),
    }


def _minimum(_: int) -> tuple[int, str]:
    return _NEIGHBORS + 1, "each image needs that many neighbors"


SCORE = FeatureScore("density-coverage", density_coverage, _minimum)
METRIC = make_metric(SCORE)
