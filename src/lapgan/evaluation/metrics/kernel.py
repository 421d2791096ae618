"""The kernel distance of features (`kid`)."""

from lapgan.evaluation.features.extract import Features
from lapgan.evaluation.measurement import Estimate
from lapgan.evaluation.metrics.feature_scores import FeatureScore, check_pair, make_metric

__all__ = ["METRIC", "SCORE", "kernel_distance"]

_SUBSETS = 50
_SUBSET_SIZE = 1000


def kernel_distance(real: Features, fake: Features, seed: int = 0) -> Estimate:
    """Computes the squared maximum mean discrepancy under the kernel (x.y / d + 1)^3.

    Unbiased, so about 0 (and sometimes below) for equal distributions, whatever n. It is the mean
    over 50 subsets of 1,000 images each, or of half of the images where there are fewer than 2,000.
    The error is the standard deviation over the subsets, as is the custom: that of one subset, and
    so larger than the error of their mean.

    Args:
        real: features of real images, (n, d).
        fake: features of generated images, (m, d), by the same net.
        seed: decides on the subsets.

    Raises:
        LapganError: fewer than four images, or different nets.

    References:
        Binkowski et al. (2018), section 4; computed by torch-fidelity.
    """
    from torch_fidelity.metric_kid import (
        KEY_METRIC_KID_MEAN,
        KEY_METRIC_KID_STD,
        kid_features_to_metric,
    )

    check_pair(SCORE, real, fake)
    size = min(_SUBSET_SIZE, len(real) // 2, len(fake) // 2)
    values = kid_features_to_metric(
        fake.values, real.values, kid_subsets=_SUBSETS, kid_subset_size=size, rng_seed=seed,
        verbose=False,
    )  # fmt: skip
    return Estimate(
        values[KEY_METRIC_KID_MEAN],
        values[KEY_METRIC_KID_STD],
        len(fake),
        f"standard deviation over {_SUBSETS} subsets of {size}",
    )


def _compute(real: Features, fake: Features, seed: int) -> dict[str, Estimate]:
    return {"kid": kernel_distance(real, fake, seed)}


def _minimum(_: int) -> tuple[int, str]:
    return 4, "two subsets of two are needed"


SCORE = FeatureScore("kid", _compute, _minimum)
METRIC = make_metric(SCORE)
