"""Precision and recall of features."""

from lapgan.evaluation.features.extract import Features
from lapgan.evaluation.measurement import Estimate
from lapgan.evaluation.metrics.feature_scores import (
    BLOCK,
    FeatureScore,
    check_pair,
    estimate_fraction,
    make_metric,
)

__all__ = ["METRIC", "SCORE", "precision_recall"]

# As in the paper.
_NEIGHBORS = 3


def precision_recall(real: Features, fake: Features, seed: int = 0) -> dict[str, Estimate]:
    """Computes precision and recall in [0, 1], by torch-fidelity.

    Precision is the fraction of generated images that lie within the ball of some real image, whose
    radius is the distance to its third neighbor among the real ones. Recall is the same with the
    sets exchanged. The errors are binomial, for the other set as it is.

    Args:
        real: features of real images, (n, d).
        fake: features of generated images, (m, d), by the same net.
        seed: not used.

    Returns:
        `precision` and `recall`.

    Raises:
        LapganError: fewer than four images, or different nets.

    References:
        Kynkäänniemi et al. (2019), section 2.
    """
    from torch_fidelity.metric_prc import (
        KEY_METRIC_PRECISION,
        KEY_METRIC_RECALL,
        prc_features_to_metric,
    )

    check_pair(SCORE, real, fake)
    values = prc_features_to_metric(
        fake.values, real.values, prc_neighborhood=_NEIGHBORS, prc_batch_size=BLOCK,
        save_cpu_ram=True, verbose=False,
    )  # fmt: skip
    return {
        "precision": estimate_fraction(values[KEY_METRIC_PRECISION], len(fake), len(fake)),
        "recall": estimate_fraction(values[KEY_METRIC_RECALL], len(real), len(fake)),
    }


def _minimum(_: int) -> tuple[int, str]:
    return _NEIGHBORS + 1, "each image needs that many neighbors"


SCORE = FeatureScore("precision-recall", precision_recall, _minimum)
METRIC = make_metric(SCORE)
