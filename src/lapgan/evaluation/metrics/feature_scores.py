"""What all scores on features have in common: their names, their checks, how they are reported.

A score is named after the net of its features: `fid`, `kid`, `precision` ... for Inception-v3
alone, `fd-lite0`, `kid-lite0` ... for EfficientNet-Lite0. Values under different names cannot be
compared.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lapgan.errors import LapganError
from lapgan.evaluation.context import Context, EvaluatedModel
from lapgan.evaluation.features.extract import DIMENSIONS, Extractor, ExtractorName, Features
from lapgan.evaluation.measurement import HELD_OUT, Detail, Estimate, Measurement
from lapgan.evaluation.metrics.base import Metric
from lapgan.evaluation.sections import SCORES
from lapgan.progress import working
from lapgan.seeds import generator_of
from lapgan.sizes import Size

__all__ = [
    "BLOCK",
    "FeatureScore",
    "check_counts",
    "check_pair",
    "estimate_over_draws",
    "make_metric",
    "name_score",
    "report_scores",
]

# Rows of a block of distances: 1,000 x 50,000 in float32 are 200 MB.
BLOCK = 1000
# Ten parts alone know the error to 24%, four deals to 13%.
_PARTS, _DEALS = 10, 4


@dataclass(frozen=True)
class FeatureScore:
    """A score on features.

    Args:
        name: as users type it.
        compute: from the features of real and of generated images and a seed to estimates, by the
            name of each without the net.
        minimum: from the number of features to the fewest images that the score needs, and why.
        extractors: the nets that it is defined for.
        uses_real: whether it compares with real images.
    """

    name: str
    compute: Callable[[Features, Features, int], dict[str, Estimate]]
    minimum: Callable[[int], tuple[int, str]]
    extractors: tuple[ExtractorName, ...] = ("lite0", "inception")
    uses_real: bool = True


def make_metric(
    score: FeatureScore, is_usual: Callable[[Context], bool] = lambda _: True
) -> Metric:
    """Makes a metric of a score: of each model, and of held-out images as a reference."""

    def check(context: Context) -> None:
        if not set(score.extractors) & set(context.extractor_names):
            raise LapganError(f"{score.name}: needs --extractor {score.extractors[-1]}.")
        for name in context.extractor_names:
            if name in score.extractors:
                check_counts(score, name, real=context.counts.samples, fake=context.counts.samples)

    def measure(context: Context, model: EvaluatedModel) -> Iterator[Measurement]:
        for extractor in _choose_extractors(score, context):
            fake = context.features(model, extractor)
            yield from _measure(score, context, model.name, model.size, extractor, fake)

    def measure_held_out(context: Context, size: Size) -> Iterator[Measurement]:
        # Fewer images than the models generate would give values that cannot be compared.
        if len(context.held_out) >= context.counts.samples:
            for extractor in _choose_extractors(score, context):
                fake = context.held_out_features(size, extractor)
                yield from _measure(score, context, HELD_OUT, size, extractor, fake)

    return Metric(score.name, SCORES, measure, measure_held_out, check, is_usual, needs="features")


def _choose_extractors(score: FeatureScore, context: Context) -> list[Extractor]:
    return [extractor for extractor in context.extractors if extractor.name in score.extractors]


def _measure(
    score: FeatureScore,
    context: Context,
    subject: str,
    size: Size,
    extractor: Extractor,
    fake: Features,
) -> Iterator[Measurement]:
    real = context.training_features(size, extractor)
    with working(f"{score.name} of {subject}"):
        estimates = score.compute(real, fake, context.seed)
    yield from report_scores(
        estimates,
        subject=subject,
        extractor=extractor.name,
        real_images=len(real) if score.uses_real else 0,
        seed=context.seed,
    )


def report_scores(
    estimates: Mapping[str, Estimate],
    *,
    subject: str,
    extractor: ExtractorName,
    real_images: int,
    seed: int,
    section: str = SCORES.name,
    suffix: str = "",
) -> Iterator[Measurement]:
    """Turns estimates into measurements, named after the net of the features.

    Args:
        estimates: by the name of each without the net.
        subject: the model, or the reference.
        extractor: the net.
        real_images: how many real images were compared; 0 if the score uses none.
        seed: of the score.
        section: of the report.
        suffix: what the names end in after the net.
    """
    for name, estimate in estimates.items():
        details: dict[str, Detail] = {"error_is": estimate.error_is, "real_images": real_images}
        yield estimate.report(
            subject=subject,
            metric=name_score(name, extractor) + suffix,
            section=section,
            seed=seed,
            extractor=extractor,
            details=details,
        )


def name_score(name: str, extractor: ExtractorName) -> str:
    """Returns the name of a score with its net: `fd-lite0`; `fid` for Inception's `fd`."""
    if extractor == "inception":
        return "fid" if name == "fd" else name
    return f"{name}-{extractor}"


