"""Statistics of the answers: shares, sensitivity, error rates, agreement, timing.

Pure functions of `Judgements`. Raters and images, not answers, are the independent units: intervals
come from resampling whole raters, widened by what the draw of the images adds. Wilson intervals,
which assume independent answers, are given too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import krippendorff
import numpy as np
import numpy.typing as npt
from scipy import special, stats

from lapgan.study.design import REAL
from lapgan.study.judgements import Judgements, is_within_frames

__all__ = [
    "Estimate",
    "Resampling",
    "Share",
    "Timing",
    "d_prime",
    "hype_error",
    "krippendorff_alpha",
    "measure_timing",
    "sensitivity",
    "share_difference",
    "share_judged_real",
]

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with a confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Share:
    """The share of images judged real: a count of n answers, with both intervals."""

    judged_real: int
    answers: int
    share: float
    wilson: tuple[float, float]
    bootstrap: tuple[float, float]

    @property
    def interval(self) -> tuple[float, float]:
        """That of raters and images; Wilson's where all raters agree, so that it has no width."""
        low, high = self.bootstrap
        return self.bootstrap if low < high else self.wilson


@dataclass(frozen=True)
class Timing:
    """How precisely images were shown at one requested time."""

    asked_ms: float
    trials: int
    within_a_frame: float
    mean_error_ms: float
    p95_error_ms: float
    dropped: float


class Resampling:
    """Draws raters with replacement, once for all statistics of a report.

    The interval of the raters alone is the expanded percentile interval: with R raters the tails
    are cut at Phi(-sqrt(R / (R - 1)) t), t the quantile of Student's distribution with R - 1
    degrees of freedom. Plain percentiles are too narrow when there are few raters.

    Images are a sample too. The distances from the estimate to both ends are multiplied by
    sqrt(V / V_raters), where V = max(V_raters + V_images - V_answers, V_raters, V_images) is the
    variance with crossed clusters, each part by the jackknife: raters, images, and up to 1,000
    random groups of answers are left out in turn. The last part is contained in both others.

    Args:
        raters: codes of the raters.
        replicates: number of bootstrap samples.
        rng: source of randomness.
        confidence: of all intervals.

    References:
        Hesterberg (2015), What teachers should know about the bootstrap, section 4.
        Cameron, Gelbach and Miller (2011), Robust inference with multiway clustering.
    """

    def __init__(
        self,
        raters: Sequence[str],
        replicates: int,
        rng: np.random.Generator,
        confidence: float = 0.95,
    ) -> None:
        self.raters = sorted(set(raters))
        count = len(self.raters)
        even = np.full(count, 1 / max(count, 1))
        self.weights = rng.multinomial(count, even, size=replicates) if count else None
        self.confidence = confidence

    def counts(self, judgements: Judgements, flags: Flags) -> Numbers:
        """Returns the number of true `flags` by rater, shape (R,)."""
        index = np.searchsorted(self.raters, judgements.rater)
        return _sum_by(index, flags, len(self.raters))

    def estimate(
        self, statistic: Callable[..., Numbers], judgements: Judgements, *flags: Flags
    ) -> Estimate:
        """Returns a statistic of the numbers of true flags, with its interval.

        Args:
            statistic: elementwise function of these numbers.
            judgements: N answers.
            flags: which of them each number counts, shape (N,) each.
        """
        value = float(statistic(*(np.array([float(flag.sum())]) for flag in flags))[0])
        if self.weights is None or len(self.raters) < 2:
            return Estimate(value, float("nan"), float("nan"))
        drawn = statistic(*(self.weights @ self.counts(judgements, flag) for flag in flags))
        tail = self._tail()
        finite = drawn[np.isfinite(drawn)]
        if not len(finite):
            return Estimate(value, float("nan"), float("nan"))
        ends = np.quantile(finite, [tail, 1 - tail])
        by_raters, total = _measure_variance(statistic, judgements, flags)
        if by_raters > 0:
            ends = value + np.sqrt(total / by_raters) * (ends - value)
        return Estimate(value, float(ends[0]), float(ends[1]))

    def compare(
        self, statistic: Callable[..., Numbers], judgements: Judgements, *flags: Flags
    ) -> tuple[Estimate, float]:
        """Returns an estimate, and the p-value of the hypothesis that its true value is zero.

        The test is two-sided, with Student's distribution: |value| / sqrt(V), R - 1 degrees of
        freedom. The p-value is NaN without at least two raters and some variance.
        """
        estimate = self.estimate(statistic, judgements, *flags)
        total = _measure_variance(statistic, judgements, flags)[1]
        if len(self.raters) < 2 or not total > 0:
            return estimate, float("nan")
        t = abs(estimate.value) / np.sqrt(total)
        return estimate, float(2 * stats.t.sf(t, len(self.raters) - 1))

    def _tail(self) -> float:
        count = len(self.raters)
        t = stats.t.ppf((1 + self.confidence) / 2, count - 1)
        return float(stats.norm.cdf(-np.sqrt(count / (count - 1)) * t))


