"""Precision and recall of features."""

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

__all__ = ["METRIC", "SCORE", "precision_recall"]

# As in the paper.
_NEIGHBORS = 3


def precision_recall(real: Features, fake: Features, seed: int = 0) -> dict[str, Estimate]:
    """Computes precision and recall in [0, 1], by torch-fidelity.

    Precision is the fraction of generated images that lie within the ball of some real image, whose
    radius is the distance to its third neighbor among the real ones. Recall is the same with the
    sets exchanged. The errors hold for other draws of both sets.

    Args:
        real: features of real images, (n, d).
        fake: features of generated images, (m, d), by the same net.
        seed: of the errors.

    Returns:
        `precision` and `recall`.

    Raises:
        LapganError: fewer than four images, or different nets.

    References:
        Kynkäänniemi et al. (2019), section 2.
    """
    check_pair(SCORE, real, fake)
    return estimate_over_draws(_compute, real, fake, _NEIGHBORS + 1, seed)


def _compute(real: Tensor, fake: Tensor) -> dict[str, float]:
    from torch_fidelity.metric_prc import (
        KEY_METRIC_PRECISION,
        KEY_METRIC_RECALL,
        prc_features_to_metric,
    )

    values = prc_features_to_metric(
        fake, real, prc_neighborhood=_NEIGHBORS, prc_batch_size=BLOCK,
        save_cpu_ram=True, verbose=False,
    )  # fmt: skip
    return {"precision": values[KEY_METRIC_PRECISION], "recall": values[KEY_METRIC_RECALL]}


def _minimum(_: int) -> tuple[int, str]:
    return _NEIGHBORS + 1, "each image needs that many neighbors"


SCORE = FeatureScore("precision-recall", precision_recall, _minimum)
METRIC = make_metric(SCORE)
