"""How many raters and trials an interval of a wanted width takes.

With R raters, m answers a rater in a cell, and intra-rater correlation rho, the variance of a
share p is p (1 - p) (1 + (m - 1) rho) / (R m): more answers of the same rater help less and less.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from lapgan.errors import LapganError
from lapgan.study.analysis import Resampling, share_judged_real
from lapgan.study.judgements import Judgements

__all__ = ["Plan", "half_width", "intra_rater_correlation", "plan_raters", "simulated_half_width"]

_MOST = 100_000


@dataclass(frozen=True)
class Plan:
    """A number of raters that suffices for one number of answers a rater in a cell."""

    answers_per_rater: int
    raters: int
    half_width: float

    @property
    def answers(self) -> int:
        """Answers in the cell over all raters."""
        return self.answers_per_rater * self.raters


def intra_rater_correlation(share: float, spread: float) -> float:
    """Var(p_r) / (p (1 - p)) when raters differ by criterion: p_r = Phi(a + spread Z), E p_r = p.

    Args:
        share: p, within (0, 1).
        spread: standard deviation of the criterion between raters, in units of the evidence.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    center = stats.norm.ppf(share) * np.sqrt(1 + spread**2)
    by_rater = stats.norm.cdf(center + spread * nodes)
    weights = weights / weights.sum()
    variance = weights @ (by_rater - weights @ by_rater) ** 2
    return float(variance / (share * (1 - share)))


def half_width(
    share: float, spread: float, raters: int, answers_per_rater: int, confidence: float = 0.95
) -> float:
    """Half the width of the interval of a share: t_{R-1} times its standard error.

    Args:
        share: expected share judged real, within (0, 1).
        spread: standard deviation of the criterion between raters.
        raters: R, at least two.
        answers_per_rater: m, in the cell in question.
        confidence: of the interval.
    """
    inflation = 1 + (answers_per_rater - 1) * intra_rater_correlation(share, spread)
    error = np.sqrt(share * (1 - share) * inflation / (raters * answers_per_rater))
    return float(stats.t.ppf((1 + confidence) / 2, raters - 1) * error)


def plan_raters(
    share: float, spread: float, wanted: float, answers_per_rater: Sequence[int]
) -> list[Plan]:
    """The fewest raters for an interval of share +- `wanted`, by answers a rater.

    Raises:
        LapganError: `share` or `wanted` is out of range, or no number up to 100,000 suffices.
    """
    if not (0 < share < 1 and 0 < wanted < 0.5 and spread >= 0):
        raise LapganError(
            f"expected 0 < share < 1, 0 < half-width < 0.5, spread >= 0, got {share}, {wanted}, "
            f"{spread}. Give shares, not percent."
        )
    return [_fewest(share, spread, wanted, answers) for answers in answers_per_rater]


def simulated_half_width(
    share: float,
    spread: float,
    raters: int,
    answers_per_rater: int,
    rng: np.random.Generator,
    studies: int = 100,
) -> tuple[float, float]:
    """What the analysis itself finds in simulated studies.

    Returns:
        The mean half width of the raters' bootstrap interval, and the share of intervals that
        hold the true value.
    """
    center = stats.norm.ppf(share) * np.sqrt(1 + spread**2)
    widths, held = [], []
    for _ in range(studies):
        by_rater = stats.norm.cdf(rng.normal(center, spread, raters))
        said = rng.random((raters, answers_per_rater)) < by_rater[:, None]
        judgements = _cell(said)
        resampling = Resampling(judgements.rater.tolist(), 1000, rng)
        low, high = share_judged_real(judgements, resampling).bootstrap
        widths.append((high - low) / 2)
        held.append(low <= share <= high)
    return float(np.mean(widths)), float(np.mean(held))


def _fewest(share: float, spread: float, wanted: float, answers: int) -> Plan:
    few, many = 1, 2
    while half_width(share, spread, many, answers) > wanted:
        few, many = many, 2 * many
        if many > _MOST:
            raise LapganError(f"half-width {wanted}: over {_MOST} raters are needed. Widen it.")
    while many - few > 1:
        middle = (few + many) // 2
        enough = half_width(share, spread, middle, answers) <= wanted
        few, many = (few, middle) if enough else (middle, many)
    return Plan(answers, many, half_width(share, spread, many, answers))


def _cell(said: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> Judgements:
    raters, answers = said.shape
    empty = np.zeros(said.size)
    names = np.repeat([f"S-{rater:06d}" for rater in range(raters)], answers)
    text = np.full(said.size, "cell")
    flags = np.zeros(said.size, dtype=np.bool_)
    return Judgements(
        rater=names,
        phase=text,
        source=text,
        staircase=text,
        stimulus=text,
        real=flags,
        said_real=said.ravel(),
        hidden=flags,
        resumed=flags,
        asked_ms=empty,
        achieved_ms=empty,
        refresh_hz=empty,
        dropped_frames=empty,
        response_ms=empty,
    )