def share_judged_real(judgements: Judgements, resampling: Resampling) -> Share:
    """Returns the share of these images that were judged real.

    The interval is that of the log odds log((k + 1/2) / (n - k + 1/2)), so it stays within [0, 1].

    Args:
        judgements: the trials of one cell, such as one source at one time.
        resampling: the raters' bootstrap.
    """
    judged_real, total = int(judgements.said_real.sum()), len(judgements)
    share = judged_real / total if total else float("nan")
    odds = resampling.estimate(_log_odds, judgements, judgements.said_real, ~judgements.said_real)
    ends = (share, share) if share in (0.0, 1.0) else special.expit([odds.low, odds.high])
    wilson = (float("nan"), float("nan"))
    if total:
        interval = stats.binomtest(judged_real, total).proportion_ci(
            resampling.confidence, "wilson"
        )
        wilson = (float(interval.low), float(interval.high))
    return Share(judged_real, total, share, wilson, (float(ends[0]), float(ends[1])))


def share_difference(
    judgements: Judgements, one: str, other: str, resampling: Resampling
) -> tuple[Estimate, float]:
    """Returns the difference between two sources' shares judged real, and its p-value.

    The raters are the same, so that differences between their criteria cancel to a large part.

    Args:
        judgements: trials of both sources, at least.
        one: name of the source whose share is taken.
        other: name of the source whose share is subtracted.
        resampling: the raters' bootstrap.
    """

    def statistic(real: Numbers, shown: Numbers, other_real: Numbers, others: Numbers) -> Numbers:
        return _divide(real, shown) - _divide(other_real, others)

    first, second = judgements.source == one, judgements.source == other
    flags = (first & judgements.said_real, first, second & judgements.said_real, second)
    return resampling.compare(statistic, judgements, *flags)


def d_prime(
    hits: Numbers, reals: Numbers, false_alarms: Numbers, fakes: Numbers
) -> tuple[Numbers, Numbers]:
    """Returns sensitivity and bias of telling real from fake.

    d' = z(H) - z(F) and c = -(z(H) + z(F)) / 2, with H the share of reals and F the share of
    fakes that were judged real, each as (count + 1/2) / (n + 1). With c < 0, raters tend to "real".

    Args:
        hits: reals judged real.
        reals: reals shown.
        false_alarms: fakes judged real.
        fakes: fakes shown.

    Returns:
        d' and c, of the arguments' shape; NaN where nothing was shown.

    References:
        Green and Swets (1966), Signal detection theory and psychophysics.
        Hautus (1995), Corrections for extreme proportions, for the log-linear correction.
    """
    hit = stats.norm.ppf((hits + 0.5) / (reals + 1))
    alarm = stats.norm.ppf((false_alarms + 0.5) / (fakes + 1))
    shown = (np.asarray(reals) > 0) & (np.asarray(fakes) > 0)
    return np.where(shown, hit - alarm, np.nan), np.where(shown, -(hit + alarm) / 2, np.nan)


def sensitivity(
    judgements: Judgements, source: str, resampling: Resampling
) -> tuple[Estimate, Estimate]:
    """Returns sensitivity d' and bias c of one source against the real images.

    Answers are pooled over raters. If raters differ in their criterion, this d' is slightly smaller
    than the mean of the raters' own.

    Args:
        judgements: trials of the source and of real images.
        source: name of the fake source.
        resampling: the raters' bootstrap.
    """
    flags = _flag_signals(judgements, source)
    return (
        resampling.estimate(lambda *sums: d_prime(*sums)[0], judgements, *flags),
        resampling.estimate(lambda *sums: d_prime(*sums)[1], judgements, *flags),
    )