def check_pair(score: FeatureScore, real: Features, fake: Features) -> None:
    """Checks two sets of features before a score is computed from them.

    Raises:
        LapganError: they come from different nets, or there are too few of them.
    """
    if real.extractor != fake.extractor or real.values.shape[1] != fake.values.shape[1]:
        raise LapganError(
            f"{score.name}: the real images have {real.values.shape[1]} features by "
            f"{real.extractor}, the generated ones {fake.values.shape[1]} by {fake.extractor}. Use "
            "one net for both."
        )
    _check_enough(score, real.extractor, real.values.shape[1], real=len(real), fake=len(fake))


def check_counts(score: FeatureScore, extractor: ExtractorName, *, real: int, fake: int) -> None:
    """Checks the numbers of images before their features are computed.

    Args:
        score: what will be computed.
        extractor: the net of the features.
        real: the number of real images.
        fake: the number of generated images.

    Raises:
        LapganError: too few images, or the score is not defined for the net.
    """
    if extractor not in score.extractors:
        raise LapganError(
            f"{score.name}: is defined for {', '.join(score.extractors)} only, not for {extractor}."
        )
    _check_enough(score, extractor, DIMENSIONS[extractor], real=real, fake=fake)


def _check_enough(
    score: FeatureScore, extractor: ExtractorName, dimension: int, *, real: int, fake: int
) -> None:
    least, reason = score.minimum(dimension)
    counts = {"generated": fake} | ({"real": real} if score.uses_real else {})
    for kind, n in counts.items():
        if n < least:
            raise LapganError(
                f"{name_score(score.name, extractor)}: {n} {kind} images are too few: {reason}. "
                f"Use {least} or more (10,000 for values to compare)."
            )


def estimate_over_draws(
    compute: Callable[[Tensor, Tensor], dict[str, float]],
    real: Features,
    fake: Features,
    least: int,
    seed: int,
) -> dict[str, Estimate]:
    """Computes scores that depend on neighbors, with errors that hold for other draws of both sets.

    A ball reaches to the kth neighbor at any number of images, so its radius follows the density
    and the variance of a mean over balls falls like 1 / n. Each set is dealt into ten parts, and

        Var(score) = Var(scores of ten pairs of parts) / 10

    averaged over four deals. Errors for the other set as it is would be too small by a quarter to a
    half for fractions, and more for the density.

    Args:
        compute: from the features of real and of generated images, (n, d) and (m, d), to scores.
        real: features of real images.
        fake: features of generated images.
        least: the fewest images that `compute` needs.
        seed: of the deals.

    Returns:
        the estimates; where a set cannot be dealt into two parts, with an error that is not finite.
    """
    scores = compute(real.values, fake.values)
    parts = min(_PARTS, len(real) // least, len(fake) // least)
    variances = dict.fromkeys(scores, float("nan" if parts < 2 else 0))
    for deal in range(_DEALS if parts > 1 else 0):
        x, y = (_deal(features, parts, seed, deal) for features in (real, fake))
        each = [compute(*pair) for pair in zip(x, y, strict=True)]
        for name in scores:
            variance = statistics.variance(part[name] for part in each) / parts
            variances[name] += variance / _DEALS
    return {
        name: Estimate(value, variances[name] ** 0.5, len(fake), "standard error over draws")
        for name, value in scores.items()
    }


def _deal(features: Features, parts: int, seed: int, deal: int) -> list[Tensor]:
    order = torch.randperm(len(features), generator=generator_of(seed, deal, len(features)))
    return [features.values[order[part::parts]] for part in range(parts)]
