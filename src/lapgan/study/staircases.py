"""Thresholds of staircases: one for each rater, and the distribution that they come from.

A staircase shows its rater mostly times near that rater's own threshold, so a function fitted to
the answers of all raters together confounds times with raters: its threshold is too low. Here each
rater r has a threshold of their own,

    P(correct | t) = 1/2 + (1/2 - lapse) Phi((log10 t - theta_r) / std),
    theta_r ~ N(mu, tau^2),

and 10^mu, the geometric mean of all raters' thresholds, is estimated. The posterior is computed on
a grid. How the times were chosen does not matter to it: they follow from the answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from lapgan.study.judgements import Judgements

__all__ = ["RaterThresholds", "fit_raters"]

Numbers = npt.NDArray[np.float64]

_STEP = 0.03  # of thresholds, on log10 of the time
_BEYOND = 1.0  # how far thresholds may lie outside the times that were shown, on log10
_STDS = np.geomspace(0.06, 0.9, 9)
_LAPSE_ENDS = np.array([0.0, 0.01, 0.0225, 0.04, 0.0625, 0.09, 0.1225, 0.16])
_LAPSES = (_LAPSE_ENDS[1:] + _LAPSE_ENDS[:-1]) / 2
_LAPSE_PRIOR = -np.diff((1 - _LAPSE_ENDS) ** 25)  # Beta(1, 25)
_BETWEEN = np.geomspace(_STEP, 1.0, 11)


@dataclass(frozen=True)
class RaterThresholds:
    """The distribution of raters' thresholds; logarithms are those of milliseconds to base 10.

    Args:
        log_threshold: mu, its posterior mean.
        interval: of mu, for all raters and images that could have been drawn.
        std: of the normal distribution function, on log10 of the time.
        lapse: distance of the upper asymptote from one.
        between_std: tau, the standard deviation of log thresholds between raters.
        by_rater: posterior mean of each rater's log threshold.
    """

    log_threshold: float
    interval: tuple[float, float]
    std: float
    lapse: float
    between_std: float
    by_rater: Mapping[str, float]


def fit_raters(judgements: Judgements, confidence: float = 0.95) -> RaterThresholds:
    """Fits the distribution of the raters' thresholds.

    The interval has the posterior's quantiles, which allow for the draw of the raters. Both ends
    are moved out by sqrt(1 + (V_images - V_answers) / V), V the posterior variance of mu, for what
    the draw of the images adds. V_images sums the squared influences of whole images on the
    posterior mean of mu, V_answers those of single answers, the influence of an answer being the
    posterior covariance of mu and that answer's log likelihood.

    Args:
        judgements: answers on the staircases of one source, of at least two raters.
        confidence: of the interval.

    Returns:
        The fit. Its priors are uniform in mu and tau, log-uniform in std; that of the lapse is
        Beta(1, 25) below 0.16, with a mean of 3.7%. Answers near the threshold say little of
        lapses, so this prior matters: with few raters who lapse often, the threshold comes out
        too high.

    References:
        Wichmann and Hill (2001), The psychometric function I, for a bounded lapse rate.
        Gelman (2006), Prior distributions for variance parameters in hierarchical models.
        Giordano and Broderick (2023), The Bayesian infinitesimal jackknife for variance.
    """
    raters, who = np.unique(judgements.rater, return_inverse=True)
    levels, at = np.unique(np.log10(judgements.asked_ms).round(6), return_inverse=True)
    given = judgements.correct.astype(int)
    model = _Model.of(levels)
    counts = np.zeros((2, len(raters), len(levels)))
    np.add.at(counts, (given, who, at), 1)
    likelihoods = model.likelihoods(counts)
    posterior = _fit(likelihoods, model)
    per_answer = posterior.influences(likelihoods, model)[given, who, at]
    images = np.unique(judgements.stimulus, return_inverse=True)[1]
    added = _sum_squares(per_answer, images) - _sum_squares(per_answer, np.arange(len(who)))
    wider = np.sqrt(1 + max(added, 0.0) / posterior.variance)
    ends = posterior.mean + wider * (posterior.quantiles(confidence) - posterior.mean)
    means = posterior.rater_means(likelihoods, model)
    return RaterThresholds(
        log_threshold=posterior.mean,
        interval=(float(ends[0]), float(ends[1])),
        std=float(posterior.weights.sum(axis=(1, 2, 3)) @ _STDS),
        lapse=float(posterior.weights.sum(axis=(0, 2, 3)) @ _LAPSES),
        between_std=float(posterior.weights.sum(axis=(0, 1, 3)) @ _BETWEEN),
        by_rater=dict(zip(raters.tolist(), means.tolist(), strict=True)),
    )


def _fit(likelihoods: tuple[Numbers, Numbers], model: "_Model") -> "_Posterior":
    """Computes the posterior on a fine grid of mu, which a coarse one has found."""
    coarse = np.arange(model.thetas[0], model.thetas[-1], 3 * _STEP)
    first = _Posterior.of(likelihoods, model, coarse)
    reach = 4.5 * max(np.sqrt(first.variance), _STEP)
    return _Posterior.of(likelihoods, model, first.mean + np.linspace(-reach, reach, 45))


@dataclass(frozen=True)
class _Model:
    """The grid of thresholds, shape (T,), and log P(answer), shape (2, V, S, L, T).

    The first axis tells wrong from correct; V levels, S standard deviations, L lapses.
    """

    thetas: Numbers
    log_chances: Numbers

    @classmethod
    def of(cls, levels: Numbers) -> "_Model":
        thetas = np.arange(levels[0] - _BEYOND, levels[-1] + _BEYOND, _STEP)
        places = (levels[:, None, None] - thetas) / _STDS[:, None]
        rise = special.ndtr(places)[:, :, None]
        psi = 0.5 + (0.5 - _LAPSES[:, None]) * rise
        return cls(thetas, np.log(np.array([1 - psi, psi])))

    def likelihoods(self, counts: Numbers) -> tuple[Numbers, Numbers]:
        """Returns each rater's likelihood, (S, L, R, T), with its largest value divided out.

        The second part is the logarithm of what was divided out, summed over raters: (S, L).
        """
        logs = np.einsum("yrv,yvslt->slrt", counts, self.log_chances, optimize=True)
        largest = logs.max(axis=3)
        return np.exp(logs - largest[..., None]), largest.sum(axis=2)


@dataclass(frozen=True)
class _Posterior:
    """Weights of (std, lapse, tau, mu), and each rater's marginal likelihood there, (S, L, R, M).

    M counts the pairs of tau and mu; `kernel`, (T, M), is the distribution of thresholds at each.
    """

    mus: Numbers
    weights: Numbers
    marginals: Numbers
    kernel: Numbers

    @classmethod
    def of(cls, likelihoods: tuple[Numbers, Numbers], model: _Model, mus: Numbers) -> "_Posterior":
        by_rater, offsets = likelihoods
        places = (model.thetas[:, None, None] - mus) / _BETWEEN[:, None]
        kernel = np.exp(-(places**2) / 2) + 1e-300
        kernel = (kernel / kernel.sum(axis=0)).reshape(len(model.thetas), -1)
        marginals = by_rater @ kernel
        logs = np.log(marginals).sum(axis=2) + offsets[..., None]
        logs = logs.reshape(*offsets.shape, len(_BETWEEN), len(mus))
        logs += np.log(_BETWEEN)[:, None]  # its prior is uniform, the steps of its grid are not
        logs += np.log(_LAPSE_PRIOR)[:, None, None]
        return cls(mus, special.softmax(logs), marginals, kernel)

    @property
    def of_mu(self) -> Numbers:
        """The weights of mu alone."""
        sums: Numbers = self.weights.sum(axis=(0, 1, 2))
        return sums

    @property
    def mean(self) -> float:
        """The mean of mu."""
        return float(self.of_mu @ self.mus)

    @property
    def variance(self) -> float:
        """The variance of mu."""
        return float(self.of_mu @ (self.mus - self.mean) ** 2)

    def quantiles(self, confidence: float) -> Numbers:
        """Returns both ends of mu's interval."""
        below = np.cumsum(self.of_mu) - self.of_mu / 2
        tail = (1 - confidence) / 2
        return np.interp([tail, 1 - tail], below, self.mus)

    def rater_means(self, likelihoods: tuple[Numbers, Numbers], model: _Model) -> Numbers:
        """Returns the mean of each rater's threshold, (R,)."""
        weights = self.weights.reshape(*self.weights.shape[:2], 1, -1)
        density = (likelihoods[0] * ((weights / self.marginals) @ self.kernel.T)).sum(axis=(0, 1))
        means: Numbers = density @ model.thetas
        return means

    def influences(self, likelihoods: tuple[Numbers, Numbers], model: _Model) -> Numbers:
        """Returns the covariance of mu and the log likelihood of an answer, (2, R, V)."""
        tilted = self.weights * (self.mus - self.mean)
        tilted = tilted.reshape(*tilted.shape[:2], 1, -1)
        density = likelihoods[0] * ((tilted / self.marginals) @ self.kernel.T)
        found: Numbers = np.einsum("slrt,yvslt->yrv", density, model.log_chances, optimize=True)
        return found


def _sum_squares(influences: Numbers, groups: npt.NDArray[np.int_]) -> float:
    """Returns the variance that the draw of groups causes: n / (n - 1) sum (x - mean)^2."""
    sums = np.bincount(groups, weights=influences)
    return float(len(sums) / max(len(sums) - 1, 1) * np.sum((sums - sums.mean()) ** 2))