def hype_error(judgements: Judgements, source: str, resampling: Resampling) -> Estimate:
    """Returns the HYPE error rate: (fakes judged real + reals judged fake) / 2, as shares.

    One half means that raters cannot tell the source from real images. Real and fake images have
    equal weight, however many of each were shown.

    Args:
        judgements: trials of the source and of real images.
        source: name of the fake source.
        resampling: the raters' bootstrap.

    References:
        Zhou et al. (2019), HYPE: a benchmark for human eye perceptual evaluation.
    """

    def statistic(hits: Numbers, reals: Numbers, alarms: Numbers, fakes: Numbers) -> Numbers:
        return (_divide(alarms, fakes) + 1 - _divide(hits, reals)) / 2

    found = resampling.estimate(statistic, judgements, *_flag_signals(judgements, source))
    low, high = np.clip([found.low, found.high], 0.0, 1.0)
    return Estimate(found.value, float(low), float(high))


def krippendorff_alpha(judgements: Judgements) -> float | None:
    """Returns Krippendorff's alpha of the raters' judgements of the same images.

    alpha = 1 - D_o / D_e, with the observed disagreement and the one expected by chance: 1 is
    perfect agreement, 0 is chance.

    Returns:
        None when no image was judged twice or all judgements are equal.

    References:
        Krippendorff (2004), Content analysis, chapter 11: nominal data with missing values.
    """
    _, item = np.unique(judgements.stimulus, return_inverse=True)
    judged_real = np.bincount(item, weights=judgements.said_real)
    total = np.bincount(item)
    counts = np.stack([judged_real, total - judged_real], axis=1)[total > 1]
    if not len(counts) or (counts.sum(axis=0) == 0).any():
        return None
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


def measure_timing(judgements: Judgements) -> list[Timing]:
    """Returns how precisely images were shown, by requested time; empty when untimed."""
    asked_ms = judgements.asked_ms[~np.isnan(judgements.asked_ms)]
    rows = []
    for time in np.unique(np.round(asked_ms, 3)):
        here = judgements.where(np.isclose(judgements.asked_ms, time, atol=1e-3))
        error = here.achieved_ms - here.asked_ms
        rows.append(
            Timing(
                asked_ms=float(time),
                trials=len(here),
                within_a_frame=float(is_within_frames(here).mean()),
                mean_error_ms=float(error.mean()),
                p95_error_ms=float(np.quantile(np.abs(error), 0.95)),
                dropped=float((here.dropped_frames > 0).mean()),
            )
        )
    return rows


def _log_odds(part: Numbers, rest: Numbers) -> Numbers:
    odds: Numbers = np.where(part + rest > 0, np.log((part + 0.5) / (rest + 0.5)), np.nan)
    return odds


def _divide(part: Numbers, whole: Numbers) -> Numbers:
    empty: Numbers = np.full(np.shape(whole), np.nan)
    return np.divide(part, whole, out=empty, where=whole > 0)


def _flag_signals(judgements: Judgements, source: str) -> tuple[Flags, Flags, Flags, Flags]:
    real = judgements.source == REAL
    fake = judgements.source == source
    return real & judgements.said_real, real, fake & judgements.said_real, fake


def _measure_variance(
    statistic: Callable[..., Numbers], judgements: Judgements, flags: Sequence[Flags]
) -> tuple[float, float]:
    """Returns a statistic's variance by the draw of the raters, and by raters and images."""
    order = np.random.default_rng(len(judgements)).permutation(len(judgements))
    raters = np.unique(judgements.rater, return_inverse=True)[1]
    images = np.unique(judgements.stimulus, return_inverse=True)[1]
    by_raters, by_images, by_answers = (
        _jackknife(statistic, groups, flags) for groups in (raters, images, order % 1000)
    )
    return by_raters, max(by_raters + by_images - by_answers, by_raters, by_images)


def _jackknife(
    statistic: Callable[..., Numbers], groups: npt.NDArray[np.int_], flags: Sequence[Flags]
) -> float:
    """Returns the jackknife variance of a statistic: each group of answers is left out in turn."""
    count = int(groups.max(initial=-1)) + 1
    if count < 2:
        return 0.0
    values = statistic(*(flag.sum() - _sum_by(groups, flag, count) for flag in flags))
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0
    return float((count - 1) / count * np.sum((values - values.mean()) ** 2))


def _sum_by(groups: npt.NDArray[np.int_], flags: Flags, count: int) -> Numbers:
    return np.bincount(groups, weights=flags, minlength=count).astype(np.float64)
