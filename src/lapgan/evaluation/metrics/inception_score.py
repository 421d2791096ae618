"""The Inception score."""

from lapgan.errors import LapganError
from lapgan.evaluation.context import Context
from lapgan.evaluation.features.extract import Features
from lapgan.evaluation.measurement import Estimate
from lapgan.evaluation.metrics.feature_scores import FeatureScore, check_counts, make_metric

__all__ = ["METRIC", "SCORE", "inception_score"]

_SPLITS = 10


def inception_score(fake: Features, seed: int = 0) -> Estimate:
    """Computes the Inception score exp(E KL(p(y|x) || p(y))) in [1, 1008], by torch-fidelity.

    Mean and standard deviation over ten splits. It uses no real images.

    Args:
        fake: features of generated images by Inception-v3, with logits.
        seed: decides on the splits.

    Raises:
        LapganError: fewer than ten images, or the features are not Inception's.

    References:
        Salimans et al. (2016), section 4.
    """
    from torch_fidelity.metric_isc import (
        KEY_METRIC_ISC_MEAN,
        KEY_METRIC_ISC_STD,
        isc_features_to_metric,
    )

    check_counts(SCORE, fake.extractor, real=0, fake=len(fake))
    if fake.logits is None:
        raise LapganError("inception-score: these features come without class scores.")
    values = isc_features_to_metric(fake.logits, splits=_SPLITS, rng_seed=seed)
    return Estimate(
        values[KEY_METRIC_ISC_MEAN],
        values[KEY_METRIC_ISC_STD],
        len(fake),
        f"standard deviation over {_SPLITS} splits",
    )


def _compute(_: Features, fake: Features, seed: int) -> dict[str, Estimate]:
    return {"inception-score": inception_score(fake, seed)}


def _minimum(_: int) -> tuple[int, str]:
    return _SPLITS, "it is computed on ten splits"


def _has_inception(context: Context) -> bool:
    return "inception" in context.extractor_names


SCORE = FeatureScore(
    "inception-score", _compute, _minimum, extractors=("inception",), uses_real=False
)
METRIC = make_metric(SCORE, is_usual=_has_inception)
