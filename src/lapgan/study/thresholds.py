"""Threshold times: how long raters must see a source's images to recognize them as fake.

On staircases, whose times follow each rater's own answers, raters have thresholds of their own (see
`staircases`). Where every rater sees the same times, psignifit fits one psychometric function. Its
own interval assumes independent answers, so it is too narrow where raters differ. Whole raters are
therefore resampled as well, and a fast fit of each sample gives the variation of the threshold
between raters; the draw of the images widens it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import psignifit
from psignifit.sigmoids import Gaussian
from scipy import special, stats

from lapgan.study.analysis import Resampling
from lapgan.study.judgements import Judgements
from lapgan.study.staircases import fit_raters

__all__ = ["PsychometricFit", "fit_psychometric", "fit_threshold"]

Numbers = npt.NDArray[np.float64]

# psignifit's width goes from F = 5% to F = 95%.
_WIDTH_IN_SIGMAS = 2 * special.ndtri(0.95)


@dataclass(frozen=True)
class PsychometricFit:
    """A fitted psychometric function of the presentation time.

    psi(t) = 1/2 + (1/2 - lapse) F(log10 t), F a normal distribution function.

    Args:
        threshold_ms: where F is one half.
        interval_ms: its interval; see `fit_psychometric` and `fit_threshold`.
        lapse: distance of the upper asymptote from one.
        width: distance on log10 t between F = 5% and F = 95%.
        inside: whether the threshold lies within the times that were shown; outside them it is
            an unreliable extrapolation.
        points: (time ms, correct, trials).
        raters: on staircases, each rater's own threshold in ms; the function is then that of a
            rater in the middle, not the one of the points, which mix raters.
        between_std: on staircases, the standard deviation of log10 thresholds between raters.
    """

    threshold_ms: float
    interval_ms: tuple[float, float]
    lapse: float
    width: float
    inside: bool
    points: tuple[tuple[float, int, int], ...]
    raters: Mapping[str, float] = field(default_factory=dict)
    between_std: float | None = None

    def at(self, milliseconds: Numbers) -> Numbers:
        """Returns the fitted probability of a correct answer at these times."""
        std = self.width / _WIDTH_IN_SIGMAS
        place = (np.log10(milliseconds) - np.log10(self.threshold_ms)) / std
        scaled: Numbers = 0.5 + (0.5 - self.lapse) * stats.norm.cdf(place)
        return scaled


def fit_threshold(
    judgements: Judgements, source: str, resampling: Resampling
) -> PsychometricFit | None:
    """Fits the presentation time at which raters begin to recognize one source as fake.

    The function is fitted to the share correct, with a weight of one half for the real images and
    for this source's at every time: without any sensitivity it is one half, whatever the raters'
    bias. Each end of the interval is the outer one of psignifit's and the raters' bootstrap, which
    is centered on psignifit's threshold on the logarithm of time. On staircases with at least two
    raters, the threshold is the geometric mean of the raters' own.

    Args:
        judgements: trials of the source and of real images.
        source: name of the fake source.
        resampling: the raters' bootstrap; with one rater, psignifit's interval stays.

    Returns:
        None when images were not timed or fewer than four times were shown.
    """
    stairs = judgements.where(judgements.staircase == source)
    part = stairs if len(stairs) else judgements
    part = part.where(~np.isnan(part.asked_ms) & ((part.source == source) | part.real))
    levels = np.unique(np.round(part.asked_ms, 3))
    if len(levels) < 4:
        return None
    if len(stairs) and len(np.unique(stairs.rater)) > 1:
        return _fit_staircases(levels, part, resampling.confidence)
    flags = _flag_levels(part, levels)
    correct, trials = _balance(*flags.sum(axis=2).astype(np.float64))
    shown = trials > 0
    if shown.sum() < 4:
        return None
    fit = fit_psychometric(
        [
            (float(level), round(hits), round(total))
            for level, hits, total in zip(levels[shown], correct[shown], trials[shown], strict=True)
        ],
        resampling.confidence,
    )
    return replace(fit, interval_ms=_widen_interval(fit, levels, part, resampling))


def fit_psychometric(
    points: Sequence[tuple[float, int, int]], confidence: float = 0.95
) -> PsychometricFit:
    """Fits a psychometric function over the logarithm of time with psignifit.

    Args:
        points: (time in ms, correct, trials); guessing is right in half of the trials.
        confidence: of the threshold's credible interval.

    Returns:
        The fit; its interval assumes independent answers.

    References:
        Schütt et al. (2016), Painfree and accurate Bayesian estimation of psychometric functions
        for (potentially) overdispersed data.
    """
    data = np.array([(np.log10(time), hits, total) for time, hits, total in points])
    fit = psignifit.psignifit(
        data,
        sigmoid=_FastGaussian(),
        experiment_type="2AFC",
        confP=(confidence,),
        verbose=False,
        # Coarser than psignifit's own in the two nuisance parameters: the same interval, sooner.
        grid_steps={"threshold": 40, "width": 30, "lambda": 12, "eta": 8},
        steps_moving_bounds={"threshold": 20, "width": 20, "lambda": 10, "eta": 8},
    )
    estimate = fit.parameter_estimate_MAP
    low, high = fit.confidence_intervals["threshold"][str(confidence)]
    return PsychometricFit(
        threshold_ms=float(10 ** estimate["threshold"]),
        interval_ms=(float(10**low), float(10**high)),
        lapse=float(estimate["lambda"]),
        width=float(estimate["width"]),
        inside=bool(data[0, 0] <= estimate["threshold"] <= data[-1, 0]),
        points=tuple(points),
    )


def _fit_staircases(levels: Numbers, stairs: Judgements, confidence: float) -> PsychometricFit:
    fit = fit_raters(stairs, confidence)
    here = np.isclose(stairs.asked_ms, levels[:, None], atol=1e-3)
    low, high = (float(10**end) for end in fit.interval)
    return PsychometricFit(
        threshold_ms=float(10**fit.log_threshold),
        interval_ms=(low, high),
        lapse=fit.lapse,
        width=float(fit.std * _WIDTH_IN_SIGMAS),
        inside=bool(np.log10(levels[0]) <= fit.log_threshold <= np.log10(levels[-1])),
        points=tuple(
            (float(level), int(stairs.correct[at].sum()), int(at.sum()))
            for level, at in zip(levels, here, strict=True)
        ),
        raters={rater: float(10**theta) for rater, theta in fit.by_rater.items()},
        between_std=fit.between_std,
    )


def _flag_levels(judgements: Judgements, levels: Numbers) -> npt.NDArray[np.bool_]:
    """Flags correct reals, reals, correct fakes, fakes by time: shape (4, T, N)."""
    at = [np.isclose(judgements.asked_ms, level, atol=1e-3) for level in levels]
    kinds = [
        kind & flags
        for kind in (judgements.real, ~judgements.real)
        for flags in (judgements.correct, True)
    ]
    return np.array([[here & kind for here in at] for kind in kinds])


def _balance(
    right_reals: Numbers, reals: Numbers, right_fakes: Numbers, fakes: Numbers
) -> tuple[Numbers, Numbers]:
    """Returns (correct, trials): reals and fakes have equal weight, min(reals, fakes) each."""
    each = np.minimum(reals, fakes)
    share = right_reals / np.maximum(reals, 1) + right_fakes / np.maximum(fakes, 1)
    return each * share, 2 * each


def _widen_interval(
    fit: PsychometricFit, levels: Numbers, part: Judgements, resampling: Resampling
) -> tuple[float, float]:
    """Returns the outer ends of the raters' bootstrap interval and psignifit's, in ms."""

    def fit_samples(*sums: Numbers) -> Numbers:
        return _estimate_log_thresholds(fit, levels, np.array(sums).reshape(4, len(levels), -1))

    estimate = resampling.estimate(
        fit_samples, part, *_flag_levels(part, levels).reshape(4 * len(levels), -1)
    )
    if not np.isfinite(estimate.low):
        return fit.interval_ms
    middle = np.log10(fit.threshold_ms) - estimate.value
    low, high = 10 ** (middle + np.array([estimate.low, estimate.high]))
    return min(float(low), fit.interval_ms[0]), max(float(high), fit.interval_ms[1])


def _estimate_log_thresholds(fit: PsychometricFit, levels: Numbers, sums: Numbers) -> Numbers:
    """Returns log10 of many samples' thresholds: posterior means on a grid around a fit.

    Args:
        fit: of all answers; its interval sets the range and the step of the grid.
        levels: times in ms, shape (T,).
        sums: counts of what `_flag_levels` flags, shape (4, T, B).

    Returns:
        Shape (B,).
    """
    correct, trials = _balance(*sums)
    middle, beyond = np.log10(fit.threshold_ms), np.log10(levels[-1] / levels[0]) / 2
    reach = 3 * np.log10(fit.interval_ms[1] / fit.interval_ms[0])
    lowest = max(middle - reach, np.log10(levels[0]) - beyond)
    highest = min(middle + reach, np.log10(levels[-1]) + beyond)
    thresholds = np.linspace(lowest, highest, 61)
    widths = fit.width * np.geomspace(1 / 3, 3, 7)
    lapses = 0.45 * np.linspace(0.05, 1, 10) ** 2
    prior = np.log(np.sqrt(lapses)) + 9 * np.log1p(-lapses)  # psignifit's, on this grid
    place = np.log10(levels)[:, None, None] - thresholds
    rise = special.ndtr(place * _WIDTH_IN_SIGMAS / widths[:, None])
    psi = (0.5 + (0.5 - lapses[:, None]) * rise[..., None, :]).reshape(len(levels), -1)
    fitting = correct.T @ np.log(psi) + (trials - correct).T @ np.log1p(-psi)
    fitting += np.broadcast_to(prior[:, None], (len(widths), len(lapses), len(thresholds))).ravel()
    posterior = special.softmax(fitting, axis=1).reshape(len(fitting), -1, len(thresholds))
    means: Numbers = posterior.sum(axis=1) @ thresholds
    return means


class _FastGaussian(Gaussian):  # type: ignore[misc]
    """psignifit's normal sigmoid for its default threshold and width, without scipy's overhead."""

    def _value(self, level: Any, threshold: Any, width: Any) -> Any:
        return special.ndtr((level - threshold) * _WIDTH_IN_SIGMAS / width)
