"""The number of raters and trials that an interval of a given width takes.

With R raters, m answers per rater in a cell, I images, n = R m / I answers per image, and the
correlations rho and rho' of answers of one rater and of answers to one image, the variance of a
share p is p (1 - p) (1 + (m - 1) rho + max(n - 1, 0) rho') / (R m). More answers of the same rater
help less and less, and no number of raters makes up for few images.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from lapgan.errors import LapganError
from lapgan.study.analysis import Resampling, share_judged_real
from lapgan.study.design import Design
from lapgan.study.judgements import Judgements

__all__ = [
    "Goal",
    "Plan",
    "intra_rater_correlation",
    "plan_raters",
    "plan_table",
    "simulate_half_width",
]

_MOST = 100_000


@dataclass(frozen=True)
class Goal:
    """The interval that a study is planned for: share +- half_width.

    Args:
        share: expected share judged real, within (0, 1).
        half_width: half the width of its 95% interval, within (0, 0.5).
        criterion_std: standard deviation of the criterion between raters, in units of the evidence.
        image_std: standard deviation of how real the images of one source look, in the same units.

    Raises:
        LapganError: a number is out of range.
    """

    share: float
    half_width: float
    criterion_std: float
    image_std: float = 0.0

    def __post_init__(self) -> None:
        stds = self.criterion_std, self.image_std
        if not (0 < self.share < 1 and 0 < self.half_width < 0.5 and min(stds) >= 0):
            raise LapganError(
                "expected 0 < share < 1, 0 < half-width < 0.5, criterion-std >= 0 and image-std >= "
                f"0, found {self.share}, {self.half_width}, {self.criterion_std} and "
                f"{self.image_std}. Give shares, not percent."
            )

    def width(self, raters: int, answers_per_rater: int, images: int) -> float:
        """Returns half the width of the interval: t_{R-1} times the standard error.

        Args:
            raters: R, at least two.
            answers_per_rater: m, in the cell in question.
            images: I, the frozen images of the source.
        """
        # Marginal over the images, the raters' criteria count for less, and the other way round.
        by_rater = self.criterion_std / np.sqrt(1 + self.image_std**2)
        by_image = self.image_std / np.sqrt(1 + self.criterion_std**2)
        answers = raters * answers_per_rater
        inflation = 1 + (answers_per_rater - 1) * intra_rater_correlation(self.share, by_rater)
        per_image = max(answers / images - 1, 0.0)
        inflation += per_image * intra_rater_correlation(self.share, by_image)
        error = np.sqrt(self.share * (1 - self.share) * inflation / answers)
        return float(stats.t.ppf(0.975, raters - 1) * error)


@dataclass(frozen=True)
class Plan:
    """The number of raters that suffices for a number of answers per rater in a cell."""

    answers_per_rater: int
    raters: int
    half_width: float

    @property
    def answers(self) -> int:
        """Answers in the cell, summed over all raters."""
        return self.answers_per_rater * self.raters


def intra_rater_correlation(share: float, criterion_std: float) -> float:
    """Returns rho = Var(p_r) / (p (1 - p)) of raters who differ in their criterion.

    A rater's share is p_r = Phi(a + s Z), Z ~ N(0, 1), with the mean E p_r = p.

    Args:
        share: p, within (0, 1).
        criterion_std: s, in units of the evidence.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    center = stats.norm.ppf(share) * np.sqrt(1 + criterion_std**2)
    by_rater = stats.norm.cdf(center + criterion_std * nodes)
    weights = weights / weights.sum()
    variance = weights @ (by_rater - weights @ by_rater) ** 2
    return float(variance / (share * (1 - share)))


def plan_raters(goal: Goal, answers_per_rater: int, images: int = 1_000_000) -> Plan:
    """Returns the plan with the fewest raters that reaches a goal.

    Args:
        goal: the interval to plan for.
        answers_per_rater: in the cell in question.
        images: number of frozen images of the source.

    Raises:
        LapganError: no number of raters up to 100,000 suffices.
    """

    def width(raters: int) -> float:
        return goal.width(raters, answers_per_rater, images)

    few, many = 1, 2
    while width(many) > goal.half_width:
        few, many = many, 2 * many
        if many > _MOST:
            raise LapganError(
                f"half-width {goal.half_width}: with {images} images per source over {_MOST} "
                "raters are needed. Choose a larger half-width, or raise images_per_source."
            )
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if width(middle) <= goal.half_width else (middle, many)
    return Plan(answers_per_rater, many, width(many))


def simulate_half_width(
    goal: Goal,
    plan: Plan,
    rng: np.random.Generator,
    studies: int = 100,
    images: int = 1_000_000,
) -> tuple[float, float]:
    """Simulates studies and analyzes them as the report does.

    As in a study, each rater sees the images that follow those of the rater before.

    Returns:
        The mean half width of the report's interval, and the share of intervals that
        contain the true value.
    """
    spread = np.sqrt(1 + goal.criterion_std**2 + goal.image_std**2)
    center = stats.norm.ppf(goal.share) * spread
    shown = np.arange(plan.answers).reshape(plan.raters, -1) % images
    widths, covered = [], []
    for _ in range(studies):
        raters = rng.normal(center, goal.criterion_std, plan.raters)
        looks = rng.normal(0, goal.image_std, min(images, plan.answers))
        said_real = rng.random(shown.shape) < stats.norm.cdf(raters[:, None] + looks[shown])
        judgements = _make_judgements(said_real, shown)
        resampling = Resampling(judgements.rater.tolist(), 1000, rng)
        low, high = share_judged_real(judgements, resampling).bootstrap
        widths.append((high - low) / 2)
        covered.append(low <= goal.share <= high)
    return float(np.mean(widths)), float(np.mean(covered))


def plan_table(
    goal: Goal, design: Design, fakes: int, rng: np.random.Generator, studies: int = 100
) -> Iterator[str]:
    """Yields the lines of a table: plans for half, all and twice the trials of a design.

    Args:
        goal: the interval to plan for.
        design: gives the number of trials, of presentation times and of images per source.
        fakes: number of fake sources.
        rng: source of randomness of the simulated studies.
        studies: number of simulated studies per row.
    """
    images = design.images_per_source
    yield (
        f"Raters for a 95% interval of {goal.share:.0%} +- {goal.half_width:.1%}, "
        f"{images} images per source:"
    )
    yield "trials  cell                 answers/rater  raters  answers  simulated half width"
    cells = (("source, all times", 1), ("source at one time", len(design.durations_ms)))
    for trials in (design.trials // 2, design.trials, 2 * design.trials):
        for cell, parts in cells:
            plan = plan_raters(goal, max(1, round(trials / (fakes + 1) / parts)), images)
            width, coverage = simulate_half_width(goal, plan, rng, studies, images)
            yield (
                f"{trials:6d}  {cell:19s}  {plan.answers_per_rater:13d}  {plan.raters:6d}  "
                f"{plan.answers:7d}  {width:.1%} (covers the truth in {coverage:.0%})"
            )


def _make_judgements(said_real: npt.NDArray[np.bool_], shown: npt.NDArray[np.int_]) -> Judgements:
    raters, answers = said_real.shape
    names = np.repeat([f"S-{rater:06d}" for rater in range(raters)], answers)
    return Judgements.from_columns(
        rater=names, said_real=said_real.ravel(), stimulus=shown.ravel().astype(np.str_)
    )
